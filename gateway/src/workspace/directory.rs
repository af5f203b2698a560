//! All workspaces by name, from every source, exchanged as a whole when something that matters has changed, or one by one where
//! only they can be meant.
//!
//! It refuses what would make a name ambiguous. The configuration's word stands before the cluster's; within one source two
//! workspaces of one name, or of one uid, are both held back, because whoever can make a pod could otherwise take a name over.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use doorward_certs::{WorkspaceName, WorkspaceUid};
use tokio::sync::watch;

use super::{Life, State, Workspace};
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
    all: Guarded<All>,
    told: Guarded<BTreeMap<Source, Told>>,
    clashes: ArcSwap<Vec<Clash>>,
    changes: watch::Sender<u64>,
    lives: AtomicU64,
}

/// What a source has told.
#[derive(Default)]
struct Told {
    workspaces: Vec<Workspace>,
    /// Where the last of each name is among them.
    places: HashMap<WorkspaceName, usize>,
}

impl Told {
    fn last(&mut self, name: &WorkspaceName) -> Option<&mut Workspace> {
        self.workspaces.get_mut(*self.places.get(name)?)
    }
}

impl From<Vec<Workspace>> for Told {
    fn from(workspaces: Vec<Workspace>) -> Self {
        let named = workspaces.iter().enumerate();
        Self {
            places: named.map(|(place, one)| (one.name.clone(), place)).collect(),
            workspaces,
        }
    }
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
        self.0.all.with(|all| all.get(name).map(Arc::clone))
    }

    /// Every workspace, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Workspace>> {
        self.0.all.with(|all| all.values().map(Arc::clone).collect())
    }

    /// Takes these as all the workspaces of a source. Those that are as they were stay the same values; if all are, nobody
    /// is told of a change.
    pub fn replace(&self, source: Source, workspaces: Vec<Workspace>) {
        self.0.told.with(|told| {
            told.insert(source, workspaces.into());
            self.merge(told);
        });
    }

    /// Takes these for those of their names that a source has told of before, and looks at no others where no other can be
    /// concerned: those that are as they were told, and keep their uid. A name that the source has not told of stays unknown.
    pub(crate) fn amend(&self, source: Source, workspaces: Vec<Workspace>) {
        self.0.told.with(|all_told| {
            let (mut plain, mut applied, mut moved) = (true, false, false);
            for workspace in workspaces {
                let Some(told) = all_told.get_mut(&source).and_then(|told| told.last(&workspace.name)) else {
                    continue;
                };
                if *told == workspace {
                    continue;
                }
                let uid = |one: &Workspace| one.life.as_ref().map(|life| life.uid.clone());
                let served = self.0.all.with(|all| {
                    let served = all.get_mut(&workspace.name);
                    let served = served.filter(|served| ***served == *told && uid(told) == uid(&workspace));
                    served.map(|served| *served = Arc::new(workspace.clone())).is_some()
                });
                plain &= served;
                applied |= served;
                moved |= served && told.life != workspace.life;
                *told = workspace;
            }
            if applied {
                self.tell(moved);
            }
            if !plain {
                self.merge(all_told);
            }
        });
    }

    fn merge(&self, told: &BTreeMap<Source, Told>) {
        let (mut all, clashes) = merge(told);
        if **self.0.clashes.load() != clashes {
            self.0.clashes.store(Arc::new(clashes));
        }
        let moved = self.0.all.with(|before| {
            for (name, workspace) in &mut all {
                if let Some(old) = before.get(name)
                    && old == workspace
                {
                    *workspace = Arc::clone(old);
                }
            }
            let changed = *before != all;
            let moved = changed && !lives(before).eq(lives(&all));
            *before = all;
            changed.then_some(moved)
        });
        if let Some(moved) = moved {
            self.tell(moved);
        }
    }

    fn tell(&self, moved: bool) {
        if moved {
            self.0.lives.fetch_add(1, Ordering::Release);
        }
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Tells when any workspace has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// A number that is another one whenever any workspace has another life than it had.
    pub(crate) fn lives(&self) -> u64 {
        self.0.lives.load(Ordering::Acquire)
    }

    /// What is not served as it was told, and why; for operators.
    #[must_use]
    pub fn clashes(&self) -> Arc<Vec<Clash>> {
        self.0.clashes.load_full()
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Directory({})", self.0.all.with(|all| all.len()))
    }
}

fn lives(all: &All) -> impl Iterator<Item = (&WorkspaceName, &Life)> {
    all.iter()
        .filter_map(|(name, workspace)| Some((name, workspace.life.as_ref()?)))
}

fn merge(told: &BTreeMap<Source, Told>) -> (All, Vec<Clash>) {
    let (mut all, mut uids, mut clashes) = (All::new(), HashMap::new(), Vec::new());
    for (source, told) in told {
        let (own, doubtful) = unambiguous(&told.workspaces, &mut clashes);
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
