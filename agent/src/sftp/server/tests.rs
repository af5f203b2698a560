use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use doorward_audit::{Event, FileBytes};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::sftp::attributes::Attributes;
use crate::sftp::report::{Piece, Splitter};
use crate::sftp::wire::Reader;

/// A server and a folder for it.
struct Desktop {
    server: Server,
    desk: Desk,
    folder: tempfile::TempDir,
    events: Vec<Event>,
}

/// An answer: its kind, and what follows the id.
type Answer = (u8, Vec<u8>);

const ID: u32 = 0x0102_0304;

impl Desktop {
    fn new(read_only: bool) -> Self {
        Self {
            server: Server::new("/home/of/mine".into(), read_only, 8),
            desk: Desk::new(),
            folder: tempfile::tempdir().unwrap(),
            events: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> Vec<u8> {
        self.folder.path().join(name).into_os_string().into_encoded_bytes()
    }

    fn ask(&mut self, kind: u8, fields: impl FnOnce(&mut Writer)) -> Answer {
        let mut packet = Writer::default();
        packet.u8(kind);
        packet.u32(ID);
        fields(&mut packet);
        self.desk.clear();
        self.server.answer(&packet.0, &mut self.desk);
        let (answer, data) = self.desk.parts();
        let mut splitter = Splitter::default();
        splitter.buffer.extend_from_slice(answer);
        splitter.buffer.extend_from_slice(data);
        loop {
            match splitter.next().unwrap() {
                Some(Piece::Report(event)) => self.events.push(event),
                Some(Piece::Answers(answer)) => {
                    assert!(splitter.is_whole());
                    let mut answer = Reader(&answer[4..]);
                    let kind = answer.u8().unwrap();
                    assert_eq!(answer.u32(), Ok(ID));
                    return (kind, answer.0.to_vec());
                }
                None => panic!("no answer"),
            }
        }
    }

    fn status(&mut self, kind: u8, fields: impl FnOnce(&mut Writer)) -> u32 {
        let (kind, body) = self.ask(kind, fields);
        assert_eq!(kind, kind::STATUS, "{body:?}");
        Reader(&body).u32().unwrap()
    }

    fn paths(&mut self, kind: u8, paths: &[&[u8]]) -> u32 {
        self.status(kind, |packet| paths.iter().for_each(|path| packet.string(path)))
    }

    fn extended(&mut self, name: &str, fields: impl FnOnce(&mut Writer)) -> Answer {
        self.ask(kind::EXTENDED, |packet| {
            packet.string(name.as_bytes());
            fields(packet);
        })
    }

    fn open(&mut self, path: &[u8], flags: u32) -> Result<Vec<u8>, u32> {
        let (kind, body) = self.ask(kind::OPEN, |packet| {
            packet.string(path);
            packet.u32(flags);
            packet.u32(0);
        });
        handle(kind, &body)
    }

    fn write(&mut self, handle: &[u8], offset: u64, data: &[u8]) -> u32 {
        self.status(kind::WRITE, |packet| {
            packet.string(handle);
            packet.u64(offset);
            packet.string(data);
        })
    }

    fn read(&mut self, handle: &[u8], offset: u64, length: u32) -> Result<Vec<u8>, u32> {
        let (kind, body) = self.ask(kind::READ, |packet| {
            packet.string(handle);
            packet.u64(offset);
            packet.u32(length);
        });
        match kind {
            kind::DATA => Ok(Reader(&body).string().unwrap().to_vec()),
            _ => Err(Reader(&body).u32().unwrap()),
        }
    }

    fn name(&mut self, kind: u8, path: &[u8]) -> Result<Vec<u8>, u32> {
        let (kind, body) = self.ask(kind, |packet| packet.string(path));
        name(kind, &body)
    }

    fn closed(&self) -> (Option<FileBytes>, Option<FileBytes>) {
        match self.events.last() {
            Some(Event::FileClosed(closed)) => (closed.read.clone(), closed.written.clone()),
            other => panic!("{other:?}"),
        }
    }
}

fn handle(kind: u8, body: &[u8]) -> Result<Vec<u8>, u32> {
    let mut body = Reader(body);
    match kind {
        kind::HANDLE => Ok(body.string().unwrap().to_vec()),
        _ => Err(body.u32().unwrap()),
    }
}

fn name(kind: u8, body: &[u8]) -> Result<Vec<u8>, u32> {
    let mut body = Reader(body);
    match kind {
        kind::NAME => {
            assert_eq!(body.u32(), Ok(1));
            Ok(body.string().unwrap().to_vec())
        }
        _ => Err(body.u32().unwrap()),
    }
}

const READ: u32 = flag::READ;
const NEW: u32 = flag::WRITE | flag::CREATE | flag::TRUNCATE;
const OK: u32 = Status::Ok as u32;
const NONE: u32 = Status::NoSuchFile as u32;
const DENIED: u32 = Status::PermissionDenied as u32;
const FAILURE: u32 = Status::Failure as u32;
const BAD: u32 = Status::BadMessage as u32;

#[test]
fn what_passes_through_a_file_is_counted_and_hashed() {
    let mut here = Desktop::new(false);
    let path = here.path("a\n\u{e4}");
    let file = here.open(&path, NEW).unwrap();
    assert_eq!(here.write(&file, 0, b"hello "), OK);
    assert_eq!(here.write(&file, 6, b"world"), OK);
    assert_eq!(here.paths(kind::CLOSE, &[&file]), OK);
    let hash = Some(Sha256::digest(b"hello world").into());
    let whole = FileBytes {
        bytes: 11,
        from: 0,
        sha256: hash,
    };
    assert_eq!(here.closed(), (None, Some(whole.clone())));
    assert_eq!(here.paths(kind::CLOSE, &[&file]), NONE);

    let file = here.open(&path, READ).unwrap();
    assert_eq!(here.read(&file, 0, 6), Ok(b"hello ".to_vec()));
    assert_eq!(here.read(&file, 6, u32::MAX), Ok(b"world".to_vec()));
    assert_eq!(here.read(&file, 11, 10), Err(Status::Eof as u32));
    assert_eq!(here.write(&file, 0, b"x"), NONE, "a file that is not open for writing");
    assert_eq!(here.paths(kind::CLOSE, &[&file]), OK);
    assert_eq!(here.closed(), (Some(whole), None));

    let file = here.open(&path, READ | flag::WRITE).unwrap();
    assert_eq!(here.read(&file, 6, 5), Ok(b"world".to_vec()));
    assert_eq!(here.read(&file, 0, 5), Ok(b"hello".to_vec()));
    assert_eq!(here.paths(kind::CLOSE, &[&file]), OK);
    let (read, written) = here.closed();
    assert_eq!(
        read.map(|read| (read.bytes, read.from, read.sha256)),
        Some((10, 6, None))
    );
    assert_eq!(written.map(|written| written.bytes), Some(0));
}

#[test]
fn appending_ignores_offsets_and_is_in_order() {
    let mut here = Desktop::new(false);
    let path = here.path("log");
    std::fs::write(os(&path), "one").unwrap();
    let file = here.open(&path, flag::WRITE | flag::APPEND).unwrap();
    assert_eq!(here.write(&file, 3, b"two"), OK);
    assert_eq!(here.write(&file, 0, b"three"), OK);
    assert_eq!(here.paths(kind::CLOSE, &[&file]), OK);
    assert_eq!(std::fs::read(os(&path)).unwrap(), b"onetwothree");
    let written = here.closed().1.unwrap();
    assert_eq!(written.sha256, Some(Sha256::digest(b"twothree").into()));
}

#[test]
fn offsets_that_no_file_has_are_refused() {
    let mut here = Desktop::new(false);
    let path = here.path("x");
    let file = here.open(&path, NEW | READ).unwrap();
    for offset in [1 << 63, u64::MAX] {
        assert_eq!(here.read(&file, offset, 1), Err(BAD), "{offset}");
        assert_eq!(here.write(&file, offset, b"x"), BAD, "{offset}");
    }
    let sized = |size: u64| Attributes {
        size: Some(size),
        ..Attributes::default()
    };
    let set = |here: &mut Desktop, size| {
        here.status(kind::FSETSTAT, |packet| {
            packet.string(&file);
            sized(size).write(packet);
        })
    };
    assert_eq!(set(&mut here, u64::MAX), BAD);
    assert_eq!(set(&mut here, 5), OK);
    assert_eq!(std::fs::metadata(os(&path)).unwrap().len(), 5);
}

#[test]
fn statuses_are_those_that_clients_know() {
    let mut here = Desktop::new(false);
    let (file, other, folder, link) = (
        here.path("file"),
        here.path("other"),
        here.path("folder"),
        here.path("link"),
    );
    std::fs::write(os(&file), "1").unwrap();
    std::fs::write(os(&other), "2").unwrap();
    std::fs::create_dir(os(&folder)).unwrap();
    assert_eq!(here.open(&here.path("none"), READ), Err(NONE));
    assert_eq!(here.open(b"", READ), Err(NONE));
    assert_eq!(here.open(b"a\0b", READ), Err(BAD));
    assert_eq!(here.open(&vec![b'x'; 5000], READ), Err(BAD));
    assert_eq!(here.open(&[file.as_slice(), b"/x"].concat(), READ), Err(NONE));
    assert_eq!(here.open(&file, NEW | flag::EXCLUSIVE), Err(FAILURE));
    assert_eq!(
        here.paths(kind::RENAME, &[&file, &other]),
        FAILURE,
        "it replaced a file"
    );
    assert_eq!(std::fs::read(os(&other)).unwrap(), b"2");
    assert_eq!(
        here.paths(kind::RENAME, &[&folder, &other]),
        FAILURE,
        "it replaced a file by a folder"
    );
    assert_eq!(here.paths(kind::RENAME, &[&here.path("none"), &other]), NONE);
    assert_eq!(
        here.extended("posix-rename@openssh.com", |packet| {
            packet.string(&file);
            packet.string(&other);
        })
        .0,
        kind::STATUS
    );
    assert_eq!(std::fs::read(os(&other)).unwrap(), b"1");
    assert_eq!(here.paths(kind::SYMLINK, &[b"says", &link]), OK);
    assert_eq!(std::fs::read_link(os(&link)).unwrap(), Path::new("says"));
    assert_eq!(here.name(kind::READLINK, &link), Ok(b"says".to_vec()));
    assert_eq!(here.name(kind::READLINK, &other), Err(BAD));
    assert_eq!(here.paths(kind::REMOVE, &[&folder]), FAILURE);
    assert_eq!(here.paths(kind::RMDIR, &[&other]), NONE);
    assert_eq!(here.paths(kind::RMDIR, &[&folder]), OK);
    assert_eq!(
        here.status(kind::EXTENDED, |packet| packet.string(b"nonsense")),
        Status::Unsupported as u32
    );
    assert_eq!(here.status(99, |_| {}), Status::Unsupported as u32);
    assert_eq!(here.status(kind::OPEN, |packet| packet.u32(77)), BAD);
    for kind in [kind::READ, kind::WRITE, kind::FSTAT, kind::READDIR, kind::FSETSTAT] {
        let status = here.status(kind, |packet| {
            packet.string(b"\0\0\x09\x09");
            packet.u64(0);
            packet.u32(0);
        });
        assert_eq!(status, FAILURE, "a handle that is not open: {kind}");
    }
}

#[test]
fn attributes_are_set_and_told() {
    let mut here = Desktop::new(false);
    let path = here.path("file");
    std::fs::write(os(&path), "12345").unwrap();
    let wanted = Attributes {
        size: Some(3),
        owner: None,
        mode: Some(0o104_640),
        times: Some((1_000_000_000, 1_100_000_000)),
    };
    let status = here.status(kind::SETSTAT, |packet| {
        packet.string(&path);
        wanted.write(packet);
    });
    assert_eq!(status, OK);
    let file = std::fs::metadata(os(&path)).unwrap();
    assert_eq!(
        (file.len(), file.mode() & 0o7777, file.atime(), file.mtime()),
        (3, 0o4640, 1_000_000_000, 1_100_000_000)
    );
    let (kind, body) = here.ask(kind::STAT, |packet| packet.string(&path));
    assert_eq!(kind, kind::ATTRS);
    assert_eq!(Attributes::read(&mut Reader(&body)), Ok(Attributes::of(&file)));
    assert!(
        matches!(&here.events[0], Event::FileOperation(event) if event.operation == "setstat" && event.status == 0
        && event.detail == "size=3 mode=4640 times=1000000000,1100000000" && event.path == path)
    );

    // A link itself, not what it says.
    let link = here.path("link");
    symlink(os(&path), os(&link)).unwrap();
    let (_, body) = here.extended("lsetstat@openssh.com", |packet| {
        packet.string(&link);
        Attributes {
            times: Some((5, 6)),
            ..Attributes::default()
        }
        .write(packet);
    });
    assert_eq!(Reader(&body).u32(), Ok(OK));
    assert_eq!(std::fs::symlink_metadata(os(&link)).unwrap().mtime(), 6);
    assert_eq!(std::fs::metadata(os(&path)).unwrap().mtime(), 1_100_000_000);
}

#[test]
fn a_folder_is_listed_in_parts_with_both_dots() {
    let mut here = Desktop::new(false);
    let folder = here.path("many");
    std::fs::create_dir(os(&folder)).unwrap();
    for number in 0..250 {
        std::fs::write(os(&folder).join(format!("{number}\n")), "x").unwrap();
    }
    let (kind, body) = here.ask(kind::OPENDIR, |packet| packet.string(&folder));
    let handle = handle(kind, &body).unwrap();
    let (mut names, mut answers) = (std::collections::BTreeSet::new(), 0);
    loop {
        let (kind, body) = here.ask(kind::READDIR, |packet| packet.string(&handle));
        let mut body = Reader(&body);
        if kind == kind::STATUS {
            assert_eq!(body.u32(), Ok(Status::Eof as u32));
            break;
        }
        answers += 1;
        for _ in 0..body.u32().unwrap() {
            let name = body.string().unwrap();
            let line = body.string().unwrap();
            assert!(line.ends_with(name) && (line.starts_with(b"-rw") || line.starts_with(b"drwx")));
            Attributes::read(&mut body).unwrap();
            names.insert(name.to_vec());
        }
    }
    assert!(answers >= 3);
    assert_eq!(names.len(), 252);
    assert!(names.contains(&b"."[..]) && names.contains(&b".."[..]));
    assert_eq!(here.paths(kind::CLOSE, &[&handle]), OK);
    assert!(
        matches!(here.events.last(), Some(Event::FolderListed(listed)) if listed.names == 252 && listed.path == folder)
    );
}

#[test]
fn real_paths_may_end_in_what_is_not_there() {
    let mut here = Desktop::new(false);
    let folder = std::fs::canonicalize(here.folder.path()).unwrap();
    let at = |name: &str| folder.join(name).into_os_string().into_encoded_bytes();
    std::fs::create_dir(os(&at("d"))).unwrap();
    symlink("d", os(&at("to-d"))).unwrap();
    symlink("gone", os(&at("dangling"))).unwrap();
    symlink("loop", os(&at("loop"))).unwrap();
    for (asked, real) in [
        ("to-d/../to-d/.", Ok(at("d"))),
        ("to-d/new", Ok(at("d/new"))),
        ("dangling", Ok(at("gone"))),
        ("gone/deeper", Err(NONE)),
        ("loop", Err(NONE)),
    ] {
        let asked = here.path(asked);
        assert_eq!(here.name(kind::REALPATH, &asked), real, "{asked:?}");
    }
    let current = std::env::current_dir().unwrap().into_os_string().into_encoded_bytes();
    assert_eq!(here.name(kind::REALPATH, b"."), Ok(current.clone()));
    assert_eq!(here.name(kind::REALPATH, b""), Ok(current));
    let (kind, body) = here.extended("home-directory", |packet| packet.string(b""));
    assert_eq!(name(kind, &body), Ok(b"/home/of/mine".to_vec()));
    let (kind, body) = here.extended("expand-path@openssh.com", |packet| packet.string(b"~root"));
    assert_eq!(name(kind, &body), Ok(b"/root".to_vec()));
    let (kind, body) = here.extended("expand-path@openssh.com", |packet| packet.string(b"~no-such-user/x"));
    assert_eq!(name(kind, &body), Err(NONE));
}

#[test]
fn a_copy_inside_is_counted_and_hashed_on_both_sides() {
    let mut here = Desktop::new(false);
    let bytes: Vec<u8> = (0..600_000u32).map(|at| (at % 253) as u8).collect();
    let (from, to) = (here.path("from"), here.path("to"));
    std::fs::write(os(&from), &bytes).unwrap();
    let (source, target) = (here.open(&from, READ).unwrap(), here.open(&to, NEW).unwrap());
    let copy = |here: &mut Desktop, source: &[u8], offset, length, target: &[u8], at| {
        let (kind, body) = here.extended("copy-data", |packet| {
            packet.string(source);
            packet.u64(offset);
            packet.u64(length);
            packet.string(target);
            packet.u64(at);
        });
        assert_eq!(kind, kind::STATUS);
        Reader(&body).u32().unwrap()
    };
    assert_eq!(copy(&mut here, &source, 100, 0, &target, 0), OK);
    assert_eq!(std::fs::read(os(&to)).unwrap(), bytes[100..]);
    assert!(
        matches!(here.events.last(), Some(Event::FileOperation(event)) if event.operation == "copy-data"
        && event.path == from && event.target == to && event.detail == "from=100 to=0 bytes=599900")
    );
    assert_eq!(copy(&mut here, &source, 599_999, 2, &target, 0), Status::Eof as u32);
    assert_eq!(copy(&mut here, &source, u64::MAX, 2, &target, 0), FAILURE);
    assert_eq!(copy(&mut here, &source, 0, 1, &source, 0), FAILURE);
    assert_eq!(here.paths(kind::CLOSE, &[&source]), OK);
    assert_eq!(here.closed().0.map(|read| read.bytes), Some(599_901));
}

#[test]
fn limits_and_names_are_told() {
    let mut here = Desktop::new(false);
    let (kind, body) = here.extended("limits@openssh.com", |_| {});
    let mut body = Reader(&body);
    assert_eq!(
        (kind, body.u64(), body.u64()),
        (kind::EXTENDED_REPLY, Ok(262_144), Ok(261_120))
    );
    assert_eq!((body.u64(), body.u64()), (Ok(261_120), Ok(8)));
    let (kind, body) = here.extended("users-groups-by-id@openssh.com", |packet| {
        packet.string(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xf0]);
        packet.string(&[0, 0, 0, 0]);
    });
    let mut body = Reader(&body);
    let mut users = Reader(body.string().unwrap());
    assert_eq!(
        (kind, users.string(), users.string()),
        (kind::EXTENDED_REPLY, Ok(&b"root"[..]), Ok(&b""[..]))
    );
    assert_eq!(Reader(body.string().unwrap()).string(), Ok(&b"root"[..]));
    let (_, body) = here.extended("users-groups-by-id@openssh.com", |packet| {
        packet.string(&vec![0; 100_000]);
        packet.string(b"");
    });
    assert_eq!(Reader(&body).u32(), Ok(BAD));
    let (kind, body) = here.extended("statvfs@openssh.com", |packet| packet.string(b"/"));
    assert_eq!((kind, body.len()), (kind::EXTENDED_REPLY, 88));
}

#[test]
fn handles_are_bounded_with_a_word_about_it() {
    let mut here = Desktop::new(false);
    let path = here.path("file");
    std::fs::write(os(&path), "x").unwrap();
    let open: Vec<_> = (0..8).map(|_| here.open(&path, READ).unwrap()).collect();
    let (kind, body) = here.ask(kind::OPEN, |packet| {
        packet.string(&path);
        packet.u32(NEW);
        packet.u32(0);
    });
    let mut body = Reader(&body);
    assert_eq!((kind, body.u32()), (kind::STATUS, Ok(FAILURE)));
    assert_eq!(body.string(), Ok(&b"Too many open files: no more than 8 at once"[..]));
    assert_eq!(std::fs::read(os(&path)).unwrap(), b"x", "it was truncated all the same");
    assert_eq!(here.paths(kind::CLOSE, &[&open[3]]), OK);
    assert!(here.open(&path, READ).is_ok());
    let mut last = Writer::default();
    here.server.close_all(&mut last);
    let mut splitter = Splitter::default();
    splitter.buffer.extend_from_slice(&last.0);
    let closed = std::iter::from_fn(|| splitter.next().unwrap()).count();
    assert_eq!(closed, 8);
}

/// Every request that changes something, under a grant for reading: nothing changes, and each is in the record twice.
#[test]
fn a_grant_for_reading_refuses_every_change() {
    let mut here = Desktop::new(true);
    let (file, folder) = (here.path("file"), here.path("folder"));
    std::fs::write(os(&file), "as it was").unwrap();
    std::fs::create_dir(os(&folder)).unwrap();
    std::fs::set_permissions(os(&file), std::fs::Permissions::from_mode(0o644)).unwrap();
    let before = std::fs::metadata(os(&file)).unwrap();
    let open = here.open(&file, READ).unwrap();
    for flags in [
        flag::WRITE,
        READ | flag::WRITE,
        READ | flag::CREATE,
        READ | flag::TRUNCATE,
        READ | flag::APPEND,
        READ | flag::CREATE | flag::EXCLUSIVE,
        READ | 0x40,
    ] {
        assert_eq!(here.open(&file, flags), Err(DENIED), "{flags:#x}");
        assert_eq!(here.open(&here.path("new"), flags), Err(DENIED), "{flags:#x}");
    }
    let events = here.events.len();
    let new = here.path("new");
    let mode = Attributes {
        mode: Some(0o777),
        ..Attributes::default()
    };
    let with_mode = |path: &[u8]| {
        let path = path.to_vec();
        move |packet: &mut Writer| {
            packet.string(&path);
            mode.write(packet);
        }
    };
    assert_eq!(here.write(&open, 0, b"other"), DENIED);
    assert_eq!(here.status(kind::SETSTAT, with_mode(&file)), DENIED);
    assert_eq!(here.status(kind::FSETSTAT, with_mode(&open)), DENIED);
    assert_eq!(here.status(kind::MKDIR, with_mode(&new)), DENIED);
    assert_eq!(here.paths(kind::REMOVE, &[&file]), DENIED);
    assert_eq!(here.paths(kind::RMDIR, &[&folder]), DENIED);
    assert_eq!(here.paths(kind::RENAME, &[&file, &new]), DENIED);
    assert_eq!(here.paths(kind::SYMLINK, &[&file, &new]), DENIED);
    for (name, fields) in [
        ("posix-rename@openssh.com", vec![file.clone(), new.clone()]),
        ("hardlink@openssh.com", vec![file.clone(), new.clone()]),
        ("fsync@openssh.com", vec![open.clone()]),
    ] {
        let (_, body) = here.extended(name, |packet| fields.iter().for_each(|field| packet.string(field)));
        assert_eq!(Reader(&body).u32(), Ok(DENIED), "{name}");
    }
    let (_, body) = here.extended("lsetstat@openssh.com", with_mode(&file));
    assert_eq!(Reader(&body).u32(), Ok(DENIED));
    let (_, body) = here.extended("copy-data", |packet| {
        packet.string(&open);
        packet.u64(0);
        packet.u64(0);
        packet.string(&open);
        packet.u64(0);
    });
    assert_eq!(Reader(&body).u32(), Ok(DENIED));
    let refused = here.events[events..]
        .iter()
        .filter(|event| matches!(event, Event::Refused(_)))
        .count();
    let told = here.events[events..]
        .iter()
        .filter(|event| matches!(event, Event::FileOperation(event) if event.status == DENIED));
    assert_eq!((refused, told.count()), (13, 12));
    assert_eq!(here.read(&open, 0, 100), Ok(b"as it was".to_vec()));
    let after = std::fs::metadata(os(&file)).unwrap();
    assert_eq!(
        (before.mode(), before.ino(), before.nlink()),
        (after.mode(), after.ino(), after.nlink())
    );
    assert!(!os(&new).exists() && os(&folder).is_dir());

    let mut version = Writer::default();
    here.server.version(Init { version: 3 }, &mut version);
    let said = String::from_utf8_lossy(&version.0).into_owned();
    assert!(said.contains("limits@openssh.com") && !said.contains("rename") && !said.contains("copy-data"));
}
