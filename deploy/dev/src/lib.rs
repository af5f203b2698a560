//! What development, tests and benches share: an OIDC issuer of our own, somebody who fills in its pages, and the whole
//! stack as processes of one executable.
//!
//! Nothing here is for production: the passwords are printed, and the issuer refuses to listen on anything but loopback.

pub mod browser;
pub mod issuer;
mod issuer_cli;
mod programs;
pub mod stack;

pub use programs::act_as_program;
