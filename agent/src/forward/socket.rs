//! Unix sockets as the login would reach them: opened by path once, judged by the path that this turned out to be, and
//! connected through the same handle. So a link that changes in between changes nothing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as Std;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{self, OFlag};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{self, Mode, SFlag};
use tokio::net::UnixStream;

use crate::process::{Account, with_rights_of};
use crate::ssh::{NOT_GRANTED, Why};

/// What the grant says about sockets.
#[derive(Debug, Clone, Default)]
pub(super) struct Sockets {
    patterns: Arc<[Pattern]>,
    home: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    /// Relative to the login's home.
    at_home: bool,
    path: PathBuf,
    /// Everything below the path, not the path.
    below: bool,
}

/// Why a socket is not reached.
#[derive(Debug)]
pub(super) enum NotReached {
    Refused(Why),
    Failed(io::Error),
}

impl From<io::Error> for NotReached {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Sockets {
    /// Reads the patterns of a grant; those for hosts are not for here.
    pub(super) fn new(patterns: &[String], home: &Path) -> Self {
        let read = |text: &String| {
            let text = text.strip_prefix("unix:")?;
            let (at_home, path) = match text.strip_prefix("~/") {
                Some(path) => (true, path),
                // A host may be called `unix`.
                None => (false, text.starts_with('/').then_some(text)?),
            };
            let (path, below) = match path.strip_suffix('*') {
                Some(folder) => (folder, true),
                None => (path, false),
            };
            Some(Pattern {
                at_home,
                path: path.into(),
                below,
            })
        };
        Self {
            patterns: patterns.iter().filter_map(read).collect(),
            home: home.to_owned(),
        }
    }

    /// Whether no socket at all is granted.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Judges a path in which no link is left.
    fn judge(&self, real: &Path) -> Result<(), Why> {
        let home = std::fs::canonicalize(&self.home).unwrap_or_else(|_| self.home.clone());
        // A login whose home is `/`, as those without an entry in passwd have it, has nothing of its own there.
        let homeless = home.parent().is_none();
        let grants = |pattern: &&Pattern| {
            if pattern.at_home && homeless {
                return false;
            }
            let path = if pattern.at_home {
                home.join(&pattern.path)
            } else {
                run(&pattern.path)
            };
            match pattern.below {
                true => real.starts_with(&path) && real != path,
                false => real == path,
            }
        };
        let by: Vec<_> = self.patterns.iter().filter(grants).collect();
        if by.is_empty() {
            return Err(NOT_GRANTED);
        }
        if is_runtime(real) && by.iter().all(|pattern| pattern.below) {
            return Err("a container runtime's socket is reached only where the grant names it in full");
        }
        Ok(())
    }
}

/// Takes the path of a socket as a client wrote it.
pub(super) fn path(text: &str) -> Result<PathBuf, Why> {
    if !text.starts_with('/') || text.len() > LONGEST_PATH || text.contains('\0') {
        return Err("the socket's path is not absolute, or is too long");
    }
    Ok(text.into())
}

/// Connects with the account's rights to what is at the path now; gives the path that it really has.
pub(super) async fn connect(
    account: &Account,
    path: &Path,
    sockets: &Sockets,
) -> Result<(UnixStream, PathBuf), NotReached> {
    loop {
        let (path, sockets) = (path.to_owned(), sockets.clone());
        let reached = with_rights_of(account, move || Ok(reach(&path, &sockets))).await?;
        match reached {
            Ok((stream, real)) => return Ok((UnixStream::from_std(stream)?, real)),
            // Its queue is full; the caller has a deadline.
            Err(NotReached::Failed(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(why) => return Err(why),
        }
    }
}

fn reach(path: &Path, sockets: &Sockets) -> Result<(Std, PathBuf), NotReached> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let file = fcntl::open(path, flags, Mode::empty()).map_err(io::Error::from)?;
    let real = std::fs::read_link(handle(&file))?;
    // Judged before it is said what it is: who may not reach it does not learn that it is there.
    sockets.judge(&real).map_err(NotReached::Refused)?;
    let found = stat::fstat(&file).map_err(io::Error::from)?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(io::Error::other("it is not a socket").into());
    }
    Ok((connect_to(&handle(&file))?, real))
}

/// Connects to a socket by a path that is no longer than an address may be.
pub(super) fn connect_to(path: &Path) -> io::Result<Std> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let ours = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(ours.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(ours.into())
}

/// What an open file is called, whatever happens to its path.
pub(super) fn handle(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// `/var/run` is the old name of `/run`; the real path has the new one.
fn run(path: &Path) -> PathBuf {
    match path.strip_prefix("/var/run") {
        Ok(rest) if std::fs::read_link("/var/run").is_ok() => Path::new("/run").join(rest),
        _ => path.to_owned(),
    }
}

/// Whether a socket by its name belongs to something that starts containers: who speaks to it is root.
fn is_runtime(real: &Path) -> bool {
    let name = real.file_name().and_then(OsStr::to_str).unwrap_or_default();
    RUNTIMES.iter().any(|runtime| name.starts_with(runtime))
        || real.starts_with("/run/containerd")
        || real.starts_with("/run/k3s")
}

const RUNTIMES: [&str; 9] = [
    "docker.sock",
    "containerd.sock",
    "crio.sock",
    "cri-dockerd.sock",
    "dockershim.sock",
    "podman.sock",
    "buildkitd.sock",
    "kubelet.sock",
    "nri.sock",
];
const LONGEST_PATH: usize = 4096;
/// How often a full queue is tried again.
const AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
