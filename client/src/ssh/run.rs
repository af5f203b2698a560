//! `doorward ssh`: the system's `ssh` with our configuration.

use std::process::{Command, ExitCode};

use doorward_certs::{Login, WorkspaceName};

use crate::cli::SshArgs;
use crate::error::Error;
use crate::home::settings::Settings;
use crate::home::{Home, private};
use crate::name;

/// Runs `ssh`. On Unix this program becomes it; elsewhere its exit code is ours.
pub(crate) async fn ssh(home: &Home, args: &SshArgs) -> Result<ExitCode, Error> {
    let workspace = name::workspace(&args.workspace)?;
    known(home, &Settings::read(home)?, &workspace).await?;
    let mut command = Command::new("ssh");
    command
        .arg("-F")
        .arg(home.ssh_config())
        .arg(workspace.as_str())
        .args(&args.args);
    run(command)
}

/// The login of this workspace in our configuration, which is written anew where it does not know the workspace.
pub(crate) async fn known(home: &Home, settings: &Settings, workspace: &WorkspaceName) -> Result<Login, Error> {
    if let Some(login) = listed(home, workspace)? {
        return Ok(login);
    }
    let text = super::refresh(home, settings, &[]).await?;
    private::write_changed(&home.ssh_config(), text.as_bytes())?;
    // The same words for what is missing and what is forbidden.
    listed(home, workspace)?.ok_or_else(|| Error::NoWorkspace(workspace.to_string()))
}

/// The login in our block for this workspace, if there is one.
fn listed(home: &Home, workspace: &WorkspaceName) -> Result<Option<Login>, Error> {
    let text = private::read(&home.ssh_config())?.unwrap_or_default();
    let block = format!("Host {workspace}");
    let mut lines = text.lines().skip_while(|line| *line != block).skip(1);
    let login = lines.next().and_then(|line| line.strip_prefix("  User "));
    Ok(login.and_then(|login| Login::try_from(login).ok()))
}

#[cfg(unix)]
fn run(mut command: Command) -> Result<ExitCode, Error> {
    use std::os::unix::process::CommandExt as _;
    Err(Error::file("run", "ssh")(command.exec()))
}

#[cfg(not(unix))]
fn run(mut command: Command) -> Result<ExitCode, Error> {
    let status = command.status().map_err(Error::file("run", "ssh"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(crate::error::EXIT_TRANSPORT)))
}
