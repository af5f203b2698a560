//! Upload and download of one large file with OpenSSH's own sftp.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::proc;
use crate::target::Target;
use crate::transfer::{Payload, Transfer, Way};

/// Moves the payload once, into a file of `folder` and away again.
///
/// # Errors
/// When sftp fails, or what arrived has another length.
pub fn run(target: &Target, payload: &Payload, folder: &Path, way: Way) -> Result<Transfer> {
    let arrived = folder.join("arrived");
    let verb = match way {
        Way::Up => "put",
        Way::Down => "get",
    };
    let line = format!("{verb} {} {}\n", payload.path().display(), arrived.display());
    let cpu = proc::machine_cpu()?;
    let start = Instant::now();
    let mut sftp = Command::new("sftp")
        .arg("-F")
        .arg(&target.config)
        .args(["-q", "-b", "-", &target.host])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    sftp.stdin.take().context("no stdin")?.write_all(line.as_bytes())?;
    let status = sftp.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = proc::machine_cpu()? - cpu;
    if !status.success() {
        bail!("sftp {verb} through {} ended with {status}", target.name);
    }
    let length = std::fs::metadata(&arrived)?.len();
    std::fs::remove_file(&arrived)?;
    anyhow::ensure!(
        length == payload.bytes(),
        "{length} bytes arrived through {}",
        target.name
    );
    Ok(payload.moved(seconds, cpu))
}
