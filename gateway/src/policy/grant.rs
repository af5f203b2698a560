//! What a person may do in one workspace: plain data that only the policy makes.

use std::sync::Arc;

use doorward_certs::Terms;

use crate::workspace::Workspace;

/// The policy's yes: this person may enter this workspace on these terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub(super) user: String,
    pub(super) workspace: Arc<Workspace>,
    pub(super) terms: Terms,
    pub(super) roles: Vec<String>,
}

impl Grant {
    /// The person, as [`crate::oidc::Identity::user`] names them.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The workspace that may be entered.
    #[must_use]
    pub fn workspace(&self) -> &Arc<Workspace> {
        &self.workspace
    }

    /// Login, capabilities, recording and longest duration.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The names of the roles that the terms were made of, in the order of the policy file.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }
}
