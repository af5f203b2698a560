//! What a log shows to others: its newest checkpoint, leaves and proofs. Reads files by path, up to what is signed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorward_audit::log::{
    Checkpoint, Hash, LEAVES_NAME, Leaf, LeafKind, MAX_LEAF, Node, node_position, prove_consistency, prove_inclusion,
};
use uuid::Uuid;

use super::ANCHORS_NAME;
use super::files::{HASHES_NAME, PLACES_NAME, Place, began};
use crate::guarded::Guarded;

/// The readers' side of the log.
#[derive(Default)]
pub struct PublicLog(Guarded<Option<Shown>>);

#[derive(Clone)]
struct Shown {
    dir: PathBuf,
    checkpoint: Arc<Checkpoint>,
}

/// A leaf with the proof that it is in the log.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Its number.
    pub index: u64,
    /// Its text.
    pub text: String,
    /// The proof for the size that was asked for.
    pub proof: Vec<Hash>,
}

impl PublicLog {
    /// The newest checkpoint; none while the gateway has no certificate yet.
    pub fn checkpoint(&self) -> Option<Arc<Checkpoint>> {
        self.0
            .with(|shown| shown.as_ref().map(|shown| Arc::clone(&shown.checkpoint)))
    }

    /// Where the log lies.
    pub(in super::super) fn folder(&self) -> Option<PathBuf> {
        self.0.with(|shown| shown.as_ref().map(|shown| shown.dir.clone()))
    }

    /// The newest line of what was attested of a checkpoint; none if there is none. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn anchor(&self) -> io::Result<Option<String>> {
        let Some(dir) = self.folder() else { return Ok(None) };
        let mut file = match File::open(dir.join(ANCHORS_NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LONGEST_ANCHOR)))?;
        let mut end = Vec::new();
        file.take(LONGEST_ANCHOR).read_to_end(&mut end)?;
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let last = end[..whole].split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        Ok(last.and_then(|line| String::from_utf8(line.to_vec()).ok()))
    }

    pub(super) fn show(&self, dir: &Path, checkpoint: Arc<Checkpoint>) {
        let dir = dir.to_owned();
        self.0.with(|shown| *shown = Some(Shown { dir, checkpoint }));
    }

    /// The texts of the leaves from `start` on, up to `end` and to [`PublicLog::MOST_LEAVES`]. Blocks.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::InvalidInput`] beyond what is signed.
    pub fn leaves(&self, start: u64, end: u64) -> io::Result<Vec<String>> {
        let shown = self.signed(start <= end, end)?;
        let end = end.min(start.saturating_add(Self::MOST_LEAVES));
        if start == end {
            return Ok(Vec::new());
        }
        let mut file = File::open(shown.dir.join(LEAVES_NAME))?;
        file.seek(SeekFrom::Start(shown.places()?.at(start)?.offset))?;
        let mut reader = BufReader::new(file);
        (start..end).map(|_| next_line(&mut reader)).collect()
    }

    /// The leaves of a session in the log of this size, from that leaf on, each with its proof, at most
    /// [`PublicLog::MOST_PROVED`]. Blocks.
    ///
    /// # Errors
    /// As for [`PublicLog::leaves`].
    pub fn of_session(&self, session: Uuid, from: u64, size: u64) -> io::Result<Vec<Logged>> {
        let shown = self.signed(from <= size, size)?;
        let places = shown.places()?;
        let mut hashes = shown.hashes()?;
        let mut leaves = BufReader::with_capacity(MAX_LEAF, File::open(shown.dir.join(LEAVES_NAME))?);
        let mut found = Vec::new();
        places.each(
            places.first_since(began(session), size)?.max(from),
            size,
            |index, place| {
                if place.session != session {
                    return Ok(true);
                }
                leaves.seek(SeekFrom::Start(place.offset))?;
                let text = next_line(&mut leaves)?;
                // Nothing follows these.
                let done = matches!(
                    Leaf::parse(&text).map(|leaf| leaf.kind),
                    Ok(LeafKind::Forgotten { .. } | LeafKind::Tombstone { .. })
                );
                let proof = prove_inclusion(&mut hashes, index, size)?;
                found.push(Logged { index, text, proof });
                Ok(!done && found.len() < Self::MOST_PROVED)
            },
        )?;
        Ok(found)
    }

    /// The proof that the leaf `index` is in the log of this size. Blocks.
    ///
    /// # Errors
    /// As for [`PublicLog::leaves`].
    pub fn inclusion(&self, index: u64, size: u64) -> io::Result<Vec<Hash>> {
        let shown = self.signed(index < size, size)?;
        prove_inclusion(&mut shown.hashes()?, index, size)
    }

    /// The proof that the log of size `to` begins with that of size `from`. Blocks.
    ///
    /// # Errors
    /// As for [`PublicLog::leaves`].
    pub fn consistency(&self, from: u64, to: u64) -> io::Result<Vec<Hash>> {
        let shown = self.signed(from <= to, to)?;
        prove_consistency(&mut shown.hashes()?, from, to)
    }

    fn signed(&self, sound: bool, size: u64) -> io::Result<Shown> {
        let shown = self.0.with(|shown| shown.clone()).ok_or(io::ErrorKind::NotFound)?;
        if sound && size <= shown.checkpoint.statement().head.size {
            Ok(shown)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    /// The most leaves that are given out at once.
    pub const MOST_LEAVES: u64 = 1000;
    /// The most leaves of one session, each with its proof.
    pub const MOST_PROVED: usize = 200;
}

impl std::fmt::Debug for PublicLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicLog")
    }
}

impl Shown {
    fn places(&self) -> io::Result<Places> {
        File::open(self.dir.join(PLACES_NAME)).map(Places)
    }

    fn hashes(&self) -> io::Result<impl FnMut(Node) -> io::Result<Hash>> {
        let file = File::open(self.dir.join(HASHES_NAME))?;
        Ok(move |node: Node| {
            let mut hash = [0; 32];
            file.read_exact_at(&mut hash, node_position(node) * 32)?;
            Ok(hash)
        })
    }
}

struct Places(File);

impl Places {
    fn at(&self, index: u64) -> io::Result<Place> {
        let mut bytes = [0; Place::LEN];
        self.0.read_exact_at(&mut bytes, index * Place::LEN as u64)?;
        Ok(Place::from_bytes(&bytes))
    }

    /// The first leaf that is not older than this: times in here only grow.
    fn first_since(&self, at: u64, size: u64) -> io::Result<u64> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(middle)?.at < at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Goes through a range while `on` says so.
    fn each(&self, from: u64, to: u64, mut on: impl FnMut(u64, Place) -> io::Result<bool>) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(64 * 1024, &self.0);
        reader.seek(SeekFrom::Start(from * Place::LEN as u64))?;
        let mut bytes = [0; Place::LEN];
        for index in from..to {
            reader.read_exact(&mut bytes)?;
            if !on(index, Place::from_bytes(&bytes))? {
                break;
            }
        }
        Ok(())
    }
}

fn next_line(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(MAX_LEAF as u64 + 1).read_line(&mut line)?;
    match line.pop() {
        Some('\n') => Ok(line),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// No line with an attestation is longer, in bytes.
const LONGEST_ANCHOR: u64 = 128 * 1024;
