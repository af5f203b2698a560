//! A part's server as a process: kept, logged, signalled by its own process id.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::{Error, keeper};
use crate::process::{Process, ProcessError, Start};

/// A running server. Dropping it ends it soon.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    pid: Pid,
}

/// What is started, and where it leaves its traces.
pub(super) struct Launch<'a> {
    /// The executable that acts as our programs ([`crate::act_as_program`]).
    pub keeper: &'a Path,
    /// What it is called in messages and in file names.
    pub name: &'static str,
    /// The folder for log, lock and announcement.
    pub folder: &'a Path,
    /// The server's command line.
    pub command: Vec<OsString>,
}

impl Server {
    pub(super) async fn start(launch: Launch<'_>) -> Result<Self, Error> {
        let file = |suffix: &str| launch.folder.join(launch.name).with_extension(suffix);
        let announcement = file("json");
        match fs::remove_file(&announcement) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", announcement)(error));
            }
            _ => {}
        }
        let mut args = vec![announcement.clone().into_os_string()];
        args.extend(launch.command);
        let mut process = Process::start(Start {
            program: launch.keeper,
            name: "part",
            called: launch.name,
            args,
            environment: &[],
            lock: file("lock"),
            log: file("log"),
        })?;
        let announced: keeper::Announcement = process.announced(&announcement).await?;
        Ok(Self {
            process,
            pid: Pid::from_raw(announced.pid),
        })
    }

    /// Asks again and again until there is an answer, the server has ended, or it is too late.
    pub(super) async fn until<T>(
        &mut self,
        within: Duration,
        what: &str,
        ask: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, Error> {
        Ok(self.process.until_within(within, what, ask).await?)
    }

    /// Stops it where it stands: its sockets stay open, and nothing answers. Waits until its last thread stands still.
    pub(super) async fn pause(&self) {
        let _ = kill(self.pid, Signal::SIGSTOP);
        let last = Instant::now() + STANDSTILL;
        while moves(self.pid) && Instant::now() < last {
            sleep(ASK_AGAIN).await;
        }
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        let _ = kill(self.pid, Signal::SIGCONT);
    }

    /// Ends it in order.
    pub(super) async fn stop(self) {
        self.process.stop().await;
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub(super) async fn kill(mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        // Its keeper ends with it.
        self.process.fell().await;
    }

    /// Waits for its end, which nobody wanted. Can be dropped and called again.
    pub(super) async fn fell(&mut self) -> ProcessError {
        self.process.fell().await
    }

    pub(super) fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

/// Whether any thread of a process is not stopped, where the system says so in /proc.
fn moves(pid: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let states = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // The state follows the name, which is in parentheses and may hold any character.
    let stopped = |stat: &String| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    };
    states.into_iter().any(|stat| !stopped(&stat))
}

/// Makes the folder and what is missing above it; ours alone.
pub(crate) fn make_dir(path: &Path) -> Result<PathBuf, Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::file("make the folder", path))?;
    path.canonicalize().map_err(Error::file("find", path))
}

/// Writes a file that only we may read.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())
    };
    write().map_err(Error::file("write", path))
}

const STANDSTILL: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(5);
