//! Verification of folders: recordings, stores, logs and journals, with nothing but files and public keys.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use doorward_audit::log::{
    CHECKPOINTS_NAME, Checkpoint, Fate, Frontier, LEAVES_NAME, Leaf, Ledger, MAX_CHECKPOINT, MAX_LEAF, TreeHead,
};
use doorward_audit::receipt::RECEIPTS_NAME;
use doorward_audit::{MAX_TOMBSTONE, TOMBSTONE_NAME, Tombstone, Trust, open_regular, verify_with};
use uuid::Uuid;

use super::class::Class;
use super::found::{Item, What};
use super::memory::Memory;
use super::online::options;
use super::stone::{Logs, judge};
use super::unlogged::Unlogged;
use crate::error::Error;
use crate::say;

/// How deep below a folder is looked: state folder, `records`, day, session.
const DEEPEST: usize = 4;
/// What is said of one log at most: a forger may write millions of lines.
const MOST_SAID: usize = 64;

/// What the folders hold.
#[derive(Debug, Default)]
pub(super) struct Found {
    recordings: Vec<PathBuf>,
    /// Folders of recordings that were deleted.
    tombstones: Vec<PathBuf>,
    logs: Vec<PathBuf>,
    /// Folders in which nothing is.
    empty: Vec<PathBuf>,
    /// What could not even be looked into, and why.
    closed: Vec<(PathBuf, Error)>,
    /// Whether a folder with many recordings was among them, so that one that is not there is missing.
    store: bool,
}

impl Found {
    /// Looks into a folder.
    pub(super) fn add(&mut self, folder: &Path) -> Result<(), Error> {
        let count =
            |found: &Self| found.recordings.len() + found.tombstones.len() + found.logs.len() + found.closed.len();
        let before = count(self);
        self.look(folder, 0);
        if before == count(self) {
            // Whoever names it wants it judged, even if it is empty now.
            match session_of(&std::path::absolute(folder).map_err(Error::file("find", folder))?) {
                Some(_) => self.recordings.push(folder.to_owned()),
                None => self.empty.push(folder.to_owned()),
            }
        }
        Ok(())
    }

    /// Whether nothing was named.
    pub(super) fn is_empty(&self) -> bool {
        [&self.recordings, &self.tombstones, &self.logs, &self.empty]
            .iter()
            .all(|found| found.is_empty())
            && self.closed.is_empty()
    }

    /// Takes a name under which there is no folder: of a store that is gone the sessions are missing.
    pub(super) fn gone(&mut self, path: &Path) {
        let text = "it is neither a session nor a folder nor a bundle".to_owned();
        self.closed.push((path.to_owned(), Error::Recording(text)));
        self.store = true;
    }

    /// One that cannot be read does not keep the others from being judged.
    fn look(&mut self, folder: &Path, depth: usize) {
        match self.walk(folder, depth) {
            // A store that is in use deletes what need not be kept.
            Err(Error::File { source, .. }) if depth > 0 && source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.closed.push((folder.to_owned(), error)),
            Ok(()) => {}
        }
    }

    fn walk(&mut self, folder: &Path, depth: usize) -> Result<(), Error> {
        if folder.join(LEAVES_NAME).is_file() {
            self.logs.push(folder.to_owned());
            return Ok(());
        }
        if folder.join(TOMBSTONE_NAME).is_file() {
            // Whatever stands beside it is what a deletion has not removed yet.
            self.tombstones.push(folder.to_owned());
            return Ok(());
        }
        let entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::file("read", folder))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if name == RECEIPTS_NAME || (name.starts_with("segment-") && name.ends_with(".dwr")) {
                self.recordings.push(folder.to_owned());
                return Ok(());
            }
        }
        folders.sort();
        for below in folders {
            if session_of(&below).is_some() && !is_journal(&below) {
                self.store = true;
                if is_empty(&below) {
                    self.recordings.push(below);
                    continue;
                }
            }
            if depth < DEEPEST {
                self.look(&below, depth + 1);
            }
        }
        Ok(())
    }

    /// Judges everything, the logs first.
    pub(super) fn verify(
        &self,
        trust: &Trust,
        memory: &Memory,
        allow_open: bool,
        mut on: impl FnMut(Item) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut ledger = Ledger::default();
        let mut unlogged = Unlogged::default();
        let mut logs: Vec<(String, Item)> = self
            .logs
            .iter()
            .map(|folder| log(folder, trust, memory, &mut ledger, &mut unlogged))
            .collect();
        let origins: BTreeSet<String> = logs.iter().map(|(origin, _)| origin.clone()).collect();
        let mut seen = BTreeSet::new();
        let count = self.recordings.len();
        for (number, folder) in (1..).zip(&self.recordings) {
            if count > 1 {
                say::step(&format!("recording {number} of {count}"));
            }
            let absolute = std::path::absolute(folder).map_err(Error::file("find", folder))?;
            let session = session_of(&absolute);
            let known = session
                .and_then(|session| ledger.of(session))
                .cloned()
                .unwrap_or_default();
            if let Some(session) = session
                && matches!(known.fate(), Fate::Deleted(_))
                && is_empty(folder)
            {
                let logs = Logs {
                    known: &known,
                    origins: &origins,
                };
                seen.insert(session);
                on(judge(folder.display().to_string(), session, None, &logs, trust))?;
                continue;
            }
            let journal = is_journal(&absolute);
            let opts = doorward_audit::Options {
                session,
                ..options(session.unwrap_or_default(), &known, allow_open || journal)
            };
            let report = verify_with(folder, trust, &opts);
            seen.extend(report.session.or(session));
            if report.session.is_some_and(|session| ledger.of(session).is_none()) {
                unlogged.take(&report, trust);
            }
            say::step("");
            on(Item::recording(folder.display().to_string(), report))?;
        }
        for folder in &self.tombstones {
            let absolute = std::path::absolute(folder).map_err(Error::file("find", folder))?;
            let text = match tombstone(&folder.join(TOMBSTONE_NAME)) {
                Ok(text) => text,
                Err(error) => {
                    seen.extend(session_of(&absolute));
                    on(Item::unreadable(folder, session_of(&absolute), &error))?;
                    continue;
                }
            };
            // A copy under another name is judged by what it says of itself.
            let session = session_of(&absolute).or_else(|| session_in(&text)).unwrap_or_default();
            let known = ledger.of(session).cloned().unwrap_or_default();
            let logs = Logs {
                known: &known,
                origins: &origins,
            };
            seen.insert(session);
            on(judge(folder.display().to_string(), session, Some(&text), &logs, trust))?;
        }
        for (folder, error) in &self.closed {
            let absolute = std::path::absolute(folder).map_err(Error::file("find", folder))?;
            seen.extend(session_of(&absolute));
            on(Item::unreadable(folder, session_of(&absolute), error))?;
        }
        for folder in &self.empty {
            // With a log it is known what should be there: then the sessions are named below.
            on(Item::empty(folder, !logs.is_empty()))?;
        }
        if self.store || (!self.empty.is_empty() && self.recordings.is_empty()) {
            let unseen = ledger.sessions().filter(|(session, _)| !seen.contains(session));
            for (session, known) in unseen.filter(|(_, known)| known.fate() != Fate::Nothing) {
                let logs = Logs {
                    known,
                    origins: &origins,
                };
                on(judge(session.to_string(), session, None, &logs, trust))?;
            }
        }
        logs.iter_mut().for_each(|(origin, item)| unlogged.tell(origin, item));
        logs.into_iter().try_for_each(|(_, item)| on(item))
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// The text of a tombstone, and a byte more of what is too long for one.
fn tombstone(path: &Path) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let file = open_regular(path).map_err(Error::file("read", path))?;
    let read = file.take(MAX_TOMBSTONE as u64 + 1).read_to_end(&mut text);
    read.map_err(Error::file("read", path))?;
    Ok(text)
}

fn session_in(tombstone: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(tombstone).ok()?;
    Some(Tombstone::parse(text).ok()?.statement().session)
}

/// The session that a folder is named for.
fn session_of(folder: &Path) -> Option<Uuid> {
    Uuid::try_parse(folder.file_name()?.to_str()?).ok()
}

/// Whether a folder is a stream of a gateway's journal, which has no closing while the gateway runs.
fn is_journal(folder: &Path) -> bool {
    folder
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|name| name == "journal")
}

/// Judges a log and takes its leaves; first is its name, empty where it has none.
fn log(folder: &Path, trust: &Trust, memory: &Memory, ledger: &mut Ledger, unlogged: &mut Unlogged) -> (String, Item) {
    let mut judged = Judged {
        class: Class::Complete,
        last: None,
        findings: Vec::new(),
        notes: Vec::new(),
    };
    let size = judged.log(folder, trust, memory, ledger).unwrap_or_else(|text| {
        judged.find(Class::Unreadable, text);
        0
    });
    let (origin, until) = judged.last.unwrap_or_default();
    if !origin.is_empty() {
        unlogged.add(origin.clone(), until);
    }
    let item = Item {
        name: folder.display().to_string(),
        class: judged.class,
        what: What::Log {
            size,
            findings: judged.findings,
            notes: judged.notes,
        },
    };
    (origin, item)
}

struct Judged {
    class: Class,
    /// Its name, and when its newest checkpoint was signed, Unix milliseconds.
    last: Option<(String, u64)>,
    findings: Vec<String>,
    notes: Vec<String>,
}

impl Judged {
    fn find(&mut self, class: Class, text: impl Into<String>) {
        self.class = self.class.max(class);
        if self.findings.len() < MOST_SAID {
            self.findings.push(text.into());
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        if self.notes.len() < MOST_SAID {
            self.notes.push(text.into());
        }
    }

    /// Compares every checkpoint, and the remembered one, with the leaves on the way.
    fn log(&mut self, folder: &Path, trust: &Trust, memory: &Memory, ledger: &mut Ledger) -> Result<u64, String> {
        let mut heads = self.checkpoints(folder, trust)?;
        self.last = heads.last;
        if let Some((origin, _)) = &self.last
            && let Some(known) = memory.of(origin)
        {
            heads.all.push((known, "this computer has seen"));
        } else {
            self.note("seen for the first time: that nothing was taken away before cannot be told");
        }
        heads.all.sort_by_key(|(head, _)| head.size);
        let mut due = heads.all.into_iter().peekable();
        let file = open_regular(&folder.join(LEAVES_NAME)).map_err(|error| format!("{LEAVES_NAME}: {error}"))?;
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        let (mut frontier, mut line) = (Frontier::default(), Vec::new());
        loop {
            while let Some((head, whose)) = due.next_if(|(head, _)| head.size == frontier.size()) {
                if head.root != frontier.root() {
                    self.find(
                        Class::Bad,
                        format!("the first {} leaves are not those that {whose}", head.size),
                    );
                }
            }
            line.clear();
            let read = reader.by_ref().take(MAX_LEAF as u64 + 1).read_until(b'\n', &mut line);
            let read = read.map_err(|error| format!("{LEAVES_NAME}: {error}"))?;
            if read == 0 {
                break;
            }
            if line.pop() != Some(b'\n') {
                self.note(format!("leaf {} is not finished", frontier.size()));
                break;
            }
            frontier.add(&line, |_| {});
            match std::str::from_utf8(&line).ok().and_then(|text| Leaf::parse(text).ok()) {
                Some(leaf) => ledger.take(&leaf),
                None => self.note(format!("leaf {} cannot be read", frontier.size() - 1)),
            }
        }
        let size = frontier.size();
        if let Some((head, whose)) = due.last() {
            self.find(
                Class::Missing,
                format!(
                    "the log was rolled back: it has {size} leaves, and {whose} {}",
                    head.size
                ),
            );
        }
        Ok(size)
    }

    /// The signed heads; the newest checkpoint must be by a trusted gateway, and all by its key.
    fn checkpoints(&mut self, folder: &Path, trust: &Trust) -> Result<Heads, String> {
        let path = folder.join(CHECKPOINTS_NAME);
        let unreadable = |error: io::Error| format!("{CHECKPOINTS_NAME}: {error}");
        let mut reader = BufReader::new(open_regular(&path).map_err(unreadable)?);
        let mut heads = Heads::default();
        for number in 1.. {
            let mut line = Vec::new();
            let read = reader
                .by_ref()
                .take(MAX_CHECKPOINT as u64 + 1)
                .read_until(b'\n', &mut line);
            if read.map_err(unreadable)? == 0 {
                break;
            }
            let too_long = line.len() > MAX_CHECKPOINT;
            // What is no UTF-8 is no checkpoint either, and says so below.
            let line = String::from_utf8_lossy(&line);
            let judged = Checkpoint::parse(&line)
                .map_err(|error| (Class::Bad, error.to_string()))
                .and_then(|checkpoint| {
                    checkpoint.judge(&trust.gateway_key).map_err(|error| {
                        let untrusted = matches!(error, doorward_audit::log::CheckpointError::Untrusted(_));
                        (if untrusted { Class::Untrusted } else { Class::Bad }, error.to_string())
                    })?;
                    Ok(checkpoint)
                });
            match judged {
                Ok(checkpoint) => {
                    let said = checkpoint.statement();
                    heads.all.push((said.head, "were signed"));
                    heads.last = Some((said.origin.clone(), said.at));
                }
                Err((_, text)) if !too_long && !line.ends_with('\n') => {
                    self.note(format!("checkpoint {number}: {text}"))
                }
                Err((class, text)) => self.find(class, format!("checkpoint {number}: {text}")),
            }
            if too_long {
                break;
            }
        }
        if heads.last.is_none() {
            self.find(Class::Bad, "nothing of it is signed");
        }
        Ok(heads)
    }
}

#[derive(Default)]
struct Heads {
    all: Vec<(TreeHead, &'static str)>,
    last: Option<(String, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_into_is_named_and_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let day = dir.path().join("2026-11-21");
        let session = Uuid::now_v7();
        let good = day.join(session.to_string());
        fs::create_dir_all(&good).unwrap();
        fs::write(good.join(RECEIPTS_NAME), "").unwrap();
        let mut found = Found::default();
        // Whoever tests may be root, who can read every folder: a file is one that cannot be listed.
        let odd = dir.path().join("odd");
        fs::write(&odd, "").unwrap();
        found.look(&odd, 1);
        // A store that is in use takes folders away.
        found.look(&dir.path().join("gone"), 1);
        found.add(dir.path()).unwrap();
        assert_eq!((&found.recordings, found.store), (&vec![good], true));
        let closed: Vec<&PathBuf> = found.closed.iter().map(|(path, _)| path).collect();
        assert_eq!(closed, [&odd]);
        let said = Item::unreadable(&odd, None, &found.closed[0].1);
        assert_eq!(said.class, Class::Unreadable);
        assert!(
            said.describe().contains("odd: NOT READABLE: cannot read "),
            "{}",
            said.describe()
        );
    }
}
