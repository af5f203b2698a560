//! One stream of the journal on disk: blocks, heads, segments. All calls block.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward_audit::{ChainCheck, HEAD_NAMESPACE, Recorder, Stamped, hex, segment_name};
use uuid::{NoContext, Timestamp, Uuid};

use super::unix_ms;
use crate::link::{Credential, DatedCert};

/// A stream that is written.
pub(super) struct Stream {
    /// The certificate that it has named for the key that signs its heads, with its clock.
    pub(super) dated: Option<Arc<DatedCert>>,
    dir: PathBuf,
    recorder: Recorder,
    file: Option<File>,
    segment: u32,
    /// Reads along, for the number and the link of the last block.
    check: ChainCheck,
    last: Last,
    unsigned: usize,
    unsigned_since: Instant,
}

/// The last durable block of a stream, as the next stream names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    stream: Uuid,
    blocks: u64,
    link: [u8; 32],
}

impl Last {
    /// The stream, and how many of its blocks there are.
    pub(super) fn position(&self) -> (Uuid, u64) {
        (self.stream, self.blocks)
    }
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.stream,
            self.blocks.saturating_sub(1),
            hex(&self.link)
        )
    }
}

impl Stream {
    /// A new stream in a folder of its own.
    pub(super) fn create(below: &Path, dated: Option<Arc<DatedCert>>) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(below)?;
        let stream = after(newest_below(below)?);
        let dir = below.join(stream.hyphenated().to_string());
        DirBuilder::new().mode(0o700).create(&dir)?;
        File::open(below)?.sync_all()?;
        let check = ChainCheck::new(stream);
        let last = Last {
            stream,
            blocks: 0,
            link: check.link(),
        };
        Ok(Self {
            dated,
            dir,
            // It writes little and seldom: a frame over its blocks would hold more memory than it saves disk.
            recorder: Recorder::alone(stream),
            file: None,
            segment: 0,
            check,
            last,
            unsigned: 0,
            unsigned_since: Instant::now(),
        })
    }

    /// The last durable block.
    pub(super) fn last(&self) -> Last {
        self.last
    }

    /// Writes events and makes them durable. After an error the stream is not to be used again.
    pub(super) fn append(&mut self, events: &[Stamped]) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let bytes = self.recorder.append(events);
        self.store(&bytes)?;
        if self.unsigned == 0 {
            self.unsigned_since = Instant::now();
        }
        self.unsigned += events.len();
        Ok(())
    }

    /// Whether it is time for a signed head, and somebody could tell who signs it.
    pub(super) fn head_due(&self) -> bool {
        let due = self.unsigned >= HEAD_EVENTS
            || (self.unsigned > 0 && self.unsigned_since.elapsed() >= HEAD_AGE)
            || self.recorder.head_due();
        due && self.dated.is_some()
    }

    /// Ends the segment with a signed head.
    pub(super) fn head(&mut self, credential: &Credential, last: bool) -> io::Result<()> {
        // By the clock of the certificate that the stream has named last, with which the head is judged.
        let now = self.dated.as_ref().map_or_else(unix_ms, |dated| dated.unix_ms());
        let head = self
            .recorder
            .head(now, last, |statement| credential.sign(HEAD_NAMESPACE, statement))
            .map_err(io::Error::other)?;
        self.store(&head)?;
        self.unsigned = 0;
        self.file = None;
        self.segment += 1;
        Ok(())
    }

    fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        let new = self.file.is_none();
        if new {
            let path = self.dir.join(segment_name(self.segment));
            self.file = Some(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?);
        }
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.write_all(bytes)?;
        file.sync_data()?;
        if new {
            File::open(&self.dir)?.sync_all()?;
        }
        self.check.push(bytes, &mut |_| {}).map_err(io::Error::other)?;
        self.last = Last {
            blocks: self.check.next_seq(),
            link: self.check.link(),
            ..self.last
        };
        Ok(())
    }
}

/// The last whole block of the newest stream below `dir`, `None` if there is no stream.
pub(super) fn last_below(dir: &Path) -> io::Result<Option<Last>> {
    newest_below(dir)?
        .map(|stream| read_last(&dir.join(stream.hyphenated().to_string()), stream))
        .transpose()
}

fn newest_below(dir: &Path) -> io::Result<Option<Uuid>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry?.file_name();
        newest = newest.max(name.to_str().and_then(|name| Uuid::parse_str(name).ok()));
    }
    Ok(newest)
}

/// A name for the stream that comes after this one. Readers, exports above all, take streams in the order of their names, which is that of
/// time; where the clock was set back since it is a millisecond later than the one before it.
fn after(newest: Option<Uuid>) -> Uuid {
    let now = Uuid::now_v7();
    let later = newest
        .filter(|newest| *newest >= now)
        .and_then(|newest| newest.get_timestamp());
    later.map_or(now, |timestamp| {
        let (seconds, nanos) = timestamp.to_unix();
        let at = Duration::new(seconds, nanos) + Duration::from_millis(1);
        Uuid::new_v7(Timestamp::from_unix(NoContext, at.as_secs(), at.subsec_nanos()))
    })
}

fn read_last(dir: &Path, stream: Uuid) -> io::Result<Last> {
    let mut check = ChainCheck::new(stream);
    let mut segment = 0;
    let mut buffer = vec![0; 64 * 1024];
    while let Some(mut file) = open(&dir.join(segment_name(segment)))? {
        loop {
            let len = file.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            if let Err(fault) = check.push(&buffer[..len], &mut |_| {}) {
                tracing::error!(%stream, %fault, "the journal before this one is damaged");
                break;
            }
        }
        segment += 1;
    }
    Ok(Last {
        stream,
        blocks: check.next_seq(),
        link: check.link(),
    })
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Events after which a head is due.
const HEAD_EVENTS: usize = 1000;
/// Age of the oldest unsigned event at which a head is due.
const HEAD_AGE: Duration = Duration::from_secs(300);
