//! The journal read from its files, from a place on, as far as it is durable.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use doorward_audit::{Block, Tail, segment_name};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

use super::Item;
use crate::journal::Durable;

/// A reader in the middle of the journal.
#[derive(Debug)]
pub(super) struct JournalReader {
    dir: PathBuf,
    stream: Option<Uuid>,
    /// Events of the stream that were handed out.
    handed: u64,
    open: Option<Open>,
    ready: VecDeque<(Uuid, Item)>,
    /// Whether the last look stopped for want of room, and not of events.
    more: bool,
}

/// A stream that is being read, from its beginning: only so can its chain be checked.
#[derive(Debug)]
struct Open {
    stream: Uuid,
    tail: Tail,
    /// Read, and not durable yet.
    held: Option<Block>,
    segment: u32,
    file: Option<File>,
    /// Events that were read.
    read: u64,
    /// When the clock of its events was at 0, Unix milliseconds; known from the first event on.
    begin: Option<u64>,
    /// Whether a later segment, or a later stream, was seen: what is read after that is all there is.
    later_segment: bool,
    later_stream: bool,
    damaged: bool,
}

impl JournalReader {
    /// A reader that goes on behind this many events of the stream.
    pub(super) fn new(dir: PathBuf, stream: Option<Uuid>, events: u64) -> Self {
        Self {
            dir,
            stream,
            handed: events,
            open: None,
            ready: VecDeque::new(),
            more: false,
        }
    }

    /// Where it stands: behind everything that was handed out.
    pub(super) fn position(&self) -> (Option<Uuid>, u64) {
        (self.stream, self.handed)
    }

    /// Whether there was more than was asked for.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// The next events of one stream, with it: not more than `most`, and none when nothing new is durable. It may return
    /// nothing and have moved on to another stream.
    ///
    /// # Errors
    /// Those of the file system; it can be asked again.
    pub(super) async fn next(&mut self, most: usize, upto: Durable) -> io::Result<Vec<(Uuid, Item)>> {
        self.more = false;
        let mut out = Vec::new();
        loop {
            while let Some((stream, item)) = self.ready.pop_front() {
                if let Item::Event { index, .. } = &item {
                    self.handed = index + 1;
                }
                out.push((stream, item));
                if out.len() >= most {
                    self.more = true;
                    return Ok(out);
                }
            }
            if !self.read_on(upto).await? {
                return Ok(out);
            }
            // A batch belongs to one stream, so that a cursor is a place in one.
            if self.open.is_none() {
                self.more = true;
                return Ok(out);
            }
        }
    }

    /// Reads something; false if there is nothing more for now.
    async fn read_on(&mut self, upto: Durable) -> io::Result<bool> {
        let Some(open) = &mut self.open else {
            return self.open_next().await;
        };
        if !open.damaged {
            let block = match open.held.take() {
                Some(block) => Ok(Some(block)),
                None => open.tail.next_block(),
            };
            match block {
                Ok(Some(block)) if open.stream == upto.stream && block.seen.seq >= upto.blocks => {
                    open.held = Some(block);
                    return Ok(false);
                }
                Ok(Some(block)) => {
                    let from = self.handed;
                    open.take(&block, from, &mut self.ready);
                    return Ok(true);
                }
                Ok(None) => {}
                Err(fault) => open.damage(&fault.to_string(), &mut self.ready),
            }
            if !open.damaged && open.fill(&self.dir).await? {
                return Ok(true);
            }
        }
        if !self.ready.is_empty() {
            return Ok(true);
        }
        let stream = open.stream;
        if !open.later_stream {
            let later = self.later().await?.is_some();
            if let Some(open) = &mut self.open {
                open.later_stream = later;
            }
            // What was written in between is read first.
            return Ok(later);
        }
        tracing::debug!(%stream, "the export goes on to the next stream of the journal");
        self.move_on().await?;
        Ok(true)
    }

    /// Opens the stream that the cursor names, or the one after it.
    async fn open_next(&mut self) -> io::Result<bool> {
        let known = match self.stream {
            Some(stream) => {
                let is_there = tokio::fs::try_exists(self.dir.join(stream.hyphenated().to_string())).await?;
                is_there.then_some(stream)
            }
            None => None,
        };
        if let Some(stream) = known {
            self.open = Some(Open::new(stream));
            return Ok(true);
        }
        let Some(later) = self.later().await? else {
            return Ok(false);
        };
        if let Some(gone) = self.stream {
            let why = format!("the journal has no stream {gone} any more");
            self.ready.push_back((gone, Item::Missing { from: self.handed, why }));
        }
        (self.stream, self.handed) = (Some(later), 0);
        self.open = Some(Open::new(later));
        Ok(true)
    }

    async fn move_on(&mut self) -> io::Result<()> {
        let later = self.later().await?;
        self.open = None;
        if later.is_some() {
            (self.stream, self.handed) = (later, 0);
        }
        Ok(())
    }

    /// The first stream after this one.
    async fn later(&self) -> io::Result<Option<Uuid>> {
        let mut first = None;
        let mut entries = match tokio::fs::read_dir(&self.dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let stream = name.to_str().and_then(|name| Uuid::parse_str(name).ok());
            if let Some(stream) = stream
                && self.stream.is_none_or(|ours| stream > ours)
                && first.is_none_or(|first| stream < first)
            {
                first = Some(stream);
            }
        }
        Ok(first)
    }
}

impl Open {
    fn new(stream: Uuid) -> Self {
        Self {
            stream,
            tail: Tail::default(),
            held: None,
            segment: 0,
            file: None,
            read: 0,
            begin: None,
            later_segment: false,
            later_stream: false,
            damaged: false,
        }
    }

    /// The events of a block, but for those before `from`.
    fn take(&mut self, block: &Block, from: u64, ready: &mut VecDeque<(Uuid, Item)>) {
        let events = match block.events() {
            Ok(events) => events,
            Err(fault) => return self.damage(&fault.to_string(), ready),
        };
        for stamped in events {
            let at_ms = stamped.at / 1_000_000;
            let begin = *self
                .begin
                .get_or_insert_with(|| made_at(self.stream).saturating_sub(at_ms));
            let index = self.read;
            self.read += 1;
            if index >= from {
                let item = Item::Event {
                    index,
                    unix_ms: begin.saturating_add(at_ms),
                    event: Box::new(stamped.event),
                };
                ready.push_back((self.stream, item));
            }
        }
    }

    /// There is nothing to be read behind a fault.
    fn damage(&mut self, fault: &str, ready: &mut VecDeque<(Uuid, Item)>) {
        self.damaged = true;
        let why = format!("the journal is damaged: {fault}");
        ready.push_back((self.stream, Item::Missing { from: self.read, why }));
    }

    /// Reads more bytes; false at the end of what there is.
    async fn fill(&mut self, dir: &Path) -> io::Result<bool> {
        let folder = dir.join(self.stream.hyphenated().to_string());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if self.file.is_none() {
                self.file = opened(&folder.join(segment_name(self.segment))).await?;
            }
            let Some(file) = &mut self.file else {
                return Ok(false);
            };
            let len = file.read(&mut buffer).await?;
            if len > 0 {
                self.tail.push(buffer.get(..len).unwrap_or_default());
                return Ok(true);
            }
            if self.later_segment {
                (self.file, self.later_segment) = (None, false);
                self.segment += 1;
                continue;
            }
            self.later_segment = tokio::fs::try_exists(folder.join(segment_name(self.segment + 1))).await?;
            if !self.later_segment {
                return Ok(false);
            }
        }
    }
}

async fn opened(path: &Path) -> io::Result<Option<File>> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a stream was made, Unix milliseconds: its id says so (RFC 9562, version 7).
fn made_at(stream: Uuid) -> u64 {
    stream.get_timestamp().map_or(0, |at| {
        let (seconds, nanoseconds) = at.to_unix();
        seconds
            .saturating_mul(1000)
            .saturating_add(u64::from(nanoseconds) / 1_000_000)
    })
}
