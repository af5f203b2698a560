//! Attributes of a file (draft-ietf-secsh-filexfer-02, 5): what a client sets, and what it is shown.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::wire::{Malformed, Reader, Writer};

/// Attributes that are there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    /// Length in bytes.
    pub(crate) size: Option<u64>,
    /// User id and group id.
    pub(crate) owner: Option<(u32, u32)>,
    /// Type and permission bits, as in `st_mode`.
    pub(crate) mode: Option<u32>,
    /// Last access and last change, in Unix seconds.
    pub(crate) times: Option<(u32, u32)>,
}

impl Attributes {
    /// Takes them off a packet; extended ones are passed over.
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = from.u32()?;
        let has = |flag| flags & flag != 0;
        let mut attributes = Self::default();
        if has(SIZE) {
            attributes.size = Some(from.u64()?);
        }
        if has(OWNER) {
            attributes.owner = Some((from.u32()?, from.u32()?));
        }
        if has(MODE) {
            attributes.mode = Some(from.u32()?);
        }
        if has(TIMES) {
            attributes.times = Some((from.u32()?, from.u32()?));
        }
        if has(EXTENDED) {
            for _ in 0..from.u32()? {
                from.string()?;
                from.string()?;
            }
        }
        Ok(attributes)
    }

    /// Appends them to a packet.
    pub(crate) fn write(&self, to: &mut Writer) {
        let flag = |there: bool, flag| if there { flag } else { 0 };
        to.u32(
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), OWNER)
                | flag(self.mode.is_some(), MODE)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            to.u64(size);
        }
        if let Some((user, group)) = self.owner {
            to.u32(user);
            to.u32(group);
        }
        if let Some(mode) = self.mode {
            to.u32(mode);
        }
        if let Some((access, change)) = self.times {
            to.u32(access);
            to.u32(change);
        }
    }

    /// Those of a file. Times beyond 32 bits wrap, as the protocol has no room for them.
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            size: Some(file.size()),
            owner: Some((file.uid(), file.gid())),
            mode: Some(file.mode()),
            times: Some((seconds(file.atime()), seconds(file.mtime()))),
        }
    }

    /// In words, for the record.
    pub(crate) fn words(&self) -> String {
        let words = [
            self.size.map(|size| format!("size={size}")),
            self.mode.map(|mode| format!("mode={:04o}", mode & PERMISSIONS)),
            self.times.map(|(access, change)| format!("times={access},{change}")),
            self.owner.map(|(user, group)| format!("owner={user}:{group}")),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the protocol's times have 32 bits"
)]
fn seconds(time: i64) -> u32 {
    time as u32
}

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;
/// The bits of a mode that can be set.
pub(crate) const PERMISSIONS: u32 = 0o7777;
