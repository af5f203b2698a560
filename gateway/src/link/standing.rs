//! One link: dialled, served, and dialled again, with pauses that grow.

use std::sync::Arc;
use std::time::Duration;

use doorward_audit::{EnrolRefused, HostCertificateSeen, LinkDown, LinkUp};
use doorward_certs::HostSays;
use doorward_wire::link::Mux;
use ssh_key::PublicKey;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handshake::{self, Established, HandshakeError};
use super::{Shared, State, Target, control};
use crate::guarded::Guarded;
use crate::refusal::chain;
use crate::workspace::line;

/// The link to one workspace, up or not.
pub(super) struct Standing {
    pub(super) target: Target,
    pub(super) shared: Arc<Shared>,
    /// Those who hold on to the link.
    pub(super) sessions: TaskTracker,
    state: watch::Sender<Now>,
    kick: Notify,
    /// Since when the link is not up.
    since: Guarded<Instant>,
    /// The host certificate that was put on record last.
    recorded: Guarded<Vec<u8>>,
}

/// A link that is up.
pub(super) struct Live {
    pub(super) mux: Mux,
    pub(super) key: PublicKey,
    agent_version: String,
}

#[derive(Clone)]
enum Now {
    Up(Arc<Live>),
    Down {
        reason: Arc<str>,
        /// Attempts that failed so far.
        failed: u64,
        /// Whether one is under way.
        dialling: bool,
        /// Whether all there is to say is that nobody listens there.
        unheard: bool,
    },
}

impl Standing {
    pub(super) fn new(target: Target, shared: Arc<Shared>) -> Self {
        let state = watch::Sender::new(Now::Down {
            reason: "not dialled yet".into(),
            failed: 0,
            dialling: true,
            unheard: true,
        });
        Self {
            target,
            shared,
            sessions: TaskTracker::new(),
            state,
            kick: Notify::new(),
            since: Guarded::new(Instant::now()),
            recorded: Guarded::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        match &*self.state.borrow() {
            Now::Up(live) => State::Up {
                agent_version: live.agent_version.clone(),
            },
            Now::Down { reason, .. } => State::Down {
                reason: reason.to_string(),
            },
        }
    }

    /// For how long nobody has listened at the agent's address; nothing if the link is up, or something else is wrong.
    pub(super) fn unheard(&self) -> Option<Duration> {
        match &*self.state.borrow() {
            Now::Down { unheard: true, .. } => Some(self.since.with(|since| since.elapsed())),
            _ => None,
        }
    }

    /// The link, if it is up or comes up within `patience`; otherwise why not. An attempt that
    /// begins after the call and fails is answer enough.
    pub(super) async fn live(&self, patience: Duration) -> Result<Arc<Live>, String> {
        let mut state = self.state.subscribe();
        let enough = match &*state.borrow_and_update() {
            Now::Up(live) => return Ok(Arc::clone(live)),
            Now::Down { failed, dialling, .. } => failed + 1 + u64::from(*dialling),
        };
        self.kick.notify_one();
        let settled = state.wait_for(|now| match now {
            Now::Up(_) => true,
            Now::Down { failed, .. } => *failed >= enough,
        });
        match tokio::time::timeout(patience, settled).await {
            Ok(Ok(now)) => match &*now {
                Now::Up(live) => Ok(Arc::clone(live)),
                Now::Down { reason, .. } => Err(reason.to_string()),
            },
            Ok(Err(_)) => Err("the gateway is stopping".into()),
            Err(_) => Err(format!("no link within {patience:?}")),
        }
    }

    /// Puts on record that the agent asked for a certificate and got none, if that is what happened.
    pub(super) fn journal_refusal(&self, error: &HandshakeError) {
        let HandshakeError::Enrol(refused) = error else { return };
        self.shared.journal.append(EnrolRefused {
            workspace: self.target.name.to_string(),
            uid: self.target.life.uid.to_string(),
            code: refused.code().to_owned(),
            detail: line(&chain(refused)),
        });
    }

    /// Puts a host certificate that was judged on record, unless it is there: who has it signed need not be this gateway.
    pub(super) fn journal_certificate(&self, certificate: &[u8]) {
        let new = self.recorded.with(|last| {
            let new = last != certificate;
            if new {
                certificate.clone_into(last);
            }
            new
        });
        if let Some(says) = HostSays::of(certificate).ok().filter(|_| new) {
            self.shared.journal.append(HostCertificateSeen {
                workspace: self.target.name.to_string(),
                uid: self.target.life.uid.to_string(),
                serial: says.serial,
                key_id: line(&says.key_id),
                authority: says.authority,
                valid_before: says.valid_before,
            });
        }
    }

    fn set_dialling(&self) {
        self.state.send_modify(|now| {
            if let Now::Down { dialling, .. } = now {
                *dialling = true;
            }
        });
    }

    /// Notes that the link is down; whether the reason is a new one.
    fn set_down(&self, text: &str, unheard: bool) -> bool {
        let mut changed = false;
        self.state.send_modify(|now| {
            let failed = match now {
                Now::Up(_) => {
                    self.since.with(|since| *since = Instant::now());
                    1
                }
                Now::Down { reason, failed, .. } => {
                    changed = **reason != *text;
                    *failed + 1
                }
            };
            *now = Now::Down {
                reason: text.into(),
                failed,
                dialling: false,
                unheard,
            };
        });
        changed
    }
}

/// Keeps the link up until `stop`.
pub(super) async fn keep(standing: Arc<Standing>, stop: CancellationToken) {
    let workspace = standing.target.name.to_string();
    let mut pauses = Pauses::default();
    loop {
        standing.set_dialling();
        let made = tokio::select! {
            made = handshake::establish(&standing) => made,
            () = stop.cancelled() => return,
        };
        match made {
            Ok(established) => {
                let up = Instant::now();
                serve(&standing, established, &stop).await;
                // A link that breaks as soon as it stands is no reason to dial faster.
                if up.elapsed() > LONGEST_PAUSE {
                    pauses = Pauses::default();
                }
            }
            Err(error) => {
                let reason = error.chain();
                let unheard = matches!(error, HandshakeError::Connect(_));
                if standing.set_down(&reason, unheard) {
                    tracing::warn!(workspace, reason, "no link to the workspace");
                    standing.journal_refusal(&error);
                }
            }
        }
        let earliest = Instant::now() + LEAST_PAUSE;
        tokio::select! {
            () = tokio::time::sleep(pauses.next()) => {}
            () = standing.kick.notified() => tokio::time::sleep_until(earliest).await,
            () = stop.cancelled() => return,
        }
    }
}

async fn serve(standing: &Arc<Standing>, established: Established, stop: &CancellationToken) {
    let Established {
        mux,
        key,
        agent_version,
        control,
        incoming,
        driver,
        certificate,
    } = established;
    let shared = &standing.shared;
    let workspace = standing.target.name.to_string();
    shared.journal.append(LinkUp {
        workspace: workspace.clone(),
        uid: standing.target.life.uid.to_string(),
        agent_version: agent_version.clone(),
    });
    standing.journal_certificate(&certificate);
    tracing::info!(workspace, agent_version, "link is up");
    let abandon = CancellationToken::new();
    let driven = {
        let abandon = abandon.clone();
        shared.tasks.spawn(async move {
            tokio::select! {
                ended = driver => ended.err().map_or_else(|| "the agent closed the link".to_owned(), |e| chain(&e)),
                () = abandon.cancelled() => "the link was abandoned".to_owned(),
            }
        })
    };
    let live = Arc::new(Live {
        mux: mux.clone(),
        key,
        agent_version,
    });
    standing.state.send_replace(Now::Up(Arc::clone(&live)));
    let served = control::serve(standing, &live, control, incoming, certificate);
    let mut driven = driven;
    let reason = tokio::select! {
        reason = served => reason,
        reason = &mut driven => reason.unwrap_or_else(|_| "the link's driver failed".to_owned()),
        () = stop.cancelled() => "the gateway stopped".to_owned(),
    };
    standing.set_down(&reason, true);
    mux.close();
    if !driven.is_finished() && tokio::time::timeout(CLOSE_WITHIN, &mut driven).await.is_err() {
        abandon.cancel();
    }
    tracing::info!(workspace, reason, "link is down");
    shared.journal.append(LinkDown { workspace, reason });
}

/// Pauses between attempts: they double until a link has stood for a while, and are spread so that many links do not dial as one.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(rand::random_range(0.5..1.0))
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// However often sessions ask, dials are at least this far apart.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
