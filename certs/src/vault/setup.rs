//! What Vault has to hold for a gateway, what it holds, and the way from one to the other.
//!
//! [`Needs`] come from the gateway's configuration; [`steps`] says in Vault's own words what they mean; [`Plan`] holds that
//! against what there is; [`Admin`] does it. `deploy/vault` holds the same as Terraform and as a shell script; a test makes
//! both from [`steps`] again and compares.

mod admin;
mod needs;
mod plan;
mod policies;
mod step;
mod steps;
mod width;

pub use admin::{Admin, SetupError};
pub use needs::{AgentLogin, GatewayLogin, Names, Needs, UserLogin};
pub use plan::{Change, Difference, Live, Plan, Verdict};
pub use step::{Kind, Step};
pub use steps::steps;
pub use width::{Flaw, Purpose, flaws};

#[cfg(test)]
mod tests;
