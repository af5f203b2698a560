//! The system's own `ssh`, with the configuration that the client wrote.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// What a command over ssh gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub code: Option<i32>,
}

/// The arguments before the host: our configuration alone, no question asked, no line of ssh's own but errors.
pub(super) fn options(config: &Path) -> Vec<&OsStr> {
    let fixed = ["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"].map(OsStr::new);
    ["-F".as_ref(), config.as_os_str()].into_iter().chain(fixed).collect()
}

/// Runs a command in a workspace, with nothing on its standard input.
pub(super) async fn run(config: &Path, host: &str, command: &str) -> Result<Outcome> {
    outcome(start(config, host, command, Stdio::null())?).await
}

/// The same with standard input from memory.
pub(super) async fn run_with_input(config: &Path, host: &str, command: &str, input: Vec<u8>) -> Result<Outcome> {
    let mut child = start(config, host, command, Stdio::piped())?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let feed = async move {
        stdin.write_all(&input).await.context("ssh does not read its input")?;
        stdin.shutdown().await.context("ssh does not read its input")
    };
    let (fed, outcome) = tokio::join!(feed, outcome(child));
    let outcome = outcome?;
    if outcome.code == Some(0) {
        fed?;
    }
    Ok(outcome)
}

/// Starts a command and leaves its streams to the caller.
pub(super) fn start(config: &Path, host: &str, command: &str, stdin: Stdio) -> Result<Child> {
    Command::new("ssh")
        .args(options(config))
        .args([host, command])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start ssh: is OpenSSH's client installed?")
}

async fn outcome(child: Child) -> Result<Outcome> {
    let output = child.wait_with_output().await?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Outcome {
        stdout: output.stdout,
        stderr,
        code: output.status.code(),
    })
}

/// Reads at least so many bytes of a child's standard output.
pub(super) async fn read_at_least(child: &mut Child, bytes: usize) -> Result<Vec<u8>> {
    let stdout = child.stdout.as_mut().context("no standard output")?;
    let mut got = Vec::new();
    while got.len() < bytes {
        if stdout.read_buf(&mut got).await? == 0 {
            bail!("the output ended after {} bytes", got.len());
        }
    }
    Ok(got)
}
