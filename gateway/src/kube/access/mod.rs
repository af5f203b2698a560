//! `WorkspaceAccess` objects: what the admins of a namespace say about who enters its workspaces.
//!
//! Whoever can make one writes it, so that nothing of it is believed before it was checked, and one that is not good harms no other.
//! It lends a role of the policy, never more than that role gives, in the workspaces of its own namespace alone. What is wrong
//! with one stands in its status.

mod definition;
mod look;
mod report;
mod selector;
mod shelf;
mod spec;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ::kube::Client;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use definition::definition;
pub use look::{Lent, Object, Said};
pub use spec::Narrower;

use self::{report::Reports, shelf::Objects};
use super::{
    Discovery, KubeError,
    discover::rule::{Namespaces, Rule},
    watch::{Query, Watch},
};
use crate::policy::Policy;

/// The objects that are heard, and how well they are known. Clones are the same.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    client: Client,
    /// Where rules look whose workspaces the objects are about.
    rules: BTreeMap<String, Namespaces>,
    watches: Vec<Watch<Objects>>,
    discovery: Discovery,
    max_age: Duration,
    changed: Arc<Notify>,
    changes: watch::Sender<u64>,
    reports: Reports,
}

impl Access {
    /// Nothing is known yet: [`Access::run`] begins to ask. `heard` are the rules whose workspaces the objects are about.
    #[must_use]
    pub fn new(
        client: Client,
        rules: &[Rule],
        heard: &BTreeSet<String>,
        max_age: Duration,
        discovery: Discovery,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let rules: BTreeMap<String, Namespaces> = rules
            .iter()
            .filter(|rule| heard.contains(&rule.name))
            .map(|rule| (rule.name.clone(), rule.namespaces.clone()))
            .collect();
        let watches = places(rules.values())
            .into_iter()
            .map(|namespace| Watch::new(Objects::default(), query(namespace.as_deref()), Arc::clone(&changed)))
            .collect();
        Self(Arc::new(Inner {
            client,
            rules,
            watches,
            discovery,
            max_age,
            changed,
            changes: watch::Sender::new(0),
            reports: Reports::default(),
        }))
    }

    /// Follows the objects until `stop`, and writes into their status what the policy makes of them.
    pub async fn run(self, policy: &Policy, stop: CancellationToken) {
        let inner = &self.0;
        let mut following: FuturesUnordered<_> =
            inner.watches.iter().map(|watch| watch.follow(&inner.client)).collect();
        tokio::select! {
            () = stop.cancelled() => {}
            // None of them ends.
            _ = following.next(), if !following.is_empty() => {}
            () = self.judge(policy) => {}
            () = inner.reports.write(&inner.client) => {}
        }
    }

    /// Tells when what the objects say may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Whether the objects are known well enough to decide by them.
    ///
    /// # Errors
    /// Why not.
    pub fn known(&self) -> Result<(), KubeError> {
        let inner = &self.0;
        for watch in &inner.watches {
            let standing = watch.standing();
            match standing.behind {
                Some(behind) if !standing.listed || behind.since.elapsed() >= inner.max_age => return Err(behind.why),
                None if !standing.listed => {
                    let why = format!("{watch}: not listed yet");
                    return Err(KubeError::Unreachable(why));
                }
                _ => {}
            }
        }
        match inner.discovery.away() {
            Some((since, why)) if since >= inner.max_age => Err(why),
            _ => Ok(()),
        }
    }

    /// What of it is not known as well as it should be, for the operator.
    ///
    /// # Errors
    /// What, and why.
    pub fn current(&self) -> Result<(), String> {
        for watch in &self.0.watches {
            if let Some(behind) = watch.standing().behind {
                return Err(format!("{watch}: {}", behind.why));
            }
        }
        self.0.reports.ready()
    }

    /// Looks once, without following: how many objects there are.
    ///
    /// # Errors
    /// Where, and why not.
    pub async fn look(&self) -> Result<usize, (String, KubeError)> {
        let mut count = 0;
        for watch in &self.0.watches {
            let listed = watch.list(&self.0.client).await;
            listed.map_err(|error| (watch.to_string(), error))?;
            count += watch.store.count();
        }
        Ok(count)
    }

    /// Judges all objects whenever one has changed, or the policy, or one's time is over.
    async fn judge(&self, policy: &Policy) {
        let inner = &self.0;
        let mut roles = policy.changes();
        let mut unserved = FIRST_LOOK;
        let mut news = true;
        let mut lends = true;
        loop {
            roles.mark_unchanged();
            if std::mem::replace(&mut lends, policy.lends_any()) && !lends {
                tracing::warn!(
                    remedy = LENDS_NOTHING.1,
                    "{KIND} objects are heard, and {}",
                    LENDS_NOTHING.0
                );
            }
            let (began, now) = (Instant::now(), SystemTime::now());
            let mut others = false;
            let mut next: Option<SystemTime> = None;
            let mut due = BTreeMap::new();
            for object in inner.watches.iter().flat_map(|watch| watch.store.all()) {
                let expires = object.expires().filter(|at| *at > now);
                next = next.into_iter().chain(expires).min();
                if self.serves(&object.namespace) {
                    due.extend(report::due(&object, policy, now));
                } else {
                    others = true;
                }
            }
            inner.reports.replace(due);
            if news {
                inner.changes.send_modify(|count| *count += 1);
            }
            // However often somebody writes objects, most of the time is left for other things.
            let gather = GATHER.max(began.elapsed() * 4);
            // Their namespaces may be ours, and not known yet.
            let look_again = async {
                match others {
                    true => tokio::time::sleep(unserved).await,
                    false => std::future::pending().await,
                }
            };
            let over = async {
                match next.and_then(|at| at.duration_since(SystemTime::now()).ok()) {
                    // A clock that was set is noticed within the hour.
                    Some(left) => tokio::time::sleep(left.min(HOUR) + MOMENT).await,
                    None if next.is_some() => {}
                    None => std::future::pending().await,
                }
            };
            news = tokio::select! {
                () = inner.changed.notified() => {
                    tokio::time::sleep(gather).await;
                    unserved = FIRST_LOOK;
                    true
                }
                changed = roles.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                () = over => true,
                () = look_again => {
                    unserved = (unserved * 2).min(LAST_LOOK);
                    false
                }
            };
        }
    }

    /// Whether the objects of this namespace are this gateway's to judge.
    fn serves(&self, namespace: &str) -> bool {
        self.0.rules.iter().any(|(rule, places)| match places {
            Namespaces::These(all) => all.iter().any(|one| one == namespace),
            Namespaces::Selected(_) => self.0.discovery.looks_into(rule, namespace),
        })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Access({} rules)", self.0.rules.len())
    }
}

/// The namespaces to be watched, each once; all of them where a rule looks everywhere.
fn places<'a>(rules: impl Iterator<Item = &'a Namespaces>) -> BTreeSet<Option<String>> {
    let mut all = BTreeSet::new();
    for places in rules {
        match places {
            Namespaces::These(these) => all.extend(these.iter().cloned().map(Some)),
            Namespaces::Selected(_) => return BTreeSet::from([None]),
        }
    }
    all
}

fn query(namespace: Option<&str>) -> Query {
    let (path, what) = match namespace {
        Some(namespace) => (
            format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"),
            format!("{KIND} objects in {namespace}"),
        ),
        None => (
            format!("/apis/{GROUP}/{VERSION}/{PLURAL}"),
            format!("{KIND} objects in all namespaces"),
        ),
    };
    Query {
        path,
        labels: String::new(),
        named: None,
        page: PAGE,
        what,
    }
}

/// That the objects can lend nothing, and what to do about it.
pub const LENDS_NOTHING: (&str, &str) = (
    "no role of the policy is `grantable`: no such object lets anybody in",
    "mark the roles that may be lent with `grantable = true`, or take `[[authorize.workspace-access]]` out",
);
/// The API group.
pub const GROUP: &str = "doorward.dev";
/// The kind.
pub const KIND: &str = "WorkspaceAccess";
/// The resource.
pub const PLURAL: &str = "workspaceaccesses";
const VERSION: &str = "v1alpha1";
/// The server stores objects of 1.5 MiB: so many of the largest still are an answer that is taken.
const PAGE: u32 = 32;
/// How long changes are gathered before they are judged.
const GATHER: Duration = Duration::from_millis(100);
/// How soon it is looked again whether the namespaces of objects are ours; each time twice as late.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(10);
