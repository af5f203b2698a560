//! One session: an authorised stream, the SSH server on it, its channels and its recording.

mod aside;
mod ide;
mod missing;
mod pauses;
mod reason;
mod recording;
mod serve;
mod strictness;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use doorward_certs::Terms;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub(crate) use recording::{Recording, SharedRecording, Tally};
pub(crate) use serve::{Link, serve};

use crate::forward::{Forwards, Never};
use crate::mask::mask_text;
use crate::process::{Account, Ending, Origin};
use crate::ssh::Inflow;
use crate::usage::LastUse;
use aside::Aside;

/// What the channels of a session share.
#[derive(Debug)]
pub(crate) struct Session {
    id: Uuid,
    terms: Terms,
    account: Arc<Account>,
    notice: Option<String>,
    aside: Aside,
    origin: Origin,
    accept_env: Vec<String>,
    program: PathBuf,
    forwards: Forwards,
    recording: SharedRecording,
    last_use: Arc<LastUse>,
    inflow: Arc<Inflow>,
    /// The channels' tasks.
    tasks: TaskTracker,
    /// Cancelled when the session ends.
    stop: CancellationToken,
    /// What becomes of processes that run then.
    ending: OnceLock<Ending>,
    usual_ending: Ending,
    grace: Duration,
    most_channels: usize,
    logged_in: CancellationToken,
    /// Another login than the granted one that was asked for.
    other_login: OnceLock<String>,
    refused: CancellationToken,
}

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) id: Uuid,
    pub(crate) terms: Terms,
    pub(crate) account: Account,
    pub(crate) notice: Option<String>,
    pub(crate) aside: Aside,
    pub(crate) client: Option<SocketAddr>,
    pub(crate) agent: SocketAddr,
    pub(crate) accept_env: Vec<String>,
    pub(crate) program: PathBuf,
    pub(crate) never: Never,
    pub(crate) recording: Recording,
    pub(crate) last_use: Arc<LastUse>,
    pub(crate) usual_ending: Ending,
    pub(crate) grace: Duration,
    pub(crate) most_channels: usize,
}

impl Session {
    fn new(parts: Parts) -> Self {
        Self {
            forwards: Forwards::new(&parts.terms, &parts.account.home, parts.never),
            id: parts.id,
            terms: parts.terms,
            account: Arc::new(parts.account),
            notice: parts.notice,
            aside: parts.aside,
            origin: Origin {
                client: parts.client,
                agent: parts.agent,
            },
            accept_env: parts.accept_env,
            program: parts.program,
            recording: Arc::new(parts.recording),
            last_use: parts.last_use,
            inflow: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            ending: OnceLock::new(),
            usual_ending: parts.usual_ending,
            grace: parts.grace,
            most_channels: parts.most_channels,
            logged_in: CancellationToken::new(),
            other_login: OnceLock::new(),
            refused: CancellationToken::new(),
        }
    }

    /// Its id, which is also its recording's.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// What was granted.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Who its processes run as.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What the person must know of where the session is.
    pub(crate) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// What the person can be told beside its bytes.
    pub(crate) fn aside(&self) -> &Aside {
        &self.aside
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Environment variables that the configuration lists.
    pub(crate) fn accept_env(&self) -> &[String] {
        &self.accept_env
    }

    /// The executable that serves files.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// What it forwards.
    pub(crate) fn forwards(&self) -> &Forwards {
        &self.forwards
    }

    /// Its recording.
    pub(crate) fn recording(&self) -> &SharedRecording {
        &self.recording
    }

    /// The last use of its workspace.
    pub(crate) fn last_use(&self) -> &Arc<LastUse> {
        &self.last_use
    }

    /// Its window rule.
    pub(crate) fn inflow(&self) -> &Arc<Inflow> {
        &self.inflow
    }

    /// The owner of its tasks.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Cancelled when the session ends.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// What becomes of a process that still runs when its channel ends, and how long it is given.
    pub(crate) fn ending(&self) -> (Ending, Duration) {
        (self.ending.get().copied().unwrap_or(self.usual_ending), self.grace)
    }

    /// How many channels may end in one connection by themselves.
    pub(crate) fn most_channels(&self) -> usize {
        self.most_channels
    }

    /// Whether this is the granted login. Another one is remembered: the session ends with a sentence about it.
    pub(crate) fn is_login(&self, user: &str) -> bool {
        let same = user == self.terms.login.as_str();
        if !same {
            // People type passwords here.
            let shown = mask_text(&self.recording.patterns(), user.to_owned());
            let shown = shown.escape_debug().take(64).collect();
            // The first one counts.
            let _ = self.other_login.set(shown);
            self.refused.cancel();
        }
        same
    }

    /// The client has authenticated.
    pub(crate) fn logged_in(&self) {
        self.logged_in.cancel();
    }
}
