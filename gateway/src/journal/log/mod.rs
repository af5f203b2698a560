//! The transparency log on disk: `log/<key>/leaves.jsonl` with one leaf in each line, `checkpoints.jsonl` with what was signed,
//! and two files that are made anew at each start, `hashes` and `places`.
//!
//! One log for each link key, which is one for each gateway: it is named for the key that signs it. A leaf is durable before
//! a checkpoint that covers it is shown to anybody. All calls block.

mod files;
mod public;

pub use public::{Logged, PublicLog};

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward_audit::log::{
    self, CHECKPOINT_NAMESPACE, CHECKPOINTS_NAME, Frontier, Leaf, LeafKind, Statement, TreeHead,
};

use self::files::{Derived, Found};
use super::unix_ms;
use crate::link::Credential;

/// A log that is written.
pub(super) struct Log {
    dir: PathBuf,
    origin: String,
    leaves: File,
    /// Bytes of leaves that are durable.
    durable: u64,
    frontier: Frontier,
    derived: Derived,
    /// The checkpoint that was put on disk last, and when.
    kept: Option<TreeHead>,
    kept_at: Option<Instant>,
    public: Arc<PublicLog>,
}

impl Log {
    /// Opens the log of this gateway's key below `root`, or begins it. A log that is not what its last checkpoint says is set
    /// aside and named by the new one: nobody's word is taken back in silence.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn open(root: &Path, credential: &Credential, public: &Arc<PublicLog>) -> io::Result<Self> {
        let origin = log::origin_of(credential.public_key());
        let dir = root.join(files::folder_name(credential.public_key()));
        files::make_dir(&dir)?;
        let mut previous = None;
        let found = match Found::in_dir(&dir, credential.public_key())? {
            Ok(found) => found,
            Err(damaged) => {
                let aside = files::set_aside(&dir)?;
                tracing::error!(
                    folder = %aside.display(),
                    why = damaged.why,
                    "the transparency log is not what was signed; it is set aside and a new one begins, which everybody will see"
                );
                previous = damaged.head.map(|head| (origin.clone(), head));
                files::make_dir(&dir)?;
                Found::nothing(&dir)?
            }
        };
        let mut log = Self {
            dir,
            origin,
            leaves: found.leaves,
            durable: found.durable,
            frontier: found.frontier,
            derived: found.derived,
            kept: found.kept,
            kept_at: None,
            public: Arc::clone(public),
        };
        if log.frontier.size() == 0 {
            let previous = previous.or_else(|| files::newest_other(root, &log.dir));
            let previous =
                previous.map(|(name, head)| format!("{name} {} {}", head.size, doorward_audit::hex(&head.root)));
            let started = LeafKind::LogStarted {
                log: log.origin.clone(),
                previous,
            };
            log.append(&[Leaf::new(unix_ms(), started)])?;
        }
        log.publish(credential, true)?;
        Ok(log)
    }

    /// Leaves that are durable.
    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Adds leaves and makes them durable: all of them, or by [`Log::size`] none. After an error the log must be opened anew.
    pub(super) fn append(&mut self, leaves: &[Leaf]) -> io::Result<()> {
        if leaves.is_empty() {
            return Ok(());
        }
        let mut texts = Vec::with_capacity(leaves.len());
        let mut lines = String::new();
        for leaf in leaves {
            let text = leaf.to_text().map_err(io::Error::other)?;
            lines += &text;
            lines.push('\n');
            texts.push((text, leaf.kind.session(), leaf.at));
        }
        self.leaves.write_all(lines.as_bytes())?;
        self.leaves.sync_data()?;
        let mut derived = Ok(());
        for (text, session, at) in &texts {
            let added = self.derived.add(&mut self.frontier, text, *session, *at, self.durable);
            derived = derived.and(added);
            self.durable += text.len() as u64 + 1;
        }
        derived.and_then(|()| self.derived.flush())
    }

    /// Signs what the log holds now and shows it, where a certificate tells who signs. It is put on disk now and then, and
    /// when `keep` says so: what is shown is durable through its leaves.
    pub(super) fn publish(&mut self, credential: &Credential, keep: bool) -> io::Result<()> {
        let head = TreeHead {
            size: self.frontier.size(),
            root: self.frontier.root(),
        };
        let shown = self.public.checkpoint();
        let news = shown
            .as_ref()
            .is_none_or(|shown| shown.statement().head != head || shown.statement().origin != self.origin);
        let due = keep || self.kept_at.is_none_or(|at| at.elapsed() >= KEEP_EVERY);
        let keeps = due && self.kept != Some(head);
        if !news && !keeps {
            return Ok(());
        }
        let Some(dated) = credential.dated() else {
            return Ok(());
        };
        let statement = Statement {
            origin: self.origin.clone(),
            head,
            at: dated.unix_ms(),
            previous: self.kept.filter(|kept| kept.size < head.size),
            certificate: dated.text().to_owned(),
        };
        let checkpoint =
            log::sign(statement, |text| credential.sign(CHECKPOINT_NAMESPACE, text)).map_err(io::Error::other)?;
        if keeps {
            let line = checkpoint.to_line().map_err(io::Error::other)?;
            files::append_line(&self.dir.join(CHECKPOINTS_NAME), &line)?;
            self.kept = Some(head);
            self.kept_at = Some(Instant::now());
        }
        self.public.show(&self.dir, Arc::new(checkpoint));
        Ok(())
    }

    /// Cuts off what a failed [`Log::append`] may have left, so that the log can be opened again.
    pub(super) fn abandon(self) {
        if let Err(error) = self.leaves.set_len(self.durable).and_then(|()| self.leaves.sync_all()) {
            tracing::warn!(%error, "the log's unfinished leaves cannot be cut off yet");
        }
    }
}

/// Keeps what was attested of a checkpoint.
///
/// # Errors
/// Those of the file system.
pub(super) fn append_anchor(dir: &Path, line: &str) -> io::Result<()> {
    files::append_line(&dir.join(ANCHORS_NAME), line)
}

/// The name of the file with what was attested, one line each.
const ANCHORS_NAME: &str = "anchors.jsonl";
/// So often at most a checkpoint is put on disk while leaves come in.
const KEEP_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
