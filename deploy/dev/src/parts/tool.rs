//! Somebody else's tool, run to its end: bounded, with a sign of life for who waits, and its last words when it fails.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::Error;
use crate::process::tail;

/// A command that is run once.
pub(super) struct Tool {
    pub command: Command,
    pub name: &'static str,
    /// Where Debian has it.
    pub package: &'static str,
}

impl Tool {
    /// Runs it; its output goes to a file in `folder`.
    pub(super) async fn run(self, what: &str, folder: &Path) -> Result<(), Error> {
        self.run_until(what, folder, std::future::pending()).await
    }

    /// Runs it until something has happened; then asks it to end, which must go well.
    pub(super) async fn run_until(
        mut self,
        what: &str,
        folder: &Path,
        happened: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let log = folder.join("log");
        let open = || {
            let mut options = OpenOptions::new();
            options.create(true).append(true).mode(0o600).open(&log)
        };
        let (out, err) = (open(), open());
        let (out, err) = (
            out.map_err(Error::file("open", &log))?,
            err.map_err(Error::file("open", &log))?,
        );
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoTool {
                    tool: self.name,
                    package: self.package,
                });
            }
            Err(error) => return Err(Error::file("run", self.name)(error)),
        };
        let begun = Instant::now();
        let mut happened = std::pin::pin!(happened);
        let mut asked = false;
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break ended.map_err(Error::file("run", self.name))?,
                () = &mut happened, if !asked => {
                    asked = true;
                    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                    }
                }
                () = sleep(SIGN_OF_LIFE) => eprintln!("{what}: {} s so far", begun.elapsed().as_secs()),
            }
            if begun.elapsed() > LONGEST {
                child.kill().await.map_err(Error::file("end", self.name))?;
            }
        };
        // A Java program that was asked to end says so in its exit code.
        if ended.success() || (asked && ended.code() == Some(128 + Signal::SIGTERM as i32)) {
            return Ok(());
        }
        Err(Error::Tool {
            what: what.to_owned(),
            status: ended.to_string(),
            tail: tail(&log),
        })
    }
}

const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
/// A large build on a slow, loaded machine.
const LONGEST: Duration = Duration::from_secs(25 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &'static str, args: &[&str]) -> Tool {
        let mut command = Command::new(name);
        command.args(args);
        Tool {
            command,
            name,
            package: "some-package",
        }
    }

    #[tokio::test]
    async fn failure_shows_the_last_words_and_absence_the_package() {
        let dir = tempfile::tempdir().unwrap();
        tool("sh", &["-c", "true"]).run("trying", dir.path()).await.unwrap();
        let failed = tool("sh", &["-c", "echo the reason >&2; exit 3"]);
        let said = failed.run("trying", dir.path()).await.unwrap_err().to_string();
        assert!(
            said.contains("trying failed (exit status: 3)") && said.contains("the reason"),
            "{said}"
        );
        let said = tool("no-such-tool-anywhere", &[]).run("trying", dir.path()).await;
        let said = said.unwrap_err().to_string();
        assert!(said.contains("some-package"), "{said}");
    }
}
