//! What was verified and what came out, for people and for programs.

use std::path::Path;

use doorward_audit::{Agreement, Class as FaultClass, Finding, Report, Verdict, printable};
use serde::Serialize;
use serde_json::{Value, json};

use super::class::Class;
use crate::error::Error;
use crate::say;

/// One thing that was verified.
#[derive(Debug)]
pub(super) struct Item {
    /// A session, a folder, a file or a log, as it is named to people.
    pub(super) name: String,
    pub(super) class: Class,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// A recording that is there.
    Recording(Box<Report>),
    /// A session without a recording: why that is as it is.
    Absent { session: uuid::Uuid, text: String },
    /// A file that is no bundle, and why.
    NoBundle(String),
    /// A folder that could not be read, or in which nothing is.
    Folder { session: Option<uuid::Uuid>, text: String },
    /// A log: how many leaves, and what is wrong with it or noteworthy.
    Log {
        size: u64,
        findings: Vec<String>,
        notes: Vec<String>,
    },
}

impl Item {
    pub(super) fn recording(name: String, report: Report) -> Self {
        // Nothing of it is there, not even a word on that.
        let nothing = report.blocks == 0
            && report
                .findings
                .iter()
                .any(|finding| finding.class == FaultClass::MissingSegment);
        let class = if nothing { Class::Missing } else { Class::from(&report) };
        Self {
            name,
            class,
            what: What::Recording(Box::new(report)),
        }
    }

    /// A folder that cannot be looked into, of a session or of more.
    pub(super) fn unreadable(folder: &Path, session: Option<uuid::Uuid>, error: &Error) -> Self {
        Self {
            name: folder.display().to_string(),
            class: Class::Unreadable,
            what: What::Folder {
                session,
                text: format!("NOT READABLE: {}", chain(error)),
            },
        }
    }

    /// A folder without anything in it. Where a `log` is at hand that names what should be there, this is no news.
    pub(super) fn empty(folder: &Path, log: bool) -> Self {
        let (class, text) = match log {
            true => (Class::Complete, "empty"),
            false => (
                Class::Missing,
                "NOTHING HERE: neither a recording nor a journal nor a log, and no log was given that would say what should be",
            ),
        };
        Self {
            name: folder.display().to_string(),
            class,
            what: What::Folder {
                session: None,
                text: text.to_owned(),
            },
        }
    }

    /// A session that the gateway cannot give.
    pub(super) fn not_given(session: uuid::Uuid, error: &Error) -> Self {
        Self {
            name: session.to_string(),
            class: Class::Unreadable,
            what: What::Absent {
                session,
                text: format!("NOT READABLE: {}", chain(error)),
            },
        }
    }

    pub(super) fn no_bundle(name: String, text: String) -> Self {
        Self {
            name,
            class: Class::Bad,
            what: What::NoBundle(text),
        }
    }

    /// For people, one line and what belongs to it.
    pub(super) fn describe(&self) -> String {
        let name = printable(self.name.as_bytes());
        match &self.what {
            What::Recording(report) => describe(&name.to_string(), self.class, report),
            What::Absent { text, .. } | What::Folder { text, .. } => {
                format!("{name}: {}\n", printable(text.as_bytes()))
            }
            What::NoBundle(text) => format!("{name}: NOT OK\n  bad: {}\n", printable(text.as_bytes())),
            What::Log { size, findings, notes } => {
                let sum = match self.class {
                    Class::Complete => "ok: signed, and it only ever grew",
                    Class::Missing => "ROLLED BACK",
                    Class::Untrusted => "NOT TRUSTED: signed by somebody else's key",
                    _ => "NOT OK",
                };
                let mut text = format!("{name}: {sum} ({size} leaves)\n");
                for finding in findings {
                    text += &format!("  {}: {}\n", self.class.as_str(), printable(finding.as_bytes()));
                }
                for note in notes {
                    text += &format!("  note: {}\n", printable(note.as_bytes()));
                }
                text
            }
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let class = self.class.as_str();
        match &self.what {
            What::Recording(report) => {
                let findings: Vec<Found<'_>> = report.findings.iter().map(Found::from).collect();
                json!({
                    "recording": self.name,
                    "session": report.session,
                    "journal": report.is_journal,
                    "class": class,
                    "ok": report.ok,
                    "verdict": super::verdict(report),
                    "outcome": report.outcome,
                    "blocks": report.blocks,
                    "bytes": report.bytes,
                    "reconciliation": report.reconciliation,
                    "findings": findings,
                    "notes": report.notes,
                })
            }
            What::Absent { session, text } => json!({
                "recording": self.name,
                "session": session,
                "class": class,
                "ok": self.class == Class::Complete,
                "text": text,
            }),
            What::Folder { session, text } => json!({
                "recording": self.name,
                "session": session,
                "class": class,
                "ok": self.class == Class::Complete,
                "text": text,
            }),
            What::NoBundle(text) => json!({
                "bundle": self.name,
                "class": class,
                "ok": false,
                "text": text,
            }),
            What::Log { size, findings, notes } => json!({
                "log": self.name,
                "class": class,
                "ok": self.class == Class::Complete,
                "size": size,
                "findings": findings,
                "notes": notes,
            }),
        }
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}

fn describe(name: &str, class: Class, report: &Report) -> String {
    let sum = match report.verdict() {
        Verdict::Open if report.is_journal => "ok so far: the journal goes on",
        Verdict::Open => "ok so far: the session has not ended",
        _ => class.sentence(),
    };
    let mut text = format!(
        "{name}: {sum} ({} blocks, {})\n",
        report.blocks,
        say::size(report.bytes)
    );
    for finding in &report.findings {
        let (class, place) = (finding.class.code(), finding.place);
        let at = format!(
            "segment {}, block {}, offset {}",
            place.segment, place.seq, place.offset
        );
        text.push_str(&format!("  {class} at {at}: {}\n", printable(finding.text.as_bytes())));
    }
    if let Some(both) = &report.reconciliation {
        let (client, agent) = both.differences();
        text.push_str(&match both.agreement {
            Agreement::Agree => format!(
                "  counts agree: the gateway relayed {} from the client and {} from the workspace\n",
                say::size(both.gateway_client_bytes),
                say::size(both.gateway_agent_bytes)
            ),
            Agreement::Differ => format!(
                "  COUNTS DIFFER: the gateway relayed {client} bytes from the client and {agent} bytes from the workspace \
                 more than the agent counts\n"
            ),
        });
    }
    for note in &report.notes {
        text.push_str(&format!("  note: {}\n", printable(note.as_bytes())));
    }
    text
}

/// A finding as the JSON of `verify` and `sessions show` has it.
#[derive(Debug, Serialize)]
pub(crate) struct Found<'a> {
    class: &'a str,
    segment: u32,
    block: u64,
    offset: u64,
    text: &'a str,
}

impl<'a> From<&'a Finding> for Found<'a> {
    fn from(finding: &'a Finding) -> Self {
        Self {
            class: finding.class.code(),
            segment: finding.place.segment,
            block: finding.place.seq,
            offset: finding.place.offset,
            text: &finding.text,
        }
    }
}
