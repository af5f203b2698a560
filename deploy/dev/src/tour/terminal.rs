//! `ssh -tt` on a pseudo terminal of ours: what a person at a keyboard sees and types.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use pty_process::{Pty, Size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::ssh;

/// A terminal with an ssh in it.
pub(super) struct Terminal {
    pty: Pty,
    ssh: Child,
    /// Everything that the terminal was told to show.
    pub shown: Vec<u8>,
}

impl Terminal {
    /// Starts a login shell in a workspace. ssh's own messages go elsewhere, so that all that is shown came from there.
    pub(super) fn start(config: &Path, host: &str, rows: u16, columns: u16) -> Result<Self> {
        let (pty, pts) = pty_process::open()?;
        pty.resize(Size::new(rows, columns))?;
        let ssh = pty_process::Command::new("ssh")
            .args(ssh::options(config))
            .args(["-tt", host])
            .env("TERM", "xterm-256color")
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn(pts)?;
        Ok(Self {
            pty,
            ssh,
            shown: Vec::new(),
        })
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(self.pty.resize(Size::new(rows, columns))?)
    }

    /// Waits for the first sign of life. Before it, ssh has not taken the terminal over, and typing would be echoed here.
    pub(super) async fn wake(&mut self) -> Result<()> {
        self.read().await.map(drop)
    }

    pub(super) async fn type_line(&mut self, line: &str) -> Result<()> {
        Ok(self.pty.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// Reads until the text was shown, after everything that was awaited before.
    pub(super) async fn until(&mut self, text: &str) -> Result<()> {
        while !contains(&self.shown, text.as_bytes()) {
            if self.read().await? == 0 {
                let shown = String::from_utf8_lossy(&self.shown).into_owned();
                bail!("the session ended before it showed {text:?}; it showed {shown:?}");
            }
        }
        Ok(())
    }

    /// Reads to the end; ssh's exit code.
    pub(super) async fn end(mut self) -> Result<(Vec<u8>, Option<i32>)> {
        while self.read().await? > 0 {}
        let status = self.ssh.wait().await.context("ssh is gone")?;
        Ok((self.shown, status.code()))
    }

    async fn read(&mut self) -> Result<usize> {
        match self.pty.read_buf(&mut self.shown).await {
            Ok(read) => Ok(read),
            // Linux says so where the other side of a pseudo terminal is closed.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
