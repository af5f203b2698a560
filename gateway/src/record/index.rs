//! What the gateway knows of its recordings without opening them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use doorward_audit::SessionIndex;
use uuid::Uuid;

use super::layout;

/// Which sessions a list should show. Empty fields match all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this user's.
    pub user: Option<String>,
    /// Only those in this workspace.
    pub workspace: Option<String>,
    /// At most so many; never more than [`Filter::MOST`].
    pub limit: usize,
}

impl Filter {
    /// The longest list that is given out.
    pub const MOST: usize = 1000;

    fn matches(&self, session: &SessionIndex) -> bool {
        self.user.as_ref().is_none_or(|user| *user == session.user)
            && self.workspace.as_ref().is_none_or(|name| *name == session.workspace)
    }
}

/// The newest sessions by id, which is also by time. Older ones are found by id alone, on disk.
#[derive(Default)]
pub(super) struct Index(BTreeMap<Uuid, SessionIndex>);

impl Index {
    pub(super) fn put(&mut self, session: SessionIndex) {
        self.0.insert(session.session, session);
        if self.0.len() > MOST_KEPT {
            self.0.pop_first();
        }
    }

    pub(super) fn remove(&mut self, session: Uuid) {
        self.0.remove(&session);
    }

    pub(super) fn find(&self, session: Uuid) -> Option<SessionIndex> {
        self.0.get(&session).cloned()
    }

    pub(super) fn list(&self, filter: &Filter) -> Vec<SessionIndex> {
        let most = filter.limit.min(Filter::MOST);
        self.0
            .values()
            .rev()
            .filter(|s| filter.matches(s))
            .take(most)
            .cloned()
            .collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &SessionIndex> {
        self.0.values()
    }

    /// Reads the newest sessions below `root`. A folder that cannot be read is named in the log
    /// and left alone: one bad recording must not keep a gateway from starting.
    pub(super) fn load(root: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        let mut days = names(root)?;
        days.retain(|name| layout::is_day(name));
        days.sort_unstable_by(|a, b| b.cmp(a));
        for day in days {
            for name in names(&root.join(day))? {
                let Ok(session) = Uuid::parse_str(&name) else { continue };
                match read(root, session) {
                    Ok(Some(found)) => index.put(found),
                    Ok(None) if has(root, session, layout::TOMBSTONE) => {}
                    Ok(None) => tracing::warn!(%session, "recording without an index"),
                    Err(error) => tracing::warn!(%session, %error, "recording cannot be read"),
                }
            }
            if index.0.len() >= MOST_KEPT {
                break;
            }
        }
        Ok(index)
    }
}

fn has(root: &Path, session: Uuid, name: &str) -> bool {
    layout::session_dir(root, session).is_some_and(|dir| dir.join(name).exists())
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// The index of one session as it stands on disk, `None` if there is none.
pub(super) fn read(root: &Path, session: Uuid) -> io::Result<Option<SessionIndex>> {
    let Some(dir) = layout::session_dir(root, session) else {
        return Ok(None);
    };
    let text = match fs::read(dir.join(layout::INDEX)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found: SessionIndex = serde_json::from_slice(&text)?;
    if found.session != session {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "index of another session"));
    }
    Ok(Some(found))
}

/// Replaces the index of a session; it is durable when this returns.
pub(super) fn write(dir: &Path, session: &SessionIndex) -> io::Result<()> {
    layout::replace(dir, layout::INDEX, &text(session)?)
}

/// Writes the first index of a session, not durable yet.
pub(super) fn write_new(dir: &Path, session: &SessionIndex) -> io::Result<()> {
    layout::write_new(dir, layout::INDEX, &text(session)?)
}

pub(super) fn text(session: &SessionIndex) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(session)?;
    text.push(b'\n');
    Ok(text)
}

/// At a few hundred bytes each, some ten megabytes.
const MOST_KEPT: usize = 50_000;
