//! What a client has open: files and folders behind handles, and what passed through each file.

use std::collections::HashMap;
use std::fs::{File, ReadDir};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use doorward_audit::{Event, FileBytes, FileClosed, FolderListed};
use sha2::{Digest as _, Sha256};

use super::order::Lane;

/// All handles of a client.
#[derive(Debug)]
pub(crate) struct Handles {
    open: HashMap<u32, Arc<Open>>,
    last: u32,
    most: usize,
}

/// A file or folder behind a handle.
#[derive(Debug)]
pub(crate) enum Open {
    File(Box<OpenFile>),
    Folder(OpenFolder),
}

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    /// As the client named it.
    pub(crate) path: Bytes,
    /// Device and inode: the same file has the same lane.
    pub(crate) lane: Lane,
    /// Writing goes to the end, whatever the offset.
    pub(crate) appends: bool,
    read: Option<Mutex<Passed>>,
    written: Option<Mutex<Passed>>,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct OpenFolder {
    pub(crate) path: Bytes,
    pub(crate) lane: Lane,
    pub(crate) listing: Mutex<Listing>,
}

/// How far a folder was listed.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) entries: ReadDir,
    pub(crate) names: u64,
}

/// Bytes that passed in one direction.
#[derive(Debug, Default)]
struct Passed {
    bytes: u64,
    from: u64,
    next: u64,
    hash: Sha256,
    jumped: bool,
}

impl Handles {
    /// None open, and no more than `most` at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            open: HashMap::new(),
            last: 0,
            most,
        }
    }

    /// How many may be open at once.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.open.len() < self.most
    }

    /// A new handle, never 0; nothing if there are too many.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u32) -> Open) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        loop {
            // Numbers are used again only after four billion others: a handle that was closed stays invalid.
            self.last = self.last.wrapping_add(1).max(1);
            if !self.open.contains_key(&self.last) {
                break;
            }
        }
        self.open.insert(self.last, Arc::new(make(self.last)));
        Some(self.last)
    }

    pub(crate) fn find(&self, handle: u32) -> Option<Arc<Open>> {
        self.open.get(&handle).cloned()
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Option<Arc<Open>> {
        self.open.remove(&handle)
    }

    /// Everything that is still open, in the order of its opening.
    pub(crate) fn drain(&mut self) -> Vec<Arc<Open>> {
        let mut all: Vec<_> = self.open.drain().collect();
        all.sort_by_key(|(handle, _)| *handle);
        all.into_iter().map(|(_, open)| open).collect()
    }
}

impl Open {
    /// The lane in which its requests keep their order.
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::File(file) => file.lane,
            Self::Folder(folder) => folder.lane,
        }
    }

    /// What is recorded when it is closed.
    pub(crate) fn closing(&self) -> Event {
        match self {
            Self::File(file) => FileClosed {
                channel: 0,
                path: file.path.clone(),
                read: file.read.as_ref().map(|passed| locked(passed).sum()),
                written: file.written.as_ref().map(|passed| locked(passed).sum()),
            }
            .into(),
            Self::Folder(folder) => FolderListed {
                channel: 0,
                path: folder.path.clone(),
                names: locked(&folder.listing).names,
            }
            .into(),
        }
    }
}

impl OpenFile {
    pub(crate) fn new(file: File, path: Bytes, lane: Lane, (reads, writes, appends): (bool, bool, bool)) -> Self {
        let passed = |there: bool| there.then(Mutex::default);
        Self {
            file,
            path,
            lane,
            appends,
            read: passed(reads),
            written: passed(writes),
        }
    }

    /// Bytes were read at this offset.
    pub(crate) fn has_read(&self, offset: u64, bytes: &[u8]) {
        if let Some(passed) = &self.read {
            locked(passed).add(offset, bytes);
        }
    }

    /// Bytes were written; a file that appends takes them one after the other, wherever they were meant to go.
    pub(crate) fn has_written(&self, offset: u64, bytes: &[u8]) {
        if let Some(passed) = &self.written {
            let mut passed = locked(passed);
            let at = if self.appends && passed.bytes > 0 {
                passed.next
            } else {
                offset
            };
            passed.add(at, bytes);
        }
    }
}

impl Passed {
    fn add(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.bytes == 0 {
            self.from = offset;
            self.next = offset;
        }
        let length = bytes.len() as u64;
        self.bytes = self.bytes.saturating_add(length);
        self.jumped |= offset != self.next;
        self.next = offset.saturating_add(length);
        if !self.jumped {
            self.hash.update(bytes);
        }
    }

    fn sum(&self) -> FileBytes {
        FileBytes {
            bytes: self.bytes,
            from: self.from,
            sha256: (!self.jumped).then(|| self.hash.clone().finalize().into()),
        }
    }
}

/// A panic under one of these locks leaves counters that are whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_is_hashed_from_where_it_began() {
        let mut passed = Passed::default();
        passed.add(7, b"ab");
        passed.add(9, b"");
        passed.add(9, b"c");
        let sum = passed.sum();
        assert_eq!((sum.bytes, sum.from), (3, 7));
        assert_eq!(sum.sha256, Some(Sha256::digest(b"abc").into()));
    }

    #[test]
    fn out_of_order_is_counted_and_said() {
        for second in [0, 1, 3] {
            let mut passed = Passed::default();
            passed.add(0, b"ab");
            passed.add(second, b"cd");
            let sum = passed.sum();
            assert_eq!((sum.bytes, sum.from, sum.sha256), (4, 0, None), "{second}");
        }
    }

    #[test]
    fn nothing_has_the_hash_of_nothing() {
        let sum = Passed::default().sum();
        assert_eq!((sum.bytes, sum.sha256), (0, Some(Sha256::digest(b"").into())));
    }

    #[test]
    fn handles_are_bounded_and_not_used_again() {
        let folder = || {
            Open::Folder(OpenFolder {
                path: Bytes::new(),
                lane: (0, 0),
                listing: Mutex::new(Listing {
                    entries: std::fs::read_dir("/").unwrap(),
                    names: 0,
                }),
            })
        };
        let mut handles = Handles::new(2);
        let first = handles.insert(|_| folder()).unwrap();
        let second = handles.insert(|_| folder()).unwrap();
        assert!(!handles.has_room() && handles.insert(|_| folder()).is_none());
        assert!(handles.remove(first).is_some() && handles.remove(first).is_none());
        let third = handles.insert(|_| folder()).unwrap();
        assert!(third != first && third != second && first != 0);
        assert_eq!(handles.drain().len(), 2);
    }
}
