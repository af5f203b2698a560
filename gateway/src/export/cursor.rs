//! How far a sink has come, in a file that is replaced once it has taken more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use doorward_audit::Event;
use doorward_audit::export::About;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Everything before it was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Cursor {
    /// The stream of the journal; none before the first.
    pub(super) stream: Option<Uuid>,
    /// How many of its events were taken.
    pub(super) events: u64,
    /// The recording that is being exported.
    pub(super) current: Option<Current>,
    /// Sessions that were opened and whose recordings were not exported whole.
    pub(super) sessions: Vec<Pending>,
}

/// A recording in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Current {
    pub(super) session: Uuid,
    /// How many of its events were taken.
    pub(super) events: u64,
}

/// A session whose recording is to be exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Pending {
    pub(super) about: About,
    /// Whether the journal says that it ended, or will not say it any more.
    pub(super) ended: bool,
}

impl Cursor {
    /// The cursor of a sink. One that cannot be read is as good as none: then everything is sent again, and nothing is lost.
    pub(super) async fn load(folder: &Path, name: &str) -> Self {
        let path = file(folder, name);
        let read = tokio::fs::read(&path).await.and_then(|bytes| {
            let cursor = serde_json::from_slice(&bytes);
            cursor.map_err(io::Error::other)
        });
        match read {
            Ok(cursor) => cursor,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                tracing::warn!(export = name, %error, "the cursor cannot be read: everything is exported again");
                Self::default()
            }
        }
    }

    /// Replaces the file, whole or not at all, durably.
    pub(super) async fn save(&self, folder: &Path, name: &str) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let (folder, path) = (folder.to_owned(), file(folder, name));
        let write = move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let beside = path.with_extension("new");
            let mut options = OpenOptions::new();
            let mut new = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            new.write_all(&text)?;
            new.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&folder)?.sync_all()
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }

    /// A session was opened.
    pub(super) fn opened(&mut self, about: About) {
        if !self.sessions.iter().any(|one| one.about.session == about.session) {
            self.sessions.push(Pending { about, ended: false });
        }
    }

    /// A session ended.
    pub(super) fn ended(&mut self, session: Uuid) {
        for one in &mut self.sessions {
            one.ended |= one.about.session == session;
        }
    }

    /// Nothing more is said of the sessions so far.
    pub(super) fn all_ended(&mut self) {
        for one in &mut self.sessions {
            one.ended = true;
        }
    }

    /// A session's recording was exported whole.
    pub(super) fn exported(&mut self, session: Uuid) {
        self.current = None;
        self.sessions.retain(|one| one.about.session != session);
    }

    /// Whose session an event of the journal is about.
    pub(super) fn about(&self, event: &Event) -> Option<&About> {
        let session = match event {
            Event::Signed(body) => body.session,
            Event::SessionOpened(body) => body.session,
            Event::SessionEnded(body) => body.session,
            Event::SessionKilled(body) => body.session,
            Event::HeadCountersigned(body) => body.session,
            Event::Reconciled(body) => body.session,
            _ => return None,
        };
        let found = self.sessions.iter().find(|one| one.about.session == session);
        found.map(|one| &one.about)
    }
}

fn file(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.json"))
}
