//! Reads a bundle, from whomever it comes.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::path::{Component, Path};

use doorward_audit::log::{Checkpoint, Known, Leaf};
use doorward_audit::{Trust, hex, open_regular, printable, read_text, verify_with};
use tempfile::TempDir;
use uuid::Uuid;

use super::super::class::Class;
use super::super::found::{Item, What};
use super::super::online::options;
use super::super::shown::proved;
use super::pack::{is_packed, sum_of};
use super::{CHECKPOINT, FOLDER, LEAVES, SUMS};
use crate::error::Error;
use crate::gateway::ProvedLeaf;

/// The most entries, and the most bytes of all of them.
const MOST_ENTRIES: usize = 100_000;
const MOST_BYTES: u64 = 1 << 40;
/// Of the list of sums, and of a text that is read whole, in bytes.
const MOST_SUMS: u64 = 256 * MOST_ENTRIES as u64;
const MOST_TEXT: u64 = 64 * 1024;

/// A bundle that was unpacked.
#[derive(Debug)]
pub(in super::super) struct Bundle {
    session: Uuid,
    folder: TempDir,
    /// The files in it.
    names: BTreeSet<String>,
    /// What is in it beside them.
    beside: Option<String>,
}

impl Bundle {
    /// Unpacks what is ours of the file.
    pub(in super::super) fn open(path: &Path) -> Result<Self, Error> {
        let file = open_regular(path).map_err(Error::file("read", path))?;
        let folder = tempfile::Builder::new()
            .prefix("doorward-")
            .tempdir()
            .map_err(Error::file("create", std::env::temp_dir()))?;
        let bad = |text: String| Error::Recording(format!("{} is no bundle: {text}", path.display()));
        let (session, names) = unpack(file, folder.path()).map_err(|error| bad(error.to_string()))?;
        let file = open_regular(path).map_err(Error::file("read", path))?;
        let beside = match is_packed(BufReader::new(file), session, folder.path(), &names) {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(error.to_string()),
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        Ok(Self {
            session,
            folder,
            names,
            beside,
        })
    }

    /// Judges the recording, the checkpoint, and that the log has what is here.
    pub(in super::super) fn verify(&self, name: &str, trust: &Trust) -> Vec<Item> {
        let mut log = Item {
            name: format!("{name}: log"),
            class: Class::Complete,
            what: What::Log {
                size: 0,
                findings: Vec::new(),
                notes: Vec::new(),
            },
        };
        let known = match self.undamaged().and_then(|()| self.known(trust)) {
            Ok((known, leaves)) => {
                if let What::Log { size, .. } = &mut log.what {
                    *size = leaves;
                }
                known
            }
            Err((class, text)) => {
                log.class = class;
                if let What::Log { findings, .. } = &mut log.what {
                    findings.push(text);
                }
                Known::default()
            }
        };
        let recording = self.folder.path().join("recording");
        let report = verify_with(&recording, trust, &options(self.session, &known, false));
        vec![Item::recording(name.to_owned(), report), log]
    }

    /// Whether every file is as the list of sums says, and in it: what people read in here must be what we wrote.
    fn undamaged(&self) -> Result<(), (Class, String)> {
        let bad = |text: String| (Class::Bad, text);
        let path = self.folder.path();
        let sums = read_text(&path.join(SUMS), MOST_SUMS).map_err(|error| bad(format!("{SUMS}: {error}")))?;
        let mut listed = BTreeSet::new();
        for line in sums.lines() {
            let (sum, name) = line
                .split_once("  ")
                .ok_or_else(|| bad(format!("{SUMS} is not in the format")))?;
            let plain = name.split('/').all(is_plain);
            let found = plain.then(|| sum_of(&path.join(name))).transpose();
            if !matches!(found, Ok(Some(found)) if hex(&found) == sum) {
                return Err(bad(format!(
                    "{} is not what it was when the bundle was made",
                    printable(name.as_bytes())
                )));
            }
            listed.insert(name.to_owned());
        }
        match self.names.iter().find(|name| *name != SUMS && !listed.contains(*name)) {
            Some(name) => Err(bad(format!("{name} was added after the bundle was made"))),
            None => self.beside.clone().map_or(Ok(()), |text| Err(bad(text))),
        }
    }

    fn known(&self, trust: &Trust) -> Result<(Known, u64), (Class, String)> {
        let bad = |text: String| (Class::Bad, text);
        let read = |name: &str| {
            read_text(&self.folder.path().join(name), MOST_TEXT).map_err(|error| bad(format!("{name}: {error}")))
        };
        let checkpoint = Checkpoint::parse(&read(CHECKPOINT)?).map_err(|error| bad(error.to_string()))?;
        checkpoint.judge(&trust.gateway_key).map_err(|error| match error {
            doorward_audit::log::CheckpointError::Untrusted(_) => (Class::Untrusted, error.to_string()),
            _ => bad(error.to_string()),
        })?;
        // What people check by hand must be what we check.
        let (shown, signature) = (read("log/checkpoint.txt")?, read("log/checkpoint.txt.sig")?);
        let same = Checkpoint::from_parts(shown, &signature)
            .is_ok_and(|shown| shown.text() == checkpoint.text() && shown.judge(&trust.gateway_key).is_ok());
        if !same {
            return Err(bad("log/checkpoint.txt is another checkpoint".to_owned()));
        }
        let head = checkpoint.statement().head;
        let mut known = Known::default();
        for line in read(LEAVES)?.lines() {
            let leaf: ProvedLeaf = serde_json::from_str(line).map_err(|error| bad(format!("{LEAVES}: {error}")))?;
            proved(&leaf, self.session, &head).map_err(|text| bad(format!("leaf {}: {text}", leaf.index)))?;
            if let Ok(leaf) = Leaf::parse(&leaf.leaf) {
                known.take(&leaf.kind);
            }
        }
        if known.receipts.is_empty() {
            return Err(bad("the log says nothing of this session".to_owned()));
        }
        Ok((known, head.size))
    }
}

fn unpack(file: File, to: &Path) -> io::Result<(Uuid, BTreeSet<String>)> {
    let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let (mut session, mut names) = (None, BTreeSet::new());
    let mut left = MOST_BYTES;
    for (number, entry) in tar::Archive::new(BufReader::new(file)).entries()?.enumerate() {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.display().to_string();
        left = left
            .checked_sub(entry.size())
            .filter(|_| number < MOST_ENTRIES)
            .ok_or_else(|| bad("it is too large".to_owned()))?;
        let mut parts = path.components().map(|part| match part {
            Component::Normal(part) => part.to_str().filter(|part| is_plain(part)),
            _ => None,
        });
        let top = parts
            .next()
            .flatten()
            .and_then(|top| Uuid::try_parse(top.strip_prefix(FOLDER)?).ok());
        let rest: Option<Vec<&str>> = parts.collect();
        let (Some(top), Some(rest)) = (top, rest) else {
            return Err(bad(format!("the name {name:?}")));
        };
        if *session.get_or_insert(top) != top
            || !(1..=2).contains(&rest.len())
            || !entry.header().entry_type().is_file()
        {
            return Err(bad(format!("the entry {name:?}")));
        }
        let target = rest.iter().fold(to.to_owned(), |path, part| path.join(part));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut out = OpenOptions::new().write(true).create_new(true).open(target)?;
        io::copy(&mut entry, &mut out)?;
        names.insert(rest.join("/"));
    }
    let session = session.ok_or_else(|| bad("it is empty".to_owned()))?;
    Ok((session, names))
}

/// A name that can only be a file or folder in the folder that it is joined to.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, tar::EntryType, &[u8])]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut tar = tar::Builder::new(&mut file);
        for (name, kind, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_entry_type(*kind);
            // As an attacker does: the library itself writes no such names.
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc").unwrap();
            }
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.finish().unwrap();
        drop(tar);
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    const TOP: &str = "doorward-01900000-0000-7000-8000-000000000001";

    #[test]
    fn only_files_with_our_names_are_unpacked() {
        use tar::EntryType::{Directory, Regular, Symlink};
        let inside = format!("{TOP}/log/leaves.jsonl");
        let to = tempfile::tempdir().unwrap();
        unpack(packed(&[(&inside, Regular, b"x")]), to.path()).unwrap();
        assert_eq!(fs::read(to.path().join("log/leaves.jsonl")).unwrap(), b"x");
        let other = TOP.replace("0001", "0002") + "/a";
        for (name, kind) in [
            ("../x", Regular),
            ("/tmp/x", Regular),
            ("x", Regular),
            (&format!("{TOP}/../x"), Regular),
            (&format!("{TOP}/a/../../x"), Regular),
            (&format!("{TOP}/a/b/c"), Regular),
            (&format!("{TOP}/.ssh"), Regular),
            (&format!("{TOP}/log"), Symlink),
            (&format!("{TOP}/log"), Directory),
            (TOP, Regular),
            (&other, Regular),
            (&inside, Regular),
        ] {
            let to = tempfile::tempdir().unwrap();
            let first = (inside.as_str(), Regular, &b"x"[..]);
            assert!(
                unpack(packed(&[first, (name, kind, b"")]), to.path()).is_err(),
                "{name}"
            );
        }
        assert!(unpack(packed(&[]), to.path()).is_err());
    }
}
