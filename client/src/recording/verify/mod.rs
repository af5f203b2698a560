//! `doorward verify`: from files and public keys alone. Only for a session that is named by its id are the files fetched.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_audit::{Finding, Options, Report, Trust, Verdict, printable, verify_with};
use doorward_certs::{judge_host_at, judge_link_at};
use serde::Serialize;
use serde_json::{Value, json};

use super::Recording;
use crate::cli::VerifyArgs;
use crate::error::Error;
use crate::gateway::CaLines;
use crate::home::Home;
use crate::{login, say};

/// Verifies each recording, says what it found, and fails if any of them is not what it should be.
pub(crate) async fn verify(home: &Home, args: &VerifyArgs) -> Result<(), Error> {
    let path = args.trust.clone().unwrap_or_else(|| home.trust());
    let trust = trust(&login::stored_trust(&path)?)?;
    let mut reports = Vec::new();
    let mut bad = 0;
    for what in &args.recordings {
        let report = one(home, what, &trust, args.allow_open).await?;
        bad += usize::from(!report.ok);
        if args.json {
            reports.push(as_json(what, &report));
        } else {
            say::print(&describe(what, &report))?;
        }
    }
    if args.json {
        say::print_json(&reports)?;
    }
    match bad {
        0 => Ok(()),
        1 if args.recordings.len() == 1 => Err(Error::Unproven("the recording is not to be trusted".to_owned())),
        _ => Err(Error::Unproven(format!(
            "{bad} of {} recordings are not to be trusted",
            args.recordings.len()
        ))),
    }
}

async fn one(home: &Home, what: &OsStr, trust: &Trust, allow_open: bool) -> Result<Report, Error> {
    let recording = Recording::find(home, what).await?;
    let options = Options {
        allow_open,
        session: recording.session(),
        ..Options::default()
    };
    Ok(verify_with(recording.folder(), trust, &options))
}

/// Certificates are judged as they were at the time of the signature.
pub(super) fn trust(lines: &CaLines) -> Result<Trust, Error> {
    let bad = |what: String| Error::Configuration(format!("the trusted CA keys: {what}"));
    let (host, user) = (lines.host_keys().map_err(bad)?, lines.user_keys().map_err(bad)?);
    Ok(Trust {
        agent_key: Box::new(move |blob, unix_ms| {
            judge_host_at(blob, &host, time(unix_ms)).map_err(|refusal| refusal.to_string())
        }),
        gateway_key: Box::new(move |text, unix_ms| {
            judge_link_at(text, &user, time(unix_ms)).map_err(|refusal| refusal.to_string())
        }),
    })
}

fn time(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(unix_ms))
        .unwrap_or(UNIX_EPOCH)
}

pub(super) fn verdict(report: &Report) -> &'static str {
    match report.verdict() {
        Verdict::Complete => "complete",
        Verdict::Abnormal => "abnormal",
        Verdict::Open => "open",
        Verdict::Bad => "bad",
    }
}

/// The verdict as a sentence.
pub(super) fn sentence(report: &Report) -> &'static str {
    match report.verdict() {
        Verdict::Complete => "ok: whole, unaltered and signed to its end",
        Verdict::Abnormal => {
            "ok: what was stored is whole and signed, but the session ended abnormally, without its last signature"
        }
        Verdict::Open => "ok so far: the session has not ended",
        Verdict::Bad => "NOT OK",
    }
}

fn describe(what: &OsStr, report: &Report) -> String {
    let sum = sentence(report);
    let what = printable(what.as_encoded_bytes());
    let mut text = format!(
        "{what}: {sum} ({} blocks, {})\n",
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
    for note in &report.notes {
        text.push_str(&format!("  note: {}\n", printable(note.as_bytes())));
    }
    text
}

/// A finding as the JSON of `verify` and `sessions show` has it.
#[derive(Debug, Serialize)]
pub(super) struct Found<'a> {
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

fn as_json(what: &OsStr, report: &Report) -> Value {
    let findings: Vec<Found<'_>> = report.findings.iter().map(Found::from).collect();
    json!({
        "recording": what.to_string_lossy(),
        "session": report.session,
        "ok": report.ok,
        "verdict": verdict(report),
        "outcome": report.outcome,
        "blocks": report.blocks,
        "bytes": report.bytes,
        "findings": findings,
        "notes": report.notes,
    })
}
