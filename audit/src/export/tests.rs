//! Every kind of event in every language, compared with files that are kept; and hostile text in all of its fields.

mod samples;

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::*;
use samples::all;

const LANGUAGES: [(Language, &str); 3] = [
    (Language::Lines, "events.jsonl"),
    (Language::Ocsf, "events.ocsf"),
    (Language::Ecs, "events.ecs"),
];

fn about(text: &str) -> About {
    About {
        session: Uuid::from_u128(7),
        user: text.into(),
        workspace: text.into(),
        workspace_uid: text.into(),
        login: text.into(),
        client_address: "10.0.0.1:50022".into(),
    }
}

/// A kind is known if its body is not kept as it came.
fn is_known(kind: u32) -> bool {
    let mut bytes = vec![];
    minicbor::Encoder::new(&mut bytes)
        .array(3)
        .unwrap()
        .u64(0)
        .unwrap()
        .u32(kind)
        .unwrap()
        .map(0)
        .unwrap();
    !matches!(
        minicbor::decode(&bytes),
        Ok(Stamped {
            event: Event::Unknown(_),
            ..
        })
    )
}

#[test]
fn no_kind_is_forgotten() {
    let kinds: Vec<u32> = all("x").iter().map(|(_, event)| event.kind()).collect();
    for kind in (0..1000).filter(|kind| is_known(*kind) && ![4, 9, 10, 26].contains(kind)) {
        assert!(kinds.contains(&kind), "kind {kind} has no example here");
    }
    for (_, event) in all("x") {
        assert_eq!(
            act(&event).name == "unknown",
            matches!(event, Event::Unknown(_)),
            "{}",
            event.name()
        );
    }
}

fn written(text: &str, language: Language) -> Vec<String> {
    let about = about(text);
    let events = all(text);
    let mut lines: Vec<String> = (0..)
        .zip(&events)
        .map(|(index, (recorded, event))| {
            let entry = Entry {
                stream: Uuid::from_u128(7),
                index,
                unix_ms: 1_767_225_599_123,
                about: recorded.then_some(&about),
                recorded: *recorded,
                event,
            };
            entry.line(language).unwrap()
        })
        .collect();
    let missing = Missing {
        stream: Uuid::from_u128(8),
        from: 3,
        unix_ms: 1_767_225_599_123,
        why: text,
    };
    lines.push(missing.line(language));
    lines
}

#[test]
fn every_kind_is_as_it_was_agreed() {
    for (language, name) in LANGUAGES {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        let lines = written("/srv/a b", language);
        if std::env::var_os("DOORWARD_VECTORS").is_some_and(|value| value == "write") {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept.lines().count(), lines.len(), "{name}");
        for (kept, line) in kept.lines().zip(&lines) {
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(read(kept), read(line), "{name}");
        }
    }
}

#[test]
fn nothing_from_outside_ends_a_line_or_acts_on_a_viewer() {
    let evil = "=\u{1b}]52;c;ZXZpbA==\u{7}\r\n{\"act\":\"forged\"}\u{9b}31m\u{202e}\u{2028}<img onerror>\0";
    let hostile = |c: char| c.is_control() || crate::printable::hidden(c);
    for (language, name) in LANGUAGES {
        for line in written(evil, language) {
            assert!(!line.chars().any(hostile), "{name}: {line}");
            let value: Value = serde_json::from_str(&line).unwrap();
            // What a collector decodes and shows does nothing either; our own lines give back what was said, to the byte.
            if language != Language::Lines {
                each_string(&value, &mut |text| {
                    assert!(!text.chars().any(hostile), "{name}: {text:?}")
                });
            }
        }
    }
    let lines = written(evil, Language::Lines);
    let command = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let command = command.into_iter().find(|value| value["act"] == "command").unwrap();
    assert_eq!(command["command"], evil);
}

fn each_string(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().for_each(|item| each_string(item, each)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            each(name);
            each_string(member, each);
        }),
        _ => {}
    }
}

#[test]
fn names_without_hidden_characters_stay_as_they_are() {
    assert_eq!(shown("CORP\\bob grün"), "CORP\\bob grün");
    assert_eq!(shown("a\\\u{202e}"), "a\\\\\\u{202e}");
    assert_eq!(shown_bytes(b"/tmp/\xff"), "/tmp/\\xff");
    assert_eq!((base_name("/srv/a/"), base_name("/"), base_name("b")), ("a", "/", "b"));
}

#[test]
fn the_terminal_is_not_for_collectors_and_lines_have_all_of_it() {
    let output: Event = Output {
        channel: 1,
        stream: 2,
        bytes: Bytes::from_static(b"\xff\x1b[1m"),
    }
    .into();
    let entry = Entry {
        stream: Uuid::nil(),
        index: 0,
        unix_ms: 0,
        about: None,
        recorded: true,
        event: &output,
    };
    for (language, _) in LANGUAGES {
        assert_eq!(entry.line(language), None);
    }
    let opened = Opened {
        started_unix_ms: 1_000,
        ..Opened::default()
    };
    let events = [Stamped::new(0, opened), Stamped::new(2_500_000, output)];
    let write = |channel| {
        let mut out = Vec::new();
        lines(events.iter().cloned().map(Ok), channel, 0, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let text = write(None).unwrap();
    let last: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let expected = serde_json::json!({
        "at-ms": 2, "time": "1970-01-01T00:00:01.002Z", "act": "output", "channel": 1, "stream": "err", "bytes": 5,
        "text": "\u{fffd}\u{1b}[1m", "text-hex": "ff1b5b316d",
    });
    assert_eq!(last, expected);
    assert_eq!(write(Some(1)).unwrap().lines().count(), 1);
    assert!(matches!(write(Some(2)), Err(Error::NoChannel(Some(2)))));
    // A journal does not say when it began, but the id of its stream does.
    let mut out = Vec::new();
    let stopped = Stamped::new(5_000_000, crate::GatewayStopped {});
    lines([Ok(stopped)].into_iter(), None, 1_767_225_600_000, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("\"2026-01-01T00:00:00.005Z\""));
}
