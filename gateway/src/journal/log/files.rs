//! The files of a log: read and checked at the start, the derived ones made anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use doorward_audit::hex;
use doorward_audit::log::{
    CHECKPOINTS_NAME, Checkpoint, CheckpointError, Frontier, LEAVES_NAME, Leaf, MAX_LEAF, TreeHead,
};
use ssh_key::{HashAlg, PublicKey};
use uuid::Uuid;

use super::super::unix_ms;

/// Hashes of all complete nodes, in the order of [`doorward_audit::log::node_position`], 32 bytes each.
pub(super) const HASHES_NAME: &str = "hashes";
/// One [`Place`] for each leaf.
pub(super) const PLACES_NAME: &str = "places";

/// A log as it stands on disk.
pub(super) struct Found {
    pub(super) leaves: File,
    pub(super) durable: u64,
    pub(super) frontier: Frontier,
    pub(super) derived: Derived,
    /// The last checkpoint.
    pub(super) kept: Option<TreeHead>,
}

/// A log that is not what its gateway signed.
pub(super) struct Damaged {
    pub(super) why: &'static str,
    pub(super) head: Option<TreeHead>,
}

impl Found {
    /// Reads all leaves, compares them with the last checkpoint, and makes the derived files. A half-written last line that no
    /// checkpoint covers is cut off.
    pub(super) fn in_dir(dir: &Path, key: &PublicKey) -> io::Result<Result<Self, Damaged>> {
        let kept = match last_checkpoint(dir, Some(key))? {
            Ok(kept) => kept,
            Err(why) => return Ok(Err(Damaged { why, head: None })),
        };
        let head = kept.map(|(_, head, _)| head);
        let damaged = |why| Ok(Err(Damaged { why, head }));
        let mut found = Self::empty(dir, false)?;
        found.kept = head;
        let mut reader = BufReader::with_capacity(256 * 1024, File::open(dir.join(LEAVES_NAME))?);
        let mut line = Vec::new();
        loop {
            if head.is_some_and(|head| head.size == found.frontier.size() && head.root != found.frontier.root()) {
                return damaged("its leaves are others than those that were signed");
            }
            line.clear();
            let read = reader.by_ref().take(MAX_LEAF as u64 + 1).read_until(b'\n', &mut line)?;
            if read == 0 || line.last() != Some(&b'\n') {
                if line.len() > MAX_LEAF {
                    return damaged("it has a leaf that is too long");
                }
                break;
            }
            line.pop();
            let Ok(text) = std::str::from_utf8(&line) else {
                return damaged("it has a leaf that is no text");
            };
            let leaf = Leaf::parse(text).ok();
            let (session, at) = leaf.map_or((None, 0), |leaf| (leaf.kind.session(), leaf.at));
            let at_byte = found.durable;
            found.derived.add(&mut found.frontier, text, session, at, at_byte)?;
            found.durable += read as u64;
        }
        if head.is_some_and(|head| head.size > found.frontier.size()) {
            return damaged("it has fewer leaves than were signed");
        }
        found.derived.flush()?;
        found.derived.install(dir)?;
        if found.leaves.metadata()?.len() > found.durable {
            tracing::warn!("the log's last leaf was not finished and is cut off");
            found.leaves.set_len(found.durable)?;
            found.leaves.sync_all()?;
        }
        Ok(Ok(found))
    }

    /// A log without a leaf.
    pub(super) fn nothing(dir: &Path) -> io::Result<Self> {
        let found = Self::empty(dir, true)?;
        found.derived.install(dir)?;
        Ok(found)
    }

    fn empty(dir: &Path, new: bool) -> io::Result<Self> {
        let leaves = OpenOptions::new()
            .append(true)
            .create(true)
            .create_new(new)
            .mode(0o600)
            .open(dir.join(LEAVES_NAME))?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            leaves,
            durable: 0,
            frontier: Frontier::default(),
            derived: Derived::create(dir)?,
            kept: None,
        })
    }
}

/// Where a leaf stands, and of which session and when it is: what finds the leaves of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Nil for a leaf of no session.
    pub(super) session: Uuid,
    /// Unix ms: not before the leaf, its session, or any leaf before it.
    pub(super) at: u64,
    /// Where its line begins.
    pub(super) offset: u64,
}

impl Place {
    pub(super) const LEN: usize = 32;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(self.session.as_bytes());
        bytes[16..24].copy_from_slice(&self.at.to_be_bytes());
        bytes[24..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let number = |from: usize| {
            bytes[from..from + 8]
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let mut session = [0; 16];
        session.copy_from_slice(&bytes[..16]);
        Self {
            session: Uuid::from_bytes(session),
            at: number(16),
            offset: number(24),
        }
    }
}

/// When a session began, Unix ms, by its own id.
pub(super) fn began(session: Uuid) -> u64 {
    let (seconds, nanos) = session.get_timestamp().map_or((0, 0), |time| time.to_unix());
    seconds
        .saturating_mul(1000)
        .saturating_add(u64::from(nanos) / 1_000_000)
}

/// The files that follow from the leaves.
pub(super) struct Derived {
    hashes: BufWriter<File>,
    places: BufWriter<File>,
    newest: u64,
}

impl Derived {
    /// New files beside those that readers have open.
    fn create(dir: &Path) -> io::Result<Self> {
        let make = |name: &str| -> io::Result<BufWriter<File>> {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            Ok(BufWriter::with_capacity(
                64 * 1024,
                options.open(dir.join(fresh(name)))?,
            ))
        };
        Ok(Self {
            hashes: make(HASHES_NAME)?,
            places: make(PLACES_NAME)?,
            newest: 0,
        })
    }

    fn install(&self, dir: &Path) -> io::Result<()> {
        for name in [HASHES_NAME, PLACES_NAME] {
            fs::rename(dir.join(fresh(name)), dir.join(name))?;
        }
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        frontier: &mut Frontier,
        text: &str,
        session: Option<Uuid>,
        at: u64,
        offset: u64,
    ) -> io::Result<()> {
        self.newest = self.newest.max(at).max(session.map_or(0, began));
        let place = Place {
            session: session.unwrap_or_default(),
            at: self.newest,
            offset,
        };
        self.places.write_all(&place.to_bytes())?;
        let mut written = Ok(());
        let hashes = &mut self.hashes;
        frontier.add(text.as_bytes(), |hash| {
            if written.is_ok() {
                written = hashes.write_all(hash);
            }
        });
        written
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.hashes.flush()?;
        self.places.flush()
    }
}

fn fresh(name: &str) -> String {
    format!(".{name}.new")
}

/// The folder of the log that this key signs.
pub(super) fn folder_name(key: &PublicKey) -> String {
    hex(key.fingerprint(HashAlg::Sha256).as_bytes())
}

/// Makes a private folder and what is missing above it.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}

/// Renames a folder, so that nothing of it is lost.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".aside-{}", unix_ms()));
    let aside = dir.with_file_name(name);
    fs::rename(dir, &aside)?;
    Ok(aside)
}

/// Appends a line and makes it durable.
pub(super) fn append_line(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let new = file.metadata()?.len() == 0;
    file.write_all(line.as_bytes())?;
    file.sync_data()?;
    match path.parent() {
        Some(dir) if new => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

type Last = (String, TreeHead, u64);

/// Name, size and root, and time of the last whole checkpoint; with a `key`, it must be by that. A torn last line is cut off.
fn last_checkpoint(dir: &Path, key: Option<&PublicKey>) -> io::Result<Result<Option<Last>, &'static str>> {
    let path = dir.join(CHECKPOINTS_NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
        Err(error) => return Err(error),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() && key.is_some() {
        OpenOptions::new().write(true).open(&path)?.set_len(whole as u64)?;
    }
    let Some(last) = text[..whole]
        .split(|byte| *byte == b'\n')
        .rfind(|line| !line.is_empty())
    else {
        return Ok(Ok(None));
    };
    let read = std::str::from_utf8(last)
        .map_err(|_| CheckpointError::Malformed("not text"))
        .and_then(Checkpoint::parse);
    let Ok(checkpoint) = read else {
        return Ok(Err("its last checkpoint cannot be read"));
    };
    if key.is_some_and(|key| !checkpoint.is_by(key)) {
        return Ok(Err("its last checkpoint is not signed by this gateway"));
    }
    let said = checkpoint.statement();
    Ok(Ok(Some((said.origin.clone(), said.head, said.at))))
}

/// The newest log beside this one: that of a link key before this one, or one that was set aside.
pub(super) fn newest_other(root: &Path, own: &Path) -> Option<(String, TreeHead)> {
    let folders = fs::read_dir(root).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let others = folders.filter(|path| path != own && path.is_dir());
    let heads = others.filter_map(|path| last_checkpoint(&path, None).ok()?.ok()?);
    heads.max_by_key(|(_, _, at)| *at).map(|(name, head, _)| (name, head))
}
