//! An event as a name and members, for all formats. The names are those of `doorward sessions show --json`.

use serde_json::{Map, Value, json};

use crate::{block::hex, event::Event, file::FileBytes};

/// What happened, with names that stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// The kind.
    pub name: &'static str,
    /// What belongs to it.
    pub members: Map<String, Value>,
}

impl Act {
    /// The channel, if it was in one.
    #[must_use]
    pub fn channel(&self) -> Option<u32> {
        let channel = self.members.get("channel")?.as_u64()?;
        u32::try_from(channel).ok()
    }
}

/// Names an event. Bytes that are not UTF-8 are there twice: `NAME` has U+FFFD in their place, `NAME-hex` has them all.
#[must_use]
pub fn act(event: &Event) -> Act {
    let (name, members) = session(event)
        .or_else(|| files_and_forwards(event))
        .or_else(|| journal(event))
        .unwrap_or_else(|| match event {
            Event::Unknown(unknown) => ("unknown", json!({"kind": unknown.kind, "body-hex": hex(&unknown.body)})),
            other => ("unknown", json!({"kind": other.kind(), "name": other.name()})),
        });
    let mut members = match members {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    // What there is none of is not said.
    members.retain(|_, value| !value.is_null());
    for (name, bytes) in bytes(event) {
        put(&mut members, name, bytes);
    }
    Act { name, members }
}

fn session(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::Opened(b) => {
            let terms: Vec<Value> = b
                .terms
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            let members = json!({
                "session": b.session, "workspace": b.workspace, "workspace-uid": b.workspace_uid, "login": b.login,
                "key-id": b.user, "serial": b.serial, "agent-version": b.agent_version, "terms": terms,
                "client-address": b.client_address,
            });
            ("opened", members)
        }
        Event::ChannelOpened(b) => {
            let (kind, asked) = b.kind.split_once(' ').unzip();
            let kind = kind.unwrap_or(&b.kind);
            (
                "channel-opened",
                json!({"channel": b.channel, "kind": kind, "asked": asked}),
            )
        }
        Event::Pty(b) => {
            let modes: Vec<Value> = b.modes.iter().map(|(code, value)| json!([code, value])).collect();
            let members = json!({"channel": b.channel, "columns": b.cols, "rows": b.rows, "modes": modes});
            ("terminal", members)
        }
        Event::Resized(b) => (
            "resized",
            json!({"channel": b.channel, "columns": b.cols, "rows": b.rows}),
        ),
        Event::Env(b) => (
            "environment",
            json!({"channel": b.channel, "name": b.name, "accepted": b.accepted}),
        ),
        Event::Shell(b) => ("shell", json!({"channel": b.channel})),
        Event::Exec(b) => ("command", json!({"channel": b.channel})),
        Event::Subsystem(b) => ("subsystem", json!({"channel": b.channel, "subsystem": b.name})),
        Event::Output(b) => {
            let bytes = b.bytes.len();
            (
                "output",
                json!({"channel": b.channel, "stream": stream(b.stream), "bytes": bytes}),
            )
        }
        Event::Input(b) => (
            "input",
            json!({"channel": b.channel, "stream": "in", "bytes": b.bytes.len()}),
        ),
        Event::DigestStarted(b) => {
            let members = json!({"channel": b.channel, "stream": stream(b.stream), "at-byte": b.at_byte});
            ("digest-started", members)
        }
        Event::Digest(b) => {
            let hash = hex(&b.sha256);
            let members = json!({"channel": b.channel, "stream": stream(b.stream), "bytes": b.bytes, "sha256": hash});
            ("digest", members)
        }
        Event::Signal(b) => ("signal", json!({"channel": b.channel, "name": b.name})),
        Event::Exit(b) => {
            let members = json!({
                "channel": b.channel, "status": b.status, "signal": b.signal, "core-dumped": b.core_dumped,
            });
            ("exit", members)
        }
        Event::ChannelClosed(b) => ("channel-closed", json!({"channel": b.channel})),
        Event::Refused(b) => ("refused", json!({"channel": b.channel, "what": b.what, "why": b.why})),
        Event::Gap(b) => {
            let from = b.from.map(|from| from / 1_000_000);
            let members = json!({
                "channel": b.channel, "bytes": b.bytes, "why": b.why, "from-ms": from, "milliseconds": b.milliseconds,
            });
            ("gap", members)
        }
        Event::Paused(b) => {
            let members = json!({
                "channel": b.channel, "unacknowledged": b.unacknowledged, "milliseconds": b.milliseconds,
                "pauses": b.pauses,
            });
            ("paused", members)
        }
        Event::Coverage(b) => {
            let members = json!({
                "channels": b.channels, "bytes-seen": b.bytes_seen, "bytes-recorded": b.bytes_recorded,
                "bytes-digested": b.bytes_digested, "client-to-agent": b.client_to_agent,
                "agent-to-client": b.agent_to_client, "not-captured": b.not_captured.clone().unwrap_or_default(),
            });
            ("coverage", members)
        }
        Event::Ended(b) => ("ended", json!({"reason": b.reason, "code": b.code})),
        Event::MasksSet(b) => ("masks", json!({"names": b.names})),
        Event::Masked(b) => {
            let members = json!({
                "channel": b.channel, "stream": b.stream.map(stream), "at": b.at, "bytes": b.bytes, "name": b.name,
                "form": b.form,
            });
            ("masked", members)
        }
        Event::Withheld(b) => {
            let members = json!({"channel": b.channel, "stream": stream(b.stream), "bytes": b.bytes});
            ("withheld", members)
        }
        Event::IdeServerSeen(b) => ("ide-server", json!({"product": b.product})),
        _ => return None,
    })
}

fn files_and_forwards(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::FileOperation(b) => {
            let members = json!({
                "channel": b.channel, "operation": b.operation, "detail": b.detail, "status": b.status,
            });
            ("file-operation", members)
        }
        Event::FileClosed(b) => {
            let members = json!({
                "channel": b.channel, "read": passed(b.read.as_ref()), "written": passed(b.written.as_ref()),
            });
            ("file-closed", members)
        }
        Event::FolderListed(b) => ("folder-listed", json!({"channel": b.channel, "names": b.names})),
        Event::ForwardConnected(b) => {
            let members = json!({
                "channel": b.channel, "listener": b.listener, "asked": b.asked, "address": b.address,
            });
            ("forward-connected", members)
        }
        Event::ForwardEnded(b) => {
            let members = json!({
                "channel": b.channel, "from-client": b.from_client, "to-client": b.to_client,
                "duration-ms": b.milliseconds, "how": b.how,
            });
            ("forward-ended", members)
        }
        Event::ForwardFailed(b) => ("forward-failed", json!({"asked": b.asked, "why": b.why})),
        Event::ListenerOpened(b) => {
            let members = json!({
                "listener": b.listener, "kind": b.kind, "asked": b.asked, "addresses": b.addresses,
            });
            ("listener-opened", members)
        }
        Event::ListenerClosed(b) => (
            "listener-closed",
            json!({"listener": b.listener, "connections": b.connections}),
        ),
        _ => return None,
    })
}

fn journal(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::GatewayStarted(b) => {
            let members = json!({
                "version": b.version, "instance": b.instance, "certificate": b.certificate, "previous": b.previous,
            });
            ("gateway-started", members)
        }
        Event::GatewayStopped(_) => ("gateway-stopped", json!({})),
        Event::Denied(b) => {
            let members = json!({
                "user": b.user, "workspace": b.workspace, "code": b.code, "detail": b.detail,
                "client-address": b.client_address,
            });
            ("denied", members)
        }
        Event::Signed(b) => {
            let members = json!({
                "session": b.session, "user": b.user, "workspace": b.workspace, "serial": b.serial,
                "key-id": b.key_id, "valid-before": b.valid_before,
            });
            ("signed", members)
        }
        Event::SessionOpened(b) => {
            let members = json!({
                "session": b.session, "user": b.user, "workspace": b.workspace, "workspace-uid": b.workspace_uid,
                "login": b.login, "client-address": b.client_address, "client-version": b.client_version,
            });
            ("session-opened", members)
        }
        Event::SessionEnded(b) => {
            let members = json!({
                "session": b.session, "reason": b.reason, "code": b.code, "client-bytes": b.client_bytes,
                "agent-bytes": b.agent_bytes, "record-bytes": b.record_bytes,
            });
            ("session-ended", members)
        }
        Event::HeadCountersigned(b) => {
            let members = json!({"session": b.session, "segment": b.segment, "seq": b.seq, "link": hex(&b.link)});
            ("head-countersigned", members)
        }
        Event::RecordingViewed(b) => (
            "recording-viewed",
            json!({"session": b.session, "user": b.user, "what": b.what}),
        ),
        Event::LinkUp(b) => {
            let members = json!({"workspace": b.workspace, "workspace-uid": b.uid, "agent-version": b.agent_version});
            ("link-up", members)
        }
        Event::LinkDown(b) => ("link-down", json!({"workspace": b.workspace, "reason": b.reason})),
        Event::Enrolled(b) => ("enrolled", json!({"workspace": b.workspace, "workspace-uid": b.uid})),
        Event::HostCertificateSeen(b) => (
            "host-certificate-seen",
            json!({"workspace": b.workspace, "workspace-uid": b.uid, "serial": b.serial, "key-id": b.key_id,
                "authority": b.authority, "valid-before": b.valid_before}),
        ),
        Event::EnrolRefused(b) => (
            "enrol-refused",
            json!({"workspace": b.workspace, "workspace-uid": b.uid, "code": b.code, "detail": b.detail}),
        ),
        Event::SessionKilled(b) => (
            "session-killed",
            json!({"session": b.session, "by": b.by, "reason": b.reason}),
        ),
        Event::Locked(b) => {
            let members = json!({"kind": b.kind, "name": b.name, "by": b.by, "reason": b.reason});
            ("locked", members)
        }
        Event::Unlocked(b) => ("unlocked", json!({"kind": b.kind, "name": b.name, "by": b.by})),
        Event::RecheckSuspended(b) => ("recheck-suspended", json!({"issuer": b.issuer, "why": b.why})),
        Event::LoggedOut(b) => {
            let members = json!({
                "issuer": b.issuer, "subject": b.subject, "login-session": b.login_session, "sessions": b.sessions,
            });
            ("logged-out", members)
        }
        Event::BreakGlass(b) => {
            let members = json!({
                "session": b.session, "user": b.user, "workspace": b.workspace, "reason": b.reason,
            });
            ("break-glass", members)
        }
        Event::Reconciled(b) => {
            let members = json!({
                "session": b.session, "agree": b.agree,
                "agent": {"client-bytes": b.agent_client_bytes, "agent-bytes": b.agent_agent_bytes},
                "gateway": {"client-bytes": b.gateway_client_bytes, "agent-bytes": b.gateway_agent_bytes},
            });
            ("reconciled", members)
        }
        Event::RecordingDeleted(b) => {
            let until = crate::time::format(b.keep_until);
            let members = json!({"session": b.session, "why": b.why, "keep-until": until, "link": hex(&b.link)});
            ("recording-deleted", members)
        }
        Event::ClockDoubted(b) => (
            "clock-doubted",
            json!({
                "clock": crate::time::format(b.clock), "believed": crate::time::format(b.believed), "held-back": b.held_back,
            }),
        ),
        Event::ClockBelieved(b) => (
            "clock-believed",
            json!({
                "clock": crate::time::format(b.clock), "believed": crate::time::format(b.believed), "why": b.why,
            }),
        ),
        Event::HoldPlaced(b) => (
            "hold-placed",
            json!({"session": b.session, "by": b.by, "reason": b.reason}),
        ),
        Event::HoldReleased(b) => ("hold-released", json!({"session": b.session, "by": b.by})),
        Event::WorkspaceWoken(b) => {
            let members = json!({
                "user": b.user, "workspace": b.workspace, "how": b.how, "client-address": b.client_address,
            });
            ("workspace-woken", members)
        }
        Event::WorkspaceKept(b) => {
            let members = json!({
                "user": b.user, "workspace": b.workspace, "workspace-uid": b.workspace_uid,
                "until": crate::time::format(b.until), "client-address": b.client_address,
            });
            ("workspace-kept", members)
        }
        Event::KeepReleased(b) => {
            let members = json!({
                "user": b.user, "workspace": b.workspace, "workspace-uid": b.workspace_uid,
                "client-address": b.client_address,
            });
            ("keep-released", members)
        }
        Event::EndAnnounced(b) => (
            "end-announced",
            json!({"session": b.session, "ends": crate::time::format(b.ends), "why": b.why}),
        ),
        Event::AccessLent(b) => {
            let members = json!({
                "session": b.session, "namespace": b.namespace, "name": b.name, "uid": b.uid,
                "generation": b.generation, "role": b.role,
            });
            ("access-lent", members)
        }
        Event::Anchored(b) => (
            "anchored",
            json!({"log": b.log, "size": b.size, "sha256": hex(&b.sha256), "bytes": b.bytes}),
        ),
        _ => return None,
    })
}

/// What an event holds in bytes, with the names.
fn bytes(event: &Event) -> Vec<(&'static str, &[u8])> {
    match event {
        Event::Opened(b) => vec![("host-certificate", &b.host_certificate[..])],
        Event::Pty(b) => vec![("term", &b.term[..])],
        Event::Env(b) => vec![("value", &b.value[..])],
        Event::Exec(b) => vec![("command", &b.command[..])],
        Event::Output(b) => vec![("text", &b.bytes[..])],
        Event::Input(b) => vec![("text", &b.bytes[..])],
        Event::FileOperation(b) if b.target.is_empty() => vec![("path", &b.path[..])],
        Event::FileOperation(b) => vec![("path", &b.path[..]), ("target", &b.target[..])],
        Event::FileClosed(b) => vec![("path", &b.path[..])],
        Event::FolderListed(b) => vec![("path", &b.path[..])],
        _ => Vec::new(),
    }
}

fn put(all: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    if name == "host-certificate" {
        all.insert(format!("{name}-hex"), hex(bytes).into());
        return;
    }
    let text = String::from_utf8_lossy(bytes);
    if text.as_bytes() != bytes {
        all.insert(format!("{name}-hex"), hex(bytes).into());
    }
    all.insert(name.to_owned(), text.into());
}

fn passed(bytes: Option<&FileBytes>) -> Value {
    bytes.map_or(Value::Null, |passed| {
        json!({
            "bytes": passed.bytes, "from": passed.from, "sequential": passed.sha256.is_some(),
            "sha256": passed.sha256.map(|hash| hex(&hash)),
        })
    })
}

fn stream(number: u8) -> Value {
    match number {
        0 => "in".into(),
        1 => "out".into(),
        2 => "err".into(),
        other => other.into(),
    }
}
