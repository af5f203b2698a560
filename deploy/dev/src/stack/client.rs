//! A client folder of the stack: its own home, a script that runs `doorward` against it, and somebody logged in.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use url::Url;

use super::Error;
use super::layout::{make_dir, write_private, write_script};
use crate::browser::{Browser, BrowserError};
use crate::issuer::Person;
use crate::process::ProcessError;

/// One person's client.
#[derive(Clone, Debug)]
pub struct ClientFolder {
    home: PathBuf,
    wrapper: PathBuf,
}

impl ClientFolder {
    /// Makes the folder, and the script that runs the client in it. `program` is what acts as `doorward`.
    pub(super) fn create(home: &Path, wrapper: &Path, program: &Path) -> Result<Self, Error> {
        make_dir(home)?;
        let script = format!(
            "#!/bin/sh\n# The program doorward against this stack.\nDOORWARD_HOME={} exec {} doorward \"$@\"\n",
            quoted(home),
            quoted(program)
        );
        write_script(wrapper, &script)?;
        let named = toml::Table::from_iter([("program".to_owned(), wrapper.to_string_lossy().into_owned().into())]);
        write_private(&home.join("config.toml"), named.to_string().as_bytes())?;
        Ok(Self {
            home: home.to_owned(),
            wrapper: wrapper.to_owned(),
        })
    }

    /// A folder of another build of the client. Its script finds the folder by itself.
    #[must_use]
    pub fn of_script(home: &Path, wrapper: &Path) -> Self {
        Self {
            home: home.to_owned(),
            wrapper: wrapper.to_owned(),
        }
    }

    /// The folder (`DOORWARD_HOME`).
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The script that runs `doorward` in this folder, from anywhere.
    #[must_use]
    pub fn wrapper(&self) -> &Path {
        &self.wrapper
    }

    /// The configuration for `ssh -F`.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.home.join("ssh_config")
    }

    /// A command that runs `doorward` in this folder, its standard input closed.
    #[must_use]
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.wrapper);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs `doorward` in this folder.
    ///
    /// # Errors
    /// It cannot be started, takes too long, or fails.
    pub async fn run(&self, args: &[&str]) -> Result<Output, Error> {
        let output = timeout(PATIENCE, self.command(args).output()).await;
        let failed = |status: String, output: String| Error::Client {
            command: args.join(" "),
            status,
            output,
        };
        match output {
            Err(_) => Err(failed("it took too long".to_owned(), String::new())),
            Ok(Err(source)) => Err(cannot_start(source)),
            Ok(Ok(output)) if output.status.success() => Ok(output),
            Ok(Ok(output)) => {
                let said = [output.stdout, output.stderr].concat();
                Err(failed(
                    output.status.to_string(),
                    String::from_utf8_lossy(&said).into_owned(),
                ))
            }
        }
    }

    /// Logs somebody in: the client asks, the issuer's page is filled in, the client goes on.
    pub(super) async fn log_in(
        &self,
        at: &Gateway<'_>,
        person: &str,
        flow: Flow,
        options: &[&str],
    ) -> Result<(), Error> {
        let mut said = String::new();
        let mut command = self.command(["login".as_ref(), at.url.as_ref(), "--ca".as_ref(), at.ca.as_os_str()]);
        command.args(options);
        let status = match timeout(PATIENCE, ask_and_answer(command, person, flow, &mut said)).await {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(status))) => status,
            Ok(Err(error)) => return Err(error),
            Err(_) => "it took too long".to_owned(),
        };
        Err(Error::Client {
            command: "login".to_owned(),
            status,
            output: said,
        })
    }
}

/// `Ok(None)` when it worked, `Ok(Some(…))` with how the client ended when not.
async fn ask_and_answer(
    mut command: Command,
    person: &str,
    flow: Flow,
    said: &mut String,
) -> Result<Option<String>, Error> {
    if flow == Flow::Device {
        command.arg("--device");
    }
    // No browser of the developer's may open on a page that is filled in here.
    command
        .env("BROWSER", "true")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(cannot_start)?;
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr.take(OUTPUT_BYTES)).lines();
        let (mut address, mut code) = (None, None);
        while let Ok(Some(line)) = lines.next_line().await {
            address = address.or_else(|| labelled(&line, "address:").and_then(|text| Url::parse(text).ok()));
            code = code.or_else(|| labelled(&line, "code:").map(str::to_owned));
            said.push_str(&line);
            said.push('\n');
            let answered = match (flow, &address, &code) {
                (Flow::Device, Some(page), Some(code)) => approve(page, code, person).await,
                (Flow::Code, Some(page), _) => follow(page, person).await,
                _ => continue,
            };
            answered.map_err(|source| Error::Browser {
                person: person.to_owned(),
                source,
            })?;
            (address, code) = (None, None);
        }
    }
    let status = child.wait().await.map_err(cannot_start)?;
    Ok((!status.success()).then(|| status.to_string()))
}

/// The gateway that a client folder is for.
pub(super) struct Gateway<'a> {
    pub url: &'a str,
    pub ca: &'a Path,
}

/// The ways of logging in that the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Authorization code with PKCE, over a loopback redirect (RFC 8252).
    Code,
    /// Device grant (RFC 8628).
    Device,
}

fn cannot_start(source: std::io::Error) -> Error {
    let name = "doorward";
    ProcessError::Start { name, source }.into()
}

async fn approve(page: &Url, code: &str, person: &str) -> Result<(), BrowserError> {
    let mut page = page.clone();
    page.set_query(None);
    Browser::new()?
        .approve_device(&page, code, person, &password(person))
        .await
}

async fn follow(page: &Url, person: &str) -> Result<(), BrowserError> {
    let browser = Browser::new()?;
    let back = browser.log_in(page, person, &password(person)).await?;
    browser.follow(&back).await
}

fn password(person: &str) -> String {
    Person::new(person, &[]).password()
}

fn labelled<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    line.trim()
        .strip_prefix(label)
        .map(str::trim)
        .filter(|rest| !rest.is_empty())
}

/// One word for a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

const PATIENCE: Duration = Duration::from_secs(30);
const OUTPUT_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_wrapper_runs_the_program_in_its_folder_whatever_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("it's \"a\" $HOME");
        let program = dir.path().join("pro gram");
        write_script(&program, "#!/bin/sh\nprintf '%s|' \"$DOORWARD_HOME\" \"$@\"\n").unwrap();
        let folder = ClientFolder::create(&home, &dir.path().join("doorward"), &program).unwrap();
        let output = folder.run(&["ls", "a b", "$(x)"]).await.unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{}|doorward|ls|a b|$(x)|", home.display())
        );
    }
}
