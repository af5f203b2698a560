//! Where parts are kept: a folder per part and recipe, made beside and renamed into place, one maker at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Error;

/// The folder that holds every part.
pub(super) fn folder() -> Result<PathBuf, Error> {
    let set = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.ok_or(Error::NoCache)?.join("doorward").join("parts"))
}

/// The right to make one part. Nobody else makes it meanwhile.
pub(super) struct Maker {
    place: PathBuf,
    beside: PathBuf,
    _lock: File,
}

impl Maker {
    /// Waits for the right; `None` when somebody else has made the part meanwhile.
    pub(super) async fn of(place: &Path) -> Result<Option<Self>, Error> {
        let folder = place.parent().unwrap_or(place);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(Error::file("make the folder", folder))?;
        let path = with_suffix(place, "lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        let begun = Instant::now();
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(Error::file("lock", path)(error)),
                Err(TryLockError::WouldBlock) if begun.elapsed() > PATIENCE => return Err(Error::Waited(PATIENCE)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                eprintln!("waiting for another process that makes {} …", place.display());
                told = true;
            }
            sleep(ASK_AGAIN).await;
        }
        if place.exists() {
            return Ok(None);
        }
        let beside = with_suffix(place, "new");
        remove(&beside)?;
        fs::create_dir(&beside).map_err(Error::file("make the folder", &beside))?;
        Ok(Some(Self {
            place: place.to_owned(),
            beside,
            _lock: lock,
        }))
    }

    /// The folder to make the part in.
    pub(super) fn beside(&self) -> &Path {
        &self.beside
    }

    /// Puts it into place, whole.
    pub(super) fn keep(self) -> Result<(), Error> {
        fs::rename(&self.beside, &self.place).map_err(Error::file("rename", &self.beside))
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        // What was not kept is of no use; an error here will be met by the next maker.
        let _ = fs::remove_dir_all(&self.beside);
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Longer than any part takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const ASK_AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_made_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("parts/thing-1.2.3");
        let maker = Maker::of(&place).await.unwrap().unwrap();
        fs::write(maker.beside().join("thing"), "x").unwrap();
        assert!(!place.exists(), "half of it must not be seen");
        let mut second = Box::pin(Maker::of(&place));
        let waits = tokio::time::timeout(ASK_AGAIN * 2, &mut second).await;
        assert!(waits.is_err(), "two makers at once");
        maker.keep().unwrap();
        assert!(second.await.unwrap().is_none(), "it is there already");
        assert_eq!(fs::read(place.join("thing")).unwrap(), b"x");
    }

    #[tokio::test]
    async fn what_fails_leaves_nothing_behind_and_can_be_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("thing-1");
        let maker = Maker::of(&place).await.unwrap().unwrap();
        fs::write(maker.beside().join("half"), "x").unwrap();
        drop(maker);
        assert!(!place.exists());
        let again = Maker::of(&place).await.unwrap().unwrap();
        assert_eq!(fs::read_dir(again.beside()).unwrap().count(), 0);
    }
}
