//! The sub-commands `part` and `bound`: a program that is not ours as a child that cannot outlive us.
//!
//! A program of ours watches its own tether; one of somebody else's does not. `part ANNOUNCE PROGRAM …` is the process
//! between: it says its child's process id in the file, passes an orderly end on, and ends as the child did. The child
//! begins as `bound PARENT PROGRAM …`, which has the kernel kill it with its parent, and becomes the program.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// What the process between announces.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Announcement {
    /// The process id of the program itself: for signals that its keeper must not get.
    pub pid: i32,
}

/// `part ANNOUNCE PROGRAM …`.
pub(crate) fn main_with(args: Vec<OsString>) -> ExitCode {
    let [_, announce, program @ ..] = args.as_slice() else {
        return ExitCode::from(64);
    };
    match keep(Path::new(announce), program) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("part: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On one thread: the kernel watches the thread that started the child, and not the process.
#[tokio::main(flavor = "current_thread")]
async fn keep(announce: &Path, program: &[OsString]) -> std::io::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .arg("bound")
        .arg(Pid::this().to_string())
        .args(program)
        .stdin(std::process::Stdio::null())
        .spawn()?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| std::io::Error::other("the child has no process id"))?;
    crate::announce(announce, &Announcement { pid })?;
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = terminate.recv() => {
            // One that is stopped must go on to hear it.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            match timeout(GRACE, child.wait()).await {
                Ok(status) => status?,
                Err(_) => {
                    child.kill().await?;
                    child.wait().await?
                }
            }
        }
    };
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// `bound PARENT PROGRAM …`.
pub(crate) fn bound(args: Vec<OsString>) -> ExitCode {
    let [_, parent, program, args @ ..] = args.as_slice() else {
        return ExitCode::from(64);
    };
    let parent = parent.to_str().and_then(|text| text.parse().ok());
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("part: {error}");
        return ExitCode::FAILURE;
    }
    // The parent may have gone before the kernel was asked.
    if parent != Some(getppid().as_raw()) {
        eprintln!("part: nobody keeps this process");
        return ExitCode::FAILURE;
    }
    let error = std::process::Command::new(program).args(args).exec();
    eprintln!("part: cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}

/// Less than a tether's.
const GRACE: Duration = Duration::from_secs(5);
