//! `doorward sessions show`: what a session did, from its recording. Nothing of the recording is shown unescaped.

mod account;
mod json;
mod terms;
mod text;

use doorward_audit::{Class, Fault, Options, Report, Verdict, verify_with};
use uuid::Uuid;

use self::account::{Account, Channel};
use super::verify::Found;
use super::{Recording, verify};
use crate::error::Error;
use crate::gateway::{Gateway, Session};
use crate::home::Home;
use crate::home::settings::Settings;
use crate::{login, say};

/// Shows one session.
///
/// # Errors
/// [`Error::Unproven`] after everything that could be read, where the recording is not whole.
pub(crate) async fn show(home: &Home, id: Uuid, json: bool) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let gateway = Gateway::configured(home, &settings)?;
    let pass = login::pass(home, &settings).await?;
    let mut session = gateway.session(&pass, id).await?;
    let recording = Recording::find(home, id.to_string().as_ref()).await?;
    let open = session.index.outcome.is_none();
    let report = report(home, &recording, open)?;
    let (account, fault) = read(&recording);
    believe(&mut session, &account);
    let proof = Proof::of(report.as_ref(), fault.as_ref());
    if json {
        say::print_json(&json::of(&session, &account, &proof))?;
    } else {
        say::print(&text::of(&session, &account, &proof))?;
    }
    if proof.verdict == "bad" {
        return Err(Error::Unproven {
            exit: verify::EXIT_BAD,
            text: "the recording is not whole, or not to be trusted".to_owned(),
        });
    }
    Ok(())
}

/// What is proved of the recording.
#[derive(Debug)]
struct Proof<'a> {
    verdict: &'static str,
    sentence: &'static str,
    findings: Vec<Found<'a>>,
    faults: Vec<&'a Fault>,
    notes: &'a [String],
}

impl<'a> Proof<'a> {
    fn of(report: Option<&'a Report>, fault: Option<&'a Fault>) -> Self {
        let Some(report) = report else {
            let faults: Vec<&Fault> = fault.into_iter().collect();
            let (verdict, sentence) = if faults.is_empty() {
                (
                    "unchecked",
                    "signatures not checked: no CA keys are known; log in again",
                )
            } else {
                ("bad", "NOT OK")
            };
            let findings = faults.iter().map(|fault| Found::from(*fault)).collect();
            return Self {
                verdict,
                sentence,
                findings,
                faults,
                notes: &[],
            };
        };
        let mut faults: Vec<&Fault> = report.findings.iter().collect();
        let mut verdict = (verify::verdict(report), verify::sentence(report));
        // The last block of an open session may be on its way; verification knows that and reading does not.
        let more = fault.filter(|fault| !(report.verdict() == Verdict::Open && fault.class == Class::Truncated));
        if let (true, Some(fault)) = (faults.is_empty(), more) {
            faults.push(fault);
            verdict = ("bad", "NOT OK");
        }
        let findings = faults.iter().map(|fault| Found::from(*fault)).collect();
        Self {
            verdict: verdict.0,
            sentence: verdict.1,
            findings,
            faults,
            notes: &report.notes,
        }
    }
}

/// The verification, if there are keys to do it with.
fn report(home: &Home, recording: &Recording, open: bool) -> Result<Option<Report>, Error> {
    let path = home.trust();
    if !path.exists() {
        return Ok(None);
    }
    let trust = verify::trust(&login::stored_trust(&path)?)?;
    let options = Options {
        allow_open: open,
        session: recording.session(),
        ..Options::default()
    };
    Ok(Some(verify_with(recording.folder(), &trust, &options)))
}

/// Reads as far as the recording is in order; the fault is what ended it.
fn read(recording: &Recording) -> (Account, Option<Fault>) {
    let mut account = Account::default();
    // Without a first segment there is nothing to read, and verification has said so.
    if let Ok(events) = recording.events() {
        for event in events {
            match event {
                Ok(event) => account.add(event),
                Err(fault) => return (account, Some(fault)),
            }
        }
    }
    (account, None)
}

/// What the recording says of its session counts more than what the gateway's list says.
fn believe(session: &mut Session, account: &Account) {
    if let Some(opened) = &account.opened {
        let index = &mut session.index;
        // the key id of the certificate: `user=NAME session=ID`
        let named = opened
            .user
            .strip_prefix("user=")
            .and_then(|rest| rest.rsplit_once(" session="));
        named
            .map_or(opened.user.as_str(), |(user, _)| user)
            .clone_into(&mut index.user);
        index.workspace.clone_from(&opened.workspace);
        index.workspace_uid.clone_from(&opened.workspace_uid);
        index.login.clone_from(&opened.login);
        index.started = opened.started_unix_ms;
        if !opened.client_address.is_empty() {
            index.client_address = Some(opened.client_address.clone());
        }
    }
}

impl Channel {
    /// The kind by itself.
    fn name(&self) -> &str {
        self.kind.split_once(' ').map_or(&self.kind, |(name, _)| name)
    }

    /// What a forward was asked for.
    fn asked(&self) -> Option<&str> {
        self.kind.split_once(' ').map(|(_, asked)| asked)
    }

    /// Whether it is a channel of files, whose bytes are told file by file.
    fn is_files(&self) -> bool {
        let runs = self.runs.as_ref().map(|runs| &runs.event);
        matches!(runs, Some(doorward_audit::Event::Subsystem(subsystem)) if subsystem.name == "sftp")
    }

    /// How long the program ran, in nanoseconds.
    fn ran(&self) -> Option<u64> {
        let (runs, (ended, _)) = (self.runs.as_ref()?, self.exit.as_ref()?);
        Some(ended.saturating_sub(runs.at))
    }
}

/// An answer's code (draft-ietf-secsh-filexfer-02, 7) in words.
fn result(status: u32) -> &'static str {
    match status {
        0 => "ok",
        1 => "end of file",
        2 => "no such file",
        3 => "permission denied",
        4 => "failure",
        5 => "bad message",
        8 => "not supported",
        _ => "failed",
    }
}
