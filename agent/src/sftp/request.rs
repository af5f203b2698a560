//! Requests of a client (draft-ietf-secsh-filexfer-02, 6, and the extensions of OpenSSH's PROTOCOL, 4): packets to types.
//!
//! Pure: it borrows from the packet and copies nothing. What a request means is decided elsewhere.

use super::attributes::Attributes;
use super::wire::{Malformed, Reader, kind};

/// A request. Paths are bytes, relative ones from the home folder; a handle of 0 is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: u32,
        attributes: Attributes,
    },
    Close {
        handle: u32,
    },
    Read {
        handle: u32,
        offset: u64,
        length: u32,
    },
    Write {
        handle: u32,
        offset: u64,
        data: &'a [u8],
    },
    Lstat {
        path: &'a [u8],
    },
    Fstat {
        handle: u32,
    },
    Setstat {
        path: &'a [u8],
        attributes: Attributes,
    },
    Fsetstat {
        handle: u32,
        attributes: Attributes,
    },
    Opendir {
        path: &'a [u8],
    },
    Readdir {
        handle: u32,
    },
    Remove {
        path: &'a [u8],
    },
    Mkdir {
        path: &'a [u8],
        attributes: Attributes,
    },
    Rmdir {
        path: &'a [u8],
    },
    Realpath {
        path: &'a [u8],
    },
    Stat {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    Readlink {
        path: &'a [u8],
    },
    /// What the link says comes first on the wire, as OpenSSH has it and unlike the draft.
    Symlink {
        says: &'a [u8],
        path: &'a [u8],
    },
    PosixRename {
        from: &'a [u8],
        to: &'a [u8],
    },
    Statvfs {
        path: &'a [u8],
    },
    Fstatvfs {
        handle: u32,
    },
    Hardlink {
        from: &'a [u8],
        to: &'a [u8],
    },
    Fsync {
        handle: u32,
    },
    Lsetstat {
        path: &'a [u8],
        attributes: Attributes,
    },
    Limits,
    ExpandPath {
        path: &'a [u8],
    },
    CopyData {
        from: u32,
        offset: u64,
        length: u64,
        to: u32,
        at: u64,
    },
    HomeDirectory {
        user: &'a [u8],
    },
    /// Lists of 32-bit ids, as they came.
    UsersGroups {
        users: &'a [u8],
        groups: &'a [u8],
    },
    /// An extension or a type that is not known.
    Unknown,
}

/// Bits of an OPEN request's flags (draft, 6.3).
pub(crate) mod flag {
    pub(crate) const READ: u32 = 0x01;
    pub(crate) const WRITE: u32 = 0x02;
    pub(crate) const APPEND: u32 = 0x04;
    pub(crate) const CREATE: u32 = 0x08;
    pub(crate) const TRUNCATE: u32 = 0x10;
    pub(crate) const EXCLUSIVE: u32 = 0x20;
}

/// What a client says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Init {
    /// The newest version that it speaks.
    pub(crate) version: u32,
}

impl Init {
    /// Reads the first packet; the extensions that a client may name there mean nothing to us.
    pub(crate) fn read(packet: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(packet);
        match from.u8()? {
            kind::INIT => Ok(Self { version: from.u32()? }),
            _ => Err(Malformed::NoInit),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads the id and the rest of a packet. The id is there whenever it could be read, so that what is malformed
    /// behind it can be answered.
    pub(crate) fn read(packet: &'a [u8]) -> (Option<u32>, Result<Self, Malformed>) {
        let mut from = Reader(packet);
        let (kind, id) = match from.u8().and_then(|kind| Ok((kind, from.u32()?))) {
            Ok(head) => head,
            Err(short) => return (None, Err(short)),
        };
        (Some(id), Self::body(kind, &mut from))
    }

    fn body(kind: u8, from: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match kind {
            kind::OPEN => Self::Open {
                path: from.string()?,
                flags: from.u32()?,
                attributes: Attributes::read(from)?,
            },
            kind::CLOSE => Self::Close { handle: from.handle()? },
            kind::READ => Self::Read {
                handle: from.handle()?,
                offset: from.u64()?,
                length: from.u32()?,
            },
            kind::WRITE => Self::Write {
                handle: from.handle()?,
                offset: from.u64()?,
                data: from.string()?,
            },
            kind::LSTAT => Self::Lstat { path: from.string()? },
            kind::FSTAT => Self::Fstat { handle: from.handle()? },
            kind::SETSTAT => Self::Setstat {
                path: from.string()?,
                attributes: Attributes::read(from)?,
            },
            kind::FSETSTAT => Self::Fsetstat {
                handle: from.handle()?,
                attributes: Attributes::read(from)?,
            },
            kind::OPENDIR => Self::Opendir { path: from.string()? },
            kind::READDIR => Self::Readdir { handle: from.handle()? },
            kind::REMOVE => Self::Remove { path: from.string()? },
            kind::MKDIR => Self::Mkdir {
                path: from.string()?,
                attributes: Attributes::read(from)?,
            },
            kind::RMDIR => Self::Rmdir { path: from.string()? },
            kind::REALPATH => Self::Realpath { path: from.string()? },
            kind::STAT => Self::Stat { path: from.string()? },
            kind::RENAME => Self::Rename {
                from: from.string()?,
                to: from.string()?,
            },
            kind::READLINK => Self::Readlink { path: from.string()? },
            kind::SYMLINK => Self::Symlink {
                says: from.string()?,
                path: from.string()?,
            },
            kind::EXTENDED => Self::extended(from.string()?, from)?,
            _ => Self::Unknown,
        })
    }

    fn extended(name: &[u8], from: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match name {
            b"posix-rename@openssh.com" => Self::PosixRename {
                from: from.string()?,
                to: from.string()?,
            },
            b"statvfs@openssh.com" => Self::Statvfs { path: from.string()? },
            b"fstatvfs@openssh.com" => Self::Fstatvfs { handle: from.handle()? },
            b"hardlink@openssh.com" => Self::Hardlink {
                from: from.string()?,
                to: from.string()?,
            },
            b"fsync@openssh.com" => Self::Fsync { handle: from.handle()? },
            b"lsetstat@openssh.com" => Self::Lsetstat {
                path: from.string()?,
                attributes: Attributes::read(from)?,
            },
            b"limits@openssh.com" => Self::Limits,
            b"expand-path@openssh.com" => Self::ExpandPath { path: from.string()? },
            b"copy-data" => Self::CopyData {
                from: from.handle()?,
                offset: from.u64()?,
                length: from.u64()?,
                to: from.handle()?,
                at: from.u64()?,
            },
            b"home-directory" => Self::HomeDirectory { user: from.string()? },
            b"users-groups-by-id@openssh.com" => Self::UsersGroups {
                users: from.string()?,
                groups: from.string()?,
            },
            _ => Self::Unknown,
        })
    }

    /// Whether it would change anything, so that a grant for reading refuses it.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Self::Open { flags, .. } => flags & !flag::READ != 0,
            Self::Write { .. }
            | Self::Setstat { .. }
            | Self::Fsetstat { .. }
            | Self::Remove { .. }
            | Self::Mkdir { .. }
            | Self::Rmdir { .. }
            | Self::Rename { .. }
            | Self::Symlink { .. }
            | Self::PosixRename { .. }
            | Self::Hardlink { .. }
            | Self::Fsync { .. }
            | Self::Lsetstat { .. }
            | Self::CopyData { .. } => true,
            Self::Close { .. }
            | Self::Read { .. }
            | Self::Lstat { .. }
            | Self::Fstat { .. }
            | Self::Opendir { .. }
            | Self::Readdir { .. }
            | Self::Realpath { .. }
            | Self::Stat { .. }
            | Self::Readlink { .. }
            | Self::Statvfs { .. }
            | Self::Fstatvfs { .. }
            | Self::Limits
            | Self::ExpandPath { .. }
            | Self::HomeDirectory { .. }
            | Self::UsersGroups { .. }
            | Self::Unknown => false,
        }
    }
}

/// The extensions that we announce: name, version, and whether it changes anything.
pub(crate) const EXTENSIONS: [(&str, &str, bool); 11] = [
    ("posix-rename@openssh.com", "1", true),
    ("statvfs@openssh.com", "2", false),
    ("fstatvfs@openssh.com", "2", false),
    ("hardlink@openssh.com", "1", true),
    ("fsync@openssh.com", "1", true),
    ("lsetstat@openssh.com", "1", true),
    ("limits@openssh.com", "1", false),
    ("expand-path@openssh.com", "1", false),
    ("copy-data", "1", true),
    ("home-directory", "1", false),
    ("users-groups-by-id@openssh.com", "1", false),
];

#[cfg(test)]
mod tests;
