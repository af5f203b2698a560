//! Exports against golden files, byte for byte.

use std::{env, fs, path::PathBuf};

use doorward_audit::{ChannelOpened, DigestStarted, Error, Exec, Gap, Input, Output, Stamped, asciicast, events};

use crate::world::{SESSION, World, killed_session, output, shell_session};

type Export = fn(
    &mut dyn Iterator<Item = Result<Stamped, doorward_audit::Fault>>,
    Option<u32>,
    &mut Vec<u8>,
) -> Result<u32, Error>;

fn golden(name: &str, made: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if env::var_os("DOORWARD_VECTORS").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    let kept = fs::read(&path).unwrap();
    assert_eq!(String::from_utf8_lossy(made), String::from_utf8_lossy(&kept), "{name}");
}

fn export(events: &[Stamped], export: Export) -> String {
    let mut out = Vec::new();
    let mut events = events.iter().cloned().map(Ok);
    export(&mut events, None, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_shell_session_exports_as_before() {
    let stream = shell_session(World::new(), SESSION).segments.concat();
    let mut v2 = Vec::new();
    assert_eq!(asciicast::v2(events(&stream[..]), None, &mut v2).unwrap(), 0);
    golden("shell.v2.cast", &v2);
    let mut v3 = Vec::new();
    assert_eq!(asciicast::v3(events(&stream[..]), Some(0), &mut v3).unwrap(), 0);
    golden("shell.v3.cast", &v3);
    let mut raw = Vec::new();
    asciicast::raw(events(&stream[..]), None, &mut raw).unwrap();
    let mut expected = b"$ ".to_vec();
    expected.extend("all work and no play\r\n".repeat(100).bytes());
    expected.extend(b"\x1b[31m\xe2\x82\xac\xff\"\\\x1b[0m");
    assert_eq!(raw, expected);
}

#[test]
fn a_command_without_a_terminal_exports_as_before() {
    let stream = killed_session(World::new(), SESSION).segments.concat();
    let mut v3 = Vec::new();
    asciicast::v3(events(&stream[..]), None, &mut v3).unwrap();
    golden("exec.v3.cast", &v3);
}

#[test]
fn every_line_is_json_whatever_was_shown() {
    let hostile: Vec<u8> = (0..=255).chain(*b"</script>\"],[\n\xe2\x80\xa8").collect();
    let events = [
        Stamped::new(
            0,
            Exec {
                channel: 0,
                command: hostile.clone().into(),
            },
        ),
        output(5, hostile.clone()),
        Stamped::new(
            6,
            Input {
                channel: 0,
                bytes: hostile.clone().into(),
            },
        ),
        Stamped::new(
            7,
            Gap {
                channel: None,
                bytes: 3,
                why: "\"\u{1b}".into(),
                ..Gap::default()
            },
        ),
        Stamped::new(
            8,
            DigestStarted {
                channel: 0,
                stream: 1,
                at_byte: 7,
            },
        ),
    ];
    for version in [v2 as Export, v3] {
        let text = export(&events, version);
        let mut lines = text.lines();
        let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert!(header.is_object());
        let codes: Vec<_> = lines
            .map(|line| {
                let (_, code, data): (f64, String, String) = serde_json::from_str(line).unwrap();
                if code == "o" || code == "i" {
                    assert_eq!(data, String::from_utf8_lossy(&hostile));
                }
                code
            })
            .collect();
        assert_eq!(codes, ["o", "i", "m", "m"]);
    }
}

#[test]
fn time_never_runs_back() {
    let text = export(&[output(9_000_000, "a"), output(3_000_000, "b")], v3);
    assert!(
        text.ends_with("[0.009000, \"o\", \"a\"]\n[0.000000, \"o\", \"b\"]\n"),
        "{text}"
    );
}

#[test]
fn only_the_channel_that_was_asked_for() {
    let events = [
        Stamped::new(
            0,
            ChannelOpened {
                channel: 0,
                kind: "session".into(),
            },
        ),
        Stamped::new(
            0,
            ChannelOpened {
                channel: 1,
                kind: "session".into(),
            },
        ),
        output(1, "zero"),
        Stamped::new(
            2,
            Output {
                channel: 1,
                stream: 2,
                bytes: "one".into(),
            },
        ),
    ];
    let all = || events.iter().cloned().map(Ok);
    let mut out = Vec::new();
    assert_eq!(asciicast::raw(all(), Some(1), &mut out).unwrap(), 1);
    assert_eq!(out, b"one");
    out.clear();
    assert_eq!(asciicast::v2(all(), Some(1), &mut out).unwrap(), 1);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("one") && !text.contains("zero"), "{text}");
    for channel in [Some(7), None] {
        let none = events[..2].iter().cloned().map(Ok);
        let missing = asciicast::v3(none, channel, &mut Vec::new());
        assert!(matches!(missing, Err(Error::NoChannel(found)) if found == channel));
    }
}

fn v2(
    mut events: &mut dyn Iterator<Item = Result<Stamped, doorward_audit::Fault>>,
    channel: Option<u32>,
    out: &mut Vec<u8>,
) -> Result<u32, Error> {
    asciicast::v2(&mut events, channel, out)
}

fn v3(
    mut events: &mut dyn Iterator<Item = Result<Stamped, doorward_audit::Fault>>,
    channel: Option<u32>,
    out: &mut Vec<u8>,
) -> Result<u32, Error> {
    asciicast::v3(&mut events, channel, out)
}
