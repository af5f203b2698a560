//! The workspaces that the gateway knows, and how one is found by its name.
//!
//! Today they are written in the configuration. Whoever needs one asks the directory, so that a directory that
//! follows a cluster can take its place.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use doorward_certs::{Login, WorkspaceName, WorkspaceUid};

/// One workspace: a place with an agent that people can enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The name that people type.
    pub name: WorkspaceName,
    /// Which incarnation it is: a certificate for another one is of no use here.
    pub uid: WorkspaceUid,
    /// Where its agent listens, as `host:port`.
    pub address: String,
    /// The account that people enter as, unless their role names another.
    pub login: Login,
    /// The person whose workspace it is, as the identity provider names them.
    pub owner: Option<String>,
    /// The file with the one-time token by which the agent may be enrolled.
    pub join_token_file: Option<PathBuf>,
}

/// All workspaces, by name.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    workspaces: BTreeMap<WorkspaceName, Arc<Workspace>>,
}

impl Directory {
    /// A directory of these workspaces. Of two with one name the later stands; the configuration refuses that.
    #[must_use]
    pub fn new(workspaces: impl IntoIterator<Item = Workspace>) -> Self {
        Self {
            workspaces: workspaces
                .into_iter()
                .map(|one| (one.name.clone(), Arc::new(one)))
                .collect(),
        }
    }

    /// The workspace of this name.
    #[must_use]
    pub fn find(&self, name: &WorkspaceName) -> Option<Arc<Workspace>> {
        self.workspaces.get(name).map(Arc::clone)
    }

    /// Every workspace, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Workspace>> {
        self.workspaces.values()
    }
}
