//! Events in the Open Cybersecurity Schema Framework, version 1.3.
//!
//! Every event has a class; those for which the schema has none are base events (class 0). What the class has no place for
//! stands in `unmapped`, under our own names.

use serde_json::{Map, Value, json};

use super::{
    Entry, Missing, act, address, all_shown, base_name, client_of, lines::log, session_of, shown, shown_bytes, user_of,
    workspace_of,
};
use crate::{
    block::hex,
    event::Event,
    file::{FileBytes, FileClosed, FileOperation},
};

pub(super) fn map(entry: &Entry<'_>) -> Value {
    let what = judge(entry);
    let act = act(entry.event);
    let mut all = what.head(entry.unix_ms);
    let session = entry
        .about
        .map(|about| about.session)
        .or_else(|| session_of(entry.event));
    let user = user_of(entry);
    let workspace = workspace_of(entry);
    all.insert(
        "metadata".into(),
        metadata(
            &entry.id(),
            log(entry.recorded),
            act.name,
            session.map(|id| id.to_string()),
        ),
    );
    let who = match (&user, &workspace) {
        (Some(user), Some(workspace)) => format!("{user} in {workspace}: "),
        (Some(one), None) | (None, Some(one)) => format!("{one}: "),
        (None, None) => String::new(),
    };
    all.insert("message".into(), format!("{who}{}", act.name).into());
    let person = json!({ "name": user.as_deref().unwrap_or("unknown") });
    match what.class.category {
        // Identity and access management speaks of the user, the others of an actor on a device.
        3 if what.class.uid != 3004 => {
            all.insert("user".into(), person);
        }
        _ => {
            all.insert("actor".into(), json!({ "user": person }));
        }
    }
    if let Some(id) = session {
        all.insert("session".into(), json!({"uid": id, "is_remote": true}));
    }
    if let Some(workspace) = &workspace {
        // 6 is a virtual device.
        all.insert("device".into(), json!({"hostname": workspace, "type_id": 6}));
        all.insert("dst_endpoint".into(), json!({ "hostname": workspace }));
    }
    if let Some(client) = client_of(entry) {
        all.insert("src_endpoint".into(), endpoint(client));
    }
    all.extend(what.more);
    all.insert("unmapped".into(), all_shown(json!({ act.name: act.members })));
    all.into()
}

pub(super) fn missing(missing: &Missing<'_>) -> Value {
    let what = What::of(BASE, 99, "Other").severe(4).failed(missing.why);
    let mut all = what.head(missing.unix_ms);
    let id = format!("{}:{}", missing.stream, missing.from);
    all.insert("metadata".into(), metadata(&id, "export", "not-exported", None));
    all.insert("message".into(), format!("not exported: {}", shown(missing.why)).into());
    all.extend(what.more);
    all.into()
}

fn metadata(id: &str, log: &str, act: &str, session: Option<String>) -> Value {
    let mut all = json!({
        "version": "1.3.0", "uid": id, "log_name": log, "event_code": act, "profiles": ["host"],
        "product": {"name": "Doorward", "vendor_name": "Doorward", "version": env!("CARGO_PKG_VERSION")},
    });
    if let Some(session) = session {
        all["correlation_uid"] = session.into();
    }
    all
}

#[derive(Clone, Copy)]
struct Class {
    uid: u32,
    name: &'static str,
    category: u32,
    category_name: &'static str,
}

const fn class(uid: u32, name: &'static str, category: u32, category_name: &'static str) -> Class {
    Class {
        uid,
        name,
        category,
        category_name,
    }
}

const BASE: Class = class(0, "Base Event", 0, "Uncategorized");
const FILE: Class = class(1001, "File System Activity", 1, "System Activity");
const PROCESS: Class = class(1007, "Process Activity", 1, "System Activity");
const AUTHENTICATION: Class = class(3002, "Authentication", 3, "Identity & Access Management");
const AUTHORIZE: Class = class(3003, "Authorize Session", 3, "Identity & Access Management");
const ENTITY: Class = class(3004, "Entity Management", 3, "Identity & Access Management");
const NETWORK: Class = class(4001, "Network Activity", 4, "Network Activity");
const SSH: Class = class(4007, "SSH Activity", 4, "Network Activity");
const LIFECYCLE: Class = class(6002, "Application Lifecycle", 6, "Application Activity");

/// What an event is in the schema's words.
struct What {
    class: Class,
    activity: (u32, &'static str),
    severity: u32,
    status: Option<bool>,
    more: Map<String, Value>,
}

impl What {
    fn of(class: Class, activity: u32, name: &'static str) -> Self {
        Self {
            class,
            activity: (activity, name),
            severity: 1,
            status: None,
            more: Map::new(),
        }
    }

    fn severe(mut self, severity: u32) -> Self {
        self.severity = severity;
        self
    }

    fn good(mut self) -> Self {
        self.status = Some(true);
        self
    }

    fn failed(mut self, why: &str) -> Self {
        self.status = Some(false);
        self.with("status_detail", shown(why))
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn head(&self, unix_ms: u64) -> Map<String, Value> {
        let (activity, activity_name) = self.activity;
        let severity = match self.severity {
            2 => "Low",
            3 => "Medium",
            4 => "High",
            _ => "Informational",
        };
        let mut all = Map::new();
        let mut set = |name: &str, value: Value| all.insert(name.to_owned(), value);
        set("time", unix_ms.into());
        set("class_uid", self.class.uid.into());
        set("class_name", self.class.name.into());
        set("category_uid", self.class.category.into());
        set("category_name", self.class.category_name.into());
        set("activity_id", activity.into());
        set("activity_name", activity_name.into());
        set("type_uid", (self.class.uid * 100 + activity).into());
        set("type_name", format!("{}: {activity_name}", self.class.name).into());
        set("severity_id", self.severity.into());
        set("severity", severity.into());
        if let Some(good) = self.status {
            set("status_id", if good { 1 } else { 2 }.into());
            set("status", if good { "Success" } else { "Failure" }.into());
        }
        all
    }
}

fn judge(entry: &Entry<'_>) -> What {
    match entry.event {
        Event::SessionOpened(b) => What::of(SSH, 1, "Open")
            .good()
            .with("auth_type_id", 1)
            .with("auth_type", "Certificate Based")
            .with("app_name", shown(&b.client_version)),
        Event::SessionEnded(b) => {
            let traffic = json!({
                "bytes_in": b.client_bytes, "bytes_out": b.agent_bytes,
                "bytes": b.client_bytes.saturating_add(b.agent_bytes),
            });
            What::of(SSH, 2, "Close")
                .with("status_code", shown(&b.code))
                .with("status_detail", shown(&b.reason))
                .with("traffic", traffic)
        }
        Event::SessionKilled(b) => What::of(SSH, 3, "Reset")
            .severe(3)
            .with("status_detail", shown(&b.reason)),
        // Whoever proved who they are was refused the session, the others the login.
        Event::Denied(b) => match b.user {
            Some(_) => What::of(SSH, 5, "Refuse"),
            None => What::of(AUTHENTICATION, 1, "Logon")
                .with("service", json!({"name": "doorward"}))
                .with("is_remote", true),
        }
        .severe(2)
        .failed(&b.detail)
        .with("status_code", shown(&b.code)),
        Event::LoggedOut(b) => What::of(AUTHENTICATION, 2, "Logoff")
            .good()
            .with("service", json!({"name": shown(&b.issuer)})),
        Event::Signed(b) => What::of(AUTHORIZE, 1, "Assign Privileges")
            .good()
            .with("privileges", json!(["ssh"]))
            .with(
                "session",
                json!({
                    "uid": b.session, "credential_uid": shown(&b.key_id), "is_remote": true,
                    "expiration_time": b.valid_before.saturating_mul(1000),
                }),
            ),
        Event::BreakGlass(b) => What::of(AUTHORIZE, 1, "Assign Privileges")
            .severe(4)
            .good()
            .with("privileges", json!(["break-glass"]))
            .with("status_detail", shown(&b.reason)),
        Event::RecordingViewed(b) => What::of(ENTITY, 2, "Read").good().with(
            "entity",
            json!({"type": "recording", "uid": b.session, "name": shown(&b.what)}),
        ),
        Event::RecordingDeleted(b) => What::of(ENTITY, 4, "Delete")
            .good()
            .with("entity", json!({"type": "recording", "uid": b.session}))
            .with("comment", shown(&b.why)),
        Event::HoldPlaced(b) => What::of(ENTITY, 3, "Update")
            .good()
            .with("entity", json!({"type": "recording", "uid": b.session}))
            .with("comment", shown(&b.reason)),
        Event::HoldReleased(b) => What::of(ENTITY, 3, "Update")
            .severe(3)
            .good()
            .with("entity", json!({"type": "recording", "uid": b.session})),
        Event::Locked(b) => What::of(ENTITY, 3, "Update")
            .severe(3)
            .good()
            .with("entity", json!({"type": shown(&b.kind), "name": shown(&b.name)}))
            .with("comment", shown(&b.reason)),
        Event::Unlocked(b) => What::of(ENTITY, 3, "Update")
            .good()
            .with("entity", json!({"type": shown(&b.kind), "name": shown(&b.name)})),
        Event::WorkspaceWoken(b) => What::of(ENTITY, 3, "Update")
            .good()
            .with("entity", json!({"type": "workspace", "name": shown(&b.workspace)}))
            .with("comment", shown(&b.how)),
        Event::WorkspaceKept(b) => What::of(ENTITY, 3, "Update")
            .good()
            .with("entity", workspace(&b.workspace, &b.workspace_uid))
            .with("comment", format!("kept until {}", crate::time::format(b.until))),
        Event::KeepReleased(b) => What::of(ENTITY, 3, "Update")
            .good()
            .with("entity", workspace(&b.workspace, &b.workspace_uid)),
        Event::AccessLent(b) => What::of(ENTITY, 2, "Read").good().with(
            "entity",
            json!({
                "type": "WorkspaceAccess", "name": shown(&format!("{}/{}", b.namespace, b.name)), "uid": shown(&b.uid),
            }),
        ),
        Event::Enrolled(b) => What::of(ENTITY, 1, "Create").good().with(
            "entity",
            json!({"type": "workspace", "name": shown(&b.workspace), "uid": shown(&b.uid)}),
        ),
        Event::HostCertificateSeen(b) => What::of(ENTITY, 3, "Update")
            .good()
            .with("entity", workspace(&b.workspace, &b.uid))
            .with(
                "comment",
                shown(&format!("host certificate {} by {}", b.serial, b.authority)),
            ),
        Event::EnrolRefused(b) => What::of(ENTITY, 1, "Create")
            .severe(2)
            .failed(&b.detail)
            .with("status_code", shown(&b.code))
            .with(
                "entity",
                json!({"type": "workspace", "name": shown(&b.workspace), "uid": shown(&b.uid)}),
            ),
        Event::GatewayStarted(b) => lifecycle(3, "Start", &b.version),
        Event::GatewayStopped(_) => lifecycle(4, "Stop", env!("CARGO_PKG_VERSION")),
        Event::LinkUp(_) => What::of(NETWORK, 1, "Open").good(),
        Event::LinkDown(b) => What::of(NETWORK, 2, "Close").with("status_detail", shown(&b.reason)),
        Event::Reconciled(b) if !b.agree => What::of(BASE, 99, "Other")
            .severe(4)
            .failed("the agent and the gateway counted differently"),
        Event::ClockDoubted(_) => What::of(BASE, 99, "Other").severe(4),
        Event::ClockBelieved(_) => What::of(BASE, 99, "Other").good(),
        Event::RecheckSuspended(b) => What::of(BASE, 99, "Other").severe(3).failed(&b.why),
        event => in_session(entry, event),
    }
}

fn workspace(name: &str, uid: &str) -> Value {
    json!({"type": "workspace", "name": shown(name), "uid": shown(uid)})
}

fn lifecycle(activity: u32, name: &'static str, version: &str) -> What {
    let app = json!({"name": "doorward-gateway", "vendor_name": "Doorward", "version": shown(version)});
    What::of(LIFECYCLE, activity, name).good().with("app", app)
}

fn in_session(entry: &Entry<'_>, event: &Event) -> What {
    let process = |channel: u32| format!("{}:{channel}", entry.stream);
    match event {
        Event::Exec(b) => {
            let line = shown_bytes(&b.command);
            let name = line.split_whitespace().next().unwrap_or("command");
            let process = json!({"uid": process(b.channel), "name": base_name(name), "cmd_line": line});
            What::of(PROCESS, 1, "Launch").good().with("process", process)
        }
        Event::Shell(b) => {
            let process = json!({"uid": process(b.channel), "name": "shell"});
            What::of(PROCESS, 1, "Launch").good().with("process", process)
        }
        Event::Subsystem(b) => {
            let process = json!({"uid": process(b.channel), "name": shown(&b.name)});
            What::of(PROCESS, 1, "Launch").good().with("process", process)
        }
        Event::Exit(b) => {
            let process = json!({"uid": process(b.channel), "name": "command"});
            let what = What::of(PROCESS, 2, "Terminate").with("process", process);
            match b.status {
                Some(status) => what.with("exit_code", status),
                None => what,
            }
        }
        Event::FileOperation(b) => operation(b),
        Event::FileClosed(b) => closed(b),
        Event::FolderListed(b) => What::of(FILE, 2, "Read").good().with("file", file(&b.path, 2, None)),
        Event::ForwardConnected(b) => What::of(NETWORK, 1, "Open")
            .good()
            .with("connection_info", json!({"uid": process(b.channel), "direction_id": 0}))
            .with("dst_endpoint", endpoint(&b.address)),
        Event::ForwardEnded(b) => {
            let traffic = json!({
                "bytes_in": b.from_client, "bytes_out": b.to_client, "bytes": b.from_client.saturating_add(b.to_client),
            });
            What::of(NETWORK, 2, "Close")
                .with("connection_info", json!({"uid": process(b.channel), "direction_id": 0}))
                .with("duration", b.milliseconds)
                .with("status_detail", shown(&b.how))
                .with("traffic", traffic)
        }
        Event::ForwardFailed(b) => What::of(NETWORK, 4, "Fail")
            .failed(&b.why)
            .with("dst_endpoint", endpoint(&b.asked)),
        Event::ListenerOpened(b) => {
            let at = b.addresses.first().map_or(b.asked.as_str(), String::as_str);
            What::of(NETWORK, 7, "Listen").good().with("dst_endpoint", endpoint(at))
        }
        Event::Refused(b) => What::of(SSH, 5, "Refuse").severe(2).failed(&b.why),
        Event::Gap(_) => What::of(BASE, 99, "Other").severe(3),
        _ => What::of(BASE, 99, "Other"),
    }
}

fn operation(b: &FileOperation) -> What {
    let (activity, name, kind) = match b.operation.as_str() {
        "open" => (14, "Open", 1),
        "opendir" => (14, "Open", 2),
        "mkdir" => (1, "Create", 2),
        "symlink" | "hardlink" | "copy-data" => (1, "Create", 1),
        "remove" => (4, "Delete", 1),
        "rmdir" => (4, "Delete", 2),
        "rename" => (5, "Rename", 1),
        "setstat" | "fsetstat" | "lsetstat" => (6, "Set Attributes", 1),
        "stat" | "lstat" | "fstat" => (8, "Get Attributes", 1),
        _ => (99, "Other", 0),
    };
    let what = What::of(FILE, activity, name).with("file", file(&b.path, kind, None));
    let what = match b.target.is_empty() {
        true => what,
        false => what.with("file_result", file(&b.target, kind, None)),
    };
    match b.status {
        0 => what.good(),
        status => what
            .failed("the workspace refused the operation")
            .with("status_code", status.to_string()),
    }
}

fn closed(b: &FileClosed) -> What {
    let (activity, name, passed) = match (&b.written, &b.read) {
        (Some(written), _) => (3, "Update", Some(written)),
        (None, read) => (2, "Read", read.as_ref()),
    };
    What::of(FILE, activity, name)
        .good()
        .with("file", file(&b.path, 1, passed))
}

fn file(path: &[u8], kind: u32, passed: Option<&FileBytes>) -> Value {
    let path = shown_bytes(path);
    let mut all = json!({"name": base_name(&path), "path": path, "type_id": kind});
    if let Some(passed) = passed {
        all["size"] = passed.bytes.into();
        if let Some(hash) = passed.sha256 {
            all["hashes"] = json!([{"algorithm": "SHA-256", "algorithm_id": 3, "value": hex(&hash)}]);
        }
    }
    all
}

fn endpoint(text: &str) -> Value {
    match address(text) {
        Some(address) => json!({"ip": address.ip().to_string(), "port": address.port()}),
        None => match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(port))) => json!({"hostname": shown(host), "port": port}),
            _ => json!({"hostname": shown(text)}),
        },
    }
}
