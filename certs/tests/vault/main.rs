//! The authority that is Vault, against a scripted false one: it gives every answer that the real one never gives.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

mod answers;
mod as_user;
mod environment;
mod faults;
mod logins;
mod rotation;
mod server;
