//! How a file that still grows lies in a bucket, where nothing is appended to: as pieces, each named for the place of its first
//! byte, until the whole file takes their place.

use std::collections::BTreeMap;

use super::bucket::Found;
use super::layout;

/// The name of the piece of `file` that begins at `offset`.
pub(super) fn piece_name(file: &str, offset: u64) -> String {
    format!("{file}.tail-{offset:012}")
}

/// The file and the offset of a piece's name, `None` for any other name.
fn piece(name: &str) -> Option<(&str, u64)> {
    let (file, digits) = name.rsplit_once(".tail-")?;
    let good = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit()) && layout::is_ours(file);
    good.then(|| digits.parse().ok().map(|offset| (file, offset))).flatten()
}

/// The files of one session as a bucket has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stored(pub(super) BTreeMap<String, StoredFile>);

/// One file: whole, or in pieces, or, after a crash, both.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StoredFile {
    pub(super) whole: Option<u64>,
    /// Sizes by offset.
    pub(super) pieces: BTreeMap<u64, u64>,
}

impl Stored {
    /// Sorts a list of objects, whose names end in what stands behind `folder`.
    pub(super) fn of(folder: &str, found: &[Found]) -> Self {
        let mut files: BTreeMap<String, StoredFile> = BTreeMap::new();
        for one in found {
            let Some(name) = one.name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            if layout::is_ours(name) {
                files.entry(name.to_owned()).or_default().whole = Some(one.size);
            } else if let Some((file, offset)) = piece(name) {
                let file = files.entry(file.to_owned()).or_default();
                file.pieces.insert(offset, one.size);
            }
        }
        // A piece that does not follow on the others is of no use.
        files.retain(|_, file| file.whole.is_some() || file.pieces.contains_key(&0));
        Self(files)
    }
}

impl StoredFile {
    /// Its size: that of the whole, or as far as its pieces follow on one another.
    pub(super) fn len(&self) -> u64 {
        self.whole
            .unwrap_or_else(|| self.following().last().map_or(0, |(offset, size)| offset + size))
    }

    /// The objects that hold it, in order, with their sizes.
    pub(super) fn objects(&self, name: &str) -> Vec<(String, u64)> {
        match self.whole {
            Some(size) => vec![(name.to_owned(), size)],
            None => self
                .following()
                .map(|(offset, size)| (piece_name(name, offset), size))
                .collect(),
        }
    }

    fn following(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut end = 0;
        self.pieces
            .iter()
            .map(|(offset, size)| (*offset, *size))
            .take_while(move |(offset, size)| std::mem::replace(&mut end, offset + size) == *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, size: u64) -> Found {
        Found {
            name: format!("d/s/{name}"),
            size,
            tag: None,
        }
    }

    #[test]
    fn pieces_count_as_far_as_they_follow_on_one_another() {
        let stored = Stored::of(
            "d/s",
            &[
                found("receipts.jsonl.tail-000000000000", 10),
                found("segment-000000.dwr", 100),
                found("segment-000000.dwr.tail-000000000000", 7),
                found("segment-000001.dwr.tail-000000000000", 7),
                found("segment-000001.dwr.tail-000000000007", 3),
                found("segment-000001.dwr.tail-000000000011", 3),
                found("segment-000002.dwr.tail-000000000001", 3),
                found("../../other/segment-000003.dwr", 3),
                found("segment-000004.dwr.tail-1", 3),
                found(".shipped", 3),
            ],
        );
        let names: Vec<_> = stored.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["receipts.jsonl", "segment-000000.dwr", "segment-000001.dwr"]);
        assert_eq!(stored.0["segment-000000.dwr"].len(), 100);
        assert_eq!(
            stored.0["segment-000000.dwr"].objects("x"),
            [("x".to_owned(), 100)],
            "the whole stands for its pieces"
        );
        let last = &stored.0["segment-000001.dwr"];
        assert_eq!(last.len(), 10);
        assert_eq!(
            last.objects("segment-000001.dwr"),
            [
                ("segment-000001.dwr.tail-000000000000".to_owned(), 7),
                ("segment-000001.dwr.tail-000000000007".to_owned(), 3)
            ]
        );
    }
}
