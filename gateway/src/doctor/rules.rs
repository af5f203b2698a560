//! The policy: roles that let everybody in, and roles that nobody can have.

use super::Finding;
use crate::{
    config::Config,
    policy::{Roles, oddities},
};

/// Looks at the policy's roles.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let file = config.policy.file.display();
    let roles = match Roles::load(&config.policy.file) {
        Ok(roles) => roles,
        Err(faults) => return vec![Finding::broken("policy", file, faults.to_string(), "correct the file")],
    };
    let all = oddities(&roles, &config.workspaces);
    if all.is_empty() {
        return vec![Finding::ok("policy", file, "no role looks odd")];
    }
    all.into_iter()
        .map(|odd| Finding::warning("policy", &odd.role, odd.text, odd.remedy))
        .collect()
}
