//! A person's client folder as a test handles it: commands that ask nobody, sessions that stay open, copies.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use doorward_dev::stack::{ClientFolder, Stack};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::front::ssh;
use crate::{Outcome, PATIENCE, feed};

/// `doorward ARGS`, which asks nobody.
///
/// # Errors
/// When it cannot be run, or hangs.
pub async fn doorward(client: &ClientFolder, args: &[&str]) -> Result<Outcome> {
    let mut command = client.command(args);
    command.env("DOORWARD_NO_LOGIN", "1");
    feed(command, b"").await
}

/// The file with a person's tokens, as it is.
///
/// # Errors
/// There is none.
pub fn tokens(home: &Path) -> Result<String> {
    std::fs::read_to_string(home.join("tokens.json")).context("no tokens")
}

/// One member of that file.
///
/// # Errors
/// It is not there.
pub fn token(home: &Path, member: &str) -> Result<String> {
    let all: Value = serde_json::from_str(&tokens(home)?)?;
    let text = all[member].as_str().map(str::to_owned);
    text.with_context(|| format!("no {member}"))
}

/// A second folder with everything that is in the first: tokens, keys, settings.
///
/// # Errors
/// It cannot be written.
pub fn copy(stack: &Stack, of: &ClientFolder, to: &Path) -> Result<ClientFolder> {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(of.home())
        .arg(to)
        .status()?;
    ensure!(status.success(), "cp ended with {status}");
    let copy = stack.client_folder(to)?;
    // A fresh folder's settings name no gateway, and then nothing of the tokens is tried.
    std::fs::copy(of.home().join("config.toml"), copy.home().join("config.toml"))?;
    Ok(copy)
}

/// A session that stays open: what is written to it comes back. Its person is asked nothing.
#[derive(Debug)]
pub struct Open {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Open {
    /// Opens one in the first workspace.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(client: &ClientFolder) -> Result<Self> {
        let mut child = ssh(client, &[])
            .arg("exec cat")
            .env("DOORWARD_NO_LOGIN", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut open = Self {
            stdin: child.stdin.take().context("no stdin")?,
            stdout: child.stdout.take().context("no stdout")?,
            stderr: child.stderr.take().context("no stderr")?,
            child,
        };
        match open.echoes().await {
            Ok(()) => Ok(open),
            Err(error) => {
                let (code, said, _) = open.cut().await?;
                Err(error.context(format!("the session did not begin: {code:?}: {said}")))
            }
        }
    }

    /// Sees that it is still there.
    ///
    /// # Errors
    /// It is not.
    pub async fn echoes(&mut self) -> Result<()> {
        let both = async {
            self.stdin.write_all(b"still here\n").await?;
            let mut back = [0; 11];
            self.stdout.read_exact(&mut back).await?;
            anyhow::Ok(back)
        };
        let back = timeout(PATIENCE, both).await.context("nothing comes back")??;
        ensure!(&back == b"still here\n", "something else comes back");
        Ok(())
    }

    /// Waits for its end, which it did not choose: exit code, what was said, and how long that took.
    ///
    /// # Errors
    /// It goes on.
    pub async fn cut(mut self) -> Result<(Option<i32>, String, Duration)> {
        let begun = Instant::now();
        let mut said = String::new();
        let end = async {
            self.stderr.read_to_string(&mut said).await?;
            anyhow::Ok(self.child.wait().await?)
        };
        let status = timeout(PATIENCE, end).await.context("the session goes on")??;
        Ok((status.code(), said, begun.elapsed()))
    }
}
