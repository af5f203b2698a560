//! A small kubelet for a real API server: pods run as processes of this machine instead of containers.
//!
//! It binds the pending pods of one namespace to a node of its own, gives each an address of its own on loopback, makes its
//! volumes as folders, and tells the API server what a kubelet tells. Of a pod's containers it runs those whose command or image
//! is `doorward-agent`, or whose shell starts that (`sh -c "…/doorward-agent run & …"`), as that program; any other is said to run and
//! does nothing.
//!
//! A process has no mount and no network namespace. So a path below a volume's mount path is rewritten to the volume's folder
//! in arguments, variables and the files of ConfigMaps, and `0.0.0.0` there becomes the pod's address.
//!
//! Annotations of a pod make it behave: [`START_AFTER`], [`PULL_FAILS`].

mod kubelet;
mod pod;
mod rewrite;
mod set;
mod spec;
mod status;
mod volumes;

pub use kubelet::{Kubelet, Settings};
pub use pod::{PULL_FAILS, START_AFTER};
pub use set::{Set, allow_gateway, gateway_section};
