//! A session as one JSON object with names that stay.
//!
//! Bytes that are not UTF-8 are there twice: `NAME` has U+FFFD in their place, and `NAME-hex` has them all. It is there
//! only where `NAME` is not exact.

use doorward_audit::{Event, FileBytes, Opened, Stamped, hex};
use serde_json::{Map, Value, json};

use super::account::{Account, Channel};
use super::{Proof, terms};
use crate::gateway::Session;

const STREAMS: [&str; 3] = ["in", "out", "err"];

/// The whole object.
pub(super) fn of(session: &Session, account: &Account, proof: &Proof<'_>) -> Value {
    let mut all = match serde_json::to_value(session) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    if let Some(opened) = &account.opened {
        head(&mut all, opened);
    }
    let ended = account.ended.as_ref();
    all.insert(
        "end".into(),
        match ended {
            Some((at, ended)) => json!({"at-ms": ms(*at), "reason": ended.reason, "code": ended.code}),
            None => Value::Null,
        },
    );
    all.insert(
        "verification".into(),
        json!({
            "verdict": proof.verdict, "findings": proof.findings, "notes": proof.notes,
        }),
    );
    let channels: Vec<Value> = account
        .channels
        .iter()
        .map(|(number, one)| channel(*number, one))
        .collect();
    all.insert("channels".into(), channels.into());
    all.insert("acts".into(), account.acts.iter().filter_map(act).collect());
    all.insert(
        "coverage".into(),
        match &account.coverage {
            Some(coverage) => json!({
                "channels": coverage.channels, "bytes-seen": coverage.bytes_seen,
                "bytes-recorded": coverage.bytes_recorded, "bytes-digested": coverage.bytes_digested,
                "client-to-agent": coverage.client_to_agent, "agent-to-client": coverage.agent_to_client,
                "not-captured": coverage.not_captured.clone().unwrap_or_default(),
            }),
            None => Value::Null,
        },
    );
    all.insert("unknown-events".into(), account.unknown.into());
    all.insert("left-out".into(), account.left_out.into());
    Value::Object(all)
}

fn head(all: &mut Map<String, Value>, opened: &Opened) {
    let listed: Vec<Value> = opened
        .terms
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    all.insert("agent-version".into(), opened.agent_version.as_str().into());
    all.insert("serial".into(), opened.serial.into());
    all.insert("terms".into(), listed.into());
    all.insert("terms-text".into(), terms::words(&opened.terms).into());
}

fn channel(number: u32, channel: &Channel) -> Value {
    let mut all = Map::new();
    all.insert("channel".into(), number.into());
    all.insert("kind".into(), channel.name().into());
    all.insert("asked".into(), channel.asked().into());
    all.insert("at-ms".into(), ms(channel.opened));
    all.insert("closed-ms".into(), channel.closed.map_or(Value::Null, ms));
    if let Some(pty) = &channel.pty {
        let mut terminal = Map::new();
        put(&mut terminal, "term", &pty.term);
        terminal.insert("columns".into(), pty.cols.into());
        terminal.insert("rows".into(), pty.rows.into());
        terminal.insert("resizes".into(), channel.resizes.into());
        all.insert("terminal".into(), terminal.into());
    }
    if let Some(runs) = &channel.runs {
        let (what, name) = match &runs.event {
            Event::Exec(exec) => ("command", Some(&exec.command[..])),
            Event::Subsystem(subsystem) => ("subsystem", Some(subsystem.name.as_bytes())),
            _ => ("shell", None),
        };
        all.insert("runs".into(), what.into());
        if let Some(name) = name {
            put(&mut all, what, name);
        }
        all.insert("duration-ms".into(), channel.ran().map_or(Value::Null, ms));
        let streams = STREAMS.iter().zip(&channel.streams).filter(|_| !channel.is_files());
        let streams: Map<String, Value> = streams
            .map(|(name, stream)| {
                let sha256 = stream.digest.map(|(_, hash)| hex(&hash));
                let value = json!({
                    "bytes": stream.bytes(), "recorded": stream.recorded, "kept": stream.kept(), "sha256": sha256,
                });
                ((*name).to_owned(), value)
            })
            .collect();
        all.insert("streams".into(), streams.into());
    }
    if let Some((_, exit)) = &channel.exit {
        let exit = json!({"status": exit.status, "signal": exit.signal, "core-dumped": exit.core_dumped});
        all.insert("exit".into(), exit);
    }
    if let Some(connected) = &channel.connected {
        let mut forward = Map::new();
        forward.insert("asked".into(), connected.asked.as_str().into());
        forward.insert("address".into(), connected.address.as_str().into());
        forward.insert("listener".into(), connected.listener.into());
        if let Some(ended) = &channel.forward_ended {
            forward.insert("from-client".into(), ended.from_client.into());
            forward.insert("to-client".into(), ended.to_client.into());
            forward.insert("duration-ms".into(), ended.milliseconds.into());
            forward.insert("how".into(), ended.how.as_str().into());
        }
        all.insert("forward".into(), forward.into());
    }
    all.insert("acts".into(), channel.acts.iter().filter_map(act).collect());
    all.into()
}

/// One act; nothing for what is none.
fn act(stamped: &Stamped) -> Option<Value> {
    let mut all = Map::new();
    let mut set = |name: &str, value: Value| all.insert(name.to_owned(), value);
    set("at-ms", ms(stamped.at));
    let mut bytes: Vec<(&str, &[u8])> = Vec::new();
    match &stamped.event {
        Event::Env(env) => {
            set("act", "environment".into());
            set("name", env.name.as_str().into());
            set("accepted", env.accepted.into());
            bytes.push(("value", &env.value));
        }
        Event::Signal(signal) => {
            set("act", "signal".into());
            set("name", signal.name.as_str().into());
        }
        Event::FileOperation(operation) => {
            set("act", "file-operation".into());
            set("operation", operation.operation.as_str().into());
            set("detail", operation.detail.as_str().into());
            set("status", operation.status.into());
            set("result", super::result(operation.status).into());
            bytes.push(("path", &operation.path));
            if !operation.target.is_empty() {
                bytes.push(("target", &operation.target));
            }
        }
        Event::FileClosed(closed) => {
            set("act", "file-closed".into());
            set("read", passed(closed.read.as_ref()));
            set("written", passed(closed.written.as_ref()));
            bytes.push(("path", &closed.path));
        }
        Event::FolderListed(listed) => {
            set("act", "folder-listed".into());
            set("names", listed.names.into());
            bytes.push(("path", &listed.path));
        }
        Event::ForwardFailed(failed) => {
            set("act", "forward-failed".into());
            set("asked", failed.asked.as_str().into());
            set("why", failed.why.as_str().into());
        }
        Event::ListenerOpened(opened) => {
            set("act", "listener-opened".into());
            set("listener", opened.listener.into());
            set("kind", opened.kind.as_str().into());
            set("asked", opened.asked.as_str().into());
            set("addresses", opened.addresses.clone().into());
        }
        Event::ListenerClosed(closed) => {
            set("act", "listener-closed".into());
            set("listener", closed.listener.into());
            set("connections", closed.connections.into());
        }
        Event::Refused(refused) => {
            set("act", "refused".into());
            set("what", refused.what.as_str().into());
            set("why", refused.why.as_str().into());
        }
        Event::Gap(gap) => {
            set("act", "gap".into());
            set("bytes", gap.bytes.into());
            set("why", gap.why.as_str().into());
            set("from-ms", gap.from.map_or(Value::Null, ms));
            set("milliseconds", gap.milliseconds.into());
        }
        Event::Paused(paused) => {
            set("act", "paused".into());
            set("unacknowledged", paused.unacknowledged.into());
            set("milliseconds", paused.milliseconds.into());
            set("pauses", paused.pauses.into());
        }
        Event::Masked(masked) => {
            set("act", "masked".into());
            let stream = masked
                .stream
                .and_then(|stream| STREAMS.get(usize::from(stream)).copied());
            set("stream", stream.into());
            set("at", masked.at.into());
            set("bytes", masked.bytes.into());
            set("name", masked.name.as_str().into());
            set("form", masked.form.as_str().into());
        }
        Event::MasksSet(masks) => {
            set("act", "masks".into());
            set("names", masks.names.clone().into());
        }
        Event::IdeServerSeen(seen) => {
            set("act", "ide-server".into());
            set("product", seen.product.as_str().into());
        }
        _ => return None,
    }
    for (name, bytes) in bytes {
        put(&mut all, name, bytes);
    }
    Some(all.into())
}

fn passed(bytes: Option<&FileBytes>) -> Value {
    bytes.map_or(Value::Null, |passed| {
        json!({
            "bytes": passed.bytes, "from": passed.from, "sequential": passed.sha256.is_some(),
            "sha256": passed.sha256.map(|hash| hex(&hash)),
        })
    })
}

/// Bytes as text, and in hexadecimal where that loses something.
fn put(all: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if text.as_bytes() != bytes {
        all.insert(format!("{name}-hex"), hex(bytes).into());
    }
    all.insert(name.to_owned(), text.into());
}

/// Nanoseconds as milliseconds.
fn ms(nanoseconds: u64) -> Value {
    (nanoseconds / 1_000_000).into()
}
