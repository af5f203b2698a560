//! A cold `ssh HOST true`: from nothing to an exit status.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::proc;
use crate::target::Target;

/// One connection's figures.
#[derive(Debug, Clone, Copy)]
pub struct Connect {
    /// Milliseconds of wall time.
    pub millis: f64,
    /// CPU milliseconds of the whole machine.
    pub machine: f64,
    /// CPU milliseconds of the serving daemons.
    pub daemons: f64,
}

/// Runs `true` once.
///
/// # Errors
/// When ssh fails.
pub fn run(target: &Target, options: &[&str]) -> Result<Connect> {
    let machine = proc::machine_cpu()?;
    let daemons = proc::cpu_of(&target.daemons);
    let start = Instant::now();
    let status = target.ssh(options).arg("true").stdout(Stdio::null()).status()?;
    let millis = start.elapsed().as_secs_f64() * 1e3;
    if !status.success() {
        bail!("true through {} ended with {status}", target.name);
    }
    Ok(Connect {
        millis,
        machine: (proc::machine_cpu()? - machine) * 1e3,
        daemons: (proc::cpu_of(&target.daemons) - daemons) * 1e3,
    })
}
