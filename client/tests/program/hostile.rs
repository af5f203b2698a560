//! A session that tried everything: nothing of it reaches a terminal, a list or a spreadsheet as more than text, but by the one
//! flag that says so.

use std::process::Stdio;

use bytes::Bytes;
use doorward_audit::{
    Env, Event, Exec, FileClosed, FileOperation, ForwardFailed, Gap, IdeServerSeen, Masked, Output, Refused, Signal,
    Subsystem,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::recordings::{contains, in_terminal, record_with, store};
use crate::run::LIMIT;

/// Clipboard, link, device string, title and its report, C1 in UTF-8 and as a lone byte, bidirectional text, a question.
const EVIL: &[u8] =
    b"=1+1\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\\x1bP$qm\x1b\\\x1b]2;t\x07\x1b[21t\
    \xc2\x9b31m\x9b31m\xe2\x80\xae\xe2\x81\xa6\x1b[6n\r\n\"forged\": true, <img onerror>\x00\x7f";

fn evil() -> String {
    String::from_utf8_lossy(EVIL).into_owned()
}

fn events() -> Vec<Event> {
    let (text, bytes) = (evil, || Bytes::from_static(EVIL));
    vec![
        Output {
            channel: 0,
            stream: 1,
            bytes: bytes(),
        }
        .into(),
        Env {
            channel: 0,
            name: text(),
            value: bytes(),
            accepted: true,
        }
        .into(),
        Exec {
            channel: 0,
            command: bytes(),
        }
        .into(),
        Subsystem {
            channel: 0,
            name: text(),
        }
        .into(),
        Signal {
            channel: 0,
            name: text(),
        }
        .into(),
        FileOperation {
            channel: 0,
            operation: text(),
            path: bytes(),
            target: bytes(),
            detail: text(),
            status: 0,
        }
        .into(),
        FileClosed {
            channel: 0,
            path: bytes(),
            read: None,
            written: None,
        }
        .into(),
        ForwardFailed {
            asked: text(),
            why: text(),
        }
        .into(),
        Refused {
            channel: Some(0),
            what: text(),
            why: text(),
        }
        .into(),
        Gap {
            channel: Some(0),
            bytes: 1,
            why: text(),
            ..Gap::default()
        }
        .into(),
        Masked {
            channel: Some(0),
            stream: Some(1),
            at: 0,
            bytes: 1,
            name: text(),
            form: text(),
        }
        .into(),
        IdeServerSeen { product: text() }.into(),
    ]
}

/// Anything by which a terminal or an editor would do more than show: controls but the end of a line, and what reorders.
fn acts(text: &str) -> bool {
    text.chars()
        .any(|c| (c.is_control() && !matches!(c, '\n' | '\r')) || doorward_audit::reorders(c))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_raw_replay_hands_on_what_was_recorded() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let recorded = record_with(events()).await;
    store(&gateway, &recorded);
    let id = recorded.session.to_string();
    let session = json!({
        "session": id, "user": evil(), "workspace": evil(), "workspace-uid": evil(), "login": evil(),
        "started": "2026-11-21T09:30:00.000Z", "reason": evil(), "record-bytes": 5, "client-address": evil(),
    });
    gateway.json("/v1/sessions", json!({ "sessions": [session] }));
    let workspace = json!({
        "name": evil(), "login": evil(), "state": evil(), "owner": evil(), "capabilities": [evil()],
    });
    gateway.json("/v1/workspaces", json!({ "workspaces": [workspace] }));
    let recording = recorded.arg();
    let runs: [&[&str]; 12] = [
        &["ls"],
        &["ls", "--json"],
        &["sessions"],
        &["sessions", "--json"],
        &["sessions", "--csv"],
        &["sessions", "show", &id],
        &["sessions", "show", &id, "--json"],
        &["replay", &recording],
        &["export", &recording, "--format", "text"],
        &["export", &recording, "--format", "jsonl"],
        &["export", &recording, "--format", "asciicast"],
        &["export", &recording, "--format", "asciicast3"],
    ];
    for args in runs {
        let ran = folder.run(args).await.expect(0);
        assert!(!ran.out.is_empty(), "{args:?}");
        for (what, text) in [("out", &ran.out), ("err", &ran.err)] {
            assert!(!acts(text), "{args:?} {what}: {text:?}");
        }
        if args[0] == "replay" {
            continue;
        }
        // The same in a terminal. The only escapes there are our own, which clear the line of progress.
        let (code, shown, _) = in_terminal(&folder, args, (200, 50)).await;
        assert_eq!(code, 0, "{args:?}");
        let shown = String::from_utf8(shown).unwrap();
        assert!(!acts(&shown), "{args:?} in a terminal: {shown:?}");
    }

    // In a terminal a replay draws, by a list of what only draws.
    let (code, shown, _) = in_terminal(&folder, &["replay", &recording, "--max-pause", "0"], (220, 60)).await;
    assert_eq!(code, 0);
    let shown = String::from_utf8(shown).unwrap();
    for part in [
        "\x1b]", "\x1bP", "\x1b[21t", "\x1b[6n", "\u{9b}", "\u{202e}", "\u{2066}", "\x07", "\0", "\x7f",
    ] {
        assert!(!shown.contains(part), "{part:?} in {shown:?}");
    }

    // And by the flag it is as it was, with a word of warning.
    let child = folder
        .command(&["replay", "--raw", &recording])
        .stderr(Stdio::piped())
        .spawn();
    let output = timeout(LIMIT, child.unwrap().wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(contains(&output.stdout, EVIL));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("these are the recorded bytes") && !acts(&said), "{said}");
    // A terminal gets them by that flag alone.
    let (code, shown, _) = in_terminal(&folder, &["export", &recording, "--format", "raw"], (80, 24)).await;
    assert_eq!((code, shown.as_slice()), (1, &b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_stay_lines_and_cells_stay_cells() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let recorded = record_with(events()).await;
    let ran = folder
        .run(&["export", &recorded.arg(), "--format", "jsonl"])
        .await
        .expect(0);
    let lines: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // What the session had beside these: opened, channel, terminal, shell, four outputs, exit, close, coverage, end.
    assert_eq!(lines.len(), events().len() + 12);
    let command = lines.iter().find(|line| line["act"] == "command").unwrap();
    let hex: String = EVIL.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (&command["command"], &command["command-hex"]),
        (&json!(evil()), &json!(hex))
    );
    assert!(lines.iter().all(|line| line.get("forged").is_none()));

    let cells = ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"];
    let sessions: Vec<Value> = cells
        .iter()
        .map(|cell| {
            json!({
                "session": recorded.session, "user": cell, "workspace": "a,\"b", "workspace-uid": "u", "login": "l\n=1",
                "started": "2026-11-21T09:30:00.000Z", "record-bytes": 5,
            })
        })
        .collect();
    gateway.json("/v1/sessions", json!({ "sessions": sessions }));
    let ran = folder.run(&["sessions", "--csv"]).await.expect(0);
    let rows: Vec<&str> = ran.out.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 1 + cells.len(), "{}", ran.out);
    for (row, cell) in rows[1..].iter().zip(cells) {
        let shown = doorward_audit::printable(cell.as_bytes());
        assert!(row.contains(&format!(",\"'{shown}\",")), "{row}");
        assert!(
            row.contains(",2026-11-21T09:30:00.000Z,") || row.contains("2026-11-21T09:30:00.000Z"),
            "{row}"
        );
        assert!(row.contains("\"a,\"\"b\"") && row.contains("l\\n=1"), "{row}");
    }
}
