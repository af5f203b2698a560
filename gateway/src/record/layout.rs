//! Where a recording lies on disk, and which names in there may be asked for.
//!
//! `records/YYYY-MM-DD/<session>/` with `segment-000000.dwr …`, `receipts.jsonl`, `session.json`
//! and, after a crash, `torn-…` files with the bytes that were cut off; `hold.json` while it
//! is held, `tombstone.json` alone once it is deleted. The day comes from the
//! session's own id (a version 7 UUID carries its time), so that a session is found without an index.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

pub(super) const RECEIPTS: &str = "receipts.jsonl";
pub(super) const INDEX: &str = "session.json";

pub(super) const TOMBSTONE: &str = doorward_audit::TOMBSTONE_NAME;
pub(super) const HOLD: &str = "hold.json";

/// The folder of a session below `root`; `None` for an id that carries no time.
pub(super) fn session_dir(root: &Path, session: Uuid) -> Option<PathBuf> {
    Some(root.join(session_folder(session)?))
}

/// The same as a name with slashes, below the root or a bucket's prefix.
pub(super) fn session_folder(session: Uuid) -> Option<String> {
    Some(format!("{}/{}", day(session)?, session.hyphenated()))
}

/// The UTC day on which the session began, `YYYY-MM-DD`.
fn day(session: Uuid) -> Option<String> {
    if session.get_version_num() != 7 {
        return None;
    }
    let (seconds, _) = session.get_timestamp()?.to_unix();
    let at = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(at.strftime("%Y-%m-%d").to_string())
}

/// The index of a segment's file name, `None` for any other name.
pub(super) fn segment_index(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".dwr")?;
    (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// Whether `name` is a name that we write: the only ones that can be asked for.
pub(crate) fn is_ours(name: &str) -> bool {
    name == RECEIPTS
        || name == INDEX
        || name == TOMBSTONE
        || name == HOLD
        || segment_index(name).is_some()
        || is_torn(name)
}

fn is_torn(name: &str) -> bool {
    name.strip_prefix("torn-").is_some_and(|rest| {
        let rest = rest.strip_prefix("receipt-").unwrap_or(rest);
        !rest.is_empty() && rest.len() <= 40 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    })
}

/// The name of the file for bytes that were cut off at `offset` of the stream, at `unix_ms`.
pub(super) fn torn_name(offset: u64, unix_ms: u64) -> String {
    format!("torn-{offset}-{unix_ms}")
}

/// The name of the file for a half-written receipt.
pub(super) fn torn_receipt_name(unix_ms: u64) -> String {
    format!("torn-receipt-{unix_ms}")
}

/// Whether a folder's name looks like a day.
pub(super) fn is_day(name: &str) -> bool {
    name.len() == 10
        && name.bytes().enumerate().all(|(at, b)| match at {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        })
}

/// Makes `dir` and what is missing above it, 0700.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes a new folder; an existing one is an error.
pub(super) fn make_new_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

/// A new file, 0600; never an existing one, never through a link.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A file to append to, 0600, made when it is missing.
pub(super) fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Writes a new file, not durable yet.
pub(super) fn write_new(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    create_new(&dir.join(name))?.write_all(text)
}

/// Makes a folder's entries durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a session's new folder durable: its index, itself, its day, and that day's entry.
pub(super) fn sync_session(dir: &Path) -> io::Result<()> {
    File::open(dir.join(INDEX))?.sync_all()?;
    dir.ancestors().take(3).try_for_each(sync_dir)
}

/// Reads a file, which need not be there.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does something with each session's folder. One that fails does not keep the others from their turn.
pub(super) fn each(root: &Path, mut act: impl FnMut(Uuid, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut first = Ok(());
    for day in std::fs::read_dir(root)? {
        let day = day?;
        if !day.file_name().to_str().is_some_and(is_day) {
            continue;
        }
        for folder in std::fs::read_dir(day.path())? {
            let folder = folder?;
            let session = folder.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok());
            if let Some(session) = session
                && let Err(error) = act(session, &folder.path())
                && first.is_ok()
            {
                first = Err(error);
            }
        }
    }
    first
}

/// Removes a file, which need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces `dir/name` as a whole: a reader sees the old text or the new, and the new is durable.
pub(super) fn replace(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!(".{name}.new"));
    remove(&fresh)?;
    let mut file = create_new(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&fresh, dir.join(name))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lies_under_the_day_of_its_id() {
        let session = Uuid::parse_str("01932c07-209c-7a7b-9f5c-0123456789ab").unwrap();
        let dir = session_dir(Path::new("/r"), session).unwrap();
        assert_eq!(dir, Path::new("/r/2024-11-14/01932c07-209c-7a7b-9f5c-0123456789ab"));
        assert_eq!(session_dir(Path::new("/r"), Uuid::new_v4()), None);
        assert_eq!(session_dir(Path::new("/r"), Uuid::nil()), None);
    }

    #[test]
    fn only_our_own_names_can_be_asked_for() {
        for good in [
            "segment-000000.dwr",
            "segment-999999.dwr",
            "receipts.jsonl",
            "session.json",
            "tombstone.json",
            "hold.json",
            "torn-17-9",
            "torn-receipt-9",
        ] {
            assert!(is_ours(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../session.json",
            "segment-0.dwr",
            "segment-00000a.dwr",
            "segment-000000.dwr/",
            "torn-",
            "torn-../x",
            "torn-1/2",
            ".session.json.new",
            "segment-000000.dwr\0",
            "SESSION.JSON",
            "receipts.jsonl\n",
            "segment-+00001.dwr",
        ] {
            assert!(!is_ours(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_stays_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), INDEX, b"one").unwrap();
        std::fs::write(dir.path().join(".session.json.new"), b"left over from a crash").unwrap();
        replace(dir.path(), INDEX, b"two").unwrap();
        let path = dir.path().join(INDEX);
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
