//! Proportional set size of the daemons with many idle sessions open.

use std::io::Read;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use crate::proc;
use crate::target::Target;

/// Idle sessions that are open; ended when dropped.
#[derive(Debug, Default)]
pub struct Idle(Vec<Child>);

impl Idle {
    /// Opens sessions until `count` are open, each past its first byte of output.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn grow(&mut self, target: &Target, count: usize) -> Result<()> {
        while self.0.len() < count {
            let batch = (count - self.0.len()).min(10);
            let mut started = Vec::new();
            for _ in 0..batch {
                let child = target
                    .ssh(&["-tt"])
                    .arg("printf R; exec sleep 3600")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()?;
                started.push(child);
            }
            for mut child in started {
                let mut byte = [0u8; 1];
                let output = child.stdout.as_mut().context("no stdout")?;
                if output.read(&mut byte)? == 0 {
                    bail!("session {} through {} did not open", self.0.len() + 1, target.name);
                }
                self.0.push(child);
            }
        }
        Ok(())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Bytes of proportional set size of the target's daemons, with the sshd processes of each session.
pub fn daemons(target: &Target) -> u64 {
    proc::pss(&proc::family(&target.daemons, "sshd"))
}
