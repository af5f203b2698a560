//! What was judged last, so that a pod that changed is judged alone.
//!
//! That is right only while it could be nobody else's matter: the same pod under the same name, whose name is its own, with everything
//! as it was that rules judge by. Whatever else changes, all is judged anew.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use doorward_certs::WorkspaceName;

use super::{
    judge::{People, Shelves},
    seen::Object,
    shelf::Key,
};
use crate::workspace::Workspace;

/// The last judgement of all rules.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of each rule, in their order; of one that could not be judged, nothing.
    pub(super) rules: Vec<Option<Ruled>>,
    /// Names that more than one claims, or did before one gave way.
    pub(super) shared: HashSet<WorkspaceName>,
}

/// What a rule has judged.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    pub(super) people: People,
    pub(super) pods: HashMap<Key, Stand>,
}

/// A pod as it was judged, and what it came to.
#[derive(Debug)]
pub(super) struct Stand {
    pub(super) pod: Arc<Object>,
    pub(super) outcome: Outcome,
}

/// What a pod came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is not the rule's, or an earlier rule has it.
    Elsewhere,
    /// It is a workspace.
    Named(WorkspaceName),
    /// No workspace can be made of it, and why.
    Unfit(String),
}

impl Known {
    /// Judges of each rule these pods alone, and gives what became of their workspaces; nothing, if all has to be judged anew.
    pub(super) fn amend(&mut self, rules: &[Shelves], changed: &[Vec<Key>]) -> Option<Vec<Workspace>> {
        let mut amended = Vec::new();
        if self.rules.len() != rules.len() {
            return None;
        }
        for ((rule, ruled), keys) in rules.iter().zip(&mut self.rules).zip(changed) {
            for key in keys {
                let Ruled { people, pods } = ruled.as_mut()?;
                let stand = pods.get_mut(key)?;
                let pod = rule.pod(key)?;
                let (old, new) = (&stand.pod.metadata, &pod.metadata);
                if old.uid != new.uid || old.owner_references != new.owner_references {
                    return None;
                }
                match &stand.outcome {
                    Outcome::Elsewhere => {}
                    Outcome::Named(name) if self.shared.contains(name) => return None,
                    Outcome::Named(name) => {
                        let workspace = rule.of_known_pod(&pod, people).ok()?;
                        if workspace.name != *name {
                            return None;
                        }
                        amended.push(workspace);
                    }
                    Outcome::Unfit(why) => {
                        if rule.of_known_pod(&pod, people).err().as_ref() != Some(why) {
                            return None;
                        }
                    }
                }
                stand.pod = pod;
            }
        }
        Some(amended)
    }
}
