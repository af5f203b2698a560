//! A recording as a crash left it: what holds is kept, what is torn is set aside.
//!
//! The stored segments are read through the chain from the first byte. The recording goes on
//! after the last whole block that fits; a half block, or anything after a fault, is copied into a
//! `torn-…` file before it is cut off. All calls block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use doorward_audit::receipt::Durable;
use doorward_audit::{BlockKind, ChainCheck, segment_name};
use uuid::Uuid;

use super::writer::Writer;
use super::{Disk, layout};

/// A recording that can go on.
pub(super) struct Recovered {
    pub(super) writer: Writer,
    /// Every head that is stored, so that missing receipts can be made up for.
    pub(super) heads: Vec<Durable>,
}

/// Opens the recording in `dir` and cuts it to its last whole block, not beyond `durable` if
/// that is known: after a failed fsync what reads well may still not be on the disk.
pub(super) fn recover(
    dir: &Path,
    session: Uuid,
    durable: Option<u64>,
    disk: Disk,
    unix_ms: u64,
) -> io::Result<Recovered> {
    let found = Survey::of(dir, session, durable.unwrap_or(u64::MAX))?;
    let end = found.last.map_or(0, |mark| mark.offset);
    let mut begin = 0;
    let mut file = None;
    for (segment, len) in found.segments.iter().enumerate() {
        let path = dir.join(segment_name(u32::try_from(segment).unwrap_or(u32::MAX)));
        let keep = end.saturating_sub(begin).min(*len);
        if keep < *len {
            set_aside(dir, &path, begin, keep, *len, disk, unix_ms)?;
        }
        if keep == 0 {
            fs::remove_file(&path)?;
        } else {
            let mut open = OpenOptions::new().write(true).open(&path)?;
            open.set_len(keep)?;
            open.seek(SeekFrom::End(0))?;
            open.sync_all()?;
            file = Some(open);
        }
        begin += len;
    }
    layout::sync_dir(dir)?;
    let check = if found.clean {
        found.check
    } else {
        recheck(dir, session, end)?
    };
    let writer = Writer::stored(dir.to_owned(), disk, check, file, found.last, found.finished);
    Ok(Recovered {
        writer,
        heads: found.heads,
    })
}

/// What the segments hold.
struct Survey {
    check: ChainCheck,
    /// Lengths of the segment files, in order.
    segments: Vec<u64>,
    last: Option<Durable>,
    heads: Vec<Durable>,
    finished: bool,
    /// Whether the chain stands exactly at `last`.
    clean: bool,
}

impl Survey {
    fn of(dir: &Path, session: Uuid, most: u64) -> io::Result<Self> {
        let mut check = ChainCheck::new(session);
        let (mut last, mut heads, mut finished) = (None, Vec::new(), false);
        let mut segments = Vec::new();
        let mut whole = true;
        while let Some(mut file) = open_segment(dir, segments.len())? {
            segments.push(file.metadata()?.len());
            let mut buffer = vec![0; CHUNK];
            while whole {
                let len = file.read(&mut buffer)?;
                if len == 0 {
                    break;
                }
                let mut on = |seen: doorward_audit::BlockSeen| {
                    let mark = Durable::from(&seen);
                    if mark.offset > most {
                        return;
                    }
                    last = Some(mark);
                    if seen.kind == BlockKind::Head {
                        heads.push(mark);
                        finished = seen.head.is_some_and(|head| head.statement().last);
                    }
                };
                whole = check.push(&buffer[..len], &mut on).is_ok();
            }
        }
        let total: u64 = segments.iter().sum();
        let clean = whole && last.map_or(0, |mark| mark.offset) == total;
        Ok(Self {
            check,
            segments,
            last,
            heads,
            finished,
            clean,
        })
    }
}

fn open_segment(dir: &Path, segment: usize) -> io::Result<Option<File>> {
    let Ok(segment) = u32::try_from(segment) else {
        return Ok(None);
    };
    match File::open(dir.join(segment_name(segment))) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A chain check that stands exactly at `end`.
fn recheck(dir: &Path, session: Uuid, end: u64) -> io::Result<ChainCheck> {
    let mut check = ChainCheck::new(session);
    let mut segment = 0;
    while let Some(mut file) = open_segment(dir, segment)? {
        let mut buffer = vec![0; CHUNK];
        loop {
            let len = file.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            check
                .push(&buffer[..len], &mut |_| {})
                .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        }
        segment += 1;
    }
    if check.offset() == end {
        Ok(check)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the recording changed while it was read",
        ))
    }
}

fn set_aside(dir: &Path, segment: &Path, begin: u64, keep: u64, len: u64, disk: Disk, unix_ms: u64) -> io::Result<()> {
    let mut from = File::open(segment)?;
    from.seek(SeekFrom::Start(keep))?;
    let name = layout::torn_name(begin + keep, unix_ms);
    let mut to = layout::create_new(&dir.join(name))?;
    io::copy(&mut from.take(len - keep), &mut to)?;
    (disk.sync)(&to)
}

const CHUNK: usize = 64 * 1024;
