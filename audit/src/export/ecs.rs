//! Events in the Elastic Common Schema, version 8.11.
//!
//! What the schema has no field for stands in `doorward.<act>`, under our own names: one object for each kind, so that a field
//! never changes its type.

use serde_json::{Map, Value, json};

use super::{
    Entry, Missing, act, address, all_shown, base_name, client_of, lines::log, session_of, shown, shown_bytes, user_of,
    workspace_of,
};
use crate::{block::hex, event::Event, file::FileBytes, time};

pub(super) fn map(entry: &Entry<'_>) -> Value {
    let what = judge(entry.event);
    let act = act(entry.event);
    let mut all = head(entry.unix_ms);
    all.insert("event".into(), what.event(&entry.id(), act.name, log(entry.recorded)));
    all.insert("message".into(), act.name.into());
    if let Some(user) = user_of(entry) {
        all.insert("user".into(), json!({ "name": user }));
        all.insert("related".into(), json!({ "user": [user] }));
    }
    if let Some(client) = client_of(entry) {
        all.insert("source".into(), end(client));
    }
    if let Some(workspace) = workspace_of(entry) {
        all.insert("host".into(), json!({"name": workspace, "hostname": workspace}));
    }
    all.extend(what.more);
    let mut own = json!({ act.name: act.members });
    if let Some(session) = entry
        .about
        .map(|about| about.session)
        .or_else(|| session_of(entry.event))
    {
        own["session"] = json!({ "id": session });
    }
    all.insert("doorward".into(), all_shown(own));
    all.into()
}

pub(super) fn missing(missing: &Missing<'_>) -> Value {
    let what = What::of(&["configuration"], &["error"])
        .outcome(false)
        .reason(missing.why);
    let mut all = head(missing.unix_ms);
    let id = format!("{}:{}", missing.stream, missing.from);
    all.insert("event".into(), what.event(&id, "not-exported", "export"));
    all.insert("message".into(), format!("not exported: {}", shown(missing.why)).into());
    all.into()
}

fn head(unix_ms: u64) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("@timestamp".into(), time::format(unix_ms).into());
    all.insert("ecs".into(), json!({"version": "8.11.0"}));
    let observer =
        json!({"vendor": "Doorward", "product": "Doorward", "type": "proxy", "version": env!("CARGO_PKG_VERSION")});
    all.insert("observer".into(), observer);
    all
}

/// What an event is in the schema's words.
struct What {
    category: &'static [&'static str],
    kind: &'static [&'static str],
    outcome: Option<bool>,
    reason: Option<String>,
    more: Map<String, Value>,
}

impl What {
    fn of(category: &'static [&'static str], kind: &'static [&'static str]) -> Self {
        Self {
            category,
            kind,
            outcome: None,
            reason: None,
            more: Map::new(),
        }
    }

    fn outcome(mut self, good: bool) -> Self {
        self.outcome = Some(good);
        self
    }

    fn reason(mut self, why: &str) -> Self {
        self.reason = (!why.is_empty()).then(|| shown(why));
        self
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn event(&self, id: &str, action: &str, dataset: &str) -> Value {
        let outcome = match self.outcome {
            Some(true) => "success",
            Some(false) => "failure",
            None => "unknown",
        };
        let mut all = json!({
            "kind": "event", "module": "doorward", "dataset": format!("doorward.{dataset}"), "id": id, "action": action,
            "category": self.category, "type": self.kind, "outcome": outcome,
        });
        if let Some(reason) = &self.reason {
            all["reason"] = reason.as_str().into();
        }
        all
    }
}

fn judge(event: &Event) -> What {
    match event {
        Event::SessionOpened(b) => What::of(&["session", "network"], &["start", "connection", "allowed"])
            .outcome(true)
            .with(
                "network",
                json!({"protocol": "ssh", "application": shown(&b.client_version)}),
            ),
        Event::SessionEnded(b) => What::of(&["session", "network"], &["end", "connection"])
            .outcome(true)
            .reason(&b.reason)
            .with(
                "network",
                json!({
                    "protocol": "ssh", "bytes": b.client_bytes.saturating_add(b.agent_bytes),
                }),
            ),
        Event::SessionKilled(b) => What::of(&["session"], &["end"]).outcome(true).reason(&b.reason),
        Event::Denied(b) => match b.user {
            Some(_) => What::of(&["session", "network"], &["denied", "connection"]),
            None => What::of(&["authentication"], &["start", "denied"]),
        }
        .outcome(false)
        .reason(&b.detail)
        .with("error", json!({ "code": shown(&b.code) })),
        Event::LoggedOut(_) => What::of(&["authentication", "session"], &["end"]).outcome(true),
        Event::Signed(_) => What::of(&["iam", "authentication"], &["creation"]).outcome(true),
        Event::BreakGlass(b) => What::of(&["iam", "session"], &["allowed", "admin"])
            .outcome(true)
            .reason(&b.reason),
        Event::RecordingViewed(_) => What::of(&["file"], &["access"]).outcome(true),
        Event::RecordingDeleted(b) => What::of(&["file"], &["deletion"]).outcome(true).reason(&b.why),
        Event::HoldPlaced(b) => What::of(&["configuration"], &["change"])
            .outcome(true)
            .reason(&b.reason),
        Event::ClockDoubted(_) => What::of(&["host"], &["error"]),
        Event::ClockBelieved(b) => What::of(&["host"], &["change"]).outcome(true).reason(&b.why),
        Event::HoldReleased(_) => What::of(&["configuration"], &["change"]).outcome(true),
        Event::Locked(b) => What::of(&["iam"], &["change", "admin"]).outcome(true).reason(&b.reason),
        Event::Unlocked(_) => What::of(&["iam"], &["change", "admin"]).outcome(true),
        Event::AccessLent(_) => What::of(&["iam"], &["info"]).outcome(true),
        Event::WorkspaceWoken(_) => What::of(&["host"], &["start"]).outcome(true),
        Event::WorkspaceKept(_) | Event::KeepReleased(_) => What::of(&["host"], &["change"]).outcome(true),
        Event::EndAnnounced(b) => What::of(&["session"], &["info"]).reason(&b.why),
        Event::Enrolled(_) => What::of(&["host", "iam"], &["creation"]).outcome(true),
        Event::HostCertificateSeen(_) => What::of(&["host", "iam"], &["info"]).outcome(true),
        Event::EnrolRefused(b) => What::of(&["host", "iam"], &["creation"])
            .outcome(false)
            .reason(&b.detail),
        Event::GatewayStarted(_) => What::of(&["process"], &["start"]).outcome(true),
        Event::GatewayStopped(_) => What::of(&["process"], &["end"]).outcome(true),
        Event::LinkUp(_) => What::of(&["network"], &["start", "connection"]).outcome(true),
        Event::LinkDown(b) => What::of(&["network"], &["end", "connection"]).reason(&b.reason),
        Event::Reconciled(b) => What::of(&["session"], &["info"]).outcome(b.agree),
        Event::RecheckSuspended(b) => What::of(&["authentication"], &["error"]).outcome(false).reason(&b.why),
        event => in_session(event),
    }
}

fn in_session(event: &Event) -> What {
    match event {
        Event::Exec(b) => {
            let line = shown_bytes(&b.command);
            let name = line.split_whitespace().next().unwrap_or("command");
            let process = json!({"command_line": line, "name": base_name(name)});
            What::of(&["process"], &["start"])
                .outcome(true)
                .with("process", process)
        }
        Event::Shell(_) => What::of(&["process"], &["start"])
            .outcome(true)
            .with("process", json!({"name": "shell", "interactive": true})),
        Event::Subsystem(b) => What::of(&["process"], &["start"])
            .outcome(true)
            .with("process", json!({"name": shown(&b.name)})),
        Event::Exit(b) => {
            let what = What::of(&["process"], &["end"]).outcome(b.status == Some(0));
            match b.status {
                Some(status) => what.with("process", json!({ "exit_code": status })),
                None => what,
            }
        }
        Event::FileOperation(b) => {
            let kind: &[&str] = match b.operation.as_str() {
                "mkdir" | "symlink" | "hardlink" | "copy-data" => &["creation"],
                "remove" | "rmdir" => &["deletion"],
                "rename" | "setstat" | "fsetstat" | "lsetstat" => &["change"],
                "open" | "opendir" | "stat" | "lstat" | "fstat" | "readlink" => &["access"],
                _ => &["info"],
            };
            let mut about = file(&b.path, None);
            if !b.target.is_empty() {
                about["target_path"] = shown_bytes(&b.target).into();
            }
            What::of(&["file"], kind).outcome(b.status == 0).with("file", about)
        }
        Event::FileClosed(b) => {
            let (kind, passed): (&[&str], _) = match (&b.written, &b.read) {
                (Some(written), _) => (&["change"], Some(written)),
                (None, read) => (&["access"], read.as_ref()),
            };
            What::of(&["file"], kind)
                .outcome(true)
                .with("file", file(&b.path, passed))
        }
        Event::FolderListed(b) => What::of(&["file"], &["access"])
            .outcome(true)
            .with("file", file(&b.path, None)),
        Event::ForwardConnected(b) => What::of(&["network"], &["start", "connection", "allowed"])
            .outcome(true)
            .with("destination", end(&b.address)),
        Event::ForwardEnded(b) => What::of(&["network"], &["end", "connection"])
            .outcome(true)
            .reason(&b.how)
            .with("network", json!({ "bytes": b.from_client.saturating_add(b.to_client) })),
        Event::ForwardFailed(b) => What::of(&["network"], &["connection", "error"])
            .outcome(false)
            .reason(&b.why)
            .with("destination", end(&b.asked)),
        Event::ListenerOpened(_) => What::of(&["network"], &["start"]).outcome(true),
        Event::ListenerClosed(_) => What::of(&["network"], &["end"]).outcome(true),
        Event::Refused(b) => What::of(&["session"], &["denied"]).outcome(false).reason(&b.why),
        Event::Gap(b) => What::of(&["session"], &["error"]).outcome(false).reason(&b.why),
        Event::Ended(b) => What::of(&["session"], &["end"]).outcome(true).reason(&b.reason),
        _ => What::of(&["session"], &["info"]),
    }
}

fn file(path: &[u8], passed: Option<&FileBytes>) -> Value {
    let path = shown_bytes(path);
    let mut all = json!({"name": base_name(&path), "path": path});
    if let Some(passed) = passed {
        all["size"] = passed.bytes.into();
        if let Some(hash) = passed.sha256 {
            all["hash"] = json!({ "sha256": hex(&hash) });
        }
    }
    all
}

fn end(text: &str) -> Value {
    match address(text) {
        Some(address) => {
            let ip = address.ip().to_string();
            json!({"address": ip, "ip": ip, "port": address.port()})
        }
        None => match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(port))) => json!({"address": shown(host), "port": port}),
            _ => json!({"address": shown(text)}),
        },
    }
}
