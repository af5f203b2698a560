//! The policy: roles that let everybody in, and roles that nobody can have.

use super::Finding;
use crate::{
    config::Config,
    kube::access::{KIND, LENDS_NOTHING},
    policy::{Roles, oddities},
};

/// Looks at the policy's roles.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let file = config.policy.file.display();
    let roles = match Roles::load(&config.policy.file) {
        Ok(roles) => roles,
        Err(faults) => return vec![Finding::broken("policy", file, faults.to_string(), "correct the file")],
    };
    // What the cluster has is not written down: a role that means none of these may well mean others.
    let workspaces = match &config.kubernetes {
        Some(cluster) if !cluster.workspaces.is_empty() => &[],
        _ => config.workspaces.as_slice(),
    };
    let odd = oddities(&roles, workspaces);
    let mut all: Vec<Finding> = odd
        .into_iter()
        .map(|odd| Finding::warning("policy", &odd.role, odd.text, odd.remedy))
        .collect();
    if let Some((text, remedy)) = lends_nothing(config, &roles) {
        all.push(Finding::warning("policy", KIND, text, remedy));
    }
    if all.is_empty() {
        return vec![Finding::ok("policy", file, "no role looks odd")];
    }
    all
}

/// That objects of the cluster are heard and can lend nothing, and what to do about it.
pub(crate) fn lends_nothing(config: &Config, roles: &Roles) -> Option<(&'static str, &'static str)> {
    let heard = !config.authorize.access.is_empty();
    (heard && !roles.lend()).then_some(LENDS_NOTHING)
}
