//! The use of workspaces: when each was used last.
//!
//! What counts as use is decided in the workspace, by its agent, which alone reads the session: the gateway hears a moment over
//! the link. An agent that tells nothing makes a workspace whose last use is not known, never one that is used now.

mod keep;
mod publish;
#[cfg(test)]
mod several;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use doorward_certs::{WorkspaceName, WorkspaceUid};

pub(crate) use keep::KeepError;
pub(crate) use publish::run;
pub use publish::{Owner, Publication};
use tokio::sync::{Notify, Semaphore};

use crate::{guarded::Guarded, workspace::Workspace};

/// The use of all workspaces. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    told: Guarded<BTreeMap<WorkspaceName, Told>>,
    /// Where use is published, by rule.
    publications: BTreeMap<String, Arc<Publication>>,
    /// Of whom something is told that nobody has published yet.
    fresh: Guarded<BTreeSet<WorkspaceName>>,
    changed: Notify,
    /// Places for those who have a workspace kept awake.
    keeping: Semaphore,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            told: Guarded::default(),
            publications: BTreeMap::new(),
            fresh: Guarded::default(),
            changed: Notify::new(),
            keeping: Semaphore::new(keep::AT_ONCE),
        }
    }
}

/// What an agent has told of the life that it serves.
#[derive(Debug, Clone)]
struct Told {
    uid: WorkspaceUid,
    last_use: SystemTime,
}

impl Usage {
    /// Nobody has told anything; publishes by rule, as these say.
    #[must_use]
    pub fn new(publications: impl IntoIterator<Item = (String, Publication)>) -> Self {
        let publications = publications.into_iter();
        Self(Arc::new(Inner {
            publications: publications.map(|(rule, one)| (rule, Arc::new(one))).collect(),
            ..Inner::default()
        }))
    }

    /// Where the use of this workspace is published, if it is.
    fn publication(&self, workspace: &Workspace) -> Option<Arc<Publication>> {
        let rule = &workspace.place.as_ref()?.rule;
        self.0.publications.get(rule).map(Arc::clone)
    }

    fn take_fresh(&self) -> BTreeSet<WorkspaceName> {
        self.0.fresh.with(std::mem::take)
    }

    async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Until when a workspace is kept awake, if it is.
    #[must_use]
    pub fn keep_until(&self, workspace: &Workspace) -> Option<SystemTime> {
        workspace.notes.keep_until.filter(|until| *until > SystemTime::now())
    }

    /// One life of a workspace was used, so long ago.
    pub(crate) fn used(&self, name: &WorkspaceName, uid: &WorkspaceUid, ago: Duration) {
        let now = SystemTime::now();
        // Longer ago than there is time: not known.
        let Some(at) = now.checked_sub(ago) else { return };
        self.0.told.with(|all| match all.get_mut(name) {
            Some(told) if told.uid == *uid => told.last_use = told.last_use.max(at),
            _ => {
                let (uid, last_use) = (uid.clone(), at);
                all.insert(name.clone(), Told { uid, last_use });
            }
        });
        if !self.0.publications.is_empty() {
            self.0.fresh.with(|fresh| fresh.insert(name.clone()));
            self.0.changed.notify_one();
        }
    }

    /// When a workspace was used last, by its agent's word to this gateway or to another; nothing if that is not known.
    #[must_use]
    pub fn last_use(&self, workspace: &Workspace) -> Option<SystemTime> {
        let noted = workspace.notes.last_use.filter(|at| !is_to_come(*at));
        noted.max(self.told(workspace))
    }

    /// The same by the word to this gateway alone.
    fn told(&self, workspace: &Workspace) -> Option<SystemTime> {
        let uid = &workspace.life.as_ref()?.uid;
        self.0.told.with(|all| {
            let told = all.get(&workspace.name).filter(|told| told.uid == *uid);
            told.map(|told| told.last_use)
        })
    }

    /// Forgets the lives that are over.
    pub(crate) fn keep_to(&self, workspaces: &[Arc<Workspace>]) {
        self.0.told.with(|all| {
            all.retain(|name, told| {
                let found = workspaces.binary_search_by(|one| one.name.cmp(name));
                let life = found.ok().and_then(|place| workspaces[place].life.as_ref());
                life.is_some_and(|life| life.uid == told.uid)
            });
        });
    }
}

/// Whether a moment lies further ahead than clocks differ.
fn is_to_come(at: SystemTime) -> bool {
    at.duration_since(SystemTime::now()).is_ok_and(|ahead| ahead > SKEW)
}

/// How much the clocks of gateways may differ.
const SKEW: Duration = Duration::from_secs(60);
/// How often an agent tells of use at most.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Enrolment, Life, State};

    fn workspace(name: &str, uid: &str) -> Workspace {
        Workspace {
            state: State::Running,
            life: Some(Life {
                uid: WorkspaceUid::try_from(uid).unwrap(),
                address: "127.0.0.1:1".to_owned(),
                enrolment: Enrolment::None,
            }),
            ..crate::wake::tests_workspace(name, "rule")
        }
    }

    fn ago(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn since(at: Option<SystemTime>) -> u64 {
        at.unwrap().elapsed().unwrap().as_secs() / 10
    }

    #[test]
    fn the_newest_word_counts_and_that_of_another_life_never() {
        let usage = Usage::default();
        let mut one = workspace("devenv-0", "u-1");
        assert_eq!(usage.last_use(&one), None, "nobody has told anything");
        let uid = one.life.clone().unwrap().uid;
        usage.used(&one.name, &uid, ago(500));
        usage.used(&one.name, &uid, ago(1000));
        assert_eq!(since(usage.last_use(&one)), 50);
        one.notes.last_use = SystemTime::now().checked_sub(ago(100));
        assert_eq!(since(usage.last_use(&one)), 10);
        // What somebody wrote who has another clock, or means mischief, hides nothing.
        one.notes.last_use = Some(SystemTime::now() + ago(86_400));
        assert_eq!(since(usage.last_use(&one)), 50);
        assert_eq!(usage.last_use(&workspace("devenv-0", "u-2")), None);
        usage.used(&one.name, &uid, Duration::MAX);
        assert_eq!(since(usage.last_use(&one)), 50);
    }

    #[test]
    fn lives_that_are_over_are_forgotten() {
        let usage = Usage::default();
        let all = [workspace("a", "u-a"), workspace("b", "u-b")];
        for one in &all {
            usage.used(&one.name, &one.life.clone().unwrap().uid, ago(1));
        }
        usage.keep_to(&[Arc::new(workspace("a", "u-new")), Arc::new(all[1].clone())]);
        assert_eq!(
            usage.0.told.with(|told| told.keys().cloned().collect::<Vec<_>>()),
            [all[1].name.clone()]
        );
    }
}
