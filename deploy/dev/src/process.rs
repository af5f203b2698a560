//! One program as a child process: tethered, logged, awaited, ended.

use std::ffi::OsString;
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

use crate::programs::TETHERED;

/// What is started, and where it leaves its traces.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// One executable for all programs.
    pub program: &'a Path,
    /// Which of them it acts as.
    pub name: &'static str,
    /// What the program is called in messages, where that differs.
    pub called: &'static str,
    pub args: Vec<OsString>,
    /// Variables beside the few that every program is given.
    pub environment: &'a [(String, String)],
    /// Held for as long as the program runs.
    pub lock: PathBuf,
    /// Its output is appended here.
    pub log: PathBuf,
}

/// A running program. Dropping it cuts its tether, which ends it soon; [`Process::stop`] waits for that.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    tether: Option<ChildStdin>,
    log: PathBuf,
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A file or folder could not be read or written.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start {name}")]
    Start {
        /// Which program.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ended although nobody asked it to.
    #[error("{name} ended ({status}); its log ends:\n{tail}")]
    Died {
        /// Which program.
        name: &'static str,
        /// How it ended.
        status: String,
        /// The last lines of its log.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s; the log of {name} ends:\n{tail}", .within.as_secs())]
    Late {
        /// What was awaited.
        what: String,
        /// Which program should have done it.
        name: &'static str,
        /// How long it was awaited.
        within: Duration,
        /// The last lines of its log.
        tail: String,
    },
    /// A program announced something that is no announcement.
    #[error("{name} announced nonsense in {}", .path.display())]
    Announcement {
        /// Which program.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Process {
    /// Starts a program.
    pub(crate) fn start(start: Start<'_>) -> Result<Self, ProcessError> {
        let Start {
            program,
            name,
            called,
            args,
            environment,
            lock,
            log,
        } = start;
        let opened = |source| ProcessError::File {
            what: "open",
            path: log.clone(),
            source,
        };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
        let file = file.map_err(opened)?;
        let second = file.try_clone().map_err(opened)?;
        let mut child = Command::new(program)
            .arg(TETHERED)
            .arg(lock)
            .arg(name)
            .args(args)
            .env_clear()
            .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(second)
            // Ctrl-C in the terminal is for the starter alone, which then ends its programs in order.
            .process_group(0)
            .spawn()
            .map_err(|source| ProcessError::Start { name: called, source })?;
        let tether = child.stdin.take();
        Ok(Self {
            name: called,
            child,
            tether,
            log,
        })
    }

    /// The process id; `None` once the process was seen to have ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the program to say in a file that it is ready, and reads that.
    pub(crate) async fn announced<T: DeserializeOwned>(&mut self, path: &Path) -> Result<T, ProcessError> {
        let text = self.until("its announcement", async || fs::read(path).ok()).await?;
        serde_json::from_slice(&text).map_err(|source| ProcessError::Announcement {
            name: self.name,
            path: path.to_owned(),
            source,
        })
    }

    /// Asks again and again until there is an answer, the program has ended, or it is too late.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        ask: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, ProcessError> {
        self.until_within(PATIENCE, what, ask).await
    }

    /// The same with a bound of its own, for programs that take their time.
    pub(crate) async fn until_within<T>(
        &mut self,
        within: Duration,
        what: &str,
        mut ask: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, ProcessError> {
        let last = Instant::now() + within;
        loop {
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.died(Some(status)));
            }
            if Instant::now() >= last {
                let tail = self.log_tail();
                return Err(ProcessError::Late {
                    what: what.to_owned(),
                    name: self.name,
                    within,
                    tail,
                });
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Waits for the program's end, which nobody wanted. Can be dropped and called again.
    pub(crate) async fn fell(&mut self) -> ProcessError {
        let status = self.child.wait().await.ok();
        self.died(status)
    }

    /// Asks the program to end; ends it by force when it takes too long. True when it ended of its own accord.
    pub(crate) async fn stop(mut self) -> bool {
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
    pub(crate) async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn died(&self, status: Option<ExitStatus>) -> ProcessError {
        let status = status.map_or_else(|| "nobody knows how".to_owned(), |status| status.to_string());
        ProcessError::Died {
            name: self.name,
            status,
            tail: self.log_tail(),
        }
    }
}

/// The last lines of a log, for a developer to read.
pub(crate) fn tail(log: &Path) -> String {
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
const KEPT: [&str; 12] = [
    "PATH",
    "HOME",
    "JAVA_HOME",
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
