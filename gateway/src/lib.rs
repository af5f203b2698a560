//! The gateway: tunnels in, identity, policy, certificates, links to agents, recordings.
//!
//! It relays SSH bytes that it cannot read; it parses no SSH.

pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod enrol;
pub mod http;
pub mod journal;
pub mod link;
pub mod listen;
pub mod metrics;
pub mod oidc;
pub mod policy;
pub mod problem;
pub mod record;
pub mod refusal;
pub mod relay;
pub mod session;
pub mod tasks;
pub mod workspace;
