//! Extensions that are about the server and its system (OpenSSH's PROTOCOL, 4).

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::statvfs::{FsFlags, Statvfs};
use nix::unistd::User;

use super::paths::real;
use super::{About, Desk, Server, os};
use crate::sftp::open::locked;
use crate::sftp::request::Request;
use crate::sftp::wire::{LONGEST, MOST_DATA, Reader, Status, Writer, kind};

impl Server {
    pub(super) fn serve_extension(&self, id: u32, request: Request<'_>, desk: &mut Desk) {
        match request {
            Request::Limits => {
                let handles = locked(&self.handles).most();
                desk.out.packet(kind::EXTENDED_REPLY, |answer| {
                    answer.u32(id);
                    for limit in [LONGEST, MOST_DATA, MOST_DATA, handles] {
                        answer.u64(limit as u64);
                    }
                });
            }
            Request::ExpandPath { path } => self.expand(id, path, desk),
            Request::HomeDirectory { user } => {
                let about = About {
                    operation: "home-directory",
                    path: user,
                    ..About::default()
                };
                match self.home_of(user) {
                    Some(home) => {
                        desk.reported(about, Status::Ok);
                        desk.out.name(id, home.as_os_str().as_bytes());
                    }
                    None => desk.outcome(id, about, Status::Failure),
                }
            }
            Request::UsersGroups { users, groups } => self.users_groups(id, users, groups, desk),
            _ => desk.out.status(id, Status::Unsupported),
        }
    }

    /// `~` and `~user` at the front, then as REALPATH.
    fn expand(&self, id: u32, path: &[u8], desk: &mut Desk) {
        let about = About {
            operation: "expand-path",
            path,
            ..About::default()
        };
        let expanded = match path.strip_prefix(b"~") {
            Some(rest) => {
                let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
                let (user, below) = rest.split_at(slash);
                let below = below
                    .iter()
                    .position(|byte| *byte != b'/')
                    .map_or(&[][..], |at| &below[at..]);
                self.home_of(user)
                    .map(|home| if below.is_empty() { home } else { home.join(os(below)) })
            }
            None if path.is_empty() => Some(PathBuf::from(".")),
            None => Some(os(path).to_owned()),
        };
        let found = match expanded {
            Some(path) => real(&path).map_err(|error| Status::of(&error)),
            None => Err(Status::NoSuchFile),
        };
        match found {
            Ok(path) => {
                desk.reported(about, Status::Ok);
                desk.out.name(id, path.as_os_str().as_bytes());
            }
            Err(status) => desk.outcome(id, about, status),
        }
    }

    /// The home of a user; that of the login where none is named.
    fn home_of(&self, user: &[u8]) -> Option<PathBuf> {
        if user.is_empty() {
            return Some(self.home.clone());
        }
        let user = std::str::from_utf8(user).ok().filter(|user| !user.contains('\0'))?;
        User::from_name(user).ok().flatten().map(|user| user.dir)
    }

    fn users_groups(&self, id: u32, users: &[u8], groups: &[u8], desk: &mut Desk) {
        let whole = |ids: &[u8]| ids.len().is_multiple_of(4) && ids.len() / 4 <= IDS;
        if !whole(users) || !whole(groups) {
            return desk.out.status(id, Status::BadMessage);
        }
        let names = |ids: &[u8], name: &dyn Fn(u32) -> Option<String>| {
            let mut names = Writer::default();
            let mut ids = Reader(ids);
            while let Ok(id) = ids.u32() {
                names.string(name(id).unwrap_or_default().as_bytes());
            }
            names.0
        };
        let users = names(users, &|id| self.names.user(id));
        let groups = names(groups, &|id| self.names.group(id));
        if users.len() + groups.len() > MOST_DATA {
            return desk.out.status(id, Status::Failure);
        }
        desk.out.packet(kind::EXTENDED_REPLY, |answer| {
            answer.u32(id);
            answer.string(&users);
            answer.string(&groups);
        });
    }
}

/// The answer to `statvfs@openssh.com` and `fstatvfs@openssh.com`.
pub(super) fn put_statvfs(id: u32, found: &Statvfs, out: &mut Writer) {
    let flag = |set: FsFlags, flag: u64| if found.flags().contains(set) { flag } else { 0 };
    let flags = flag(FsFlags::ST_RDONLY, 1) | flag(FsFlags::ST_NOSUID, 2);
    out.packet(kind::EXTENDED_REPLY, |answer| {
        answer.u32(id);
        for number in [
            found.block_size(),
            found.fragment_size(),
            found.blocks(),
            found.blocks_free(),
            found.blocks_available(),
            found.files(),
            found.files_free(),
            found.files_available(),
            found.filesystem_id(),
            flags,
            found.name_max(),
        ] {
            answer.u64(number);
        }
    });
}

/// Ids whose names are asked for at once.
const IDS: usize = 1024;
