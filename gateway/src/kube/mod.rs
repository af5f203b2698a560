//! Kubernetes: the one way to its API server, and what the gateway asks there.
//!
//! Nothing outside this module speaks to an API server. It trusts what the server says of objects, and believes nothing
//! that objects say of themselves before it was checked: whoever can make a pod writes its labels.

pub mod access;
mod ask;
mod bounds;
mod claims;
pub mod client;
pub mod discover;
mod error;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod note;
pub(crate) mod people;
pub mod review;
pub mod rights;
#[cfg(test)]
mod tests;
pub(crate) mod wake;
mod watch;

pub use access::Access;
pub use client::{Cluster, connect};
pub use discover::Discovery;
pub use error::KubeError;
