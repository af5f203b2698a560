//! Answers to requests, with the rights of the process that it runs in. It knows no threads and no connection.
//!
//! Statuses are those of OpenSSH's server, because that is what clients were written against. Every request except
//! reading, writing and listing is reported before its answer; a grant for reading refuses every change here.

mod extended;
mod files;
mod paths;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use doorward_audit::{FileOperation, Refused};

use super::listing::Names;
use super::open::{Handles, Open, locked};
use super::order::{Access, Lane};
use super::report::report;
use super::request::{EXTENSIONS, Init, Request, flag};
use super::wire::{MOST_DATA, Status, Writer, kind};

/// The server of one client.
#[derive(Debug)]
pub(crate) struct Server {
    handles: Mutex<Handles>,
    names: Names,
    home: PathBuf,
    read_only: bool,
}

/// Where an answer is made; one for each worker.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Reports, then the answer.
    pub(crate) out: Writer,
    data: Box<[u8]>,
    read: usize,
}

/// What a request was about, as it is reported.
#[derive(Debug, Default)]
struct About<'a> {
    operation: &'static str,
    path: &'a [u8],
    target: &'a [u8],
    detail: String,
}

impl Desk {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            out: Writer::default(),
            data: vec![0; MOST_DATA].into(),
            read: 0,
        }
    }

    /// What was written, and behind it the bytes that were read.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        (&self.out.0, self.data.get(..self.read).unwrap_or_default())
    }

    /// Makes it empty again.
    pub(crate) fn clear(&mut self) {
        self.out.0.clear();
        self.read = 0;
    }

    /// The answer to a request that came to nothing but its status, reported.
    fn outcome(&mut self, id: u32, about: About<'_>, status: Status) {
        self.reported(about, status);
        self.out.status(id, status);
    }

    fn reported(&mut self, about: About<'_>, status: Status) {
        report(
            &mut self.out,
            FileOperation {
                channel: 0,
                operation: about.operation.to_owned(),
                path: kept(about.path),
                target: kept(about.target),
                detail: about.detail,
                status: status as u32,
            },
        );
    }
}

impl Server {
    /// A server with room for so many handles.
    pub(crate) fn new(home: PathBuf, read_only: bool, handles: usize) -> Self {
        Self {
            handles: Mutex::new(Handles::new(handles)),
            names: Names::of_system(),
            home,
            read_only,
        }
    }

    /// The answer to the client's first packet: our version and extensions, those that change something only where that
    /// is granted.
    pub(crate) fn version(&self, _: Init, out: &mut Writer) {
        out.packet(kind::VERSION, |answer| {
            answer.u32(VERSION);
            for (name, version, changes) in EXTENSIONS {
                if !(changes && self.read_only) {
                    answer.string(name.as_bytes());
                    answer.string(version.as_bytes());
                }
            }
        });
    }

    /// What a request touches.
    pub(crate) fn access(&self, request: &Request<'_>) -> Access {
        let lane = |handle: u32| locked(&self.handles).find(handle).map_or(NO_LANE, |open| open.lane());
        match request {
            Request::Read { handle, .. }
            | Request::Close { handle }
            | Request::Fstat { handle }
            | Request::Readdir { handle }
            | Request::Fstatvfs { handle } => Access::Read(lane(*handle)),
            Request::Write { handle, .. } | Request::Fsetstat { handle, .. } | Request::Fsync { handle } => {
                Access::Write(lane(*handle))
            }
            request if request.changes() => Access::Change,
            _ => Access::Look,
        }
    }

    /// Answers one packet; nothing, if it has not even an id.
    pub(crate) fn answer(&self, packet: &[u8], desk: &mut Desk) {
        match Request::read(packet) {
            (Some(id), Ok(request)) if self.read_only && request.changes() => self.refuse(id, &request, desk),
            (Some(id), Ok(request)) => self.serve(id, request, desk),
            (Some(id), Err(_)) => desk.out.status(id, Status::BadMessage),
            (None, _) => {}
        }
    }

    /// Everything that is still open is closed, and reported.
    pub(crate) fn close_all(&self, out: &mut Writer) {
        for open in locked(&self.handles).drain() {
            report(out, open.closing());
        }
    }

    fn serve(&self, id: u32, request: Request<'_>, desk: &mut Desk) {
        match request {
            Request::Open { .. }
            | Request::Close { .. }
            | Request::Read { .. }
            | Request::Write { .. }
            | Request::Fstat { .. }
            | Request::Fsetstat { .. }
            | Request::Fsync { .. }
            | Request::Fstatvfs { .. }
            | Request::Opendir { .. }
            | Request::Readdir { .. }
            | Request::CopyData { .. } => self.serve_open(id, request, desk),
            Request::Limits
            | Request::ExpandPath { .. }
            | Request::HomeDirectory { .. }
            | Request::UsersGroups { .. } => self.serve_extension(id, request, desk),
            Request::Unknown => desk.out.status(id, Status::Unsupported),
            _ => self.serve_path(id, request, desk),
        }
    }

    /// A change under a grant that is for reading: said in the record twice, as what was asked for and as a refusal.
    fn refuse(&self, id: u32, request: &Request<'_>, desk: &mut Desk) {
        let mut held = None;
        let about = self.about(request, &mut held);
        let shown = String::from_utf8_lossy(about.path.get(..SHOWN).unwrap_or(about.path)).into_owned();
        report(
            &mut desk.out,
            Refused {
                channel: None,
                what: format!("sftp {} {shown}", about.operation),
                why: "the grant is for reading only".to_owned(),
            },
        );
        // Each block that is refused needs no event of its own.
        if matches!(request, Request::Write { .. }) {
            desk.out.status(id, Status::PermissionDenied);
        } else {
            desk.outcome(id, about, Status::PermissionDenied);
        }
    }

    /// How a change is reported.
    fn about<'a>(&self, request: &Request<'a>, held: &'a mut Option<Arc<Open>>) -> About<'a> {
        let plain = |operation, path| About {
            operation,
            path,
            ..About::default()
        };
        let two = |operation, path, target| About {
            operation,
            path,
            target,
            ..About::default()
        };
        match *request {
            Request::Open { path, flags, .. } => About {
                detail: flag_words(flags),
                ..plain("open", path)
            },
            Request::Setstat { path, attributes } => About {
                detail: attributes.words(),
                ..plain("setstat", path)
            },
            Request::Lsetstat { path, attributes } => About {
                detail: attributes.words(),
                ..plain("lsetstat", path)
            },
            Request::Mkdir { path, attributes } => About {
                detail: attributes.words(),
                ..plain("mkdir", path)
            },
            Request::Remove { path } => plain("remove", path),
            Request::Rmdir { path } => plain("rmdir", path),
            Request::Rename { from, to } => two("rename", from, to),
            Request::PosixRename { from, to } => two("posix-rename", from, to),
            Request::Hardlink { from, to } => two("hardlink", from, to),
            Request::Symlink { says, path } => two("symlink", path, says),
            Request::Write { handle, .. } => plain("write", self.path_of(handle, held)),
            Request::Fsetstat { handle, attributes } => About {
                detail: attributes.words(),
                ..plain("fsetstat", self.path_of(handle, held))
            },
            Request::Fsync { handle } => plain("fsync", self.path_of(handle, held)),
            Request::CopyData { from, .. } => plain("copy-data", self.path_of(from, held)),
            _ => About::default(),
        }
    }

    /// The path under which something was opened; the caller holds it.
    fn path_of<'a>(&self, handle: u32, held: &'a mut Option<Arc<Open>>) -> &'a [u8] {
        *held = locked(&self.handles).find(handle);
        match held.as_deref() {
            Some(Open::File(file)) => &file.path,
            Some(Open::Folder(folder)) => &folder.path,
            None => b"",
        }
    }
}

/// A path of a client's as the system takes it.
fn os(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// A path for the record: longer ones the system does not take anyway.
fn kept(path: &[u8]) -> Bytes {
    Bytes::copy_from_slice(path.get(..LONGEST_PATH).unwrap_or(path))
}

/// The flags of an OPEN in words.
fn flag_words(flags: u32) -> String {
    let words = [
        (flag::READ, "read"),
        (flag::WRITE, "write"),
        (flag::APPEND, "append"),
        (flag::CREATE, "create"),
        (flag::TRUNCATE, "truncate"),
        (flag::EXCLUSIVE, "exclusive"),
    ];
    let set = words.iter().filter(|(flag, _)| flags & flag != 0);
    set.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// The first error of several steps that are all tried, as OpenSSH's server does for attributes: the last one counts.
fn last_error(steps: impl IntoIterator<Item = Option<io::Result<()>>>) -> io::Result<()> {
    let errors = steps.into_iter().flatten().filter_map(Result::err);
    errors.last().map_or(Ok(()), Err)
}

/// The version of the protocol that is spoken.
const VERSION: u32 = 3;
/// Lane of what is not open.
const NO_LANE: Lane = (u64::MAX, u64::MAX);
/// Bytes of a path that are shown in a refusal.
const SHOWN: usize = 256;
/// `PATH_MAX`.
const LONGEST_PATH: usize = 4096;

#[cfg(test)]
mod tests;
