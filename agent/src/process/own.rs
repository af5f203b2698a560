//! Starting this executable once more under another name, as root if the agent is: who it becomes it says itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::launch::{LaunchError, Launched, on_pipes, spawn};
use super::syscall::{self, Preparation};

/// Starts `program` under this name. Blocks until the new process runs or has failed: call it where that is allowed.
///
/// Nothing of a client's reaches its environment: it may have root's rights when it starts.
pub(crate) fn launch_own(program: &Path, name: &str, arguments: Vec<OsString>) -> Result<Launched, LaunchError> {
    let mut command = Command::new(program);
    command.arg0(name).args(arguments).env_clear();
    if let Some(zone) = std::env::var_os("TZ") {
        command.env("TZ", zone);
    }
    let preparation = Preparation {
        root: None,
        identity: None,
        terminal: false,
        home: c"/".to_owned(),
        homeless: Vec::new(),
    };
    syscall::prepare(&mut command, preparation);
    let ends = on_pipes(&mut command).map_err(LaunchError::Pipes)?;
    spawn(command, ends, program)
}
