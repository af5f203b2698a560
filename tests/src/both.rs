//! The same test against a stock sshd and against Doorward.
//!
//! What both can do is asked of both, in the same words: a [`Server`] is where `ssh` is told to go, whichever it is.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::sshd::Sshd;
use crate::{Outcome, Stand, feed};

/// One of the two servers, as a client sees it.
#[derive(Debug, Clone)]
pub struct Server {
    /// `sshd` or `doorward`.
    pub name: &'static str,
    config: PathBuf,
    host: &'static str,
    home: PathBuf,
}

impl Server {
    /// Doorward's first workspace, entered as bob.
    #[must_use]
    pub fn doorward(stand: &Stand) -> Self {
        Self {
            name: "doorward",
            config: stand.stack.ssh_config(),
            host: "devenv-0",
            home: stand.stack.home("devenv-0"),
        }
    }

    /// The same, entered as whoever has this configuration.
    #[must_use]
    pub fn entered_with(&self, config: PathBuf) -> Self {
        Self { config, ..self.clone() }
    }

    /// A stock sshd that was started by [`stock`].
    fn sshd(sshd: &Sshd, home: PathBuf) -> Self {
        Self {
            name: "sshd",
            config: sshd.config().to_owned(),
            host: "direct",
            home,
        }
    }

    /// The configuration for `ssh -F`, and for whatever runs `ssh`.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The host's name in that configuration.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host
    }

    /// The home folder of those who enter.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `ssh -F … OPTIONS HOST`.
    #[must_use]
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(&self.config)
            .args(options)
            .arg(self.host)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The `ssh` line that rsync and git are told to use.
    #[must_use]
    pub fn shell_line(&self) -> String {
        format!("ssh -F '{}'", self.config.display())
    }

    /// Runs a remote command, or the login shell if it is empty, with `input` as its standard input.
    ///
    /// # Errors
    /// When ssh cannot be run, or hangs.
    pub async fn run(&self, options: &[&str], remote: &str, input: &[u8]) -> Result<Outcome> {
        let mut command = self.ssh(options);
        if !remote.is_empty() {
            command.arg(remote);
        }
        feed(command, input).await
    }
}

/// A stock sshd in a folder `name` below the stand's, with an empty home, and as many sessions of one connection as we
/// have; `lines` are added to its configuration. Nothing where there is none.
///
/// # Errors
/// When it is there and does not come up.
pub fn stock(stand: &Stand, name: &str, lines: &str) -> Result<Option<(Sshd, Server)>> {
    let folder = stand.folder().join(name);
    let home = folder.join("home");
    std::fs::create_dir_all(&home)?;
    let lines = format!(
        "MaxSessions 256\nPrintLastLog no\nSetEnv HOME={}\n{lines}",
        home.display()
    );
    let sshd = Sshd::start_with(&folder, &lines)?;
    Ok(sshd.map(|sshd| {
        let server = Server::sshd(&sshd, home);
        (sshd, server)
    }))
}

/// Runs a test against a stock sshd, where there is one, and then against Doorward. `name` is a folder for the sshd
/// below the stand's; `lines` go into its configuration.
///
/// # Errors
/// The test's own, with the server's name.
pub async fn both(stand: &Stand, name: &str, lines: &str, test: impl AsyncFn(&Server) -> Result<()>) -> Result<()> {
    if let Some((_sshd, server)) = stock(stand, name, lines)? {
        test(&server).await.context("against sshd")?;
    }
    test(&Server::doorward(stand)).await.context("against doorward")
}

/// Runs remote commands on both and compares what comes of them: exit code, output and errors. Each is a name, options
/// for `ssh`, a command (none for the login shell) and an input; `seen` takes away what must differ.
///
/// # Errors
/// The first difference, with both sides.
pub async fn same(
    stand: &Stand,
    name: &str,
    lines: &str,
    cases: &[(&str, &[&str], &str, &[u8])],
    seen: impl Fn(&Server, &str) -> String,
) -> Result<()> {
    let Some((_sshd, server)) = stock(stand, name, lines)? else {
        return Ok(());
    };
    let servers = [server, Server::doorward(stand)];
    let mut differ = Vec::new();
    for (case, options, remote, input) in cases {
        let mut outcomes = Vec::new();
        for server in &servers {
            let outcome = server.run(options, remote, input).await?;
            let text = |bytes: &[u8]| seen(server, &String::from_utf8_lossy(bytes));
            outcomes.push((outcome.code, text(&outcome.stdout), text(&outcome.stderr)));
        }
        if outcomes.first() != outcomes.last() {
            differ.push(format!("{case}: {outcomes:#?}"));
        }
    }
    ensure!(differ.is_empty(), "sshd first, doorward second: {}", differ.join("\n"));
    Ok(())
}
