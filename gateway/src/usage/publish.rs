//! Telling the platform of use: annotations and a call, by the rule that found the workspace.
//!
//! One task does it for all, a few workspaces at once. An API server or a platform that is away delays it and nothing else:
//! no session waits for it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use doorward_certs::WorkspaceName;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    keep::of_owner,
    turns::{Outcome, Turns},
};
use crate::{
    Gateway,
    guarded::Guarded,
    kube::{
        KubeError,
        discover::rule::Kept,
        note::{self, Keep, Note},
    },
    locks::rfc3339,
    wake::{Call, Facts},
    workspace::Workspace,
};

/// Where the use of a rule's workspaces is published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// How often at most, for each workspace.
    pub every: Duration,
    /// On the pod.
    pub pod: bool,
    /// On what the pod belongs to.
    pub owner: Option<Owner>,
    /// By a call to the platform.
    pub hook: Option<Call>,
}

/// What is annotated besides the pod.
#[derive(Debug, Clone, Default)]
pub struct Owner {
    /// What the API server calls objects of that kind in addresses, where it is not the plural that one would guess.
    pub plural: Option<String>,
}

impl Publication {
    /// Adds the keys of the labels and annotations that its texts ask for.
    pub fn keys(&self, into: &mut Kept) {
        self.hook.iter().for_each(|call| call.keys(into));
    }
}

/// Publishes until the gateway closes, and what is left then.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let closing = gateway.tasks.closing().clone();
    let mut turns = Turns::default();
    let troubles = Troubles::default();
    let mut flying = FuturesUnordered::new();
    let mut over = false;
    let mut end = None;
    loop {
        take_in(&gateway, &mut turns);
        while flying.len() < AT_ONCE
            && let Some((name, at)) = turns.take(Instant::now(), over)
        {
            flying.push(one(&gateway, &troubles, name, at));
        }
        if over && flying.is_empty() {
            return;
        }
        let room = !over && flying.len() < AT_ONCE;
        let next = turns.next().filter(|_| room);
        let next = async {
            match next {
                Some(at) => sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((name, at, outcome, every)) = flying.next(), if !flying.is_empty() => {
                // At the end each has one turn, and there is no other.
                let outcome = if over { Outcome::Done } else { outcome };
                turns.done(&name, at, outcome, every, Instant::now());
            }
            () = gateway.usage.changed(), if !over => {}
            () = next => {}
            () = closing.cancelled(), if !over => {
                over = true;
                end = Some(Instant::now() + LAST_ROUND);
            }
            // A server that hangs does not keep the gateway.
            () = async { sleep_until(end.unwrap_or_else(Instant::now)).await }, if end.is_some() => return,
        }
    }
}

fn take_in(gateway: &Gateway, turns: &mut Turns) {
    let fresh = gateway.usage.take_fresh();
    for name in &fresh {
        if let Some(workspace) = gateway.workspaces.find(name)
            && gateway.usage.publication(&workspace).is_some()
            && let Some(at) = gateway.usage.told(&workspace)
        {
            turns.want(name, at);
        }
    }
    if !fresh.is_empty() {
        turns.keep(|name| gateway.workspaces.find(name).is_some_and(|one| one.life.is_some()));
    }
}

async fn one(
    gateway: &Gateway,
    troubles: &Troubles,
    name: WorkspaceName,
    at: SystemTime,
) -> (WorkspaceName, SystemTime, Outcome, Duration) {
    let workspace = gateway.workspaces.find(&name);
    let publication = workspace.as_ref().and_then(|one| gateway.usage.publication(one));
    let (Some(workspace), Some(publication)) = (workspace, publication) else {
        return (name, at, Outcome::Done, Duration::ZERO);
    };
    // The latest that is known, of this life.
    let at = gateway.usage.told(&workspace).map_or(at, |latest| latest.max(at));
    let note = Note {
        last_use: Some(at),
        keep: None,
    };
    let told = timeout(WITHIN, tell(gateway, &publication, &workspace, &note)).await;
    let outcome = match told.unwrap_or_else(|_| Err(Trouble::away(format!("no end within {WITHIN:?}")))) {
        Ok(()) => {
            troubles.none(&workspace);
            Outcome::Done
        }
        Err(trouble) => {
            troubles.told(&workspace, &trouble);
            trouble.outcome
        }
    };
    (name, at, outcome, publication.every)
}

/// Tells one note everywhere that the rule says; the first trouble, after everything was tried.
pub(super) async fn tell(
    gateway: &Gateway,
    publication: &Publication,
    workspace: &Workspace,
    note: &Note,
) -> Result<(), Trouble> {
    let mut told = Ok(());
    let judge = |error: KubeError| match error {
        // Gone meanwhile: whoever asks when it was used looks elsewhere. Who has it kept is told.
        KubeError::NotFound(_) if note.keep.is_none() => Ok(()),
        error => Err(Trouble::of_kube(&error)),
    };
    if let Some(cluster) = &gateway.kube {
        if publication.pod {
            told = told.and(note::on_pod(cluster, workspace, note).await.or_else(judge));
        }
        if let Some(owner) = &publication.owner {
            let note = of_owner(gateway, publication, workspace, note);
            let noted = note::on_owner(cluster, workspace, owner.plural.as_deref(), &note).await;
            told = told.and(noted.or_else(judge));
        }
    }
    if let Some(call) = &publication.hook {
        let text = |at: Option<SystemTime>| at.map(rfc3339).unwrap_or_default();
        let used = text(note.last_use.or_else(|| gateway.usage.last_use(workspace)));
        let keep = text(match note.keep {
            Some(Keep::Until(at)) => Some(at),
            Some(Keep::Released) => None,
            None => gateway.usage.keep_until(workspace),
        });
        let facts = Facts {
            workspace,
            user: "",
            usage: Some((&used, &keep)),
        };
        let called = call.make(&facts, None).await.map_err(|failed| Trouble {
            text: failed.detail,
            outcome: Outcome::Failed,
        });
        told = told.and(called);
    }
    told
}

/// Why use could not be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) text: String,
    outcome: Outcome,
}

impl Trouble {
    fn away(text: String) -> Self {
        Self {
            text,
            outcome: Outcome::Away,
        }
    }

    fn of_kube(error: &KubeError) -> Self {
        match error.is_outage() {
            true => Self::away(error.to_string()),
            false => Self {
                text: error.to_string(),
                outcome: Outcome::Failed,
            },
        }
    }
}

/// What the log has said: each trouble once, until it is another or over.
#[derive(Default)]
struct Troubles(Guarded<Option<String>>);

impl Troubles {
    fn told(&self, workspace: &Workspace, trouble: &Trouble) {
        let new = self.0.with(|said| {
            let new = said.as_ref() != Some(&trouble.text);
            *said = Some(trouble.text.clone());
            new
        });
        if new {
            tracing::warn!(workspace = %workspace.name, "the use of workspaces cannot be published: {}", trouble.text);
        }
    }

    fn none(&self, workspace: &Workspace) {
        if self.0.with(Option::take).is_some() {
            tracing::info!(workspace = %workspace.name, "the use of workspaces is published again");
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// How many workspaces are published at once.
const AT_ONCE: usize = 8;
/// How long the last round may take: less than what is waited for at the gateway's end.
const LAST_ROUND: Duration = Duration::from_secs(3);
/// How long one may take, all places together.
const WITHIN: Duration = Duration::from_secs(45);
