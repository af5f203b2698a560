//! A small file system of its own for a test that fills it or takes it away.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Mounted over a folder; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of `size` bytes over the folder, which is made if it is missing. `None` where nobody may mount, which is said
    /// with the test's name.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn mount(at: &Path, size: u64, test: &str) -> Result<Option<Self>> {
        fs::create_dir_all(at)?;
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Some(Self(at.to_owned()))),
            why => {
                let said = why.map_or_else(
                    |error| error.to_string(),
                    |output| String::from_utf8_lossy(&output.stderr).into_owned(),
                );
                // Past the capture of a test's output: what was skipped must be seen.
                writeln!(
                    io::stderr(),
                    "skipped {test}: nothing can be mounted here: {}",
                    said.trim()
                )?;
                Ok(None)
            }
        }
    }

    /// Removes what an earlier run has left mounted there.
    pub fn clear(at: &Path) {
        let _ = Command::new("umount").arg("-l").arg(at).output();
    }

    /// Changes its options (`ro`, `rw`); the system refuses `ro` while a file is open for writing.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn remount(&self, option: &str) -> Result<bool> {
        let option = format!("remount,{option}");
        let output = Command::new("mount").args(["-o", &option]).arg(&self.0).output()?;
        Ok(output.status.success())
    }

    /// Fills it to the last byte, or until only `leave` bytes are free. [`Tmpfs::free`] makes room again.
    ///
    /// # Errors
    /// The file cannot be written for another reason than that the disk is full.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let about = nix::sys::statvfs::statvfs(&self.0)?;
        let free = about.blocks_available() * about.fragment_size();
        let mut file = OpenOptions::new().create(true).append(true).open(self.filler())?;
        let block = [b'x'; 4096];
        let mut left = free.saturating_sub(leave) / 4096;
        while left > 0 {
            match file.write_all(&block) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                written => written?,
            }
            left -= 1;
        }
        Ok(())
    }

    /// Gives back what [`Tmpfs::fill`] took.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("cannot free the disk")
    }

    /// Whether it is full to its last block.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn check_full(&self) -> Result<()> {
        let about = nix::sys::statvfs::statvfs(&self.0)?;
        ensure!(
            about.blocks_available() == 0,
            "{} blocks are free",
            about.blocks_available()
        );
        Ok(())
    }

    fn filler(&self) -> PathBuf {
        self.0.join(".filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Self::clear(&self.0);
    }
}
