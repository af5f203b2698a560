//! Opening the files of a recording, which may lie where others can put what they like.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a regular file to be read. Whoever can write into a store can put a pipe there, on which an auditor's program would
/// wait for ever, or a device that never ends.
///
/// # Errors
/// Those of the system, and `InvalidInput` for anything but a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if path.metadata()?.is_file() {
        return File::open(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Why a file could not be read, without the words of one system.
pub(crate) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidInput => "not a regular file".to_owned(),
        kind => kind.to_string(),
    }
}

/// Reads a text of at most `most` bytes from a regular file.
///
/// # Errors
/// As [`open_regular`], and `InvalidData` for a longer one or what is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = open_regular(path)?.take(most + 1).read_to_string(&mut text)?;
    if read as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_long_is_refused_without_reading_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            open_regular(dir.path()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        let path = dir.path().join("long");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read_text(&path, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, "exactly").unwrap();
        assert_eq!(read_text(&path, 7).unwrap(), "exactly");
        assert!(read_text(&path, 6).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_no_file() {
        assert_eq!(
            open_regular(Path::new("/dev/zero")).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
