//! The program as its users start it, against an issuer and a gateway that can be made to answer anything.
//!
//! It speaks of modes, links, signals and terminals as Unix has them; `tests/tests/windows.rs` has what is Windows' own.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod admin;
mod connect;
mod dpop;
mod gateway;
mod hostile;
mod issuer;
mod lists;
mod login;
mod open;
mod proof;
mod recordings;
mod renew;
mod run;
mod server;
mod ssh;
mod status;
mod strangers;
mod tokens;
mod verify;
mod wake;
