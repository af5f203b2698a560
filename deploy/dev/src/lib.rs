//! What development, tests and benches share: an OIDC issuer of our own, somebody who fills in its pages, the whole
//! stack as processes of one executable, and the real servers that it can run on.
//!
//! Nothing here is for production: the passwords are printed, and the issuer refuses to listen on anything but loopback.

pub mod browser;
pub mod issuer;
mod issuer_cli;
pub mod kube;
pub mod parts;
mod process;
mod programs;
pub mod stack;
mod tls;

pub use process::ProcessError;
pub use programs::act_as_program;

pub(crate) use programs::announce;
