//! Standing links to the agents of all configured workspaces.
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
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use doorward_certs::{Authority, WorkspaceName, WorkspaceUid};
use doorward_wire::link::{MuxStream, read_message, write_message};
use doorward_wire::message::{Message, OpenSession, StreamAnswer, StreamOpen};
use ssh_key::PublicKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use credential::{Credential, CredentialError};
pub use handshake::HandshakeError;

pub(crate) use credential::LIFE as LINK_LIFE;
pub(crate) use handshake::{HOST_LIFE, wildcard_name};
pub(crate) use probe::{Probe, probe};

use self::standing::Standing;
use crate::enrol::Enrolments;
use crate::journal::Journal;
use crate::record::Store;

/// A workspace to which a link is kept.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub name: WorkspaceName,
    /// The one life of that name that is meant.
    pub uid: WorkspaceUid,
    /// `host:port` of its agent.
    pub address: String,
    /// The file with the one-time token with which its agent may enrol.
    pub join_token_file: Option<PathBuf>,
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
}

/// All links. Clones are the same links.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    standing: BTreeMap<WorkspaceName, Arc<Standing>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What every link needs.
struct Shared {
    authority: Arc<Authority>,
    credential: Arc<Credential>,
    enrolments: Enrolments,
    store: Store,
    journal: Journal,
    tasks: TaskTracker,
}

impl Links {
    /// Begins to keep a link to each target.
    pub fn start(
        targets: Vec<Target>,
        authority: Arc<Authority>,
        credential: Arc<Credential>,
        enrolments: Enrolments,
        store: Store,
        journal: Journal,
    ) -> Self {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            authority,
            credential,
            enrolments,
            store,
            journal,
            tasks: tasks.clone(),
        });
        let mut standing = BTreeMap::new();
        for target in targets {
            let name = target.name.clone();
            let link = Arc::new(Standing::new(target, Arc::clone(&shared)));
            tasks.spawn(standing::keep(Arc::clone(&link), stop.clone()));
            standing.insert(name, link);
        }
        Self(Arc::new(Inner { standing, stop, tasks }))
    }

    /// Whether a workspace can be reached, `Down` for one that no link is kept to.
    pub fn state(&self, name: &WorkspaceName) -> State {
        self.0.standing.get(name).map_or_else(
            || State::Down {
                reason: OpenError::NoLink.to_string(),
            },
            |link| link.state(),
        )
    }

    /// Opens a session on the link of a workspace. On a link that is down it tries once, at most
    /// five seconds.
    ///
    /// # Errors
    /// [`OpenError`] says what stands between the session and its agent.
    pub async fn open(&self, name: &WorkspaceName, session: OpenSession) -> Result<AgentStream, OpenError> {
        let link = self.0.standing.get(name).ok_or(OpenError::NoLink)?;
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
        })
    }

    /// Takes all links down and waits until they are.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Links({})", self.0.standing.len())
    }
}

fn stream_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
    OpenError::Stream(error.into())
}

const DIAL_WITHIN: Duration = Duration::from_secs(5);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
