//! What a stack may be told when it begins.

use std::path::PathBuf;

use super::Real;
use crate::issuer::Circle;

/// How a stack begins.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The stack's folder; made if missing, reused if not.
    pub dir: PathBuf,
    /// The executable that acts as each program; this process's own if `None`.
    pub program: Option<PathBuf>,
    /// Who is logged in in the stack's client folder; nobody if `None`.
    pub login: Option<String>,
    /// The real servers that it runs on.
    pub real: Real,
    /// Who may do what, in place of the stack's own `policy.toml`.
    pub policy: Option<String>,
    /// Variables of the agent, as a pod has them; programs get no other but a few harmless ones.
    pub agent_env: Vec<(String, String)>,
    /// Variables of the gateway.
    pub gateway_env: Vec<(String, String)>,
    /// Whom our own issuer is for, in place of alice, bob, carol and mallory.
    pub circle: Option<Circle>,
}
