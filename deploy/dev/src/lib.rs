//! What development and tests share: an OIDC issuer of our own and somebody who fills in its pages.
//!
//! Nothing here is for production: the passwords are printed, and the issuer refuses to listen on anything but loopback.

pub mod browser;
pub mod issuer;
