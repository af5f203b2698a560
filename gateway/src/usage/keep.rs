//! Keeping a workspace awake: what a person has asked for is noted where its rule publishes its use, and nowhere else.
//!
//! The pod's annotation is what the gateway itself knows it by, so that it outlives a restart and ends with the pod: a rule that
//! does not write on pods cannot keep anything.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::{Publication, Usage, publish::tell};
use crate::{
    Gateway,
    kube::note::{Keep, Note},
    workspace::Workspace,
};

/// Why a workspace is not kept, or not by everybody's knowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeepError {
    /// Too many are being told at once.
    Busy,
    /// Somebody could not be told; for operators.
    Untold(String),
}

impl Usage {
    /// Whether a workspace can be kept awake at all.
    pub(crate) fn can_keep(&self, workspace: &Workspace) -> bool {
        self.publication(workspace).is_some_and(|one| one.pod)
    }

    /// Has a workspace kept awake, or no longer. Whoever asks last is heard.
    ///
    /// # Errors
    /// See [`KeepError`].
    pub(crate) async fn keep(&self, gateway: &Gateway, workspace: &Workspace, keep: Keep) -> Result<(), KeepError> {
        let publication = self.publication(workspace);
        let Some(publication) = publication.filter(|one| one.pod) else {
            return Err(KeepError::Untold("its rule writes nothing on its pod".to_owned()));
        };
        let Ok(_place) = self.0.keeping.try_acquire() else {
            return Err(KeepError::Busy);
        };
        let note = Note {
            last_use: None,
            keep: Some(keep),
        };
        let told = timeout(WITHIN, tell(gateway, &publication, workspace, &note)).await;
        let told = told.map_err(|_| KeepError::Untold(format!("no end within {WITHIN:?}")))?;
        told.map_err(|trouble| KeepError::Untold(trouble.text))
    }
}

/// What is noted on the owner: of several pods' times the latest.
pub(super) fn of_owner(gateway: &Gateway, publication: &Publication, workspace: &Workspace, note: &Note) -> Note {
    let Some(keep) = note.keep.filter(|_| publication.owner.is_some()) else {
        return *note;
    };
    let object = |one: &Workspace| {
        let place = one.place.as_ref()?;
        Some((place.namespace.clone(), place.owner.clone()?))
    };
    let ours = object(workspace);
    let all = gateway.workspaces.list();
    let others = all
        .iter()
        .filter(|one| one.name != workspace.name && ours.is_some() && object(one) == ours)
        .filter_map(|one| gateway.usage.keep_until(one));
    let own = match keep {
        Keep::Until(at) => Some(at),
        Keep::Released => None,
    };
    let latest: Option<SystemTime> = others.chain(own).max();
    Note {
        keep: Some(latest.map_or(Keep::Released, Keep::Until)),
        ..*note
    }
}

/// How long telling may take, all places together.
const WITHIN: Duration = Duration::from_secs(20);
/// How many workspaces are kept at once.
pub(super) const AT_ONCE: usize = 16;
