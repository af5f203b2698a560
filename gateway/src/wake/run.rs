//! One wake, from the first who asks to a workspace that can be entered, or to the reason why there is none.

use std::{sync::Arc, time::Duration};

use doorward_audit::WorkspaceWoken;
use doorward_certs::WorkspaceName;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Act, Asker, Facts, Told, Way};
use crate::{
    Gateway,
    kube::{self, KubeError, wake::WakeError},
    link, metrics,
    refusal::{Refusal, RefusalCode},
    workspace::{Place, State, Workspace},
};

/// Wakes and follows, and is over in time. Nobody has to listen.
pub(super) async fn run(gateway: Arc<Gateway>, asker: Asker, way: Option<Arc<Way>>, tell: watch::Sender<Told>) {
    let name = asker.grant.workspace().name.clone();
    let within = way.as_ref().map_or(USUAL, |way| way.within);
    let mut wake = Wake {
        gateway: &gateway,
        asker,
        way,
        tell: &tell,
        acts: 0,
        failing: None,
        said: String::new(),
    };
    let place = wake.asker.grant.workspace().place.clone();
    let events = events(&gateway, place, &tell);
    let follow = timeout(within, async {
        tokio::select! {
            followed = wake.follow(&name) => followed,
            why = events => Err(failed(why)),
        }
    });
    let last = tokio::select! {
        followed = follow => Some(match followed {
            Ok(Ok(())) => Told::Running,
            Ok(Err(refusal)) => Told::Failed(refusal),
            Err(_) => Told::Failed(too_long(within, &tell.borrow())),
        }),
        // Whoever waits asks another gateway.
        () = gateway.tasks.stopping().cancelled() => None,
    };
    // Before it is told: who hears of the end and asks again begins anew.
    gateway.wakes.over(&name);
    if let Some(last) = last {
        match &last {
            Told::Failed(refusal) => {
                metrics::refused(refusal.code());
                tracing::warn!(workspace = %name, "the workspace was not woken: {refusal}");
            }
            _ => tracing::info!(workspace = %name, "the workspace runs"),
        }
        tell.send_replace(last);
    }
}

struct Wake<'a> {
    gateway: &'a Arc<Gateway>,
    asker: Asker,
    way: Option<Arc<Way>>,
    tell: &'a watch::Sender<Told>,
    /// How often something was done.
    acts: u32,
    /// Since when the workspace is said to have failed.
    failing: Option<Instant>,
    /// What it told last, beside what the cluster's events tell.
    said: String,
}

/// Tells what the cluster's events say, if there is a cluster; comes back with a sentence where that is hopeless.
async fn events(gateway: &Gateway, place: Option<Place>, tell: &watch::Sender<Told>) -> String {
    let (Some(cluster), Some(place)) = (&gateway.kube, place) else {
        return std::future::pending().await;
    };
    kube::wake::follow(cluster, &place, |text| say(tell, text)).await
}

fn say(tell: &watch::Sender<Told>, text: &str) {
    let text = crate::workspace::line(text);
    tell.send_if_modified(|told| match told {
        Told::Starting(last) if *last == text => false,
        _ => {
            *told = Told::Starting(text);
            true
        }
    });
}

impl Wake<'_> {
    /// Looks at the workspace whenever anything has changed, and acts where it sleeps.
    async fn follow(&mut self, name: &WorkspaceName) -> Result<(), Refusal> {
        let mut changes = self.gateway.workspaces.changes();
        let mut acted_on_sleep = false;
        loop {
            changes.borrow_and_update();
            let workspace = self.gateway.workspaces.find(name);
            let workspace = workspace.ok_or_else(|| failed("the workspace was removed while it started"))?;
            if !matches!(workspace.state, State::Failed(_)) {
                self.failing = None;
            }
            match &workspace.state {
                State::Running | State::Starting(_) if workspace.life.is_some() => {
                    acted_on_sleep = false;
                    match self.gateway.links.state(name) {
                        link::State::Up { .. } => return Ok(()),
                        link::State::Down { .. } => {
                            let unheard = self.gateway.links.unheard(name);
                            let long = unheard.is_some_and(|since| since >= link::AGENT_COMES);
                            // What was started just now may take as long as the rule says.
                            if long && self.acts == 0 && workspace.state == State::Running {
                                return Err(failed("the workspace runs, and no agent answers in it"));
                            }
                            self.say(workspace.state.reason().unwrap_or("its agent does not answer yet"));
                        }
                    }
                }
                State::Running => self.say("it has no address yet"),
                State::Starting(text) => {
                    acted_on_sleep = false;
                    self.say(text);
                }
                State::Stopping => {
                    acted_on_sleep = false;
                    self.say("it is still being stopped");
                }
                State::Asleep if acted_on_sleep => self.say("the platform was asked to start it"),
                State::Asleep => {
                    self.act(&workspace).await?;
                    acted_on_sleep = true;
                    continue;
                }
                State::Failed(text) => {
                    // What has failed before may be what starting it mends.
                    let since = *self.failing.get_or_insert_with(Instant::now);
                    if since.elapsed() >= FAILING {
                        return Err(failed(format!("the workspace has failed: {text}")));
                    }
                    self.say(text);
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return Err(failed("the workspaces are no longer known"));
                },
                // Links and grace are no changes of the directory.
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn act(&mut self, workspace: &Workspace) -> Result<(), Refusal> {
        let Some(way) = self.way.clone() else {
            return Err(Refusal::new(RefusalCode::Asleep, "the workspace is asleep")
                .with_hint("nothing here can wake it; start it where it was made"));
        };
        self.acts += 1;
        if self.acts > MOST_ACTS {
            return Err(failed("the workspace falls asleep again and again while it starts"));
        }
        self.say("the platform is asked to start it");
        let user = self.asker.grant.user();
        // On record before it is done.
        self.gateway.journal.append(WorkspaceWoken {
            user: user.to_owned(),
            workspace: workspace.name.to_string(),
            how: way.act.word().to_owned(),
            client_address: self.asker.peer.to_string(),
        });
        tracing::info!(workspace = %workspace.name, user, how = way.act.word(), "the workspace is woken");
        let facts = Facts {
            workspace,
            user,
            usage: None,
        };
        let cluster = || {
            let cluster = self.gateway.kube.as_ref();
            cluster.ok_or_else(|| failed("the workspace could not be started").with_detail("there is no [kubernetes]"))
        };
        match &way.act {
            Act::Scale => self.by_cluster(kube::wake::scale(cluster()?, workspace).await),
            Act::Annotate(order) => self.by_cluster(kube::wake::annotate(cluster()?, order, &facts).await),
            Act::Call(call) => call
                .make(&facts, self.asker.token.as_ref())
                .await
                .map_err(|why| failed(why.text).with_detail(why.detail)),
        }
    }

    /// Each sentence once: what the events told after it stands until there is another.
    fn say(&mut self, text: &str) {
        if self.said != text {
            text.clone_into(&mut self.said);
            say(self.tell, text);
        }
    }

    /// What came of asking the API server, in a person's words.
    fn by_cluster(&self, asked: Result<(), WakeError>) -> Result<(), Refusal> {
        let Err(error) = asked else { return Ok(()) };
        let text = match &error {
            WakeError::Kube {
                what,
                error: KubeError::Forbidden(_),
            } => format!("the gateway lacks the permission to {what}, so that it cannot start the workspace"),
            WakeError::Kube { error, .. } if error.is_outage() => {
                "the cluster does not answer, so that the workspace cannot be started".to_owned()
            }
            WakeError::Kube { .. } | WakeError::Misfit(_) => "the workspace could not be started".to_owned(),
        };
        Err(failed(text).with_detail(error.to_string()))
    }
}

impl Act {
    /// A word from a closed set.
    fn word(&self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Annotate(_) => "annotation",
            Self::Call(_) => "http",
        }
    }
}

fn failed(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(RefusalCode::WakeFailed, text)
        .with_hint("see how it stands where it was made, or tell your platform team; `doorward ls` shows its state")
}

fn too_long(within: Duration, told: &Told) -> Refusal {
    let within = humantime::format_duration(within);
    failed(match told {
        Told::Starting(text) if !text.is_empty() => {
            format!("the workspace did not start within {within}; last that was heard: {text}")
        }
        _ => format!("the workspace did not start within {within}"),
    })
}

/// How long a workspace may take where its rule does not say.
const USUAL: Duration = Duration::from_secs(5 * 60);
/// How long a workspace may be said to have failed before that is believed: an image is pulled again, a volume comes late.
const FAILING: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// How often one wake may act, where a workspace falls asleep again.
const MOST_ACTS: u32 = 3;
