//! Who may do what where: roles from a TOML file, and the decision made of them.
//!
//! A role is for people in any of its groups (exact names) or with any of its e-mail addresses or domains, and for workspaces
//! by name, glob or owner. All roles that apply add up: capabilities and the longest duration to the widest, recording to the
//! strictest. The login is that of the first applying role, in the order of the file, that names one; roles that name another
//! login then do not apply: what they allow was meant for another account. Where no role names one it is the login that the
//! issuer's rule makes of the person, and where there is no rule the workspace's. Nothing applies by default. Roles with
//! `break-glass` apply only while the record store is down.

mod explain;
mod grant;
mod lend;
mod oddities;
mod roles;
mod weigh;

pub use explain::{Explanation, Rule, Verdict};
pub use grant::Grant;
pub use lend::Lends;
pub use oddities::{Oddity, oddities};
pub(crate) use roles::capabilities;
pub use roles::{Right, Roles};
pub use weigh::RecordStore;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use doorward_certs::{Login, WorkspaceName};
use roles::RecordingsRight;
use tokio::sync::watch;

use crate::{
    authorize::Heard,
    config::Faults,
    oidc::{Identity, Person},
    refusal::Refusal,
    stamp::{self, Stamp},
    tasks::Tasks,
    workspace::{Notes, State, Workspace},
};

/// The roles, exchanged as a whole when the file changes.
#[derive(Debug)]
pub struct Policy {
    roles: Arc<ArcSwap<Roles>>,
    changes: watch::Sender<u64>,
    /// Stands in for a workspace that does not exist, so that its refusal takes the same work.
    nowhere: Arc<Workspace>,
}

impl Policy {
    /// A policy of these roles.
    #[must_use]
    pub fn new(roles: Roles) -> Self {
        Self {
            roles: Arc::new(ArcSwap::from_pointee(roles)),
            changes: watch::Sender::new(0),
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
        let (roles, changes) = (Arc::clone(&policy.roles), policy.changes.clone());
        let (files, stop) = (vec![file.clone()], tasks.closing().clone());
        tasks.spawn(async move {
            let reload = move || {
                Self::reload(&roles, &file)?;
                changes.send_modify(|count| *count += 1);
                Ok::<_, Faults>(())
            };
            stamp::follow(files, stamp, interval, stop, reload).await;
        });
        Ok(policy)
    }

    /// Tells when the roles have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes the file's roles if they are good.
    fn reload(roles: &ArcSwap<Roles>, file: &Path) -> Result<(), Faults> {
        roles.store(Arc::new(Roles::load(file)?));
        Ok(())
    }

    /// Decides whether the person may enter the workspace, and on which terms. A workspace that does not exist takes
    /// the same way as one that may not be entered. While the record store is down roles with `break-glass` apply, and no
    /// others, unless the others are recorded best-effort; a strict grant may come back then too, and cannot be used.
    ///
    /// # Errors
    /// [`Refusal::denied`], the same for both; or, where the person may enter and no login can be made of them, that.
    pub(crate) fn decide(
        &self,
        identity: &Identity,
        workspace: Option<&Arc<Workspace>>,
        store: RecordStore,
        heard: &Heard,
    ) -> Result<Grant, Refusal> {
        let roles = self.roles.load();
        let place = workspace.unwrap_or(&self.nowhere);
        let weighed = weigh::weigh(&roles, identity.person(), place, store, heard);
        let Some(workspace) = workspace else {
            return Err(Refusal::denied("no such workspace"));
        };
        let terms = weighed.terms()?;
        Ok(Grant {
            user: identity.user().to_owned(),
            workspace: Arc::clone(workspace),
            terms,
            break_glass: weighed.glass,
            heard: heard.clone(),
            keep: weighed.keep(),
            keep_awake: weighed.keep_awake(),
            roles: weighed.names(),
            lent: weighed.lent(),
        })
    }

    /// The names of the person's roles, in the order of the file.
    #[must_use]
    pub fn roles_of(&self, person: Person<'_>) -> Vec<String> {
        let roles = self.roles.load();
        let own = roles.0.iter().filter(|role| role.is_of(person));
        own.map(|role| role.name.clone()).collect()
    }

    /// The rights that any of the person's roles give, wherever they reach.
    #[must_use]
    pub fn rights_of(&self, person: Person<'_>) -> BTreeSet<Right> {
        let roles = self.roles.load();
        let own = roles.0.iter().filter(|role| role.is_of(person));
        own.flat_map(|role| role.may.iter().copied()).collect()
    }

    /// Whether one of the person's roles gives a right over this workspace; without a workspace, over people, which a role
    /// for one's own workspaces alone does not give.
    #[must_use]
    pub fn may(&self, person: Person<'_>, right: Right, over: Option<(&str, Option<&str>)>) -> bool {
        let roles = self.roles.load();
        roles
            .0
            .iter()
            .filter(|role| role.may.contains(&right) && role.is_of(person))
            .any(|role| match over {
                Some((workspace, owner)) => role.covers(workspace, owner, person),
                None => !role.owner,
            })
    }

    /// Whether the person may see every recording: one of their roles opens those of all workspaces, whatever they are called.
    #[must_use]
    pub fn may_audit(&self, identity: &Identity) -> bool {
        // A name that no rule can have been written for.
        let any = uuid::Uuid::new_v4().simple().to_string();
        let roles = self.roles.load();
        let own = roles.0.iter().filter(|role| role.is_of(identity.person()));
        own.filter(|role| role.recordings == RecordingsRight::All && !role.owner)
            .any(|role| role.covers(&any, None, identity.person()))
    }

    /// Whether the person may see a recording: their own, or that of a workspace whose recordings one of their roles
    /// opens to them.
    #[must_use]
    pub fn may_view(&self, identity: &Identity, user: &str, workspace: &str, owner: Option<&str>) -> bool {
        let roles = self.roles.load();
        roles
            .0
            .iter()
            // Who has recordings of their own was let in, by whoever it was.
            .filter(|role| role.is_of(identity.person()) || role.is_by_word())
            .any(|role| match role.recordings {
                RecordingsRight::None => false,
                RecordingsRight::Own => user == identity.user(),
                RecordingsRight::All => user == identity.user() || role.covers(workspace, owner, identity.person()),
            })
    }
}

#[expect(clippy::expect_used, reason = "two constants that a test makes")]
fn nowhere() -> Workspace {
    Workspace {
        name: WorkspaceName::try_from("nowhere").expect("a valid name"),
        login: Login::try_from("nobody").expect("a valid login"),
        owner: None,
        place: None,
        state: State::Asleep,
        life: None,
        notes: Notes::default(),
    }
}

#[cfg(test)]
mod tests;
