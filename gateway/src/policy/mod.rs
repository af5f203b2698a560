//! Who may do what where: roles from a TOML file, and the decision made of them.
//!
//! A role is for people in any of its groups (exact names) and for workspaces by name, glob or owner. All roles that
//! apply add up: capabilities and the longest duration to the widest, recording to the strictest. The login is that of the
//! first applying role, in the order of the file, that names one; roles that name another login then do not apply: what they
//! allow was meant for another account. Nothing applies by default.

mod grant;
mod roles;

pub use grant::Grant;
pub use roles::Roles;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use doorward_certs::{Capabilities, Login, Recording, Terms, WorkspaceName, WorkspaceUid};
use roles::{RecordingsRight, Role, wider};

use crate::{
    config::Faults,
    oidc::Identity,
    refusal::Refusal,
    stamp::{self, Stamp},
    tasks::Tasks,
    workspace::Workspace,
};

/// The roles, exchanged as a whole when the file changes.
#[derive(Debug)]
pub struct Policy {
    roles: Arc<ArcSwap<Roles>>,
    /// Stands in for a workspace that does not exist, so that its refusal takes the same work.
    nowhere: Arc<Workspace>,
}

impl Policy {
    /// A policy of these roles.
    #[must_use]
    pub fn new(roles: Roles) -> Self {
        Self {
            roles: Arc::new(ArcSwap::from_pointee(roles)),
            nowhere: Arc::new(nowhere()),
        }
    }

    /// Reads the file, and reads it again when it changes; a changed file that is not good leaves the old roles.
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn follow(file: PathBuf, interval: Duration, tasks: &Tasks) -> Result<Self, Faults> {
        let stamp = Stamp::of([file.as_path()]);
        let policy = Self::new(Roles::load(&file)?);
        let roles = Arc::clone(&policy.roles);
        let (files, stop) = (vec![file.clone()], tasks.closing().clone());
        tasks.spawn(async move {
            let reload = move || Self::reload(&roles, &file);
            stamp::follow(files, stamp, interval, stop, reload).await;
        });
        Ok(policy)
    }

    /// Takes the file's roles if they are good.
    fn reload(roles: &ArcSwap<Roles>, file: &Path) -> Result<(), Faults> {
        roles.store(Arc::new(Roles::load(file)?));
        Ok(())
    }

    /// Decides whether the person may enter the workspace, and on which terms. A workspace that does not exist takes
    /// the same way as one that may not be entered.
    ///
    /// # Errors
    /// [`Refusal::denied`], the same for both.
    pub fn decide(&self, identity: &Identity, workspace: Option<&Arc<Workspace>>) -> Result<Grant, Refusal> {
        let exists = workspace.is_some();
        let workspace = workspace.unwrap_or(&self.nowhere);
        let roles = self.roles.load();
        let applying: Vec<&Role> = roles
            .0
            .iter()
            .filter(|role| role.is_of(identity.groups()) & role.holds_for(workspace, identity.user()) & role.opens())
            .collect();
        let login = applying
            .iter()
            .find_map(|role| role.login.as_ref())
            .unwrap_or(&workspace.login)
            .clone();
        let applying: Vec<&Role> = applying
            .into_iter()
            .filter(|role| role.login.as_ref().is_none_or(|own| *own == login))
            .collect();
        if !exists {
            return Err(Refusal::denied("no such workspace"));
        }
        if applying.is_empty() {
            return Err(Refusal::denied("no role of the person holds for the workspace"));
        }
        Ok(Grant {
            user: identity.user().to_owned(),
            workspace: Arc::clone(workspace),
            terms: union(&applying, login),
            roles: applying.iter().map(|role| role.name.clone()).collect(),
        })
    }

    /// Whether the person may see a recording: their own, or that of a workspace whose recordings one of their roles
    /// opens to them.
    #[must_use]
    pub fn may_view(&self, identity: &Identity, user: &str, workspace: &str, owner: Option<&str>) -> bool {
        let roles = self.roles.load();
        roles
            .0
            .iter()
            .filter(|role| role.is_of(identity.groups()))
            .any(|role| match role.recordings {
                RecordingsRight::None => false,
                RecordingsRight::Own => user == identity.user(),
                RecordingsRight::All => user == identity.user() || role.covers(workspace, owner, identity.user()),
            })
    }
}

/// What several roles allow together. There is at least one.
fn union(roles: &[&Role], login: Login) -> Terms {
    let mut capabilities = Capabilities::default();
    let mut recording = Recording {
        input: false,
        bulk_limit: 0,
    };
    let mut longest = Duration::ZERO;
    for role in roles {
        let own = &role.capabilities;
        capabilities.shell |= own.shell;
        capabilities.exec |= own.exec;
        capabilities.pty |= own.pty;
        capabilities.sftp = wider(capabilities.sftp, own.sftp);
        capabilities.agent_forwarding |= own.agent_forwarding;
        capabilities.x11_forwarding |= own.x11_forwarding;
        capabilities.remote_forward |= own.remote_forward;
        for destination in &own.local_forward {
            if !capabilities.local_forward.contains(destination) {
                capabilities.local_forward.push(destination.clone());
            }
        }
        recording.input |= role.recording.input;
        recording.bulk_limit = recording.bulk_limit.max(role.recording.bulk_limit);
        longest = longest.max(role.longest);
    }
    capabilities.local_forward.sort();
    Terms {
        login,
        capabilities,
        recording,
        longest,
    }
}

#[expect(clippy::expect_used, reason = "three constants that a test makes")]
fn nowhere() -> Workspace {
    Workspace {
        name: WorkspaceName::try_from("nowhere").expect("a valid name"),
        uid: WorkspaceUid::try_from("nowhere").expect("a valid uid"),
        address: "localhost:1".to_owned(),
        login: Login::try_from("nobody").expect("a valid login"),
        owner: None,
        join_token_file: None,
    }
}

#[cfg(test)]
mod tests;
