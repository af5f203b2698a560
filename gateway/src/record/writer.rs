//! One recording on disk, written by one worker at a time: checked, cut into segments, made durable.
//!
//! Only whole blocks that fit the chain reach a segment. The bytes in which the first fault was
//! found, or a block that the agent never finished, go aside into a `torn-…` file. All calls block.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use doorward_audit::receipt::Durable;
use doorward_audit::{BlockKind, ChainCheck, Head, segment_name};
use ssh_key::PublicKey;
use uuid::Uuid;

use super::{Disk, Failure, layout};

/// Writes the stream of one session.
pub(super) struct Writer {
    dir: PathBuf,
    disk: Disk,
    check: ChainCheck,
    agent_key: Option<PublicKey>,
    file: Option<File>,
    tail: Tail,
    written: u64,
    durable: u64,
    last: Option<Durable>,
    heads: Vec<Durable>,
    finished: bool,
    /// Whether the folder itself is not durable yet.
    folder_new: bool,
    /// Whether a segment's name is not durable yet.
    entries_new: bool,
}

impl Writer {
    /// A recording without a byte, in its own folder that exists and need not be durable yet.
    pub(super) fn new(dir: PathBuf, session: Uuid, disk: Disk) -> Self {
        Self {
            dir,
            disk,
            check: ChainCheck::new(session),
            agent_key: None,
            file: None,
            tail: Tail::default(),
            written: 0,
            durable: 0,
            last: None,
            heads: Vec::new(),
            finished: false,
            folder_new: true,
            entries_new: false,
        }
    }

    /// A recording that stands on disk, all of it durable; `file` is its last segment.
    pub(super) fn stored(
        dir: PathBuf,
        disk: Disk,
        check: ChainCheck,
        file: Option<File>,
        last: Option<Durable>,
        finished: bool,
    ) -> Self {
        let end = last.map_or(0, |mark| mark.offset);
        Self {
            file,
            written: end,
            durable: end,
            last,
            finished,
            folder_new: false,
            check,
            ..Self::new(dir, Uuid::nil(), disk)
        }
    }

    /// From now on heads must be signed by this key.
    pub(super) fn expect_key(&mut self, key: PublicKey) {
        self.agent_key = Some(key);
    }

    /// Folder of the recording.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of whole blocks that survive a loss of power.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// The last whole block.
    pub(super) fn last(&self) -> Option<Durable> {
        self.last
    }

    /// Whether the agent's final head is among the blocks.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Whether there are heads that wait for their receipt: then a segment has ended.
    pub(super) fn has_heads(&self) -> bool {
        !self.heads.is_empty()
    }

    /// Heads that became durable and wait for their receipt.
    pub(super) fn take_heads(&mut self) -> Vec<Durable> {
        std::mem::take(&mut self.heads)
    }

    /// Takes the next bytes of the stream and writes the blocks that they complete.
    ///
    /// # Errors
    /// A fault of the chain leaves all blocks before it written. A fault of the disk leaves the
    /// recording as [`Writer::durable`] says; nothing after that may be trusted.
    pub(super) fn absorb(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let mut plan = Plan {
            steps: Vec::new(),
            forged: None,
            key: self.agent_key.as_ref(),
        };
        let checked = self.check.push(&bytes, &mut |seen| {
            plan.note(seen.kind, Durable::from(&seen), seen.head.as_ref());
        });
        self.tail.push(bytes);
        let Plan { steps, forged, .. } = plan;
        for step in steps {
            self.carry_out(&step)?;
        }
        if let Some(text) = forged {
            return Err(Failure::Chain(text));
        }
        checked.map_err(|fault| Failure::Chain(fault.to_string()))
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), Failure> {
        if step.opens {
            self.turn(step.end.segment)
                .map_err(|e| Failure::storage("open a segment", &e))?;
        }
        let file = self
            .file
            .as_mut()
            .ok_or_else(|| Failure::Chain("no segment is open".into()))?;
        let len = step.end.offset - self.written;
        self.tail
            .write(file, len)
            .map_err(|e| Failure::storage("write a segment", &e))?;
        self.written = step.end.offset;
        self.last = Some(step.end);
        if let Some(last) = step.head {
            self.heads.push(step.end);
            self.finished = last;
        }
        Ok(())
    }

    /// Ends the open segment and begins the next.
    fn turn(&mut self, segment: u32) -> std::io::Result<()> {
        if let Some(done) = self.file.take() {
            (self.disk.sync)(&done)?;
        }
        self.file = Some(layout::create_new(&self.dir.join(segment_name(segment)))?);
        self.entries_new = true;
        Ok(())
    }

    /// Makes everything that is written durable and returns how far that is.
    ///
    /// # Errors
    /// After a failed fsync the bytes since the last good one are lost, whatever a second try says.
    pub(super) fn commit(&mut self) -> Result<u64, Failure> {
        if self.written > self.durable
            && let Some(file) = &self.file
        {
            (self.disk.sync)(file).map_err(|e| Failure::storage("sync a segment", &e))?;
        }
        if self.folder_new {
            layout::sync_session(&self.dir).map_err(|e| Failure::storage("sync a folder", &e))?;
            self.folder_new = false;
        } else if self.entries_new {
            layout::sync_dir(&self.dir).map_err(|e| Failure::storage("sync a folder", &e))?;
        }
        self.entries_new = false;
        self.durable = self.written;
        Ok(self.durable)
    }

    /// Puts the bytes that belong to no whole block aside; returns how many there were.
    pub(super) fn set_torn_aside(&mut self, unix_ms: u64) -> Result<u64, Failure> {
        let len = self.tail.len();
        if len == 0 {
            return Ok(0);
        }
        let name = layout::torn_name(self.written, unix_ms);
        let aside = || -> std::io::Result<()> {
            let mut file = layout::create_new(&self.dir.join(name))?;
            self.tail.write(&mut file, len)?;
            (self.disk.sync)(&file)?;
            layout::sync_dir(&self.dir)
        };
        aside().map_err(|e| Failure::storage("set torn bytes aside", &e))?;
        Ok(len)
    }
}

/// Bytes that wait for the end of their block.
#[derive(Default)]
struct Tail {
    chunks: VecDeque<Bytes>,
    len: u64,
}

impl Tail {
    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len() as u64;
            self.chunks.push_back(bytes);
        }
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn write(&mut self, file: &mut File, mut len: u64) -> std::io::Result<()> {
        while len > 0 {
            let Some(front) = self.chunks.front_mut() else {
                return Err(std::io::Error::other("the chain is ahead of its bytes"));
            };
            let take = front.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            file.write_all(&front[..take])?;
            front.advance(take);
            if front.is_empty() {
                self.chunks.pop_front();
            }
            self.len -= take as u64;
            len -= take as u64;
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
        Ok(())
    }
}

/// A run of blocks that goes into one file with one write.
struct Step {
    opens: bool,
    end: Durable,
    /// Whether the run ends with a head, and if so whether it is the final one.
    head: Option<bool>,
}

/// The blocks that one push completed, joined into as few writes as the segments allow.
struct Plan<'a> {
    steps: Vec<Step>,
    forged: Option<String>,
    key: Option<&'a PublicKey>,
}

impl Plan<'_> {
    fn note(&mut self, kind: BlockKind, end: Durable, head: Option<&Head>) {
        if self.forged.is_some() {
            return;
        }
        if let (Some(head), Some(key)) = (head, self.key)
            && !head.verify(key)
        {
            self.forged = Some(format!(
                "the head of segment {} is not signed by the workspace",
                end.segment
            ));
            return;
        }
        let head = head.map(|head| head.statement().last);
        match self.steps.last_mut() {
            Some(run) if kind != BlockKind::Start && run.head.is_none() => {
                run.end = end;
                run.head = head;
            }
            _ => self.steps.push(Step {
                opens: kind == BlockKind::Start,
                end,
                head,
            }),
        }
    }
}
