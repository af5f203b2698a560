//! What names paths: look, change, link, remove.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;
use nix::unistd::truncate;

use super::extended::put_statvfs;
use super::{About, Desk, Server, last_error, os};
use crate::sftp::attributes::{Attributes, PERMISSIONS};
use crate::sftp::request::Request;
use crate::sftp::wire::Status;

impl Server {
    pub(super) fn serve_path(&self, id: u32, request: Request<'_>, desk: &mut Desk) {
        let look = |operation, path| About {
            operation,
            path,
            ..About::default()
        };
        match request {
            Request::Stat { path } => attributes(id, look("stat", path), &fs::metadata(os(path)), desk),
            Request::Lstat { path } => attributes(id, look("lstat", path), &fs::symlink_metadata(os(path)), desk),
            Request::Realpath { path } => {
                let path_or_here = if path.is_empty() { b"." } else { path };
                name(id, look("realpath", path), real(os(path_or_here)), desk);
            }
            Request::Readlink { path } => name(id, look("readlink", path), fs::read_link(os(path)), desk),
            Request::Statvfs { path } => match statvfs(os(path)) {
                Ok(found) => {
                    desk.reported(look("statvfs", path), Status::Ok);
                    put_statvfs(id, &found, &mut desk.out);
                }
                Err(error) => desk.outcome(id, look("statvfs", path), Status::of(&error.into())),
            },
            request => {
                let done = changed(request);
                let mut held = None;
                let status = done.as_ref().map_or(Status::Unsupported, |done| *done);
                desk.outcome(id, self.about(&request, &mut held), status);
            }
        }
    }
}

fn attributes(id: u32, about: About<'_>, found: &io::Result<Metadata>, desk: &mut Desk) {
    match found {
        Ok(file) => {
            desk.reported(about, Status::Ok);
            desk.out.attributes(id, &Attributes::of(file));
        }
        Err(error) => desk.outcome(id, about, Status::of(error)),
    }
}

fn name(id: u32, about: About<'_>, found: io::Result<PathBuf>, desk: &mut Desk) {
    match found {
        Ok(path) => {
            desk.reported(about, Status::Ok);
            desk.out.name(id, path.as_os_str().as_bytes());
        }
        Err(error) => desk.outcome(id, about, Status::of(&error)),
    }
}

/// Makes the change; nothing, if the request is none.
fn changed(request: Request<'_>) -> Option<Status> {
    let done = match request {
        Request::Remove { path } => nix::unistd::unlink(os(path)).map_err(io::Error::from),
        Request::Rmdir { path } => fs::remove_dir(os(path)),
        Request::Mkdir { path, attributes } => fs::DirBuilder::new()
            .mode(attributes.mode.map_or(NEW_FOLDER, |mode| mode & PERMISSIONS))
            .create(os(path)),
        Request::Setstat { path, attributes } => set_attributes(os(path), attributes),
        Request::Lsetstat { path, attributes } => {
            if attributes.size.is_some() {
                // A link has no size to set.
                return Some(Status::BadMessage);
            }
            set_link_attributes(os(path), attributes)
        }
        Request::Rename { from, to } => return Some(rename(os(from), os(to))),
        Request::PosixRename { from, to } => fs::rename(os(from), os(to)),
        Request::Hardlink { from, to } => fs::hard_link(os(from), os(to)),
        Request::Symlink { says, path } => symlink(os(says), os(path)),
        _ => return None,
    };
    Some(Status::of_result(&done))
}

/// RENAME of version 3 never replaces what is there. A link to a file makes that sure in one step; for anything else it
/// is looked up first.
fn rename(from: &Path, to: &Path) -> Status {
    let file = match fs::symlink_metadata(from) {
        Ok(file) => file,
        Err(error) => return Status::of(&error),
    };
    if file.is_file() {
        match fs::hard_link(from, to) {
            Ok(()) => {
                let removed = fs::remove_file(from);
                if removed.is_err() {
                    // The old name stays, so the new one goes; if it cannot, there are two.
                    let _ = fs::remove_file(to);
                }
                return Status::of_result(&removed);
            }
            Err(error) if !cannot_link(&error) => return Status::of(&error),
            Err(_) => {}
        }
    }
    match fs::metadata(to) {
        Ok(_) => Status::Failure,
        Err(_) => Status::of_result(&fs::rename(from, to)),
    }
}

/// Whether the file system, not the request, is why there can be no link.
fn cannot_link(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EXDEV | libc::EPERM | libc::ENOLINK | libc::EMLINK)
    )
}

fn set_attributes(path: &Path, attributes: Attributes) -> io::Result<()> {
    last_error([
        attributes.size.map(|size| {
            let size = i64::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
            Ok(truncate(path, size)?)
        }),
        attributes
            .mode
            .map(|mode| fs::set_permissions(path, PermissionsExt::from_mode(mode & PERMISSIONS))),
        attributes
            .times
            .map(|times| set_times(path, times, UtimensatFlags::FollowSymlink)),
        attributes
            .owner
            .map(|(user, group)| chown(path, Some(user), Some(group))),
    ])
}

fn set_link_attributes(path: &Path, attributes: Attributes) -> io::Result<()> {
    last_error([
        attributes.mode.map(|mode| {
            let mode = Mode::from_bits_truncate(mode & PERMISSIONS);
            Ok(fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink)?)
        }),
        attributes
            .times
            .map(|times| set_times(path, times, UtimensatFlags::NoFollowSymlink)),
        attributes
            .owner
            .map(|(user, group)| lchown(path, Some(user), Some(group))),
    ])
}

fn set_times(path: &Path, (access, change): (u32, u32), links: UtimensatFlags) -> io::Result<()> {
    let seconds = |time: u32| TimeSpec::new(time.into(), 0);
    Ok(utimensat(AT_FDCWD, path, &seconds(access), &seconds(change), links)?)
}

/// The absolute path without links and dots; its last part need not exist.
pub(super) fn real(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let error = match fs::canonicalize(&path) {
            Ok(real) => return Ok(real),
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            Err(error) => return Err(error),
        };
        let Some(name) = path.file_name() else {
            return Err(error);
        };
        // A folder that is named without its slash, and the current one without a name.
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => fs::canonicalize(parent)?,
            _ => fs::canonicalize(".")?,
        };
        let last = parent.join(name);
        match fs::read_link(&last) {
            // A link to what is not there is followed all the same.
            Ok(target) => path = parent.join(target),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(last),
            Err(_) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// The mode of a new folder, before the umask, where the client names none.
const NEW_FOLDER: u32 = 0o777;
/// Links that are followed, as in the kernel.
const LINKS: usize = 40;
