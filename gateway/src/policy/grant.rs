//! What a person may do in one workspace: plain data that only the policy makes.

use std::sync::Arc;

use doorward_certs::Terms;

use super::RecordStore;
use crate::{api::words, authorize::Heard, kube::access::Object, workspace::Workspace};

/// The policy's yes: this person may enter this workspace on these terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub(super) user: String,
    pub(super) workspace: Arc<Workspace>,
    pub(super) terms: Terms,
    pub(super) roles: Vec<String>,
    pub(super) break_glass: bool,
    pub(super) keep: Option<std::time::Duration>,
    pub(super) keep_awake: std::time::Duration,
    pub(super) heard: Heard,
    pub(super) lent: Vec<(Object, String)>,
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

    /// How long the recording is kept after its end; for ever if `None`. Unlike the terms it is nothing that the agent needs
    /// to know.
    #[must_use]
    pub fn keep(&self) -> Option<std::time::Duration> {
        self.keep
    }

    /// For how long at once the person may have the workspace kept awake; zero if not at all. The agent need not know it.
    #[must_use]
    pub fn keep_awake(&self) -> std::time::Duration {
        self.keep_awake
    }

    /// The names of the roles that the terms were made of, in the order of the policy file.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The objects of the cluster that lent some of it, each with the role that it lent.
    #[must_use]
    pub fn lent(&self) -> &[(Object, String)] {
        &self.lent
    }

    /// Whether it is only for as long as the record store is down.
    #[must_use]
    pub fn is_break_glass(&self) -> bool {
        self.break_glass
    }

    /// What was said, besides the policy, when it was granted.
    #[must_use]
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// How the store stood for this grant: it is decided again as it was.
    #[must_use]
    pub fn needs_store(&self) -> RecordStore {
        match self.break_glass {
            true => RecordStore::Down,
            false => RecordStore::Works,
        }
    }

    /// What of this grant a newer one no longer has; nothing if a session may go on as it began.
    ///
    /// What counts: the workspace is the same one, the login is the same, no capability is gone, input is not to be
    /// recorded where it was not, and the recording is not to be strict where it was not. How long it may last is judged by the session's age.
    #[must_use]
    pub fn lost_in(&self, newer: &Self) -> Option<String> {
        let (old, new) = (&self.terms, &newer.terms);
        if let Some(over) = self.workspace.over(Some(&newer.workspace)) {
            return Some(over);
        }
        if old.login != new.login {
            return Some("you would enter it by another login now".to_owned());
        }
        if new.recording.input && !old.recording.input {
            return Some("what you type would be recorded now".to_owned());
        }
        if new.recording.mode < old.recording.mode {
            return Some("it would be recorded strictly now".to_owned());
        }
        let left = words(new);
        let covers = |word: &String| {
            let has = |other: &str| left.iter().any(|one| one == other);
            has(word)
                || (word == "sftp:read" && has("sftp:read-write"))
                || (word.starts_with("forward-to:") && has("forward-to:*:*"))
        };
        let gone: Vec<String> = words(old).into_iter().filter(|word| !covers(word)).collect();
        (!gone.is_empty()).then(|| format!("you may no longer use {}", gone.join(", ")))
    }
}
