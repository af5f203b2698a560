//! Locks: people and workspaces for which no session is opened until somebody takes the lock away.
//!
//! They are kept in one file of the state folder, written whole or not at all and durable before anybody is told that it
//! is done. A lock is seen by whoever takes a seat after it; whoever had taken one before is ended by it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{
    guarded::Guarded,
    refusal::{Refusal, RefusalCode},
};

/// What is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockKind {
    /// A person, by the name that records call them.
    User,
    /// A workspace, by its name.
    Workspace,
}

impl LockKind {
    /// Reads the word of a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "user" => Some(Self::User),
            "workspace" => Some(Self::Workspace),
            _ => None,
        }
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Workspace => "workspace",
        }
    }
}

/// One lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What is locked.
    pub kind: LockKind,
    /// Who or which.
    pub name: String,
    /// Who locked it.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// Why; may be empty.
    pub reason: String,
}

impl Lock {
    /// A lock of this moment.
    #[must_use]
    pub fn now(kind: LockKind, name: &str, by: &str, reason: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            by: by.to_owned(),
            at: rfc3339(SystemTime::now()),
            reason: reason.to_owned(),
        }
    }

    /// The sentence for somebody whom it meets.
    #[must_use]
    pub fn sentence(&self) -> String {
        let what = match self.kind {
            LockKind::User => "you are locked",
            LockKind::Workspace => "the workspace is locked",
        };
        match self.reason.is_empty() {
            true => what.to_owned(),
            false => format!("{what}: {}", self.reason),
        }
    }
}

/// A moment as RFC 3339, in UTC and whole seconds.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map(|at| at.round(jiff::Unit::Second).unwrap_or(at).to_string())
        .unwrap_or_default()
}

type Table = BTreeMap<(LockKind, String), Lock>;

/// All locks.
#[derive(Debug)]
pub struct Locks {
    file: PathBuf,
    table: Guarded<Arc<Table>>,
    /// One change at a time, so that the file says what the table says.
    changing: Mutex<()>,
}

impl Locks {
    /// Reads the locks of a state folder.
    ///
    /// # Errors
    /// The file is there and cannot be read: a gateway that has lost its locks must not open what they lock.
    pub fn open(state: &Path) -> io::Result<Self> {
        let file = state.join("locks.json");
        Ok(Self {
            table: Guarded::new(Arc::new(load(&file)?)),
            file,
            changing: Mutex::new(()),
        })
    }

    /// All locks, people first, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Lock> {
        self.now().values().cloned().collect()
    }

    /// The lock that stands in the way of this person in this workspace.
    #[must_use]
    pub fn against(&self, user: &str, workspace: Option<&str>) -> Option<Lock> {
        let table = self.now();
        let find = |kind, name: &str| table.get(&(kind, name.to_owned())).cloned();
        find(LockKind::User, user).or_else(|| find(LockKind::Workspace, workspace?))
    }

    /// Refuses whom a lock meets.
    ///
    /// # Errors
    /// `locked`, with the reason.
    pub fn check(&self, user: &str, workspace: Option<&str>) -> Result<(), Refusal> {
        match self.against(user, workspace) {
            None => Ok(()),
            Some(lock) => Err(Refusal::new(RefusalCode::Locked, lock.sentence())
                .with_hint("your platform team can take the lock away")
                .with_detail(format!(
                    "the lock of {} `{}`, by {}",
                    lock.kind.as_str(),
                    lock.name,
                    lock.by
                ))),
        }
    }

    /// Adds a lock, or takes its place.
    ///
    /// # Errors
    /// The disk refuses, or there are too many; then nothing has changed.
    pub async fn add(&self, lock: Lock) -> io::Result<()> {
        self.change(move |table| {
            let key = (lock.kind, lock.name.clone());
            if table.len() >= MOST && !table.contains_key(&key) {
                return Err(io::Error::other(format!("there are {MOST} locks already")));
            }
            table.insert(key, lock);
            Ok(true)
        })
        .await
        .map(drop)
    }

    /// Takes a lock away; whether it was there.
    ///
    /// # Errors
    /// The disk refuses; then nothing has changed.
    pub async fn remove(&self, kind: LockKind, name: &str) -> io::Result<bool> {
        let key = (kind, name.to_owned());
        self.change(move |table| Ok(table.remove(&key).is_some())).await
    }

    async fn change(&self, change: impl FnOnce(&mut Table) -> io::Result<bool>) -> io::Result<bool> {
        let _alone = self.changing.lock().await;
        let mut next = Table::clone(&self.now());
        if !change(&mut next)? {
            return Ok(false);
        }
        let next = Arc::new(next);
        let (file, written) = (self.file.clone(), Arc::clone(&next));
        tokio::task::spawn_blocking(move || store(&file, &written))
            .await
            .map_err(io::Error::other)??;
        self.table.with(|table| *table = next);
        Ok(true)
    }

    fn now(&self) -> Arc<Table> {
        self.table.with(|table| Arc::clone(table))
    }
}

fn load(file: &Path) -> io::Result<Table> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::new()),
        Err(error) => return Err(error),
    };
    let locks: Vec<Lock> = serde_json::from_slice(&text)?;
    Ok(locks
        .into_iter()
        .map(|lock| ((lock.kind, lock.name.clone()), lock))
        .collect())
}

/// Writes the file beside its place, makes it durable, then puts it there.
fn store(file: &Path, table: &Table) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = file.with_extension("json.new");
    let locks: Vec<&Lock> = table.values().collect();
    let mut new = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    new.write_all(&serde_json::to_vec_pretty(&locks)?)?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    match file.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The most locks that are kept.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn locks_survive_a_restart_and_meet_whom_they_name() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::open(folder.path()).unwrap();
        assert_eq!(locks.list(), []);
        locks
            .add(Lock::now(LockKind::User, "bob", "alice", "left the company"))
            .await
            .unwrap();
        locks
            .add(Lock::now(LockKind::Workspace, "devenv-1", "alice", ""))
            .await
            .unwrap();
        let mode = fs::metadata(folder.path().join("locks.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Locks::open(folder.path()).unwrap();
        assert_eq!(again.list(), locks.list());
        let refusal = again.check("bob", None).unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::Locked);
        assert!(refusal.text().contains("left the company"), "{refusal}");
        assert!(again.check("alice", Some("devenv-1")).is_err());
        assert!(again.check("alice", Some("devenv-0")).is_ok());
        assert!(again.check("Bob", Some("devenv-0")).is_ok());
        assert!(again.remove(LockKind::User, "bob").await.unwrap());
        assert!(!again.remove(LockKind::User, "bob").await.unwrap());
        assert!(Locks::open(folder.path()).unwrap().check("bob", None).is_ok());
    }

    #[tokio::test]
    async fn a_disk_that_refuses_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let locks = Locks::open(folder.path()).unwrap();
        fs::create_dir(folder.path().join("locks.json.new")).unwrap();
        assert!(locks.add(Lock::now(LockKind::User, "bob", "alice", "")).await.is_err());
        assert_eq!(locks.list(), []);
        fs::write(folder.path().join("locks.json"), "not locks").unwrap();
        assert!(Locks::open(folder.path()).is_err());
    }
}
