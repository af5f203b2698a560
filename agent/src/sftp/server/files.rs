//! What goes through handles: open, read, write, list, close.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::sync::{Arc, Mutex};

use nix::libc;
use nix::sys::stat::futimens;
use nix::sys::statvfs::fstatvfs;
use nix::sys::time::TimeSpec;

use super::extended::put_statvfs;
use super::{About, Desk, Server, flag_words, kept, last_error, os};
use crate::sftp::attributes::{Attributes, PERMISSIONS};
use crate::sftp::open::{Listing, Open, OpenFile, OpenFolder, locked};
use crate::sftp::report::report;
use crate::sftp::request::{Request, flag};
use crate::sftp::wire::{MOST_DATA, Status, kind};

impl Server {
    pub(super) fn serve_open(&self, id: u32, request: Request<'_>, desk: &mut Desk) {
        match request {
            Request::Open {
                path,
                flags,
                attributes,
            } => self.open(id, path, flags, attributes, desk),
            Request::Opendir { path } => self.opendir(id, path, desk),
            Request::CopyData {
                from,
                offset,
                length,
                to,
                at,
            } => self.copy(id, (from, offset, length), (to, at), desk),
            Request::Close { handle } => self.close(id, handle, desk),
            Request::Readdir { handle } => match self.find(handle).as_deref() {
                Some(Open::Folder(folder)) => self.readdir(id, folder, desk),
                _ => desk.out.status(id, Status::Failure),
            },
            Request::Read { handle, .. }
            | Request::Write { handle, .. }
            | Request::Fstat { handle }
            | Request::Fsetstat { handle, .. }
            | Request::Fsync { handle }
            | Request::Fstatvfs { handle } => match self.find(handle).as_deref() {
                Some(Open::File(file)) => with_file(id, file, request, desk),
                _ => desk.out.status(id, Status::Failure),
            },
            _ => desk.out.status(id, Status::Unsupported),
        }
    }

    fn find(&self, handle: u32) -> Option<Arc<Open>> {
        locked(&self.handles).find(handle)
    }

    fn open(&self, id: u32, path: &[u8], flags: u32, attributes: Attributes, desk: &mut Desk) {
        let about = About {
            operation: "open",
            path,
            detail: flag_words(flags),
            ..About::default()
        };
        if !locked(&self.handles).has_room() {
            return self.no_room(id, about, desk);
        }
        let opened = opened(path, flags, attributes);
        let (file, lane) = match opened {
            Ok(opened) => opened,
            Err(error) => return desk.outcome(id, about, Status::of(&error)),
        };
        let writes = flags & flag::WRITE != 0;
        let reads = flags & flag::READ != 0 || !writes;
        let ways = (reads, writes, flags & flag::APPEND != 0);
        let open = Open::File(Box::new(OpenFile::new(file, kept(path), lane, ways)));
        self.opened(id, about, |_| open, desk);
    }

    fn opendir(&self, id: u32, path: &[u8], desk: &mut Desk) {
        let about = About {
            operation: "opendir",
            path,
            ..About::default()
        };
        if !locked(&self.handles).has_room() {
            return self.no_room(id, about, desk);
        }
        match std::fs::read_dir(os(path)) {
            Ok(entries) => {
                let listing = Mutex::new(Listing { entries, names: 0 });
                let path = kept(path);
                let open = |handle: u32| {
                    Open::Folder(OpenFolder {
                        path,
                        // No file has this device number.
                        lane: (u64::MAX, handle.into()),
                        listing,
                    })
                };
                self.opened(id, about, open, desk);
            }
            Err(error) => desk.outcome(id, about, Status::of(&error)),
        }
    }

    fn opened(&self, id: u32, about: About<'_>, open: impl FnOnce(u32) -> Open, desk: &mut Desk) {
        let handle = locked(&self.handles).insert(open);
        match handle {
            Some(handle) => {
                desk.reported(about, Status::Ok);
                desk.out.handle(id, handle);
            }
            None => self.no_room(id, about, desk),
        }
    }

    fn no_room(&self, id: u32, about: About<'_>, desk: &mut Desk) {
        let most = locked(&self.handles).most();
        desk.reported(about, Status::Failure);
        let words = format!("Too many open files: no more than {most} at once");
        desk.out.status_with(id, Status::Failure, &words);
    }

    fn close(&self, id: u32, handle: u32, desk: &mut Desk) {
        let Some(open) = locked(&self.handles).remove(handle) else {
            return desk.out.status(id, Status::NoSuchFile);
        };
        report(&mut desk.out, open.closing());
        // Some file systems tell only now that a write failed.
        let closed = match Arc::into_inner(open) {
            Some(Open::File(open)) => nix::unistd::close(open.file).map_err(io::Error::from),
            Some(Open::Folder(_)) | None => Ok(()),
        };
        desk.out.status(id, Status::of_result(&closed));
    }

    fn readdir(&self, id: u32, folder: &OpenFolder, desk: &mut Desk) {
        let mut listing = locked(&folder.listing);
        let mut names = Vec::new();
        if listing.names == 0 {
            names.extend([b".".to_vec(), b"..".to_vec()].map(|name| {
                let file = std::fs::symlink_metadata(os(&folder.path).join(os(&name)));
                (name, file)
            }));
        }
        while names.len() < BATCH
            && let Some(entry) = listing.entries.next()
        {
            match entry {
                Ok(entry) => {
                    let name = std::os::unix::ffi::OsStringExt::into_vec(entry.file_name());
                    names.push((name, entry.metadata()));
                }
                Err(error) if names.is_empty() => return desk.out.status(id, Status::of(&error)),
                Err(_) => break,
            }
        }
        // What was removed in between is left out.
        let names: Vec<_> = names
            .into_iter()
            .filter_map(|(name, file)| Some((name, file.ok()?)))
            .collect();
        if names.is_empty() {
            return desk.out.status(id, Status::Eof);
        }
        listing.names += names.len() as u64;
        desk.out.packet(kind::NAME, |answer| {
            answer.u32(id);
            answer.u32(u32::try_from(names.len()).unwrap_or_default());
            for (name, file) in &names {
                answer.string(name);
                answer.string(&self.names.line(name, file));
                Attributes::of(file).write(answer);
            }
        });
    }

    /// Copies inside the server. It is reported with the path of the source and that of the target.
    fn copy(&self, id: u32, (from, offset, length): (u32, u64, u64), (to, at): (u32, u64), desk: &mut Desk) {
        let (source, target) = (self.find(from), self.find(to));
        let (Some(Open::File(source)), Some(Open::File(target))) = (source.as_deref(), target.as_deref()) else {
            return desk.out.status(id, Status::Failure);
        };
        let mut buffer = std::mem::take(&mut desk.data);
        let (copied, status) = copy_between((source, offset, length), (target, at), from == to, &mut buffer);
        desk.data = buffer;
        let about = About {
            operation: "copy-data",
            path: &source.path,
            target: &target.path,
            detail: format!("from={offset} to={at} bytes={copied}"),
        };
        desk.outcome(id, about, status);
    }
}

/// Opens with exactly these flags, and says which lane the file has.
fn opened(path: &[u8], flags: u32, attributes: Attributes) -> io::Result<(File, (u64, u64))> {
    let extra = [
        (flag::APPEND, libc::O_APPEND),
        (flag::CREATE, libc::O_CREAT),
        (flag::TRUNCATE, libc::O_TRUNC),
        (flag::EXCLUSIVE, libc::O_EXCL),
    ];
    let extra = extra.iter().filter(|(flag, _)| flags & flag != 0);
    let extra = extra.fold(libc::O_NOCTTY, |all, (_, flag)| all | flag);
    let writes = flags & flag::WRITE != 0;
    let file = OpenOptions::new()
        .read(flags & flag::READ != 0 || !writes)
        .write(writes)
        .custom_flags(extra)
        .mode(attributes.mode.map_or(NEW_FILE, |mode| mode & PERMISSIONS))
        .open(os(path))?;
    let metadata = file.metadata()?;
    Ok((file, (metadata.dev(), metadata.ino())))
}

fn with_file(id: u32, open: &OpenFile, request: Request<'_>, desk: &mut Desk) {
    let about = |operation| About {
        operation,
        path: &open.path,
        ..About::default()
    };
    match request {
        Request::Read { offset, length, .. } => read(id, open, offset, length, desk),
        Request::Write { offset, data, .. } => {
            let written = open.file.write_all_at(data, offset);
            if written.is_ok() {
                open.has_written(offset, data);
            }
            desk.out.status(id, Status::of_result(&written));
        }
        Request::Fstat { .. } => match open.file.metadata() {
            Ok(file) => {
                desk.reported(about("fstat"), Status::Ok);
                desk.out.attributes(id, &Attributes::of(&file));
            }
            Err(error) => desk.outcome(id, about("fstat"), Status::of(&error)),
        },
        Request::Fsetstat { attributes, .. } => {
            let set = set_attributes(&open.file, attributes);
            let about = About {
                detail: attributes.words(),
                ..about("fsetstat")
            };
            desk.outcome(id, about, Status::of_result(&set));
        }
        Request::Fsync { .. } => desk.outcome(id, about("fsync"), Status::of_result(&open.file.sync_all())),
        Request::Fstatvfs { .. } => match fstatvfs(&open.file) {
            Ok(found) => {
                desk.reported(about("fstatvfs"), Status::Ok);
                put_statvfs(id, &found, &mut desk.out);
            }
            Err(error) => desk.outcome(id, about("fstatvfs"), Status::of(&error.into())),
        },
        _ => desk.out.status(id, Status::Unsupported),
    }
}

fn read(id: u32, open: &OpenFile, offset: u64, length: u32, desk: &mut Desk) {
    let most = usize::try_from(length).unwrap_or(MOST_DATA).min(desk.data.len());
    let buffer = desk.data.get_mut(..most).unwrap_or_default();
    match open.file.read_at(buffer, offset) {
        Ok(0) => desk.out.status(id, Status::Eof),
        Ok(count) => {
            open.has_read(offset, buffer.get(..count).unwrap_or_default());
            desk.read = count;
            // The data follows from its own buffer.
            let count = u32::try_from(count).unwrap_or_default();
            desk.out.u32(DATA_FIELDS + count);
            desk.out.u8(kind::DATA);
            desk.out.u32(id);
            desk.out.u32(count);
        }
        Err(error) => desk.out.status(id, Status::of(&error)),
    }
}

fn set_attributes(file: &File, attributes: Attributes) -> io::Result<()> {
    let seconds = |time: u32| TimeSpec::new(time.into(), 0);
    last_error([
        attributes.size.map(|size| file.set_len(size)),
        attributes
            .mode
            .map(|mode| file.set_permissions(PermissionsExt::from_mode(mode & PERMISSIONS))),
        attributes
            .times
            .map(|(access, change)| Ok(futimens(file, &seconds(access), &seconds(change))?)),
        attributes
            .owner
            .map(|(user, group)| std::os::unix::fs::fchown(file, Some(user), Some(group))),
    ])
}

/// Copies until the length or the end, and says how far it came. A length of 0 means until the end; of a file that is
/// copied into itself, until where its end was.
fn copy_between(
    (source, offset, length): (&OpenFile, u64, u64),
    (target, at): (&OpenFile, u64),
    same: bool,
    buffer: &mut [u8],
) -> (u64, Status) {
    let length_or_all = match (length, source.file.metadata()) {
        (0, Ok(file)) if source.lane == target.lane => file.len().saturating_sub(offset),
        (0, _) => u64::MAX,
        _ => length,
    };
    let overflows = length != 0 && (offset.checked_add(length).is_none() || at.checked_add(length).is_none());
    if same || overflows {
        return (0, Status::Failure);
    }
    let mut copied = 0;
    while copied < length_or_all {
        let most = usize::try_from(length_or_all - copied)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let (from, to) = (offset.saturating_add(copied), at.saturating_add(copied));
        let chunk = buffer.get_mut(..most).unwrap_or_default();
        let count = match source.file.read_at(chunk, from) {
            Ok(0) if length == 0 => break,
            Ok(0) => return (copied, Status::Eof),
            Ok(count) => count,
            Err(error) => return (copied, Status::of(&error)),
        };
        let chunk = chunk.get(..count).unwrap_or_default();
        source.has_read(from, chunk);
        if let Err(error) = target.file.write_all_at(chunk, to) {
            return (copied, Status::of(&error));
        }
        target.has_written(to, chunk);
        copied += count as u64;
    }
    (copied, Status::Ok)
}

/// Bytes of a DATA answer beside its data: type, id, length.
const DATA_FIELDS: u32 = 9;
/// The mode of a new file, before the umask, where the client names none.
const NEW_FILE: u32 = 0o666;
/// Names in one answer.
const BATCH: usize = 100;
