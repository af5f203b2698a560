//! The one line of ours in `~/.ssh/config`, at its very top and kept there.
//!
//! Above any `Host` line an `Include` holds for every host; below one it would hold for that host alone. Everything else in
//! the file stays as it is, byte for byte, and so do its mode and, where it is a link, the link.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{System, quote};
use crate::error::Error;
use crate::home::private::{self, Access};

/// The largest file that is edited, in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Makes the first line of `file` include `ours`. Whether anything had to change.
pub(super) fn ensure(file: &Path, ours: &Path) -> Result<bool, Error> {
    let line = line(ours)?;
    let target = follow(file)?;
    let (before, access) = match fs::read(&target) {
        Ok(before) => (before, Access::AsBefore),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), Access::Owner),
        Err(error) => return Err(Error::file("read", target)(error)),
    };
    if before.len() as u64 > LARGEST {
        return Err(Error::Configuration(format!(
            "{} is too large to be edited",
            target.display()
        )));
    }
    if access == Access::AsBefore {
        judge(&target)?;
    }
    let after = edit(&before, &line);
    if after == before {
        return Ok(false);
    }
    let folder = target.parent().unwrap_or(Path::new("."));
    private::make_folder(folder)?;
    private::replace(&target, folder, &after, access).map_err(Error::file("write", target.as_path()))?;
    Ok(true)
}

/// Whether the first line of `file` includes `ours`.
pub(super) fn has(file: &Path, ours: &Path) -> Result<bool, Error> {
    let text = fs::read(file).map_err(Error::file("read", file))?;
    Ok(edit(&text, &line(ours)?) == text)
}

fn line(ours: &Path) -> Result<String, Error> {
    Ok(format!("Include {}", quote::path(System::HERE, ours)?))
}

/// The text with the line at its top, and nowhere else. Its line ends are those of the text's first line.
fn edit(text: &[u8], line: &str) -> Vec<u8> {
    let newline: &[u8] = match text.iter().position(|byte| *byte == b'\n') {
        Some(end) if end > 0 && text[end - 1] == b'\r' => b"\r\n",
        _ => b"\n",
    };
    let mut after = Vec::with_capacity(text.len() + line.len() + 2);
    after.extend_from_slice(line.as_bytes());
    after.extend_from_slice(newline);
    for other in text.split_inclusive(|byte| *byte == b'\n') {
        if !other.trim_ascii().eq_ignore_ascii_case(line.as_bytes()) {
            after.extend_from_slice(other);
        }
    }
    after
}

/// Where the file really is. A link that leads nowhere is refused: what it should lead to is not ours to decide.
fn follow(file: &Path) -> Result<PathBuf, Error> {
    match fs::symlink_metadata(file) {
        Ok(meta) if meta.is_symlink() => fs::canonicalize(file).map_err(Error::file("follow the link", file)),
        _ => Ok(file.to_owned()),
    }
}

/// A file that is not a plain file of this person is not edited: replacing it would change whose it is.
fn judge(file: &Path) -> Result<(), Error> {
    let meta = fs::metadata(file).map_err(Error::file("read", file))?;
    if !meta.is_file() {
        return Err(Error::Configuration(format!("{} is not a file", file.display())));
    }
    if !private::belongs_to_us(file, &meta)? {
        return Err(Error::Configuration(format!(
            "{} belongs to somebody else",
            file.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "Include \"/home/bob/.config/doorward/ssh_config\"";

    fn without(text: &[u8]) -> Vec<u8> {
        let theirs = text.split_inclusive(|byte| *byte == b'\n');
        theirs
            .filter(|line| !line.trim_ascii().eq_ignore_ascii_case(LINE.as_bytes()))
            .flatten()
            .copied()
            .collect()
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let some = prop_oneof![
            Just(LINE.as_bytes().to_vec()),
            Just(format!("  {}\t", LINE.to_lowercase()).into_bytes()),
            Just(b"Host *".to_vec()),
            Just(b"  Include other".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..20),
        ];
        let ends = prop_oneof![Just(&b"\n"[..]), Just(&b"\r\n"[..]), Just(&b""[..])];
        proptest::collection::vec((some, ends), 0..8).prop_map(|lines| {
            lines
                .into_iter()
                .flat_map(|(line, end)| line.into_iter().chain(end.iter().copied()))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_line_is_first_once_and_the_rest_is_as_it_was(text in lines()) {
            let once = edit(&text, LINE);
            prop_assert!(once.starts_with(LINE.as_bytes()));
            prop_assert_eq!(edit(&once, LINE), once.clone(), "twice is once");
            prop_assert_eq!(without(&once), without(&text), "the rest");
            let ours = once.split(|byte| *byte == b'\n');
            prop_assert_eq!(ours.filter(|line| line.trim_ascii().eq_ignore_ascii_case(LINE.as_bytes())).count(), 1);
        }
    }

    #[test]
    fn line_ends_are_kept() {
        assert_eq!(edit(b"", LINE), format!("{LINE}\n").as_bytes());
        assert_eq!(edit(b"Host a\r\n", LINE), format!("{LINE}\r\nHost a\r\n").as_bytes());
        assert_eq!(edit(b"Host a", LINE), format!("{LINE}\nHost a").as_bytes());
        let moved = format!("Host a\n  {LINE}\n  User b\n");
        assert_eq!(
            edit(moved.as_bytes(), LINE),
            format!("{LINE}\nHost a\n  User b\n").as_bytes()
        );
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_link_are_kept() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("doorward/ssh_config");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

        let file = dir.path().join("new/.ssh/config");
        assert!(ensure(&file, &ours).unwrap());
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert!(!ensure(&file, &ours).unwrap(), "the second time nothing is to be done");
        assert!(has(&file, &ours).unwrap());

        let (real, link) = (dir.path().join("dotfiles"), dir.path().join("config"));
        fs::write(&real, "Host a\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&real, &link).unwrap();
        assert!(!has(&link, &ours).unwrap());
        assert!(ensure(&link, &ours).unwrap());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(mode(&real), 0o644);
        assert!(fs::read_to_string(&real).unwrap().ends_with("\nHost a\n"));

        let nowhere = dir.path().join("nowhere");
        symlink(dir.path().join("missing"), &nowhere).unwrap();
        assert!(ensure(&nowhere, &ours).is_err());
        assert!(ensure(dir.path(), &ours).is_err(), "a folder is no file");
    }
}
