//! The one way in which files make a bundle, and the comparison of a bundle with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use doorward_audit::hex;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{FOLDER, SUMS};

/// A file of the bundle: from memory, or one on the disk.
pub(super) enum Source {
    Text(Vec<u8>),
    File(PathBuf),
}

/// Packs the files, with the list of their sums.
pub(super) fn pack(out: impl Write, session: Uuid, mut files: BTreeMap<String, Source>) -> io::Result<()> {
    let mut sums = String::new();
    for (name, source) in &files {
        sums += &format!("{}  {name}\n", hex(&sum(source)?));
    }
    files.insert(SUMS.to_owned(), Source::Text(sums.into_bytes()));
    let mut tar = tar::Builder::new(out);
    for (name, source) in files {
        let name = format!("{FOLDER}{session}/{name}");
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        match source {
            Source::Text(bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, bytes.as_slice())?;
            }
            Source::File(path) => {
                let file = File::open(path)?;
                let len = file.metadata()?.len();
                header.set_size(len);
                tar.append_data(&mut header, name, file.take(len))?;
            }
        }
    }
    tar.finish()
}

/// Whether a bundle is exactly what its files, which lie unpacked in the folder, give when they are packed.
///
/// # Errors
/// `InvalidData` names the first byte that is another one.
pub(super) fn is_packed(bundle: impl Read, session: Uuid, folder: &Path, names: &BTreeSet<String>) -> io::Result<()> {
    let listed = names.iter().filter(|name| *name != SUMS);
    let files = listed.map(|name| (name.clone(), Source::File(folder.join(name))));
    let mut same = Same { as_in: bundle, at: 0 };
    pack(&mut same, session, files.collect())?;
    match same.as_in.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(another(same.at)),
    }
}

/// Takes only the bytes that another reader gives.
struct Same<R> {
    as_in: R,
    at: u64,
}

impl<R: Read> Write for Same<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = [0; CHUNK];
        let len = bytes.len().min(CHUNK);
        let (bytes, there) = (&bytes[..len], &mut there[..len]);
        let read = self.as_in.read_exact(there);
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::UnexpectedEof) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it ends too early"));
        }
        read?;
        match bytes.iter().zip(there.iter()).position(|(ours, theirs)| ours != theirs) {
            Some(first) => Err(another(self.at + first as u64)),
            None => {
                self.at += len as u64;
                Ok(len)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn another(at: u64) -> io::Error {
    let text = format!("byte {at} is not as it was packed");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn sum(source: &Source) -> io::Result<[u8; 32]> {
    match source {
        Source::Text(bytes) => Ok(Sha256::digest(bytes).into()),
        Source::File(path) => sum_of(path),
    }
}

/// SHA-256 of a file.
pub(super) fn sum_of(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            len => hash.update(&buffer[..len]),
        }
    }
}

const CHUNK: usize = 16 * 1024;
