//! A mounted folder (sshfs) under random operations, each checked against what the file has to hold.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::report::Row;
use crate::target::Target;
use crate::transfer::Noise;

/// Operations per second on both. A byte that is not what it has to be is an error.
///
/// # Errors
/// When it cannot be mounted, an operation fails, or the file differs; the seed is in the message.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let (mut direct, mut ours) = (Vec::new(), Vec::new());
    for round in 0..bench.args.rounds {
        let seed = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_nanos() as u64 + round as u64;
        eprintln!("benches: mounted: seed {seed}");
        for (target, rates) in [(&bench.direct, &mut direct), (&bench.doorward, &mut ours)] {
            let mount = Mount::new(bench, target)?;
            let rate = exercise(&mount, seed, bench.args.operations);
            rates.push(rate.with_context(|| format!("seed {seed}, through {}", target.name))?);
        }
    }
    let name = format!("{} random operations on sshfs", bench.args.operations);
    Ok(vec![Row::new(name, "ops/s", &direct, &ours, None)])
}

/// A folder of the server, mounted here; unmounted when dropped.
struct Mount {
    there: PathBuf,
    here: PathBuf,
}

impl Mount {
    fn new(bench: &Bench<'_>, target: &Target) -> Result<Self> {
        let (there, here) = (bench.folder.join("exported"), bench.folder.join("mounted"));
        for folder in [&there, &here] {
            fs::create_dir_all(folder)?;
        }
        let status = Command::new("sshfs")
            .arg("-F")
            .arg(&target.config)
            .arg(format!("{}:{}", target.host, there.display()))
            .arg(&here)
            .status()
            .context("sshfs")?;
        ensure!(status.success(), "sshfs through {} ended with {status}", target.name);
        Ok(Self { there, here })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3").arg("-u").arg(&self.here).status();
        let _ = fs::remove_dir_all(&self.there);
    }
}

fn exercise(mount: &Mount, seed: u64, operations: usize) -> Result<f64> {
    let path = mount.here.join("file");
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
    };
    let mut file = open()?;
    let mut model: Vec<u8> = Vec::new();
    let mut noise = Noise::new(seed);
    let start = Instant::now();
    for number in 0..operations {
        let (at, length) = (noise.below(LONGEST), noise.below(LONGEST / 4));
        let what = noise.below(100);
        match what {
            0..40 => {
                let mut bytes = vec![0; length];
                noise.fill(&mut bytes);
                file.write_all_at(&bytes, at as u64)?;
                if length > 0 {
                    model.resize(model.len().max(at + length), 0);
                    model[at..at + length].copy_from_slice(&bytes);
                }
            }
            40..80 => {
                let mut bytes = vec![0; length];
                let read = read_at(&file, &mut bytes, at)?;
                let held = model.get(at..model.len().min(at + length)).unwrap_or_default();
                ensure!(
                    bytes[..read] == *held,
                    "operation {number}: {length} bytes at {at} are not what was written"
                );
            }
            80..88 => {
                file.set_len(at as u64)?;
                model.resize(at, 0);
            }
            88..94 => {
                drop(file);
                file = open()?;
            }
            94..97 => {
                let name = mount.here.join("renamed");
                fs::rename(&path, &name)?;
                fs::rename(&name, &path)?;
            }
            _ => {
                file.sync_all()?;
                same(&mount.there.join("file"), &model).with_context(|| format!("operation {number}: after fsync"))?;
            }
        }
        let size = file.metadata()?.len();
        ensure!(
            size == model.len() as u64,
            "operation {number} ({what}): {size} bytes, not {}",
            model.len()
        );
    }
    drop(file);
    let seconds = start.elapsed().as_secs_f64();
    // On the server's disk, past every cache between.
    same(&mount.there.join("file"), &model)?;
    Ok(operations as f64 / seconds)
}

fn read_at(file: &File, bytes: &mut [u8], at: usize) -> Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], (at + read) as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn same(path: &Path, model: &[u8]) -> Result<()> {
    let held = fs::read(path)?;
    let first = held.iter().zip(model).position(|(one, other)| one != other);
    ensure!(
        first.is_none() && held.len() == model.len(),
        "the server has {} bytes, not {}; the first that differs is {first:?}",
        held.len(),
        model.len()
    );
    Ok(())
}

/// No file grows beyond five quarters of it.
const LONGEST: usize = 256 << 10;
