//! Where everything of a stack lies below its folder, what of it outlives a run, and the lock that keeps it to one.
//!
//! CA keys, host keys, homes, journal and recordings stay from run to run, so that old recordings can be verified and
//! old files found. The client's folder, the join tokens, the host certificates and the logs are made anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Error;

/// The folder of one stack, absolute.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

/// Held for as long as the stack runs.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock goes when the file is closed")] File);

impl Layout {
    /// Makes what is missing, takes the lock, and clears what is made anew.
    pub(super) fn prepare(dir: &Path) -> Result<(Self, Lock), Error> {
        make_dir(dir)?;
        let dir = dir.canonicalize().map_err(Error::file("find", dir))?;
        let layout = Self { dir };
        let path = layout.lock("stack");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let lock = lock.map_err(Error::file("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse(layout.dir)),
            Err(fs::TryLockError::Error(error)) => return Err(Error::file("lock", path)(error)),
        }
        for anew in [layout.logs(), layout.run(), layout.client()] {
            match fs::remove_dir_all(&anew) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("clear", anew)(error)),
                _ => {}
            }
        }
        for dir in [layout.logs(), layout.run(), layout.state()] {
            make_dir(&dir)?;
        }
        Ok((layout, Lock(lock)))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn home(&self, workspace: &str) -> PathBuf {
        self.dir.join("home").join(workspace)
    }

    pub(super) fn client(&self) -> PathBuf {
        self.dir.join("client")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn records(&self) -> PathBuf {
        self.state().join("records")
    }

    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.logs().join(program).with_extension("log")
    }

    /// Held by a program for as long as it runs, so that one that was left behind has ended before the next begins.
    pub(super) fn lock(&self, program: &str) -> PathBuf {
        self.dir.join(program).with_extension("lock")
    }

    pub(super) fn announcement(&self, program: &str) -> PathBuf {
        self.run().join(program).with_extension("json")
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    fn run(&self) -> PathBuf {
        self.dir.join("run")
    }
}

/// Makes the folder and what is missing above it; ours alone.
pub(super) fn make_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("make the folder", path))
}

/// Writes a file that only we may read.
pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_with_mode(path, content, 0o600)
}

/// Writes a script that only we may run.
pub(super) fn write_script(path: &Path, content: &str) -> Result<(), Error> {
    write_with_mode(path, content.as_bytes(), 0o700)
}

/// Replaces the file as a whole: a reader sees the old one or the new one.
fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(mode)
            .open(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        drop(file);
        fs::rename(&beside, path)
    };
    write().map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stack_per_folder_and_what_stays_stays() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("a/b");
        let (layout, lock) = Layout::prepare(&dir).unwrap();
        assert!(matches!(Layout::prepare(&dir), Err(Error::InUse(_))));
        let old = [
            layout.state().join("kept"),
            layout.log("gateway"),
            layout.announcement("agent"),
        ];
        for path in &old {
            fs::write(path, "x").unwrap();
        }
        make_dir(&layout.client()).unwrap();
        drop(lock);
        let (layout, _lock) = Layout::prepare(&dir).unwrap();
        assert_eq!(old.map(|path| path.exists()), [true, false, false]);
        assert!(!layout.client().exists());
        assert!(layout.file("x").is_absolute());
    }

    #[test]
    fn what_is_private_is_private_even_where_it_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        make_dir(&dir.path().join("made")).unwrap();
        assert_eq!(
            fs::metadata(dir.path().join("made")).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}
