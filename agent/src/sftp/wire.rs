//! Packets of the protocol, byte by byte (draft-ietf-secsh-filexfer-02, 3 and 4): integers and strings in, integers and
//! strings out. A length is looked at before anything is made of it.

use super::attributes::Attributes;

/// What is not a packet of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// A length that no packet may have.
    #[error("a packet of {0} bytes is longer than {max} or empty", max = LONGEST)]
    Length(u32),
    /// It ends before its last field does.
    #[error("a packet ends in the middle of a field")]
    Short,
    /// The connection ended inside a packet.
    #[error("the stream ends in the middle of a packet")]
    Cut,
    /// Something came before the first packet, which must be INIT.
    #[error("a request came before the client named its version")]
    NoInit,
}

/// The length of the packet that this field begins, in bytes.
pub(crate) fn packet_length(field: [u8; 4]) -> Result<usize, Malformed> {
    let length = u32::from_be_bytes(field);
    match usize::try_from(length) {
        Ok(bytes) if (1..=LONGEST).contains(&bytes) => Ok(bytes),
        _ => Err(Malformed::Length(length)),
    }
}

/// Takes fields off the front of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    /// A string: any bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed::Short)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(string)
    }

    /// A handle: ours are four bytes, and none is 0.
    pub(crate) fn handle(&mut self) -> Result<u32, Malformed> {
        Ok(self.string()?.try_into().map_or(0, u32::from_be_bytes))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*field)
    }
}

/// Appends packets to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// Appends a packet of this kind whose fields `fill` writes.
    pub(crate) fn packet(&mut self, kind: u8, fill: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.u32(0);
        self.u8(kind);
        fill(self);
        let length = self.0.len() - at - 4;
        // Nothing that is written here comes near four gibibytes.
        let field = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&field);
        }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn string(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    /// An answer that is only a code with its words (draft, 7).
    pub(crate) fn status(&mut self, id: u32, status: Status) {
        self.status_with(id, status, status.words());
    }

    /// An answer that is a code, with words of its own.
    pub(crate) fn status_with(&mut self, id: u32, status: Status, words: &str) {
        self.packet(kind::STATUS, |answer| {
            answer.u32(id);
            answer.u32(status as u32);
            answer.string(words.as_bytes());
            answer.string(b"");
        });
    }

    /// An answer with a handle.
    pub(crate) fn handle(&mut self, id: u32, handle: u32) {
        self.packet(kind::HANDLE, |answer| {
            answer.u32(id);
            answer.string(&handle.to_be_bytes());
        });
    }

    /// An answer with attributes.
    pub(crate) fn attributes(&mut self, id: u32, attributes: &Attributes) {
        self.packet(kind::ATTRS, |answer| {
            answer.u32(id);
            attributes.write(answer);
        });
    }

    /// An answer with one name and nothing about it.
    pub(crate) fn name(&mut self, id: u32, name: &[u8]) {
        self.packet(kind::NAME, |answer| {
            answer.u32(id);
            answer.u32(1);
            answer.string(name);
            answer.string(name);
            Attributes::default().write(answer);
        });
    }
}

/// What a request came to (draft, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Status {
    /// What people read.
    fn words(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::Unsupported => "Operation unsupported",
        }
    }

    /// The code for a system call's error, as OpenSSH's server maps them.
    pub(crate) fn of(error: &std::io::Error) -> Self {
        use nix::libc;
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EBADF | libc::ELOOP) => Self::NoSuchFile,
            Some(libc::EPERM | libc::EACCES | libc::EFAULT) => Self::PermissionDenied,
            Some(libc::ENAMETOOLONG | libc::EINVAL) => Self::BadMessage,
            Some(libc::ENOSYS) => Self::Unsupported,
            // A NUL in a path never reaches the system.
            None if error.kind() == std::io::ErrorKind::InvalidInput => Self::BadMessage,
            _ => Self::Failure,
        }
    }

    /// The code for an outcome.
    pub(crate) fn of_result<T>(result: &std::io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(error) => Self::of(error),
        }
    }
}

/// Types of packets (draft, 3).
pub(crate) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// The longest packet without its length field, in bytes; OpenSSH's server has the same.
pub(crate) const LONGEST: usize = 256 * 1024;
/// The most bytes that are read or written at once.
pub(crate) const MOST_DATA: usize = LONGEST - 1024;
