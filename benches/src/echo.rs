//! One byte typed on a pseudo terminal until it comes back.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::target::Target;

/// An open terminal session that echoes.
#[derive(Debug)]
pub struct Echo {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Echo {
    /// Opens a session with these options of `ssh`, whose far end sends every byte back, and awaits its first word.
    ///
    /// # Errors
    /// When ssh fails.
    pub fn open(target: &Target, options: &[String]) -> Result<Self> {
        let mut all = vec!["-tt"];
        all.extend(options.iter().map(String::as_str));
        let mut child = target
            .ssh(&all)
            .arg("stty raw -echo; printf READY; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        let mut seen = Vec::new();
        let mut byte = [0u8; 1];
        while !seen.ends_with(b"READY") {
            if stdout.read(&mut byte)? == 0 {
                bail!("the terminal of {} ended early", target.name);
            }
            seen.push(byte[0]);
        }
        Ok(Self { child, stdin, stdout })
    }

    /// Milliseconds of `count` round trips.
    ///
    /// # Errors
    /// When the session ends.
    pub fn run(&mut self, count: usize) -> Result<Vec<f64>> {
        let mut byte = [0u8; 1];
        let mut times = Vec::with_capacity(count);
        for turn in 0..count {
            let sent = b'a' + u8::try_from(turn % 26)?;
            let start = Instant::now();
            self.stdin.write_all(&[sent])?;
            self.stdout.read_exact(&mut byte)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            if byte[0] != sent {
                bail!("typed {sent:#x}, came back {:#x}", byte[0]);
            }
        }
        Ok(times)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
