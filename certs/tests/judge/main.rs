//! The judge of certificates, held against vectors, against OpenSSH, and against chance.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

mod authorities;
mod cases;
mod draft;
mod hosts;
mod keygen;
mod mutation;
mod roundtrip;
mod sshd;
mod vectors;
