//! A session's private folder, for what only its own processes may find: the socket of the user's SSH agent, the key to
//! the user's X server. Mode 0700, the account's own, gone with the session; one that a crash left behind is gone with
//! the next start of an agent.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{self, UnlinkatFlags};
use uuid::Uuid;

use super::socket::handle;

/// Makes a folder, with the rights of whoever calls.
pub(super) fn make() -> io::Result<PathBuf> {
    let me = std::process::id();
    let name = format!(
        "{PREFIX}{me}-{}-{}",
        started(me).unwrap_or_default(),
        Uuid::new_v4().simple()
    );
    let mut tried = Vec::new();
    for base in bases() {
        let path = base.join(&name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) => tried.push(format!("{}: {}", base.display(), super::dial::plain(&error))),
        }
    }
    Err(io::Error::other(format!(
        "there is no folder for it ({})",
        tried.join("; ")
    )))
}

/// Removes a folder and the files in it; folders in it are left, and then it is left, too.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = fcntl::open(path, flags, Mode::empty())?;
    for entry in std::fs::read_dir(handle(&folder))?.take(ENTRIES) {
        let name = entry?.file_name();
        let _ = unistd::unlinkat(&folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
    std::fs::remove_dir(path)
}

/// Removes the folders of agents that are gone. May block.
pub(crate) fn sweep() {
    for base in bases() {
        for path in stale(&base) {
            match clear(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed what an agent that is gone has left"),
                // Another account's, most likely.
                Err(error) => tracing::debug!(path = %path.display(), %error, "cannot remove an old folder"),
            }
        }
    }
}

fn stale(base: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(base).into_iter().flatten();
    let gone = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let mut parts = name.to_str()?.strip_prefix(PREFIX)?.split('-');
        let (pid, since) = (parts.next()?.parse::<u32>().ok()?, parts.next()?);
        let token = parts.next()?;
        let whole = token.len() == 32 && parts.next().is_none();
        (whole && started(pid).as_deref() != Some(since)).then(|| entry.path())
    };
    entries.filter_map(gone).collect()
}

/// When a process began, in ticks since the machine did (proc(5), field 22 of stat); `None` if there is none.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

/// Where such folders may be, the first that will do.
fn bases() -> [PathBuf; 2] {
    [std::env::temp_dir(), PathBuf::from("/dev/shm")]
}

const PREFIX: &str = "doorward-";
/// More than a folder of ours can hold: a socket, and a key for each display there can be.
const ENTRIES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_folder_is_private_and_lives_as_long_as_its_agent() {
        let path = make().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        std::fs::write(path.join("x"), b"x").unwrap();
        assert!(!stale(path.parent().unwrap()).contains(&path));
        clear(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_a_crash_left_is_found_and_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let token = "0".repeat(32);
        let me = std::process::id();
        let other = |name: &str| base.path().join(name);
        let left = other(&format!("doorward-{me}-1-{token}"));
        let dead = other(&format!("doorward-4194304-7-{token}"));
        for folder in [&left, &dead] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("agent.sock"), b"").unwrap();
        }
        let alive = started(me).unwrap();
        for name in [
            format!("doorward-{me}-{alive}-{token}"),
            "doorward-x".into(),
            "doorward-1-2-3".into(),
            "other".into(),
        ] {
            std::fs::create_dir(other(&name)).unwrap();
        }
        let mut found = stale(base.path());
        found.sort();
        assert_eq!(found.len(), 2);
        assert!(found.contains(&left) && found.contains(&dead));
        clear(&left).unwrap();
        assert!(!left.exists());
        // Somebody has put a link in its place: what it points at stays.
        std::fs::remove_dir_all(&dead).unwrap();
        let kept = tempfile::tempdir().unwrap();
        std::fs::write(kept.path().join("kept"), b"").unwrap();
        symlink(kept.path(), &dead).unwrap();
        assert!(clear(&dead).is_err());
        assert!(kept.path().join("kept").exists());
    }
}
