//! A session as text. Whatever comes from the recording is escaped here, piece by piece; names that could be taken for
//! more than they are stand in quotes.

use doorward_audit::{Event, FileBytes, Stamped, hex, printable};

use super::account::{Account, Channel, Stream};
use super::{Proof, terms};
use crate::gateway::Session;
use crate::recording::sessions::{length, state};
use crate::say;

/// Everything.
pub(super) fn of(session: &Session, account: &Account, proof: &Proof<'_>) -> String {
    let mut out = String::new();
    head(&mut out, session, account);
    row(
        &mut out,
        "recording",
        &format!("{}, {}", say::size(session.index.record_bytes), proof.sentence),
    );
    for fault in &proof.faults {
        row(&mut out, "", &plain(&fault.to_string()));
    }
    for note in proof.notes {
        row(&mut out, "", &format!("note: {}", plain(note)));
    }
    for (number, one) in &account.channels {
        channel(&mut out, *number, one);
    }
    if !account.acts.is_empty() {
        out.push_str("\nin no channel\n");
        acts(&mut out, &account.acts);
    }
    if let Some(coverage) = &account.coverage {
        let text = format!(
            "{} channels; {} passed, {} recorded, {} digested",
            coverage.channels,
            say::size(coverage.bytes_seen),
            say::size(coverage.bytes_recorded),
            say::size(coverage.bytes_digested)
        );
        out.push('\n');
        row(&mut out, "coverage", &text);
        for what in coverage.not_captured.iter().flatten() {
            row(&mut out, "", &format!("not captured: {}", plain(what)));
        }
    }
    for (count, what) in [
        (account.unknown, "events of kinds that this version does not know"),
        (account.left_out, "events are not listed, because there are too many"),
    ] {
        if count > 0 {
            row(&mut out, "note", &format!("{count} {what}"));
        }
    }
    out
}

const STREAMS: [&str; 3] = ["in", "out", "err"];

fn head(out: &mut String, session: &Session, account: &Account) {
    let index = &session.index;
    let allowed = account.opened.as_ref().map(|opened| terms::words(&opened.terms));
    let end = account.ended.as_ref();
    let end = end.map(|(_, ended)| format!("{} ({})", ended.reason, ended.code));
    let rows = [
        ("session", index.session.to_string()),
        ("user", index.user.clone()),
        (
            "workspace",
            format!("{} (uid {})", index.workspace, index.workspace_uid),
        ),
        ("login", index.login.clone()),
        ("from", index.client_address.clone().unwrap_or_default()),
        ("started", say::moment(index.started)),
        ("ended", index.ended.map(say::moment).unwrap_or_default()),
        ("length", length(index)),
        ("state", state(index).to_owned()),
        ("reason", end.or_else(|| index.reason.clone()).unwrap_or_default()),
        ("allowed", allowed.unwrap_or_default()),
    ];
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        row(out, name, &plain(value));
    }
}

fn channel(out: &mut String, number: u32, channel: &Channel) {
    let asked = channel.asked().map(|asked| format!(" {}", quoted(asked.as_bytes())));
    let kind = format!("{}{}", plain(channel.name()), asked.unwrap_or_default());
    out.push_str(&format!(
        "\nchannel {number}, {kind}, opened at {}\n",
        seconds(channel.opened)
    ));
    if let Some(pty) = &channel.pty {
        let text = format!(
            "{}x{}, resized {} times, {}",
            pty.cols,
            pty.rows,
            channel.resizes,
            quoted(&pty.term)
        );
        inner(out, "terminal", &text);
    }
    if let Some(runs) = &channel.runs {
        match &runs.event {
            Event::Exec(exec) => inner(out, "command", &printable(&exec.command)),
            Event::Subsystem(subsystem) => inner(out, "subsystem", &plain(&subsystem.name)),
            _ => inner(out, "shell", "started"),
        }
    }
    if let Some((_, exit)) = &channel.exit {
        let how = match (&exit.signal, exit.status) {
            (Some(signal), _) => format!("by signal {}", plain(signal)),
            (None, Some(status)) => format!("{status}"),
            (None, None) => "unknown".to_owned(),
        };
        let core = if exit.core_dumped { ", core dumped" } else { "" };
        let after = channel
            .ran()
            .map(|ran| format!(", after {}", seconds(ran)))
            .unwrap_or_default();
        inner(out, "exit", &format!("{how}{core}{after}"));
    }
    if channel.runs.is_some() && !channel.is_files() {
        for (name, stream) in STREAMS.into_iter().zip(&channel.streams) {
            if name == "out" || stream.bytes() > 0 {
                inner(out, name, &passed(stream));
            }
        }
    }
    if let Some(connected) = &channel.connected {
        let through = connected
            .listener
            .map(|listener| format!(" through listener {listener}"));
        let text = format!(
            "with {}, asked for {}{}",
            quoted(connected.address.as_bytes()),
            quoted(connected.asked.as_bytes()),
            through.unwrap_or_default()
        );
        inner(out, "connected", &text);
    }
    if let Some(ended) = &channel.forward_ended {
        let text = format!(
            "{} from the client, {} to the client, in {}: {}",
            say::size(ended.from_client),
            say::size(ended.to_client),
            seconds(ended.milliseconds.saturating_mul(1_000_000)),
            plain(&ended.how)
        );
        inner(out, "passed", &text);
    }
    acts(out, &channel.acts);
}

fn passed(stream: &Stream) -> String {
    let bytes = say::size(stream.bytes());
    match stream.kept() {
        "whole" => format!("{bytes}, recorded whole"),
        kept => {
            let first = if kept == "digested" {
                "digested".to_owned()
            } else {
                format!("the first {} recorded, digested", say::size(stream.recorded))
            };
            let hash = stream.digest.map(|(_, hash)| format!(", SHA-256 {}", hex(&hash)));
            format!("{bytes}, {first}{}", hash.unwrap_or_default())
        }
    }
}

fn acts(out: &mut String, acts: &[Stamped]) {
    for stamped in acts {
        if let Some((name, text)) = act(&stamped.event) {
            out.push_str(&format!("  {:>9}  {name:<9} {text}\n", seconds(stamped.at)));
        }
    }
}

/// One act: its name, and the rest of its line.
fn act(event: &Event) -> Option<(&'static str, String)> {
    Some(match event {
        Event::Env(env) => {
            let taken = if env.accepted { "" } else { ", not taken" };
            (
                "variable",
                format!("{}={}{taken}", quoted(env.name.as_bytes()), quoted(&env.value)),
            )
        }
        Event::Signal(signal) => ("signal", plain(&signal.name)),
        Event::FileOperation(operation) => {
            let mut text = format!("{} {}", plain(&operation.operation), quoted(&operation.path));
            if !operation.target.is_empty() {
                text.push_str(&format!(" and {}", quoted(&operation.target)));
            }
            if !operation.detail.is_empty() {
                text.push_str(&format!(", {}", plain(&operation.detail)));
            }
            let result = super::result(operation.status);
            let code = if result == "failed" {
                format!(" with {}", operation.status)
            } else {
                String::new()
            };
            ("file", format!("{text}: {result}{code}"))
        }
        Event::FileClosed(closed) => {
            let each = [("read", &closed.read), ("written", &closed.written)];
            let each: Vec<String> = each
                .into_iter()
                .filter_map(|(how, bytes)| Some(file(how, bytes.as_ref()?)))
                .collect();
            ("closed", format!("{}: {}", quoted(&closed.path), each.join("; ")))
        }
        Event::FolderListed(listed) => ("listed", format!("{}: {} names", quoted(&listed.path), listed.names)),
        Event::ForwardFailed(failed) => (
            "failed",
            format!(
                "connection to {}: {}",
                quoted(failed.asked.as_bytes()),
                plain(&failed.why)
            ),
        ),
        Event::ListenerOpened(opened) => {
            let at: Vec<String> = opened
                .addresses
                .iter()
                .map(|address| quoted(address.as_bytes()))
                .collect();
            let asked = format!(", asked for {}", quoted(opened.asked.as_bytes()));
            let asked = if opened.asked.is_empty() { "" } else { &asked };
            let kind = plain(&opened.kind);
            (
                "listener",
                format!("{} opened, {kind}, at {}{asked}", opened.listener, at.join(" ")),
            )
        }
        Event::ListenerClosed(closed) => (
            "listener",
            format!("{} closed after {} connections", closed.listener, closed.connections),
        ),
        Event::Refused(refused) => (
            "refused",
            format!("{}: {}", quoted(refused.what.as_bytes()), plain(&refused.why)),
        ),
        Event::Gap(gap) => {
            let from = gap.from.map(|from| format!(" from {}", seconds(from)));
            let lasted = gap.milliseconds.map(|ms| format!(" within {}", milliseconds(ms)));
            let when = format!("{}{}", from.unwrap_or_default(), lasted.unwrap_or_default());
            (
                "missing",
                format!("{}{when}: {}", say::size(gap.bytes), plain(&gap.why)),
            )
        }
        Event::Paused(paused) => {
            let often = paused.pauses.map(|pauses| format!("{pauses} more times, in all "));
            let lasted = format!("{}for {}", often.unwrap_or_default(), milliseconds(paused.milliseconds));
            let waiting = say::size(paused.unacknowledged);
            (
                "paused",
                format!("{lasted}: {waiting} of the record waited to be stored"),
            )
        }
        Event::Masked(masked) => {
            let place = match masked.stream.and_then(|stream| STREAMS.get(usize::from(stream))) {
                Some(stream) => format!(" in {stream}"),
                None => String::new(),
            };
            let (name, form) = (quoted(masked.name.as_bytes()), plain(&masked.form));
            (
                "masked",
                format!("{} of {name}{place}, {form}", say::size(masked.bytes)),
            )
        }
        Event::MasksSet(masks) => {
            let names: Vec<String> = masks.names.iter().map(|name| quoted(name.as_bytes())).collect();
            ("masks", format!("the values of {}", names.join(" ")))
        }
        Event::IdeServerSeen(seen) => (
            "seen",
            format!("{}: its terminals are not captured", plain(&seen.product)),
        ),
        _ => return None,
    })
}

fn file(how: &str, passed: &FileBytes) -> String {
    let from = if passed.from == 0 {
        String::new()
    } else {
        format!(" from {}", passed.from)
    };
    let hash = match passed.sha256 {
        Some(hash) => format!("SHA-256 {}", hex(&hash)),
        None => "not sequential".to_owned(),
    };
    // To the byte: it is compared with the file.
    format!("{how} {} B{from}, {hash}", passed.bytes)
}

fn plain(text: &str) -> String {
    printable(text.as_bytes())
}

/// In quotes, so that it ends where it ends. A backslash is doubled already.
fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", printable(bytes).replace('"', "\\\""))
}

/// Nanoseconds as seconds.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:03}s", nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1000)
}

fn milliseconds(milliseconds: u64) -> String {
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}

/// A line of the head; the value is escaped already.
fn row(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!("{name:<10} {value}\n"));
}

fn inner(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!("  {name:<9} {value}\n"));
}
