//! A workspace: what people call it, whose it is, where it runs and how it stands.
//!
//! A name outlives what runs under it. One run is a [`Life`]: a certificate, a link and a recording name its uid, and what
//! was granted for one life is of no use in another. A workspace that sleeps has none.

mod directory;
mod notes;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, path::PathBuf};

use doorward_certs::{Login, WorkspaceName, WorkspaceUid};

pub use directory::{Clash, Directory, Source};
pub use notes::{KEEP_UNTIL, LAST_USE, Notes, Stop, moment};

use crate::refusal::{Dependency, Refusal, RefusalCode};

/// One workspace: a place with an agent that people can enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The name that people type.
    pub name: WorkspaceName,
    /// The account that people enter as, unless their role names another.
    pub login: Login,
    /// The person whose workspace it is, as the identity provider names them.
    pub owner: Option<String>,
    /// What it is in the cluster, if it was found in one.
    pub place: Option<Place>,
    /// How it stands.
    pub state: State,
    /// The run that can be reached, if there is one.
    pub life: Option<Life>,
    /// When it was used last, and what else is said of it.
    pub notes: Notes,
}

/// One run of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Which run it is: a certificate for another one is of no use here.
    pub uid: WorkspaceUid,
    /// Where its agent listens, as `host:port`.
    pub address: String,
    /// How its agent may get its first host certificate.
    pub enrolment: Enrolment,
}

/// By what an agent without a host certificate proves which workspace it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// It cannot be enrolled by the gateway.
    None,
    /// The one-time token in this file.
    JoinToken(PathBuf),
    /// A token of the service account that is bound to this pod.
    ServiceAccount {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The pod's uid.
        uid: String,
    },
}

/// How a workspace stands. The texts are for people: one line, harmless for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It is on its way, and this is how far.
    Starting(String),
    /// Its run is being ended. Sessions go on for as long as it lasts; there are no new ones.
    Stopping,
    /// Nothing runs, and it can be started.
    Asleep,
    /// It does not run, or must not be entered, and this is why.
    Failed(String),
}

/// What a workspace is in its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// The pod of the present life, or the one that a StatefulSet will make.
    pub pod: Option<String>,
    /// What keeps the pod, as the rule found it: a StatefulSet, a Job, a custom resource.
    pub owner: Option<OwnerObject>,
    /// Labels of the pod (or, while there is none, of its template) that the configuration asks for.
    pub labels: BTreeMap<String, String>,
    /// The same of annotations.
    pub annotations: BTreeMap<String, String>,
    /// The name of the rule that found it.
    pub rule: String,
}

/// An object that owns a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerObject {
    /// `apps/v1`.
    pub api_version: String,
    /// `StatefulSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Enrolment {
    /// The file with the join token, where that is how.
    #[must_use]
    pub fn join_token(&self) -> Option<&std::path::Path> {
        match self {
            Self::JoinToken(file) => Some(file),
            Self::None | Self::ServiceAccount { .. } => None,
        }
    }
}

impl State {
    /// A word from a closed set.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting(_) => "starting",
            Self::Stopping => "stopping",
            Self::Asleep => "asleep",
            Self::Failed(_) => "failed",
        }
    }

    /// What there is to say besides, if anything.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Starting(text) | Self::Failed(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())?;
        match self.reason() {
            Some(reason) => write!(formatter, ": {reason}"),
            None => Ok(()),
        }
    }
}

impl Workspace {
    /// The life that a new session can be opened in.
    ///
    /// # Errors
    /// The refusal for a person whom the policy lets in, and for nobody else: it tells that the workspace is there.
    pub fn enter(&self) -> Result<&Life, Refusal> {
        match (&self.state, &self.life) {
            (State::Running | State::Starting(_), Some(life)) => Ok(life),
            (State::Starting(text), None) => Err(starting(text)),
            (State::Running, None) => Err(starting("it has no address yet")),
            (State::Asleep | State::Stopping, _) => Err(Refusal::new(
                RefusalCode::Asleep,
                match self.state {
                    State::Stopping => "the workspace is being stopped",
                    _ => "the workspace is asleep",
                },
            )
            .with_hint("`doorward` wakes it where the platform lets it be woken; otherwise start it there")),
            (State::Failed(text), _) => Err(Refusal::unavailable(Dependency::Agent, text.clone())
                .with_text(format!("the workspace cannot be entered: {text}"))
                .with_hint("see to it where the workspace was made, or tell your platform team")),
        }
    }

    /// Whether the time is not over for which the platform leaves it up: who entered now would be put out at once.
    ///
    /// # Errors
    /// The refusal for a person whom the policy lets in, and for nobody else.
    pub fn is_up(&self) -> Result<(), Refusal> {
        match &self.notes.stop {
            Some(stop) if stop.at <= std::time::SystemTime::now() => Err(Refusal::new(
                RefusalCode::UpTimeOver,
                "the workspace's up-time is over, and its platform is about to stop it",
            )
            .with_hint("start it again once it is stopped")
            .with_detail(format!("stopped at {}", crate::locks::rfc3339(stop.at)))),
            _ => Ok(()),
        }
    }

    /// What became of the life that this workspace was seen with, if it is over: a sentence for whoever is in it.
    #[must_use]
    pub fn over(&self, now: Option<&Self>) -> Option<String> {
        let Some(now) = now else {
            return Some("the workspace was removed".to_owned());
        };
        let began = self.life.as_ref()?;
        match (&now.life, &now.state) {
            (Some(life), _) if life.uid != began.uid => {
                Some("the workspace was replaced by another of its name".to_owned())
            }
            (Some(life), _) if life.address != began.address => Some("the workspace has moved".to_owned()),
            (Some(_), _) => None,
            (None, State::Failed(text)) => Some(format!("the workspace has failed: {text}")),
            (None, _) => Some("the workspace was stopped".to_owned()),
        }
    }
}

/// The refusal for a workspace that is on its way.
pub(crate) fn starting(text: &str) -> Refusal {
    let said = match text.is_empty() {
        true => "the workspace is starting".to_owned(),
        false => format!("the workspace is starting: {text}"),
    };
    Refusal::new(RefusalCode::Starting, said)
        .with_hint("`doorward` waits for it; `doorward ls` shows how far it is")
        .with_retry_after(std::time::Duration::from_secs(2))
}

/// Text of others, fit for people: one line, bounded, harmless for a terminal.
#[must_use]
pub fn line(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if out.len() >= LONGEST_LINE {
            out.push('…');
            break;
        }
        let harmless = !character.is_control() && !crate::oidc::is_hidden(character);
        match character {
            '\n' | '\r' | '\t' => out.push(' '),
            _ if harmless => out.push(character),
            _ => out.push('\u{fffd}'),
        }
    }
    out.trim().to_owned()
}

const LONGEST_LINE: usize = 300;
