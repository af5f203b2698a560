//! Upload and download of one large file, and what they cost the machine.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::proc;
use crate::target::Target;

/// A file of pseudo-random bytes, so that no layer can shrink it.
#[derive(Debug)]
pub struct Payload {
    path: PathBuf,
    bytes: u64,
}

/// One transfer's figures.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// Megabytes (10^6) per second of wall time.
    pub rate: f64,
    /// CPU seconds of the whole machine per gigabyte (10^9).
    pub cpu: f64,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// From the laptop to the workspace.
    Up,
    /// From the workspace to the laptop.
    Down,
}

impl Payload {
    /// Makes the file in `folder`.
    ///
    /// # Errors
    /// When the disk is full or the folder cannot be written.
    pub fn make(folder: &Path, bytes: u64) -> Result<Self> {
        let path = folder.join("payload");
        let mut file = File::create(&path)?;
        let mut block = vec![0u8; 1 << 20];
        let mut noise = Noise::default();
        for _ in 0..bytes >> 20 {
            noise.fill(&mut block);
            file.write_all(&block)?;
        }
        Ok(Self {
            path,
            bytes: bytes >> 20 << 20,
        })
    }

    /// Moves the payload once.
    ///
    /// # Errors
    /// When ssh fails.
    pub fn run(&self, target: &Target, way: Way, options: &[&str]) -> Result<Transfer> {
        let mut ssh = target.ssh(options);
        match way {
            Way::Up => ssh.arg("cat > /dev/null").stdin(File::open(&self.path)?),
            Way::Down => ssh.arg(format!("cat '{}'", self.path.display())),
        };
        let cpu = proc::machine_cpu()?;
        let start = Instant::now();
        let status = ssh.stdout(Stdio::null()).status()?;
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
            bail!("{way:?} through {} ended with {status}", target.name);
        }
        Ok(self.moved(seconds, proc::machine_cpu()? - cpu))
    }

    /// The figures of moving it in so many seconds, for so many CPU seconds of the machine.
    pub fn moved(&self, seconds: f64, cpu: f64) -> Transfer {
        let bytes = self.bytes as f64;
        Transfer {
            rate: bytes / 1e6 / seconds,
            cpu: cpu / (bytes / 1e9),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Bytes that look random and are the same in each run (xorshift).
#[derive(Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    /// Those of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Fills all of it.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
