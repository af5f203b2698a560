//! All workspaces by name, from every source, exchanged as a whole when something that matters has changed.
//!
//! It refuses what would make a name ambiguous. The configuration's word stands before the cluster's; within one source two
//! workspaces of one name, or of one uid, are both held back, because whoever can make a pod could otherwise take a name over.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use arc_swap::ArcSwap;
use doorward_certs::{WorkspaceName, WorkspaceUid};
use tokio::sync::watch;

use super::{State, Workspace};
use crate::guarded::Guarded;

/// Where workspaces come from, in the order in which they are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The configuration file.
    Configuration,
    /// The Kubernetes API server.
    Kubernetes,
}

/// A workspace that is not served as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Which.
    pub name: WorkspaceName,
    /// Why, in a sentence.
    pub why: String,
}

/// All workspaces. Clones are the same directory.
#[derive(Clone, Default)]
pub struct Directory(Arc<Inner>);

type All = BTreeMap<WorkspaceName, Arc<Workspace>>;

#[derive(Default)]
struct Inner {
    all: ArcSwap<All>,
    told: Guarded<BTreeMap<Source, Vec<Workspace>>>,
    clashes: ArcSwap<Vec<Clash>>,
    changes: watch::Sender<u64>,
}

impl Directory {
    /// A directory of the configuration's workspaces alone.
    #[must_use]
    pub fn new(workspaces: impl IntoIterator<Item = Workspace>) -> Self {
        let directory = Self::default();
        directory.replace(Source::Configuration, workspaces.into_iter().collect());
        directory
    }

    /// The workspace of this name.
    #[must_use]
    pub fn find(&self, name: &WorkspaceName) -> Option<Arc<Workspace>> {
        self.0.all.load().get(name).map(Arc::clone)
    }

    /// Every workspace, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Workspace>> {
        self.0.all.load().values().map(Arc::clone).collect()
    }

    /// Takes these as all the workspaces of a source. Those that are as they were stay the same values; if all are, nobody
    /// is told of a change.
    pub fn replace(&self, source: Source, workspaces: Vec<Workspace>) {
        self.0.told.with(|told| {
            told.insert(source, workspaces);
            let (mut all, clashes) = merge(told);
            let before = self.0.all.load();
            for (name, workspace) in &mut all {
                if let Some(old) = before.get(name)
                    && old == workspace
                {
                    *workspace = Arc::clone(old);
                }
            }
            if **self.0.clashes.load() != clashes {
                self.0.clashes.store(Arc::new(clashes));
            }
            if **before != all {
                self.0.all.store(Arc::new(all));
                self.0.changes.send_modify(|count| *count += 1);
            }
        });
    }

    /// Tells when any workspace has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// What is not served as it was told, and why; for operators.
    #[must_use]
    pub fn clashes(&self) -> Arc<Vec<Clash>> {
        self.0.clashes.load_full()
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Directory({})", self.0.all.load().len())
    }
}

fn merge(told: &BTreeMap<Source, Vec<Workspace>>) -> (All, Vec<Clash>) {
    let (mut all, mut uids, mut clashes) = (All::new(), HashMap::new(), Vec::new());
    for (source, workspaces) in told {
        let (own, doubtful) = unambiguous(workspaces, &mut clashes);
        for (name, workspace) in own {
            let Entry::Vacant(place) = all.entry(name) else {
                clashes.push(Clash {
                    name: workspace.name.clone(),
                    why: format!(
                        "{} tells of a workspace of this name, and that is another's already",
                        source.phrase()
                    ),
                });
                continue;
            };
            let uid = workspace.life.as_ref().map(|life| life.uid.clone());
            if let Some(other) = uid.as_ref().and_then(|uid| uids.get(uid)) {
                let why = format!("{} gives it the uid of {other}", source.phrase());
                clashes.push(Clash {
                    name: workspace.name.clone(),
                    why: why.clone(),
                });
                place.insert(Arc::new(held_back(workspace, "its uid is another workspace's")));
                continue;
            }
            uids.extend(uid.map(|uid: WorkspaceUid| (uid, workspace.name.clone())));
            place.insert(Arc::new(match doubtful.get(&workspace.name) {
                Some(why) => held_back(workspace, why),
                None => workspace.clone(),
            }));
        }
    }
    (all, clashes)
}

/// The workspaces of one source by name, and those of them that must not be served.
fn unambiguous<'a>(
    workspaces: &'a [Workspace],
    clashes: &mut Vec<Clash>,
) -> (
    BTreeMap<WorkspaceName, &'a Workspace>,
    BTreeMap<WorkspaceName, &'static str>,
) {
    let (mut own, mut doubtful): (BTreeMap<_, &Workspace>, BTreeMap<_, _>) = Default::default();
    let mut lives: HashMap<&WorkspaceUid, &WorkspaceName> = HashMap::new();
    for workspace in workspaces {
        if own.insert(workspace.name.clone(), workspace).is_some() {
            doubtful.insert(workspace.name.clone(), TWO_OF_A_NAME);
        }
        if let Some(life) = &workspace.life
            && let Some(other) = lives.insert(&life.uid, &workspace.name)
            && *other != workspace.name
        {
            doubtful.insert(workspace.name.clone(), TWO_OF_A_UID);
            doubtful.insert(other.clone(), TWO_OF_A_UID);
        }
    }
    clashes.extend(doubtful.iter().map(|(name, why)| Clash {
        name: name.clone(),
        why: (*why).to_owned(),
    }));
    (own, doubtful)
}

/// What stands in the place of a workspace that must not be entered: nobody's, and without a life.
fn held_back(workspace: &Workspace, why: &str) -> Workspace {
    Workspace {
        owner: None,
        place: None,
        state: State::Failed(why.to_owned()),
        life: None,
        ..workspace.clone()
    }
}

impl Source {
    fn phrase(self) -> &'static str {
        match self {
            Self::Configuration => "the configuration",
            Self::Kubernetes => "the cluster",
        }
    }
}

const TWO_OF_A_NAME: &str = "more than one claims this name, and nobody can tell which is meant";
const TWO_OF_A_UID: &str = "its uid is another workspace's as well";
