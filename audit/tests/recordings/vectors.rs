//! Recordings that must be judged the same for ever: `tests/vectors` holds good ones and bad
//! ones, `index.json` the verdict, class and place that each must give.
//!
//! `DOORWARD_VECTORS=check` makes them anew and compares them byte for byte, which another version
//! of zstd may rightly fail; `DOORWARD_VECTORS=write` replaces them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use doorward_audit::{
    Anchored, BreakGlass, ChainCheck, ChannelOpened, FileBytes, FileClosed, FileOperation, FolderListed, Gap,
    IdeServerSeen, Masked, MasksSet, Options, Outcome, Paused, Place, Reconciled, Stamped, Trust, Verdict, Withheld,
    receipt::RECEIPTS_NAME, segment_name, verify_with,
};
use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;
use uuid::Uuid;

use crate::frames;
use crate::world::{
    Author, SESSION, Stored, World, forward_session, key, killed_session, output, shell_session, trust_in,
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Expected {
    about: String,
    verdict: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    place: Option<[u64; 3]>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Trust from the two files that lie beside the recordings, as an auditor would have it.
fn trust(folder: &Path) -> Trust {
    let ca = |name: &str| PublicKey::read_openssh_file(folder.join(name)).unwrap();
    trust_in(&ca("host-ca.pub"), &ca("user-ca.pub"))
}

fn judge(dir: &Path, trust: &Trust, about: String) -> Expected {
    let options = Options {
        session: Some(SESSION),
        ..Options::default()
    };
    let report = verify_with(dir, trust, &options);
    let verdict = match report.verdict() {
        Verdict::Complete => "complete",
        Verdict::Abnormal => "abnormal",
        Verdict::Open => "open",
        Verdict::Bad => "bad",
    };
    let first = report.findings.first();
    Expected {
        about,
        verdict: verdict.into(),
        class: first.map(|finding| finding.class.code().into()),
        place: first.map(|finding| {
            let Place { segment, seq, offset } = finding.place;
            [u64::from(segment), seq, offset]
        }),
    }
}

#[test]
fn every_vector_is_judged_as_it_always_was() {
    let folder = folder();
    match env::var("DOORWARD_VECTORS").as_deref() {
        Ok("write") => write(&folder),
        Ok("check") => {
            let fresh = tempfile::tempdir().unwrap();
            write(fresh.path());
            assert_eq!(tree(fresh.path()), tree(&folder));
        }
        _ => {}
    }
    let index: BTreeMap<String, Expected> =
        serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    assert!(index.len() >= 20, "{} vectors", index.len());
    let trust = trust(&folder);
    for (name, expected) in index {
        let dir = folder.join(&name);
        assert!(dir.is_dir(), "{name}");
        assert_eq!(judge(&dir, &trust, expected.about.clone()), expected, "{name}");
    }
}

fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_owned();
            out.extend(
                tree(&path)
                    .into_iter()
                    .map(|(file, bytes)| (Path::new(&name).join(file), bytes)),
            );
        } else {
            out.insert(path.file_name().unwrap().into(), fs::read(&path).unwrap());
        }
    }
    out
}

fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let world = World::new();
    for (name, ca) in [("host-ca.pub", &world.host_ca), ("user-ca.pub", &world.user_ca)] {
        fs::write(
            folder.join(name),
            format!("{}\n", ca.public_key().to_openssh().unwrap()),
        )
        .unwrap();
    }
    let trust = trust(folder);
    let mut index = BTreeMap::new();
    for (name, about, stored) in recordings() {
        let dir = folder.join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        stored.write(&dir);
        if name == "bad-segment-missing" {
            fs::remove_file(dir.join(segment_name(1))).unwrap();
        }
        index.insert(name, judge(&dir, &trust, about.to_owned()));
    }
    let mut text = serde_json::to_string_pretty(&index).unwrap();
    text.push('\n');
    fs::write(folder.join("index.json"), text).unwrap();
}

fn good() -> Stored {
    shell_session(World::new().alone(), SESSION).stored()
}

fn changed(change: impl FnOnce(&mut Stored)) -> Stored {
    let mut stored = good();
    change(&mut stored);
    stored
}

fn receipts(stored: &mut Stored, keep: &[usize]) {
    let lines: Vec<_> = stored.receipts.lines().collect();
    stored.receipts = keep.iter().map(|&line| format!("{}\n", lines[line])).collect();
}

fn recordings() -> Vec<(&'static str, &'static str, Stored)> {
    let other = || shell_session(World::new().alone(), Uuid::from_u128(99)).stored();
    // The first block of events of the second segment; it is compressed.
    let block = |segment: &[u8]| 28 + 58..28 + 58 + 28 + stored_len(segment, 28 + 58);
    let mut all = vec![
        ("good-shell", "three segments, closed", good()),
        (
            "good-killed",
            "agent killed: no head, closed by the gateway",
            killed_session(World::new().alone(), SESSION).stored(),
        ),
        (
            "good-forwards",
            "connections in and out, counted and not kept",
            forward_session(World::new().alone(), SESSION).stored(),
        ),
        ("good-nothing", "session ended before its first block was stored", {
            let mut author = Author::new(World::new().alone(), SESSION);
            author.closing(Outcome::Abnormal);
            author.stored()
        }),
        ("good-unknown", "an event of an unknown kind", unknown_event()),
        ("good-files", "file operations and what passed through files", files()),
        (
            "good-left-out",
            "masks, what is withheld, gaps with their time, a pause, an IDE's server",
            of(left_out(), left_out_coverage()),
        ),
        (
            "good-journal",
            "break-glass, counts compared, an anchor, as a journal has them",
            of(journal_events(), doorward_audit::Coverage::default()),
        ),
        (
            "bad-event-byte",
            "one bit of a compressed block",
            changed(|s| s.segments[1][28 + 58 + 28 + 5] ^= 1),
        ),
        (
            "bad-header-kind",
            "a kind that does not exist",
            changed(|s| s.segments[1][86] = 9),
        ),
        (
            "bad-header-codec",
            "a codec that does not exist",
            changed(|s| s.segments[1][87] = 9),
        ),
        (
            "bad-header-reserved",
            "a reserved byte",
            changed(|s| s.segments[1][88] = 1),
        ),
        (
            "bad-header-seq",
            "a sequence number",
            changed(|s| s.segments[1][97] ^= 1),
        ),
        (
            "bad-header-huge",
            "a length beyond the format",
            changed(|s| s.segments[1][98] = 0xff),
        ),
        ("bad-tag", "one bit of a tag", changed(|s| s.segments[1][86 + 20] ^= 1)),
        (
            "bad-magic",
            "the magic of the first segment",
            changed(|s| s.segments[0][28] ^= 1),
        ),
        (
            "bad-head-signature",
            "one bit of a head's signature",
            changed(|s| {
                let at = s.segments[0].len() - 1;
                s.segments[0][at] ^= 1;
            }),
        ),
        (
            "bad-segment-missing",
            "the second of three segments is not there",
            good(),
        ),
        (
            "bad-last-segment-missing",
            "the last segment is not there",
            changed(|s| s.segments.truncate(2)),
        ),
        (
            "bad-truncated",
            "the last segment ends inside a block",
            changed(|s| {
                let len = s.segments[2].len() - 7;
                s.segments[2].truncate(len)
            }),
        ),
        (
            "bad-block-removed",
            "a block is left out",
            changed(|s| {
                let range = block(&s.segments[1]);
                s.segments[1].drain(range);
            }),
        ),
        (
            "bad-spliced-segment",
            "a segment of another session",
            changed(|s| s.segments[1] = other().segments[1].clone()),
        ),
        (
            "bad-other-session",
            "another session's recording under this name",
            other(),
        ),
        (
            "bad-hashed-again",
            "all hashes made anew around other words, old signatures",
            hashed_again(),
        ),
        ("bad-head-key", "a head signed by another key", {
            let mut author = Author::new(World::new().alone(), SESSION);
            let opened = author.world.opened(SESSION);
            author.append(&[Stamped::new(0, opened)]);
            author.head_by(&key(77), true);
            author.closing(Outcome::Complete);
            author.stored()
        }),
        (
            "bad-authority",
            "everything right, by keys of another authority",
            shell_session(World::forged().alone(), SESSION).stored(),
        ),
        (
            "bad-receipt-byte",
            "one letter of a receipt",
            changed(|s| {
                s.receipts = s.receipts.replacen("\\\"segment\\\":1", "\\\"segment\\\":2", 1);
            }),
        ),
        (
            "bad-receipt-removed",
            "the first receipt is left out",
            changed(|s| receipts(s, &[1, 2, 3])),
        ),
        (
            "bad-no-closing",
            "no closing receipt",
            changed(|s| receipts(s, &[0, 1, 2])),
        ),
        (
            "bad-older-copy",
            "everything as it was after the second head",
            changed(|s| {
                s.segments.truncate(2);
                receipts(s, &[0, 1]);
            }),
        ),
        ("bad-after-closing", "a block that the gateway never had", {
            let mut author = killed_session(World::new().alone(), SESSION);
            author.append(&[output(9, "more")]);
            author.stored()
        }),
        ("bad-coverage", "no statement of what is covered", {
            let mut author = Author::new(World::new().alone(), SESSION);
            let opened = author.world.opened(SESSION);
            author.append(&[Stamped::new(0, opened)]);
            author.head(true);
            author.closing(Outcome::Complete);
            author.stored()
        }),
    ];
    all.extend(frames::recordings());
    all
}

fn stored_len(segment: &[u8], at: usize) -> usize {
    u32::from_be_bytes(segment[at + 16..at + 20].try_into().unwrap()) as usize
}

fn unknown_event() -> Stored {
    let mut author = Author::new(World::new().alone(), SESSION);
    let opened = author.world.opened(SESSION);
    let body = minicbor::to_vec([1u8, 2]).unwrap().into();
    let unknown = doorward_audit::Unknown { kind: 4242, body };
    author.append(&[
        Stamped::new(0, opened),
        Stamped {
            at: 1,
            event: doorward_audit::Event::Unknown(unknown),
        },
        Stamped::new(2, doorward_audit::Coverage::default()),
    ]);
    author.head(true);
    author.closing(Outcome::Complete);
    author.stored()
}

fn files() -> Stored {
    of(file_events(), doorward_audit::Coverage::default())
}

/// A recording of these events, whole.
fn of(events: Vec<Stamped>, coverage: doorward_audit::Coverage) -> Stored {
    let mut author = Author::new(World::new().alone(), SESSION);
    let opened = author.world.opened(SESSION);
    author.append(&[Stamped::new(0, opened)]);
    author.append(&events);
    author.append(&[Stamped::new(9, coverage)]);
    author.head(true);
    author.closing(Outcome::Complete);
    author.stored()
}

fn file_events() -> Vec<Stamped> {
    vec![
        Stamped::new(
            1,
            FileOperation {
                channel: 3,
                operation: "rename".into(),
                path: (&b"a\n\xff"[..]).into(),
                target: "b".into(),
                detail: String::new(),
                status: 4,
            },
        ),
        Stamped::new(
            2,
            FileClosed {
                channel: 3,
                path: "/tmp/x".into(),
                read: None,
                written: Some(FileBytes {
                    bytes: 1 << 40,
                    from: 7,
                    sha256: Some([0xab; 32]),
                }),
            },
        ),
        Stamped::new(
            3,
            FileClosed {
                channel: 3,
                path: "y".into(),
                read: Some(FileBytes {
                    bytes: 12,
                    from: 0,
                    sha256: None,
                }),
                written: Some(FileBytes::default()),
            },
        ),
        Stamped::new(
            4,
            FolderListed {
                channel: 3,
                path: ".".into(),
                names: 10_002,
            },
        ),
    ]
}

fn left_out() -> Vec<Stamped> {
    let masked = |channel, stream, form: &str| Masked {
        channel,
        stream,
        at: 2,
        bytes: 8,
        name: "DB_PASSWORD".into(),
        form: form.into(),
    };
    let gap = |channel, from, milliseconds| Gap {
        channel,
        bytes: 1 << 33,
        why: "not recorded".into(),
        from,
        milliseconds,
    };
    let opened = ChannelOpened {
        channel: 0,
        kind: "session".into(),
    };
    let withheld = Withheld {
        channel: 0,
        stream: 1,
        bytes: 3,
    };
    let paused = |channel, pauses| Paused {
        channel,
        unacknowledged: 4_194_304,
        milliseconds: 1001,
        pauses,
    };
    let names = vec!["DB_PASSWORD".into(), "/run/secrets/token".into()];
    let product = "VS Code Server".to_owned();
    vec![
        Stamped::new(1, MasksSet { names }),
        Stamped::new(1, opened),
        Stamped::new(2, masked(None, None, "base64")),
        Stamped::new(3, masked(Some(0), Some(1), "plain")),
        output(3, "a ********\n"),
        Stamped::new(4, withheld),
        Stamped::new(5, gap(Some(0), Some(4), Some(1500))),
        Stamped::new(5, gap(None, None, None)),
        Stamped::new(6, paused(Some(0), None)),
        Stamped::new(7, paused(None, Some(17))),
        Stamped::new(8, IdeServerSeen { product }),
    ]
}

fn left_out_coverage() -> doorward_audit::Coverage {
    doorward_audit::Coverage {
        channels: 1,
        bytes_seen: 11 + (1 << 34),
        bytes_recorded: 11,
        not_captured: Some(vec!["terminals inside VS Code Server".into()]),
        ..doorward_audit::Coverage::default()
    }
}

fn journal_events() -> Vec<Stamped> {
    let broken = BreakGlass {
        session: SESSION,
        user: "bob".into(),
        workspace: "prod-0".into(),
        reason: "the store is down – pager 7".into(),
    };
    let counts = Reconciled {
        session: SESSION,
        agent_client_bytes: 1,
        agent_agent_bytes: 1 << 40,
        gateway_client_bytes: 3,
        gateway_agent_bytes: 4,
        agree: false,
    };
    let anchored = Anchored {
        log: "doorward-log/SHA256:x".into(),
        size: 70_000,
        sha256: [0xcd; 32],
        bytes: 65_536,
    };
    vec![
        Stamped::new(1, broken),
        Stamped::new(2, counts),
        Stamped::new(3, anchored),
    ]
}

#[test]
fn the_newest_events_are_read_as_they_always_were() {
    for (name, expected) in [("good-left-out", left_out()), ("good-journal", journal_events())] {
        let stream = fs::read(folder().join(name).join(segment_name(0))).unwrap();
        let events: Vec<_> = doorward_audit::events(&stream[..]).map(Result::unwrap).collect();
        assert_eq!(events[1..=expected.len()], expected, "{name}");
    }
}

#[test]
fn events_of_files_are_read_as_they_always_were() {
    let stream = fs::read(folder().join("good-files").join(segment_name(0))).unwrap();
    let events: Vec<_> = doorward_audit::events(&stream[..]).map(Result::unwrap).collect();
    assert_eq!(events[1..5], file_events());
}

/// What somebody can make who may write the files but has no key.
fn hashed_again() -> Stored {
    let whole = good();
    let mut heads = Vec::new();
    ChainCheck::new(SESSION)
        .push(&whole.segments.concat(), &mut |seen| heads.extend(seen.head))
        .unwrap();
    let mut heads = heads.iter();
    let mut recorder = doorward_audit::Recorder::alone(SESSION);
    let segments = whole
        .segments
        .iter()
        .map(|segment| {
            let mut bytes = Vec::new();
            for stamped in segment_events(segment, &whole) {
                bytes.extend_from_slice(&recorder.append(&stamped));
            }
            let head = heads.next().unwrap();
            let said = head.statement();
            let sign = |_: &[u8]| Ok(head.signature().clone());
            bytes.extend_from_slice(&recorder.head(said.unix_ms, said.last, sign).unwrap());
            bytes
        })
        .collect();
    Stored { segments, ..whole }
}

/// The batches of one segment, with other words in the second.
fn segment_events(segment: &[u8], whole: &Stored) -> Vec<Vec<Stamped>> {
    let index = whole.segments.iter().position(|other| other == segment).unwrap();
    doorward_audit::blocks(&whole.segments.concat()[..])
        .map(Result::unwrap)
        .filter(|block| block.seen.segment as usize == index)
        .map(|block| block.events().unwrap())
        .filter(|events| !events.is_empty())
        .map(|events| {
            let other = |stamped: Stamped| match &stamped.event {
                doorward_audit::Event::Output(shown) if index == 1 && shown.bytes.len() > 1000 => {
                    output(stamped.at, "no work and all play\r\n".repeat(100))
                }
                _ => stamped,
            };
            events.into_iter().map(other).collect()
        })
        .collect()
}

#[test]
fn heads_can_be_checked_by_openssh() {
    // What the document says about `ssh-keygen -Y check-novalidate` holds; where there is no
    // ssh-keygen, the other half is checked: the armoured form is read back the same.
    let whole = good();
    let mut heads = Vec::new();
    ChainCheck::new(SESSION)
        .push(&whole.segments.concat(), &mut |seen| heads.extend(seen.head))
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let signature = dir.path().join("head.sig");
    let head = &heads[0];
    let armoured = head.signature().to_pem(ssh_key::LineEnding::LF).unwrap();
    assert_eq!(ssh_key::SshSig::from_pem(&armoured).unwrap(), *head.signature());
    fs::write(&signature, &armoured).unwrap();
    let statement = dir.path().join("head.cbor");
    fs::write(&statement, head.signed_bytes()).unwrap();
    let check = std::process::Command::new("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", doorward_audit::HEAD_NAMESPACE, "-s"])
        .arg(&signature)
        .stdin(fs::File::open(&statement).unwrap())
        .output();
    if let Ok(check) = check {
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    }
    assert!(fs::metadata(folder().join("good-shell").join(RECEIPTS_NAME)).is_ok());
}
