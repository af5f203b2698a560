//! What was recorded, through the client: list, replay, verify; and a copy with a byte changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use doorward_dev::stack::ClientFolder;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

/// One line of `doorward sessions --json`, as far as the tour reads it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Session {
    pub session: String,
    pub user: String,
    pub workspace: String,
    pub outcome: Option<String>,
}

/// What `doorward verify --json` says of one recording.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Verdict {
    pub ok: bool,
    pub outcome: Option<String>,
    pub findings: Vec<Finding>,
}

/// One thing that is wrong with a recording.
#[derive(Clone, Debug, Deserialize)]
#[expect(dead_code, reason = "its Debug form is what a failing step shows")]
pub(super) struct Finding {
    class: String,
    pub segment: Option<u32>,
    offset: Option<u64>,
    text: String,
}

/// Remembers which sessions it has seen, so that each new one can be told.
pub(super) struct Recordings {
    client: ClientFolder,
    seen: BTreeSet<String>,
}

impl Recordings {
    pub(super) fn new(client: ClientFolder) -> Self {
        Self {
            client,
            seen: BTreeSet::new(),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Session>> {
        let output = self.client.run(&["sessions", "--json"]).await?;
        let text = String::from_utf8(output.stdout)?;
        serde_json::from_str(&text).with_context(|| format!("no list of sessions: {text}"))
    }

    /// Waits until so many sessions that were not seen before have ended; those, newest first.
    pub(super) async fn ended(&mut self, count: usize) -> Result<Vec<Session>> {
        let last = Instant::now() + PATIENCE;
        loop {
            let mut new = self.list().await?;
            new.retain(|session| !self.seen.contains(&session.session));
            if new.len() == count && new.iter().all(|session| session.outcome.is_some()) {
                self.seen.extend(new.iter().map(|session| session.session.clone()));
                return Ok(new);
            }
            ensure!(Instant::now() < last, "no {count} sessions ended: {new:?}");
            sleep(ASK_AGAIN).await;
        }
    }

    /// The one new session.
    pub(super) async fn one_ended(&mut self) -> Result<Session> {
        self.ended(1).await?.pop().context("no session")
    }

    /// What the session's terminal or command printed, byte for byte.
    pub(super) async fn replay_raw(&self, session: &Session) -> Result<Vec<u8>> {
        Ok(self.client.run(&["replay", "--raw", &session.session]).await?.stdout)
    }

    /// What `doorward verify` says of a session or a folder.
    pub(super) async fn verify(&self, what: &str) -> Result<Verdict> {
        let output = self.client.command(["verify", "--json", what]).output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let list: Vec<Verdict> = serde_json::from_str(&text).with_context(|| {
            let trouble = String::from_utf8_lossy(&output.stderr);
            format!("verify said no verdict: {text}{trouble}")
        })?;
        let verdict = list.into_iter().next().context("verify said no verdict")?;
        // An abnormal end has an exit code of its own, for what is whole.
        let whole = output.status.success() || output.status.code() == Some(11);
        ensure!(verdict.ok == whole, "{verdict:?}, but {}", output.status);
        Ok(verdict)
    }
}

/// The folder of a recording in the gateway's store.
pub(super) fn stored(records: &Path, session: &Session) -> Result<PathBuf> {
    for day in fs::read_dir(records)? {
        let folder = day?.path().join(&session.session);
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    bail!("the store has no recording {}", session.session)
}

/// One way to spoil a recording.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    /// One bit is flipped, so many parts of `PARTS` into the first segment.
    Flip(usize),
    /// The last bytes of the last segment are cut off.
    Cut,
    /// The first segment is gone.
    Removal,
}

impl Damage {
    pub(super) fn every() -> impl Iterator<Item = Self> {
        (0..PARTS).map(Self::Flip).chain([Self::Cut, Self::Removal])
    }

    /// Makes a copy of a recording with this damage.
    pub(super) fn copy(self, from: &Path, to: &Path) -> Result<()> {
        fs::create_dir(to)?;
        for file in fs::read_dir(from)? {
            let file = file?;
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
        let segment = to.join("segment-000000.dwr");
        let mut bytes = fs::read(&segment)?;
        match self {
            Self::Flip(part) => {
                let place = bytes.len() * part / PARTS;
                bytes[place] ^= 1;
                fs::write(segment, bytes)?;
            }
            Self::Cut => fs::write(segment, &bytes[..bytes.len() - 10])?,
            Self::Removal => fs::remove_file(segment)?,
        }
        Ok(())
    }
}

const PARTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(50);
