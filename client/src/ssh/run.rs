//! `doorward ssh`: the system's `ssh` with our configuration.

use std::process::{Command, ExitCode};

use doorward_certs::WorkspaceName;

use crate::cli::SshArgs;
use crate::error::Error;
use crate::home::settings::Settings;
use crate::home::{Home, private};
use crate::name;

/// Runs `ssh`. On Unix this program becomes it; elsewhere its exit code is ours.
pub(crate) async fn ssh(home: &Home, args: &SshArgs) -> Result<ExitCode, Error> {
    let workspace = name::workspace(&args.workspace)?;
    if !lists(home, &workspace)? {
        let text = super::refresh(home, &Settings::read(home)?).await?;
        private::write_changed(&home.ssh_config(), text.as_bytes())?;
        if !lists(home, &workspace)? {
            // The same words for what is missing and what is forbidden.
            return Err(Error::NoWorkspace(workspace.to_string()));
        }
    }
    let mut command = Command::new("ssh");
    command
        .arg("-F")
        .arg(home.ssh_config())
        .arg(workspace.as_str())
        .args(&args.args);
    run(command)
}

/// Whether our configuration has a block for this workspace.
fn lists(home: &Home, workspace: &WorkspaceName) -> Result<bool, Error> {
    let text = private::read(&home.ssh_config())?.unwrap_or_default();
    let block = format!("Host {workspace}");
    Ok(text.lines().any(|line| line == block))
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
