//! The file system of another container of the pod: who enters it sees its files, its devices and its accounts, and none of
//! ours.
//!
//! It is entered by one task or one process at a time, by a handle on the root of the container's first process; the rest
//! of the agent stays where it is. Where the right is there the mount namespace is joined as well, so that tools which list
//! mounts are right; without it a change of root is enough to reach every file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd;
use tokio::sync::oneshot;

use super::bounds::Bounds;
use super::syscall::{self, Identity, become_identity};
use super::visit::visit;

/// The root of a container, for as long as its first process lives.
#[derive(Debug)]
pub(crate) struct Root {
    pid: i32,
    /// When that process began, in ticks: with its number it is this one and no later one.
    started: u64,
    root: OwnedFd,
    mounts: Option<OwnedFd>,
    pub(crate) bounds: Bounds,
    /// The environment that the container's first process was started with.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Root {
    /// Opens the root of a process. The kernel lets do so who could read its memory (ptrace(2), `PTRACE_MODE_READ`).
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel tells nobody that an exec is done, and this is where blocking is allowed"
    )]
    pub(crate) fn open(pid: i32, started: u64) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let at = |name: &str| format!("/proc/{pid}/{name}");
        let root = fcntl::open(at("root").as_str(), flags, Mode::empty())?;
        let mounts = File::open(at("ns/mnt")).ok().map(OwnedFd::from);
        let read = || match environment_of(pid) {
            // Its owner's file, whoever may trace that process: not even root reads it without the right to read any file.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let owner = std::fs::metadata(format!("/proc/{pid}"))?;
                let owner = Identity {
                    uid: owner.uid().into(),
                    gid: owner.gid().into(),
                    groups: Vec::new(),
                };
                // Who may not become the owner is told of what is missing to begin with.
                visit(|| syscall::take_rights(&owner).and_then(|()| environment_of(pid))).map_err(|_| error)
            }
            read => read,
        };
        let mut text = read()?;
        // While a program takes another's place the kernel shows none, and what is not seen is not masked.
        for _ in 0..LOOKS {
            if !text.is_empty() {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
            text = read()?;
        }
        let found = Self {
            pid,
            started,
            root,
            mounts,
            bounds: Bounds::of(&pid.to_string())?,
            environment: variables(&text),
        };
        // What was opened is of that process, unless its number was given away meanwhile.
        found.lives()?;
        Ok(found)
    }

    /// Opens what [`Self::token`] names.
    pub(crate) fn of_token(token: &str) -> Option<io::Result<Self>> {
        let (pid, started) = token.split_once(':')?;
        Some(Self::open(pid.parse().ok()?, started.parse().ok()?))
    }

    /// The process, for another process of ours.
    pub(crate) fn token(&self) -> String {
        format!("{}:{}", self.pid, self.started)
    }

    /// Has the calling task enter, for good. It must share its root folder with no other.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.lives()?;
        match self.cross() {
            Err(Errno::EPERM) => {
                let why =
                    "the agent may not enter the main container: it lacks CAP_SYS_CHROOT, which only root has in a pod";
                Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
            }
            other => other.map_err(io::Error::from),
        }
    }

    /// The same without a look and without words: only system calls.
    pub(super) fn cross(&self) -> nix::Result<()> {
        if let Some(mounts) = &self.mounts {
            // Not without CAP_SYS_ADMIN. Its files are reached all the same.
            let _ = syscall::join_mounts(mounts);
        }
        unistd::fchdir(self.root.as_fd())?;
        unistd::chroot(".")
    }

    /// Has the calling process enter for good and become this, no stronger than the container's own.
    pub(crate) fn enter_as(&self, identity: Option<&Identity>) -> io::Result<()> {
        self.enter()?;
        let lowered = self.bounds.lower();
        if let Some(identity) = identity {
            become_identity(identity)?;
        }
        self.bounds.settle(&lowered)
    }

    fn lives(&self) -> io::Result<()> {
        match Begun::of(self.pid) {
            Some(begun) if begun.started == self.started => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the container that this session was in has ended; connect again",
            )),
        }
    }
}

/// What the kernel says of how a process came to be (proc(5), stat).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    /// 0 where the parent is outside of the pod.
    pub(crate) parent: i32,
    pub(crate) started: u64,
}

impl Begun {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { parent, started })
    }
}

/// Does this where blocking is allowed, in the container if there is one. It may start no program there.
pub(crate) async fn inside<T, F>(root: Option<Arc<Root>>, act: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let task = tokio::task::spawn_blocking(move || match root {
        Some(root) => visit(|| root.enter().and_then(|()| act())),
        None => act(),
    });
    task.await.map_err(|_| io::Error::from(io::ErrorKind::Interrupted))?
}

/// Does this on a thread that ends with it.
pub(super) async fn on_own_thread<T, F>(act: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let (done, outcome) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name("account".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            // What is opened here may be registered there.
            let _runtime = runtime.enter();
            // Nobody may be waiting any longer.
            let _ = done.send(act());
        })?;
    outcome.await.map_err(|_| io::Error::from(io::ErrorKind::Interrupted))?
}

fn environment_of(pid: i32) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/environ"))?
        .take(LARGEST_ENVIRONMENT)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn variables(text: &[u8]) -> Vec<(OsString, OsString)> {
    let entries = text.split(|byte| *byte == 0);
    let read = |entry: &[u8]| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (entry.get(..at)?, entry.get(at + 1..)?);
        (!name.is_empty()).then(|| (OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
    };
    entries.filter_map(read).collect()
}

const STACK: usize = 512 * 1024;
/// How often an environment is looked at again that seems empty. One that is empty costs this much.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// In bytes.
const LARGEST_ENVIRONMENT: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_beginning() {
        let me = i32::try_from(std::process::id()).unwrap();
        let begun = Begun::of(me).unwrap();
        assert_eq!(begun.parent, unistd::getppid().as_raw());
        let root = Root::open(me, begun.started).unwrap();
        assert_eq!(root.token(), format!("{me}:{}", begun.started));
        assert!(Root::of_token(&root.token()).unwrap().is_ok());
        let other = Root::open(me, begun.started + 1).unwrap_err();
        assert!(other.to_string().contains("connect again"), "{other}");
        assert!(Root::of_token("x").is_none());
    }

    #[test]
    fn an_environment_is_read_as_the_kernel_shows_it() {
        let found = variables(b"A=1\0B=a=b\0\0=x\0noequals\0C=\0");
        let found: Vec<_> = found
            .iter()
            .map(|(n, v)| (n.to_str().unwrap(), v.to_str().unwrap()))
            .collect();
        assert_eq!(found, [("A", "1"), ("B", "a=b"), ("C", "")]);
    }
}
