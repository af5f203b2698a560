//! The gateway's folders: recordings can be written, and what is private is private.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::config::Config;

/// Whether recordings can be written, and how much room there is.
pub(super) async fn records(config: &Config) -> Vec<Finding> {
    let directory = config.records.directory.clone();
    let shown = directory.display().to_string();
    let looked = tokio::task::spawn_blocking(move || look(&directory)).await;
    looked.unwrap_or_else(|error| vec![Finding::broken("records", shown, error.to_string(), WRITABLE)])
}

fn look(directory: &Path) -> Vec<Finding> {
    let shown = directory.display();
    let there = nearest(directory);
    let written = match there == directory {
        true => trial(directory).map(|()| "can be written"),
        // Made at the first start, if the folder above can be written.
        false => trial(&there).map(|()| "will be made"),
    };
    let mut findings = vec![match written {
        Ok(text) => Finding::ok("records", &shown, text),
        Err(error) => Finding::broken("records", &shown, format!("cannot be written: {error}"), WRITABLE),
    }];
    findings.push(match statvfs(&there) {
        Err(error) => Finding::warning(
            "records",
            &shown,
            format!("its free space cannot be told: {error}"),
            ROOM,
        ),
        Ok(disk) => {
            let unit = disk.fragment_size().max(1);
            let (free, all) = (disk.blocks_available() * unit, disk.blocks() * unit);
            room(&shown.to_string(), free, all)
        }
    });
    findings
}

/// What is said of so many free bytes of so many.
pub(super) fn room(shown: &str, free: u64, all: u64) -> Finding {
    let percent = free.saturating_mul(100).checked_div(all).unwrap_or_default();
    let text = format!("{} MiB free ({percent} %)", free / MIB);
    if free < 64 * MIB {
        return Finding::broken("records", shown, text, ROOM);
    }
    if free < 1024 * MIB || percent < 5 {
        return Finding::warning("records", shown, text, ROOM);
    }
    Finding::ok("records", shown, text)
}

/// Writes a file of our own, makes it durable and takes it away again.
fn trial(directory: &Path) -> io::Result<()> {
    let file = directory.join(format!(".doctor-{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut open| {
            io::Write::write_all(&mut open, b"trial\n")?;
            open.sync_all()
        });
    let removed = fs::remove_file(&file);
    written.and(removed)
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(directory: &Path) -> PathBuf {
    let mut at = directory;
    while !at.as_os_str().is_empty() && !at.exists() {
        match at.parent() {
            Some(above) => at = above,
            None => break,
        }
    }
    match at.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => at.to_owned(),
    }
}

/// Whether the gateway's own folder, and its journal, are closed to others.
pub(super) fn state(config: &Config) -> Vec<Finding> {
    let journal = config.state_directory.join("journal");
    [config.state_directory.as_path(), journal.as_path()]
        .into_iter()
        .map(private)
        .collect()
}

fn private(folder: &Path) -> Finding {
    let shown = folder.display();
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::ok("state", &shown, "will be made, closed to others");
        }
        Err(error) => {
            let remedy = "see that the gateway's user may go there";
            return Finding::broken("state", &shown, format!("cannot be looked at: {error}"), remedy);
        }
    };
    let we = fs::metadata("/proc/self").map(|we| we.uid()).ok();
    if !metadata.is_dir() {
        return Finding::broken("state", &shown, "is no folder", "move it away");
    }
    if we.is_some_and(|we| we != metadata.uid() && we != 0) {
        let text = format!("belongs to user {}, and we are another", metadata.uid());
        return Finding::broken(
            "state",
            &shown,
            text,
            "run doctor as the gateway's user, or give the folder to it",
        );
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("others can get into it (mode {mode:04o})");
        return Finding::broken("state", &shown, text, format!("chmod 0700 {shown}"));
    }
    Finding::ok("state", &shown, "is closed to others")
}

const WRITABLE: &str = "give the folder to the gateway's user, and see that the disk is neither full nor read-only";
const ROOM: &str = "make room, or a bigger disk: when it is full, sessions end";
const MIB: u64 = 1024 * 1024;
