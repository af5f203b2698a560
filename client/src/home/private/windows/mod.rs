//! Access lists, owners and links as Windows has them.
//!
//! What is made here has an access list with one entry, for its owner, from its first moment on, and inherits none.
//! Windows gives the same rights to administrators who take them, as Unix does to root.

mod acl;

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Component, Path, Prefix};
use std::thread;
use std::time::{Duration, Instant};

use acl::{Descriptor, Disposition};

/// Makes the folder and those above it that are missing, each for its owner alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_folder(above)?;
    }
    match acl::create_folder(&wide(path)?, &Descriptor::for_owner()?) {
        // Another process of ours was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Makes a file for its owner alone that was not there.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    acl::create_file(&wide(path)?, &Descriptor::for_owner()?, Disposition::New)
}

/// Opens a file for writing, made for its owner alone where there is none; never through a link.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    let file = acl::create_file(&wide(path)?, &Descriptor::for_owner()?, Disposition::NewOrOld)?;
    no_link(file)
}

/// Opens a file for reading, never through a link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    no_link(options.read(true).custom_flags(acl::NO_FOLLOW).open(path)?)
}

/// Puts the file `from` in the place of `to`, in one step. A virus scanner or an indexer that has `to` open without
/// sharing it stands in the way for a moment; that is waited for.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let give_up = Instant::now() + IN_THE_WAY;
    loop {
        match fs::rename(from, to) {
            Err(error) if acl::is_in_use(&error) && !to.is_dir() && Instant::now() < give_up => {
                thread::park_timeout(TRY_AGAIN);
            }
            renamed => return renamed,
        }
    }
}

/// What lets others at this file, if anything does.
pub(super) fn exposure(file: &File) -> io::Result<Option<String>> {
    acl::exposure(file)
}

/// Whether the file at `path` belongs to this person, or to the administrators that this person may be one of.
pub(super) fn belongs_to_us(path: &Path, _: &Metadata) -> io::Result<bool> {
    acl::is_ours(&File::open(path)?)
}

/// Lets those at `new` who are let at the file `old`.
pub(super) fn keep_access(old: &Path, new: &File) -> io::Result<()> {
    acl::copy(&File::open(old)?, new)
}

fn no_link(file: File) -> io::Result<File> {
    if file.metadata()?.is_symlink() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a link"));
    }
    Ok(file)
}

/// The absolute path in its verbatim form, which may be longer than 260 characters.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    let path = std::path::absolute(path)?;
    let prefix = match path.components().next() {
        Some(Component::Prefix(prefix)) => prefix.kind(),
        _ => return Err(io::Error::new(ErrorKind::InvalidInput, "no absolute path")),
    };
    let (head, skipped) = match prefix {
        Prefix::Disk(_) => (r"\\?\", 0),
        Prefix::UNC(..) => (r"\\?\UNC\", 2),
        _ => ("", 0),
    };
    let units = path.as_os_str().encode_wide().skip(skipped);
    let wide: Vec<u16> = OsStr::new(head).encode_wide().chain(units).chain([0]).collect();
    match wide.iter().position(|unit| *unit == 0) {
        Some(end) if end + 1 == wide.len() => Ok(wide),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "a zero in a path")),
    }
}

/// How long somebody may be in the way of a replacement.
const IN_THE_WAY: Duration = Duration::from_secs(2);
const TRY_AGAIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_and_every_kind_of_prefix() {
        let text = |path: &str| {
            let wide = wide(Path::new(path)).unwrap();
            String::from_utf16(wide.strip_suffix(&[0]).unwrap()).unwrap()
        };
        assert_eq!(text(r"C:\a b/c"), r"\\?\C:\a b\c");
        assert_eq!(text(r"\\server\share\x"), r"\\?\UNC\server\share\x");
        assert_eq!(text(r"\\?\C:\x"), r"\\?\C:\x");
        assert!(wide(Path::new("C:\\a\0b")).is_err());

        let dir = tempfile::tempdir().unwrap();
        let deep = dir
            .path()
            .join("a folder with a long name ".repeat(4).trim())
            .join("b".repeat(120))
            .join("c".repeat(120));
        make_folder(&deep).unwrap();
        make_folder(&deep).unwrap();
        let (one, two) = (deep.join("one"), deep.join("two"));
        create_new(&one).unwrap();
        assert!(create_new(&one).is_err());
        fs::write(&two, "old").unwrap();
        rename(&one, &two).unwrap();
        assert_eq!(fs::read(&two).unwrap(), b"");
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone_and_what_others_may_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert_eq!(exposure(&create_new(&path).unwrap()).unwrap(), None);
        assert_eq!(exposure(&open(&path).unwrap()).unwrap(), None);
        let shown = dir.path().join("shown");
        let everybody = Descriptor::with("(A;;FR;;;WD)").unwrap();
        acl::create_file(&wide(&shown).unwrap(), &everybody, Disposition::New).unwrap();
        let told = exposure(&open(&shown).unwrap()).unwrap().unwrap();
        assert!(told.contains("S-1-1-0"), "{told}");
        assert!(acl::is_ours(&File::open(&shown).unwrap()).unwrap());

        let copy = create_new(&dir.path().join("copy")).unwrap();
        keep_access(&shown, &copy).unwrap();
        assert!(exposure(&copy).unwrap().unwrap().contains("S-1-1-0"));
    }
}
