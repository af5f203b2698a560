//! Anchors: now and then a command of the operator's gets the newest checkpoint, and what it prints is kept as an attestation of
//! somebody outside, a time stamp for example (RFC 3161).
//!
//! The command gets the checkpoint's exact text on its standard input, a small environment and a deadline; its output is bounded.
//! That it fails is logged and told on `/readyz`, and refuses nothing.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_audit::log::Checkpoint;
use doorward_audit::{Anchored, printable};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::log::append_anchor;
use super::{Journal, unix_ms};
use crate::config::Anchor;
use crate::guarded::Guarded;

/// How anchoring goes.
#[derive(Debug, Default)]
pub struct Anchoring(Guarded<Option<String>>);

impl Anchoring {
    /// Whether the last attempt succeeded, or there was none.
    ///
    /// # Errors
    /// Why it failed, for operators.
    pub fn state(&self) -> Result<(), String> {
        self.0.with(|state| state.clone().map_or(Ok(()), Err))
    }
}

/// Anchors the newest checkpoint again and again until `stop`.
pub(crate) async fn run(settings: Anchor, journal: Journal, anchoring: Arc<Anchoring>, stop: CancellationToken) {
    // After a start it is soon known whether the command works.
    let mut pause = FIRST;
    let mut anchored = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = settings.every;
        let Some(checkpoint) = journal.public().checkpoint() else {
            continue;
        };
        if anchored == Some(checkpoint.statement().head) {
            continue;
        }
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = anchor(&settings, &journal, &checkpoint) => done,
        };
        match done {
            Ok(()) => {
                anchored = Some(checkpoint.statement().head);
                anchoring.0.with(|state| *state = None);
            }
            Err(error) => {
                pause = pause.min(RETRY);
                let text = printable(error.to_string().as_bytes()).to_string();
                tracing::warn!(why = text, "the log's checkpoint could not be anchored");
                anchoring.0.with(|state| *state = Some(text));
            }
        }
    }
}

async fn anchor(settings: &Anchor, journal: &Journal, checkpoint: &Checkpoint) -> io::Result<()> {
    let attestation = ask(settings, checkpoint.text()).await?;
    let line = line(checkpoint, &attestation, unix_ms())?;
    let public = Arc::clone(journal.public());
    tokio::task::spawn_blocking(move || public.folder().map_or(Ok(()), |dir| append_anchor(&dir, &line)))
        .await
        .map_err(io::Error::other)??;
    journal.append(Anchored {
        log: checkpoint.statement().origin.clone(),
        size: checkpoint.statement().head.size,
        sha256: Sha256::digest(&attestation).into(),
        bytes: attestation.len() as u64,
    });
    Ok(())
}

/// The line of `anchors.jsonl`.
fn line(checkpoint: &Checkpoint, attestation: &[u8], at: u64) -> io::Result<String> {
    let checkpoint: Value = serde_json::from_str(&checkpoint.to_line().map_err(io::Error::other)?)?;
    let at = i64::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
        .ok_or_else(|| io::Error::other("the clock says no time"))?;
    let at = at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
    Ok(format!(
        "{}\n",
        json!({ "checkpoint": checkpoint, "at": at, "attestation": STANDARD.encode(attestation) })
    ))
}

/// Runs the command with this input and returns what it printed.
async fn ask(settings: &Anchor, input: &str) -> io::Result<Vec<u8>> {
    let (program, arguments) = settings.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        // Nothing of ours, which may hold secrets.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let work = async {
        let mut child = command.spawn().map_err(|error| named(program, &error))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // It need not read it.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), printed, said) = tokio::join!(write, bounded(stdout, MOST_PRINTED), bounded(stderr, MOST_SAID));
        let printed = printed?;
        let status = child.wait().await?;
        if !status.success() {
            let said = said.unwrap_or_default();
            return Err(io::Error::other(format!(
                "the command ended with {status}: {}",
                String::from_utf8_lossy(&said).trim()
            )));
        }
        match printed {
            printed if printed.is_empty() => Err(io::Error::other("the command printed nothing")),
            printed => Ok(printed),
        }
    };
    tokio::time::timeout(settings.within, work).await.unwrap_or_else(|_| {
        Err(io::Error::other(format!(
            "the command took longer than {:?}",
            settings.within
        )))
    })
}

fn named(program: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", Path::new(program).display()))
}

/// All that comes, if it is no longer than `most` bytes.
async fn bounded(from: Option<impl AsyncRead + Unpin>, most: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(from) = from {
        from.take(most as u64 + 1).read_to_end(&mut all).await?;
    }
    if all.len() > most {
        return Err(io::Error::other(format!("the command printed more than {most} bytes")));
    }
    Ok(all)
}

const FIRST: Duration = Duration::from_secs(2);
/// A command that failed is tried again after this long at most.
const RETRY: Duration = Duration::from_secs(300);
/// The most that is kept of one attestation, in bytes.
const MOST_PRINTED: usize = 64 * 1024;
/// The most that is logged of a complaint, in bytes.
const MOST_SAID: usize = 4096;

#[cfg(test)]
mod tests;
