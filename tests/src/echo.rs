//! A session that is open while something happens beside it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::PATIENCE;

/// An `ssh` that runs `cat`.
#[derive(Debug)]
pub struct Echo {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    said: u32,
}

impl Echo {
    /// Starts it; `ssh` is the command up to the host's name.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn start(mut ssh: Command) -> Result<Self> {
        let mut child = ssh
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut echo = Self {
            child,
            stdin,
            stdout,
            said: 0,
        };
        echo.answers().await?;
        Ok(echo)
    }

    /// Says a line that was not said before and hears it back.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn answers(&mut self) -> Result<()> {
        self.said += 1;
        let line = format!("line {}\n", self.said);
        self.stdin
            .write_all(line.as_bytes())
            .await
            .context("the open session is gone")?;
        let mut heard = String::new();
        let read = timeout(PATIENCE, self.stdout.read_line(&mut heard)).await;
        read.context("the open session does not answer")??;
        ensure!(heard == line, "the open session said {heard:?} instead of {line:?}");
        Ok(())
    }

    /// Answers once more, then ends in order.
    ///
    /// # Errors
    /// It does not answer, or ends in another way.
    pub async fn ends_well(mut self) -> Result<()> {
        self.answers().await?;
        drop(self.stdin);
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .context("the open session does not end")??;
        ensure!(status.success(), "the open session ended with {status}");
        Ok(())
    }
}
