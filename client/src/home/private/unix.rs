//! Modes, owners and links as Unix has them.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

/// Makes the folder and those above it that are missing, with mode 0700.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a file with mode 0600 that was not there.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file for writing, made with mode 0600 where there is none; never through a link.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(NO_FOLLOW.bits()).open(path)
}

/// Opens a file for reading, never through a link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(NO_FOLLOW.bits()).open(path)
}

/// Puts the file `from` in the place of `to`, in one step.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// What lets others at this file, if anything does.
pub(super) fn exposure(file: &File) -> io::Result<Option<String>> {
    let meta = file.metadata()?;
    let mode = meta.mode() & 0o7777;
    Ok(if !is_ours(&meta) {
        Some("belongs to somebody else".to_owned())
    } else if mode & 0o077 != 0 {
        Some(format!("has mode {mode:04o}, which lets others at it"))
    } else {
        None
    })
}

/// Whether the file at `path`, whose metadata these are, belongs to this person.
pub(super) fn belongs_to_us(_: &Path, meta: &Metadata) -> io::Result<bool> {
    Ok(is_ours(meta))
}

/// Lets those at `new` who are let at the file `old`.
pub(super) fn keep_access(old: &Path, new: &File) -> io::Result<()> {
    new.set_permissions(fs::metadata(old)?.permissions())
}

fn is_ours(meta: &Metadata) -> bool {
    meta.uid() == nix::unistd::geteuid().as_raw()
}

/// Non-blocking, so that a named pipe in the file's place is an error and not a hang.
const NO_FOLLOW: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);
