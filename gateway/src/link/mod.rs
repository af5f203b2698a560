//! Standing links to the agents of all workspaces that have a life.
//!
//! The gateway dials. One task per workspace keeps the link up, proves the gateway to the agent and
//! the agent to itself, and fetches what is left over of broken sessions. A session opens a stream
//! on the link; it never waits for a link longer than a few seconds.

mod control;
mod credential;
#[cfg(test)]
pub(crate) mod fake;
mod handshake;
mod leftover;
mod probe;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use doorward_certs::{Authority, WorkspaceName, WorkspaceUid};
use doorward_wire::link::{MuxStream, read_message, write_message};
use doorward_wire::message::{Message, OpenSession, StreamAnswer, StreamOpen};
use ssh_key::PublicKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

pub use credential::{Credential, CredentialError, DatedCert};
pub use handshake::HandshakeError;

pub(crate) use credential::LIFE as LINK_LIFE;
pub(crate) use handshake::{HOST_LIFE, POD_LIFE};
pub(crate) use probe::{Probe, probe};

use self::standing::Standing;
use crate::enrol::Enrolments;
use crate::guarded::Guarded;
use crate::journal::Journal;
use crate::record::Store;
use crate::usage::Usage;
use crate::workspace::Life;

/// A workspace to which a link is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: WorkspaceName,
    /// The one life of that name that is meant.
    pub life: Life,
}

/// Whether a workspace can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its link stands.
    Up {
        /// What its agent says it is.
        agent_version: String,
    },
    /// It does not.
    Down {
        /// Why, for the operator.
        reason: String,
    },
}

/// Why no session stream was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No link is kept to such a workspace.
    #[error("no link is kept to this workspace")]
    NoLink,
    /// The link is to another life of that name.
    #[error("the workspace has just been replaced by another of its name")]
    OtherLife,
    /// The link is down and did not come up in time.
    #[error("workspace unreachable: {0}")]
    Unreachable(String),
    /// The agent refused.
    #[error("the agent refused: {code}: {text}")]
    Refused {
        /// One of a closed set of codes.
        code: String,
        /// A sentence for the operator.
        text: String,
    },
    /// The stream broke or carried something else.
    #[error("the agent's stream failed")]
    Stream(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A stream to an agent on which frames follow.
#[derive(Debug)]
pub struct AgentStream {
    /// The stream.
    pub stream: MuxStream,
    /// The agent's host key, which it has proved and which signs the heads of its recordings.
    pub key: PublicKey,
    /// The link stays while somebody holds this, also when the life that it leads to is over.
    _holding: TaskTrackerToken,
}

/// All links. Clones are the same links.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    standing: Guarded<BTreeMap<WorkspaceName, Kept>>,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// A link that is kept up until it is told to stop.
struct Kept {
    link: Arc<Standing>,
    stop: CancellationToken,
}

/// What every link needs.
struct Shared {
    authority: Arc<Authority>,
    credential: Arc<Credential>,
    enrolments: Enrolments,
    store: Store,
    journal: Journal,
    usage: Usage,
    tasks: TaskTracker,
}

impl Links {
    /// No links yet: [`Links::keep_to`] says to whom.
    pub fn new(
        authority: Arc<Authority>,
        credential: Arc<Credential>,
        enrolments: Enrolments,
        store: Store,
        journal: Journal,
        usage: Usage,
    ) -> Self {
        let shared = Shared {
            authority,
            credential,
            enrolments,
            store,
            journal,
            usage,
            tasks: TaskTracker::new(),
        };
        Self(Arc::new(Inner {
            standing: Guarded::default(),
            shared: Arc::new(shared),
            stop: CancellationToken::new(),
        }))
    }

    /// Keeps a link to each of these and to nobody else. A link whose target is as it was is left alone. One whose life is
    /// over takes no session any more, and goes down once its last one has let go of it, or after a while.
    pub fn keep_to(&self, targets: impl IntoIterator<Item = Target>) {
        let mut wanted: BTreeMap<_, _> = targets.into_iter().map(|one| (one.name.clone(), one)).collect();
        let inner = &self.0;
        let over = inner.standing.with(|standing| {
            let over: Vec<Kept> = standing
                .extract_if(.., |name, kept| match wanted.get(name) {
                    Some(target) if *target == kept.link.target => {
                        wanted.remove(name);
                        false
                    }
                    _ => true,
                })
                .map(|(_, kept)| kept)
                .collect();
            if inner.stop.is_cancelled() {
                return over;
            }
            for (name, target) in wanted {
                let kept = Kept {
                    link: Arc::new(Standing::new(target, Arc::clone(&inner.shared))),
                    stop: inner.stop.child_token(),
                };
                let keeping = standing::keep(Arc::clone(&kept.link), kept.stop.clone());
                inner.shared.tasks.spawn(keeping);
                standing.insert(name, kept);
            }
            over
        });
        for kept in over {
            inner.shared.tasks.spawn(retire(kept));
        }
    }

    fn link(&self, name: &WorkspaceName) -> Option<Arc<Standing>> {
        self.0
            .standing
            .with(|all| all.get(name).map(|kept| Arc::clone(&kept.link)))
    }

    /// Whether a workspace can be reached, `Down` for one that no link is kept to.
    pub fn state(&self, name: &WorkspaceName) -> State {
        self.link(name).map_or_else(
            || State::Down {
                reason: OpenError::NoLink.to_string(),
            },
            |link| link.state(),
        )
    }

    /// For how long nobody has listened where the agent should; nothing if it can be reached, or something else is wrong.
    pub fn unheard(&self, name: &WorkspaceName) -> Option<Duration> {
        self.link(name)?.unheard()
    }

    /// Opens a session on the link to one life of a workspace. On a link that is down it tries once, at most
    /// five seconds.
    ///
    /// # Errors
    /// [`OpenError`] says what stands between the session and its agent.
    pub async fn open(
        &self,
        name: &WorkspaceName,
        uid: &WorkspaceUid,
        session: OpenSession,
    ) -> Result<AgentStream, OpenError> {
        let link = self.link(name).ok_or(OpenError::NoLink)?;
        if link.target.life.uid != *uid {
            return Err(OpenError::OtherLife);
        }
        let holding = link.sessions.token();
        let live = link.live(DIAL_WITHIN).await.map_err(OpenError::Unreachable)?;
        let open = async {
            let mut stream = live.mux.open().await.map_err(stream_error)?;
            let message = Message::StreamOpen(StreamOpen::Session(session));
            write_message(&mut stream, &message, OPEN_WITHIN)
                .await
                .map_err(stream_error)?;
            let answer = read_message(&mut stream, OPEN_WITHIN).await.map_err(stream_error)?;
            match answer {
                Message::StreamAnswer(StreamAnswer::Opened(_)) => Ok(stream),
                Message::StreamAnswer(StreamAnswer::Refused(refused)) => Err(OpenError::Refused {
                    code: refused.code,
                    text: refused.text,
                }),
                _ => Err(stream_error(std::io::Error::other("another message was due"))),
            }
        };
        let opened = tokio::time::timeout(OPEN_WITHIN, open).await;
        let stream = opened.map_err(stream_error)??;
        Ok(AgentStream {
            stream,
            key: live.key.clone(),
            _holding: holding,
        })
    }

    /// Takes all links down and waits until they are.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.shared.tasks.close();
        self.0.shared.tasks.wait().await;
    }
}

/// Takes a link down whose life is over, once what still passes on it has come to its end.
async fn retire(kept: Kept) {
    kept.link.sessions.close();
    tokio::select! {
        () = kept.link.sessions.wait() => {}
        () = tokio::time::sleep(RETIRE_WITHIN) => {}
        () = kept.stop.cancelled() => {}
    }
    kept.stop.cancel();
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Links({})", self.0.standing.with(|all| all.len()))
    }
}

fn stream_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
    OpenError::Stream(error.into())
}

const DIAL_WITHIN: Duration = Duration::from_secs(5);
/// How long an agent may take to listen in a pod that runs, at its start or after it was started again.
pub(crate) const AGENT_COMES: Duration = Duration::from_secs(60);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long sessions of a life that is over may still come to their end.
const RETIRE_WITHIN: Duration = Duration::from_secs(20);
