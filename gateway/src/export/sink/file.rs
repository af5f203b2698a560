//! A file that is appended to, and opened anew each time, so that it can be moved away.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Failure;

/// Where it lies.
pub(in crate::export) struct File(pub(super) PathBuf);

impl File {
    /// Appends lines and makes them durable.
    pub(super) async fn send(&self, body: String) -> Result<(), Failure> {
        let path = self.0.clone();
        let place = path.display().to_string();
        let done = tokio::task::spawn_blocking(move || append(&path, &body)).await;
        let done = done.map_err(io::Error::other).and_then(|done| done);
        done.map_err(|error| Failure::from(format!("{place} cannot be written: {error}")))
    }
}

fn append(path: &Path, body: &str) -> io::Result<()> {
    // A pipe or a device could keep us waiting for ever.
    if std::fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    let before = file.seek(SeekFrom::End(0))?;
    let written = whole_line(&mut file, before)
        .and_then(|()| file.write_all(body.as_bytes()))
        .and_then(|()| file.sync_data());
    if written.is_err() {
        // What a full disk took in part is taken back; if that fails too, the line is ended the next time.
        let _ = file.set_len(before);
    }
    written
}

/// Ends a line that a crash left in the middle.
fn whole_line(file: &mut std::fs::File, length: u64) -> io::Result<()> {
    let Some(last) = length.checked_sub(1) else {
        return Ok(());
    };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    if byte != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole_and_nothing_else_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        append(&path, "a\nb\n").unwrap();
        std::fs::write(&path, "a\nb\n{\"torn").unwrap();
        append(&path, "c\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n{\"torn\nc\n");
        // Moved away, it is made again.
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        append(&path, "d\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "d\n");
        assert!(append(folder.path(), "e\n").is_err());
    }
}
