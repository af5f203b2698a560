//! Files that nobody else may read: made for their owner alone, replaced in one step, never reached through a link.
//!
//! Unix says so with the modes 0600 and 0700, Windows with an access list of one entry.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use crate::error::Error;

/// The largest file of ours that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// How much room is made sure of, in bytes.
const ROOM: usize = 32 * 1024;
/// How often a held lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Makes the folder, for its owner alone, if it is not there.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    system::make_folder(path).map_err(Error::file("create", path))
}

/// Makes a file for its owner alone; one that is there already is an error.
pub(crate) fn create_new(path: &Path) -> Result<File, Error> {
    system::create_new(path).map_err(Error::file("create", path))
}

/// Whether the file at `path`, whose metadata these are, belongs to this person.
pub(crate) fn belongs_to_us(path: &Path, meta: &Metadata) -> Result<bool, Error> {
    system::belongs_to_us(path, meta).map_err(Error::file("read", path))
}

/// Writes the whole file: a new file for its owner alone beside it (made, never opened), then a rename. What stood at
/// `path` is replaced; if that was a link, the link is replaced and not what it points at.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    replace(path, folder, bytes, Access::Owner).map_err(Error::file("write", path))
}

/// Writes only if the file does not hold these bytes already.
pub(crate) fn write_changed(path: &Path, bytes: &[u8]) -> Result<bool, Error> {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) && fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    write(path, bytes).map(|()| true)
}

/// Who is let at a file that replaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its owner alone.
    Owner,
    /// Those who were let at the one that is replaced.
    AsBefore,
}

/// Replaces `path` by a new file in `folder`.
pub(crate) fn replace(path: &Path, folder: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut file = new_file(folder)?;
    if access == Access::AsBefore {
        system::keep_access(path, file.as_file())?;
    }
    fill(&mut file, bytes)?;
    put(file, path)
}

fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".doorward-")
        .suffix(".new")
        .make_in(folder, system::create_new)
}

/// Puts the file in the place of `path`; where that fails, it is removed.
fn put(file: NamedTempFile, path: &Path) -> io::Result<()> {
    let mut made = file.into_temp_path();
    system::rename(&made, path)?;
    made.disable_cleanup(true);
    Ok(())
}

fn fill(file: &mut NamedTempFile, bytes: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.write_all(bytes)?;
    file.as_file().set_len(bytes.len() as u64)?;
    file.as_file().sync_all()
}

/// A file for its owner alone that is there, with room, before what it will hold: for contents that cannot be had twice.
#[derive(Debug)]
pub(crate) struct Reserved {
    path: PathBuf,
    file: NamedTempFile,
}

impl Reserved {
    /// Makes the file beside `path`, which stays as it is.
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        make_folder(folder)?;
        let made = new_file(folder).and_then(|mut file| {
            fill(&mut file, &[b' '; ROOM])?;
            Ok(file)
        });
        let file = made.map_err(Error::file("write", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes the contents and puts the file in the place of `path`.
    pub(crate) fn persist(mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = fill(&mut self.file, bytes);
        let put = written.and_then(|()| put(self.file, &self.path));
        put.map_err(Error::file("write", self.path))
    }
}

/// Reads a secret file, or nothing where there is none. A link, a file of somebody else, and a file that others can
/// read are refused: [`Error::Exposed`].
pub(crate) fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match system::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if is_link(path) => return Err(exposed(path, "is a symbolic link")),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    judge(path, &file)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Configuration(format!(
            "{} is larger than any file of ours",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

/// Reads a file of ours that holds no secret.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(Error::file("read", path))?;
    Ok(Some(text))
}

/// A lock that other processes of this person respect, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Waits for the lock, at most this long.
    pub(crate) async fn take(path: &Path, most: Duration) -> Result<Self, Error> {
        make_folder(path.parent().unwrap_or(Path::new(".")))?;
        let file = system::open_or_create(path).map_err(Error::file("open", path))?;
        let give_up = Instant::now() + most;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < give_up => tokio::time::sleep(LOCK_POLL).await,
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Error::Configuration(format!(
                        "another doorward holds {} for too long",
                        path.display()
                    )));
                }
                Err(fs::TryLockError::Error(error)) => return Err(Error::file("lock", path)(error)),
            }
        }
    }
}

fn exposed(path: &Path, what: impl Into<String>) -> Error {
    Error::Exposed {
        path: path.to_owned(),
        what: what.into(),
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

fn judge(path: &Path, file: &File) -> Result<(), Error> {
    let meta = file.metadata().map_err(Error::file("read", path))?;
    if !meta.is_file() {
        return Err(exposed(path, "is not a file"));
    }
    match system::exposure(file).map_err(Error::file("read", path))? {
        Some(what) => Err(exposed(path, what)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_secret_is_written_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inner/tokens.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(read_secret(&path).unwrap().unwrap(), b"two");
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn a_reserved_file_changes_nothing_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        write(&path, b"old").unwrap();
        drop(Reserved::new(&path).unwrap());
        let reserved = Reserved::new(&path).unwrap();
        assert_eq!(read_secret(&path).unwrap().unwrap(), b"old");
        reserved.persist(b"new").unwrap();
        assert_eq!(read_secret(&path).unwrap().unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(Reserved::new(&dir.path().join("file/tokens.json")).is_err());
    }

    #[test]
    fn a_link_is_neither_read_nor_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("tokens.json"));
        fs::write(&target, "theirs").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&target, &path).unwrap();
        assert!(matches!(read_secret(&path), Err(Error::Exposed { .. })));
        write(&path, b"ours").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        assert_eq!(read_secret(&path).unwrap().unwrap(), b"ours");
    }

    #[test]
    fn what_others_can_read_or_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        assert!(read_secret(&path).unwrap().is_none());
        for mode in [0o640, 0o604, 0o622] {
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
        }
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_secret(&pipe), Err(Error::Exposed { .. })));
    }

    #[tokio::test]
    async fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.lock");
        let first = Lock::take(&path, Duration::ZERO).await.unwrap();
        assert!(Lock::take(&path, Duration::from_millis(60)).await.is_err());
        drop(first);
        Lock::take(&path, Duration::ZERO).await.unwrap();
    }
}
