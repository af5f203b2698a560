//! Waking workspaces: for whom the policy lets in, once however many ask, with an end in any case.
//!
//! Who may is not decided here: [`Wakes::join`] takes a [`Grant`]. How a workspace is woken is its rule's [`Way`]; one without
//! is only waited for. What a wake tells is for people: one line, harmless for a terminal.

mod call;
mod run;
mod template;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use doorward_certs::WorkspaceName;
use tokio::sync::watch;

pub use call::{Call, Credential};
#[cfg(test)]
pub(crate) use template::tests::workspace as tests_workspace;
pub use template::{Address, Facts, Json, Scope, Template};

use crate::{
    Gateway,
    guarded::Guarded,
    kube::{discover::rule::Kept, wake::Annotate},
    oidc::BearerToken,
    policy::Grant,
    refusal::Refusal,
};

/// How the workspaces of a rule are woken.
#[derive(Debug, Clone)]
pub struct Way {
    /// What is done.
    pub act: Act,
    /// How long it may take until the workspace can be entered.
    pub within: Duration,
}

impl Way {
    /// Adds the keys of the labels and annotations that its texts ask for.
    pub fn keys(&self, into: &mut Kept) {
        match &self.act {
            Act::Scale => {}
            Act::Annotate(order) => order.set.values().for_each(|text| text.keys(into)),
            Act::Call(call) => call.keys(into),
        }
    }
}

/// What wakes a workspace.
#[derive(Debug, Clone)]
pub enum Act {
    /// The StatefulSet is scaled until the workspace's pod is one of its pods; a Deployment to one, if it has none.
    Scale,
    /// What the pod belongs to is annotated.
    Annotate(Annotate),
    /// A call to the platform's own API.
    Call(Box<Call>),
}

/// How far a wake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// On its way, with a sentence.
    Starting(String),
    /// It can be entered.
    Running,
    /// It came to nothing.
    Failed(Refusal),
}

/// Who asks, and by what right.
#[derive(Debug)]
pub struct Asker {
    /// The policy's yes.
    pub grant: Grant,
    /// The person's token, if it may be shown to others.
    pub token: Option<BearerToken>,
    /// Where the request came from.
    pub peer: SocketAddr,
}

/// All wakes that are under way.
#[derive(Debug, Default)]
pub struct Wakes {
    ways: Guarded<BTreeMap<String, Arc<Way>>>,
    under_way: Guarded<HashMap<WorkspaceName, watch::Receiver<Told>>>,
    waiting: Guarded<HashMap<String, usize>>,
}

/// A place among those who wait, given back when it is dropped.
#[derive(Debug)]
struct Place {
    gateway: Arc<Gateway>,
    user: String,
}

/// What a wake tells to one of those who wait for it.
#[derive(Debug)]
pub struct Tale {
    told: watch::Receiver<Told>,
    heard: bool,
    _place: Place,
}

impl Wakes {
    /// Wakes by these ways, each for the workspaces of a rule.
    pub fn new(ways: impl IntoIterator<Item = (String, Way)>) -> Self {
        let ways = ways.into_iter().map(|(rule, way)| (rule, Arc::new(way))).collect();
        Self {
            ways: Guarded::new(ways),
            ..Self::default()
        }
    }

    /// From now on the workspaces of this rule are woken so.
    #[cfg(test)]
    pub(crate) fn teach(&self, rule: &str, way: Way) {
        self.ways.with(|ways| ways.insert(rule.to_owned(), Arc::new(way)));
    }

    /// Whether anything can wake this workspace.
    fn way(&self, grant: &Grant) -> Option<Arc<Way>> {
        let rule = &grant.workspace().place.as_ref()?.rule;
        self.ways.with(|ways| ways.get(rule).map(Arc::clone))
    }

    /// Joins the wake of a workspace, which begins with the first who asks and goes on without them.
    ///
    /// # Errors
    /// Too many wait already, this person or all together.
    pub fn join(gateway: &Arc<Gateway>, asker: Asker) -> Result<Tale, Refusal> {
        let (name, user) = (asker.grant.workspace().name.clone(), asker.grant.user().to_owned());
        let place = Place::take(gateway, user)?;
        let told = gateway.wakes.under_way.with(|under_way| {
            if let Some(told) = under_way.get(&name) {
                return Ok(told.clone());
            }
            if under_way.len() >= MOST_WAKES {
                return Err(Refusal::too_many("too many workspaces are being woken at the moment"));
            }
            let (tell, told) = watch::channel(Told::Starting(String::new()));
            under_way.insert(name, told.clone());
            let way = gateway.wakes.way(&asker.grant);
            gateway.tasks.spawn(run::run(Arc::clone(gateway), asker, way, tell));
            Ok(told)
        })?;
        Ok(Tale {
            told,
            heard: false,
            _place: place,
        })
    }

    fn over(&self, name: &WorkspaceName) {
        self.under_way.with(|under_way| under_way.remove(name));
    }
}

impl Place {
    fn take(gateway: &Arc<Gateway>, user: String) -> Result<Self, Refusal> {
        let limits = &gateway.config.limits;
        gateway.wakes.waiting.with(|waiting| {
            if waiting.values().sum::<usize>() >= limits.sessions {
                return Err(Refusal::too_many("too many people wait for workspaces at the moment"));
            }
            let own = waiting.entry(user.clone()).or_default();
            if *own >= limits.sessions_per_user {
                return Err(Refusal::too_many("too many of your programs wait for workspaces"));
            }
            *own += 1;
            Ok(())
        })?;
        Ok(Self {
            gateway: Arc::clone(gateway),
            user,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gateway.wakes.waiting.with(|waiting| {
            if let Some(own) = waiting.get_mut(&self.user) {
                *own -= 1;
                if *own == 0 {
                    waiting.remove(&self.user);
                }
            }
        });
    }
}

impl Tale {
    /// The next news; nothing once the wake is over, or its gateway is stopping.
    pub async fn next(&mut self) -> Option<Told> {
        if self.heard {
            self.told.changed().await.ok()?;
        }
        self.heard = true;
        Some(self.told.borrow_and_update().clone())
    }
}

/// How many workspaces are woken at once.
const MOST_WAKES: usize = 512;
