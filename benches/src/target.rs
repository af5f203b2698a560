//! One way to reach a shell: directly, or through Doorward. Every measure runs on both.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A host that `ssh` can reach, and the processes that serve it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The row's name in the table.
    pub name: &'static str,
    /// The ssh client configuration (`ssh -F`).
    pub config: PathBuf,
    /// The host's name in that configuration.
    pub host: String,
    /// The serving daemons; their descendants that are sshd count too.
    pub daemons: Vec<u32>,
}

impl Target {
    /// An `ssh` command line with `options`, ready for the remote command to be added.
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(&self.config)
            .args(options)
            .arg(&self.host)
            .stdin(Stdio::null());
        command
    }
}
