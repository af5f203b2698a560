//! `doorward verify`: from files and public keys alone. Only for a session that is named by its id are the files fetched, and the
//! gateway's log is asked what they must reach.

mod bundle;
mod class;
mod found;
mod memory;
mod offline;
mod online;
mod shown;
mod stone;
mod unlogged;

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_audit::{Report, Trust, Verdict};
use doorward_certs::{judge_host_at, judge_link_at};
use uuid::Uuid;

use self::bundle::Bundle;
use self::class::Class;
pub(super) use self::found::Found;
use self::found::Item;
use self::memory::Memory;
use self::online::Online;
use crate::cli::VerifyArgs;
use crate::error::Error;
use crate::gateway::CaLines;
use crate::home::Home;
use crate::{login, say};

/// The exit code for a recording that is not whole or not to be trusted.
pub(super) const EXIT_BAD: u8 = 10;

/// Verifies each recording, says what it found, and fails if any of them is not what it should be.
pub(crate) async fn verify(home: &Home, args: &VerifyArgs) -> Result<(), Error> {
    let path = args.trust.clone().unwrap_or_else(|| home.trust());
    let keys = login::stored_trust(&path)?;
    let trust = trust(&keys)?;
    let mut memory = Memory::read(home)?;
    let mut outcome = Outcome {
        json: args.json,
        worst: Class::Complete,
        trouble: 0,
        count: 0,
        items: Vec::new(),
    };
    let judged = judge_all(home, args, (&keys, &trust), &mut memory, &mut outcome).await;
    // What came out is said, and what was seen remembered, whatever came in between.
    let remembered = memory.write(home);
    match (outcome.end(judged), remembered) {
        (Err(worse), Err(error)) => {
            say::note(&format!("what was seen of the log is not remembered: {error}"));
            Err(worse)
        }
        (ended, remembered) => ended.and(remembered),
    }
}

/// Judges everything that is named, one after the other.
async fn judge_all(
    home: &Home,
    args: &VerifyArgs,
    (keys, trust): (&CaLines, &Trust),
    memory: &mut Memory,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let (mut sessions, mut folders) = (Vec::new(), offline::Found::default());
    let mut bundles = Vec::new();
    for what in &args.recordings {
        match named(what) {
            Named::Bundle(file) => bundles.push(file),
            Named::Session(session) => sessions.push(session),
            Named::Folder(folder) => folders.add(folder)?,
            Named::Gone(path) => folders.gone(path),
        }
    }
    if let Some(file) = &args.bundle {
        let &[session] = sessions.as_slice() else {
            return Err(Error::Usage("a bundle is of one session, named by its id".to_owned()));
        };
        let mut online = Online::new(home, trust, memory, args.allow_open).await?;
        outcome.take(online.bundle(session, keys, file).await?)?;
        return online.log.map_or(Ok(()), |log| outcome.take(log.into_item()));
    }
    for file in bundles {
        let name = file.display().to_string();
        let items = match Bundle::open(file) {
            Ok(bundle) => bundle.verify(&name, trust),
            // Of several the others are judged all the same.
            Err(Error::Recording(text)) => vec![Item::no_bundle(name, text)],
            Err(error) => return Err(error),
        };
        items.into_iter().try_for_each(|item| outcome.take(item))?;
    }
    if args.all || !sessions.is_empty() {
        let mut online = Online::new(home, trust, memory, args.allow_open).await?;
        let alone = sessions.len() == 1 && !args.all && folders.is_empty();
        for session in sessions {
            let item = match alone {
                true => online.session(session).await,
                false => online.one_of_many(session).await,
            };
            if let Some(item) = item? {
                outcome.take(item)?;
            }
        }
        if args.all {
            online.all(|item| outcome.take(item)).await?;
        }
        if let Some(log) = online.log {
            outcome.take(log.into_item())?;
        }
    }
    folders.verify(trust, memory, args.allow_open, |item| outcome.take(item))
}

enum Named<'a> {
    Session(Uuid),
    Folder(&'a Path),
    /// Neither a session nor there.
    Gone(&'a Path),
    Bundle(&'a Path),
}

fn named(what: &OsStr) -> Named<'_> {
    if Path::new(what).is_dir() {
        return Named::Folder(Path::new(what));
    }
    if Path::new(what).is_file() {
        return Named::Bundle(Path::new(what));
    }
    let session = what.to_str().and_then(|text| Uuid::try_parse(text).ok());
    session.map_or(Named::Gone(Path::new(what)), Named::Session)
}

/// What came out so far.
struct Outcome {
    json: bool,
    worst: Class,
    trouble: usize,
    count: usize,
    items: Vec<serde_json::Value>,
}

impl Outcome {
    fn take(&mut self, item: Item) -> Result<(), Error> {
        self.worst = self.worst.max(item.class);
        self.count += 1;
        self.trouble += usize::from(item.class > Class::Abnormal);
        if self.json {
            self.items.push(item.json());
            return Ok(());
        }
        say::print(&item.describe())
    }

    /// Says what came out, also where not all that was asked for could be judged.
    fn end(self, judged: Result<(), Error>) -> Result<(), Error> {
        if self.json && (judged.is_ok() || !self.items.is_empty()) {
            say::print_json(&self.items)?;
        }
        judged?;
        let text = match self.worst {
            Class::Complete => return Ok(()),
            Class::Abnormal => "what was stored is whole, but a session ended abnormally".to_owned(),
            _ => format!("{} of {} are not as they should be", self.trouble, self.count),
        };
        Err(Error::Unproven {
            exit: self.worst.exit(),
            text,
        })
    }
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
