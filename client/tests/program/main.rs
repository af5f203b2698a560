//! The program as its users start it, against an issuer and a gateway that can be made to answer anything.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod connect;
mod gateway;
mod issuer;
mod lists;
mod login;
mod recordings;
mod run;
mod server;
mod ssh;
mod tokens;
