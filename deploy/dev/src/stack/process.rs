//! One program of the stack as a child process: tethered, logged, awaited, ended.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Error;
use super::layout::Layout;
use crate::programs::TETHERED;

/// A running program. Dropping it cuts its tether, which ends it soon; [`Process::stop`] waits for that.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    tether: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `program` (one executable for all of them) as `name`. Its output is appended to its log.
    pub(super) fn start<A: AsRef<OsStr>>(
        layout: &Layout,
        program: &Path,
        name: &'static str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self, Error> {
        let log = layout.log(name);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
        let file = file.map_err(Error::file("open", &log))?;
        let second = file.try_clone().map_err(Error::file("open", &log))?;
        let mut child = Command::new(program)
            .arg(TETHERED)
            .arg(layout.lock(name))
            .arg(name)
            .args(args)
            .env_clear()
            .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(second)
            // Ctrl-C in the terminal is for the stack alone, which then ends its programs in order.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Start { name, source })?;
        let tether = child.stdin.take();
        Ok(Self {
            name,
            child,
            tether,
            log,
        })
    }

    /// The process id; `None` once the process was seen to have ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the program to say in a file that it is ready, and reads that.
    pub(super) async fn announced<T: DeserializeOwned>(&mut self, path: &Path) -> Result<T, Error> {
        let text = self.until("its announcement", async || fs::read(path).ok()).await?;
        serde_json::from_slice(&text).map_err(|source| Error::Announcement {
            name: self.name,
            path: path.to_owned(),
            source,
        })
    }

    /// Asks again and again until there is an answer, the program has ended, or it is too late.
    pub(super) async fn until<T>(&mut self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T, Error> {
        let last = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.died(Some(status)));
            }
            if Instant::now() >= last {
                let tail = self.log_tail();
                return Err(Error::Late {
                    what: what.to_owned(),
                    name: self.name,
                    within: PATIENCE,
                    tail,
                });
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Waits for the program's end, which nobody wanted. Can be dropped and called again.
    pub(super) async fn fell(&mut self) -> Error {
        let status = self.child.wait().await.ok();
        self.died(status)
    }

    /// Asks the program to end; ends it by force when it takes too long. True when it ended of its own accord.
    pub(super) async fn stop(mut self) -> bool {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let ended = timeout(GRACE, self.child.wait()).await.is_ok();
        drop(self.tether.take());
        if !ended {
            let _ = self.child.kill().await;
        }
        ended
    }

    /// Ends the program with SIGKILL, as a crash would, and waits until it is gone.
    pub(super) async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn died(&self, status: Option<ExitStatus>) -> Error {
        let status = status.map_or_else(|| "nobody knows how".to_owned(), |status| status.to_string());
        Error::Died {
            name: self.name,
            status,
            tail: self.log_tail(),
        }
    }
}

/// The last lines of a log, for a developer to read.
pub(super) fn tail(log: &Path) -> String {
    let read = || {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| format!("    {line}\n")).collect()
}

/// All of our environment that the programs see: what a workspace's shell inherits is no place for a developer's tokens.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
];
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(15);
const GRACE: Duration = Duration::from_secs(6);
const TAIL_BYTES: u64 = 16 * 1024;
const TAIL_LINES: usize = 25;
