//! Which pods are workspaces: rules, what was seen of the cluster, and the directory that follows it.
//!
//! Everything that the rules depend on is watched by one task. Changes are gathered for less than 100 ms and judged at once,
//! alone where nobody else can be concerned; what matters to nobody (heartbeats, versions) is not read. While the API server is away the last known state serves, for
//! `max-age`; after that nobody enters any more, and those who are inside stay.

mod judge;
mod known;
pub mod rule;
mod seen;
mod shelf;
mod state;
pub mod template;
#[cfg(test)]
mod tests;
pub mod up_time;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::kube::Client;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use judge::Problem;
pub use rule::Rule;

use self::{
    judge::{Shelves, is_everywhere},
    known::Known,
    rule::{AssignedBy, Kind, Namespaces},
    seen::Wanted,
    shelf::{Place, Shelf},
};
use super::{KubeError, watch::Behind};
use crate::{
    guarded::Guarded,
    workspace::{Directory, Source, State, Workspace},
};

/// What is known of the cluster, and how well. Clones are the same.
#[derive(Clone)]
pub struct Discovery(Arc<Inner>);

struct Inner {
    client: Client,
    rules: Vec<Shelves>,
    max_age: Duration,
    changed: Arc<Notify>,
    /// Whether the server answers at all.
    server: Guarded<Option<Behind>>,
    problems: Guarded<BTreeSet<Problem>>,
}

/// What a rule makes of the cluster at one moment, for the operator.
#[derive(Debug)]
pub struct Found {
    /// The rule.
    pub rule: String,
    /// How many workspaces there are in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// What is no workspace, and why.
    pub problems: BTreeSet<Problem>,
}

impl Discovery {
    /// Nothing is known yet: [`Discovery::run`] begins to ask.
    #[must_use]
    pub fn new(client: Client, rules: &[Rule], max_age: Duration) -> Self {
        let changed = Arc::new(Notify::new());
        Self(Arc::new(Inner {
            client,
            rules: rules.iter().map(|rule| shelves(rule, &changed)).collect(),
            max_age,
            changed,
            server: Guarded::default(),
            problems: Guarded::default(),
        }))
    }

    /// Follows the cluster until `stop`.
    pub async fn run(self, directory: Directory, stop: CancellationToken) {
        let shelves = self.0.rules.iter().flat_map(Shelves::all);
        let mut following: FuturesUnordered<_> = shelves.map(|shelf| shelf.follow(&self.0.client)).collect();
        tokio::select! {
            () = stop.cancelled() => {}
            // None of them ends.
            _ = following.next(), if !following.is_empty() => {}
            () = self.publish(&directory) => {}
            () = self.ask() => {}
        }
    }

    /// Whether the gateway knows whom it serves: every rule was listed once (unless it may not be), and not too long ago.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub fn ready(&self) -> Result<(), String> {
        for shelf in self.0.rules.iter().flat_map(Shelves::all) {
            let standing = shelf.standing();
            match standing.behind {
                Some(behind) if !standing.listed && behind.why.is_outage() => {
                    return Err(format!("{shelf}: not listed yet: {}", behind.why));
                }
                None if !standing.listed => return Err(format!("{shelf}: not listed yet")),
                _ => {}
            }
        }
        let server = self.0.server.with(|server| server.clone());
        match server.filter(|behind| behind.since.elapsed() > self.0.max_age) {
            Some(behind) => Err(told(&behind)),
            None => Ok(()),
        }
    }

    /// Whether anything is not known as well as it should be; that alone refuses nobody.
    ///
    /// # Errors
    /// What, since when and why, for the operator.
    pub fn current(&self) -> Result<(), String> {
        self.up_to_date()?;
        match self.0.problems.with(|problems| problems.len()) {
            0 => Ok(()),
            count => Err(format!(
                "{count} objects are not as their rules have them; `doctor` says why"
            )),
        }
    }

    fn up_to_date(&self) -> Result<(), String> {
        if let Some(behind) = self.0.server.with(|server| server.clone()) {
            return Err(told(&behind));
        }
        for shelf in self.0.rules.iter().flat_map(Shelves::all) {
            if let Some(behind) = shelf.standing().behind {
                return Err(format!("{shelf}: {}", told(&behind)));
            }
        }
        Ok(())
    }

    /// How long the server is away, and why; nothing if it is there.
    pub(super) fn away(&self) -> Option<(Duration, KubeError)> {
        self.0.server.with(|server| {
            let behind = server.as_ref()?;
            Some((behind.since.elapsed(), behind.why.clone()))
        })
    }

    /// Whether a rule looks into this namespace, which is there.
    pub(super) fn looks_into(&self, rule: &str, namespace: &str) -> bool {
        let mut rules = self.0.rules.iter().filter(|shelves| shelves.rule.name == rule);
        rules.any(|shelves| match (&shelves.rule.namespaces, &shelves.namespaces) {
            (Namespaces::These(all), _) => all.iter().any(|one| one == namespace),
            (Namespaces::Selected(_), Some(shelf)) => {
                let found = shelf.find("", namespace);
                found.is_some_and(|found| !found.is_going())
            }
            (Namespaces::Selected(_), None) => false,
        })
    }

    /// Looks once, without following.
    ///
    /// # Errors
    /// For each rule that cannot be looked at: its name, where, and why.
    pub async fn look(&self) -> Vec<Result<Found, (String, String, KubeError)>> {
        let mut taken = HashSet::new();
        let mut all = Vec::new();
        for shelves in &self.0.rules {
            let mut failed = None;
            for shelf in shelves.all() {
                if let Err(error) = shelf.list(&self.0.client).await {
                    failed = Some((shelves.rule.name.clone(), shelf.to_string(), error));
                    break;
                }
            }
            all.push(match failed {
                Some(failed) => Err(failed),
                None => {
                    let judged = shelves.judge(&mut taken);
                    let mut states = BTreeMap::new();
                    for workspace in &judged.workspaces {
                        *states.entry(workspace.state.as_str()).or_default() += 1;
                    }
                    Ok(Found {
                        rule: shelves.rule.name.clone(),
                        states,
                        problems: judged.problems,
                    })
                }
            });
        }
        all
    }

    /// Brings the directory up to date whenever something has changed, or has become too old.
    async fn publish(&self, directory: &Directory) {
        let mut known = None;
        loop {
            let oldest = self.judge(directory, &mut known);
            let next = async {
                match oldest.and_then(|since| self.0.max_age.checked_sub(since)) {
                    Some(left) => tokio::time::sleep(left + MOMENT).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.changed.notified() => tokio::time::sleep(GATHER).await,
                () = next => {}
            }
        }
    }

    /// Judges what has changed, or everything; how long ago the oldest thing was known that is not too old yet.
    fn judge(&self, directory: &Directory, known: &mut Option<Known>) -> Option<Duration> {
        let inner = &self.0;
        let changed: Vec<_> = inner.rules.iter().map(Shelves::changed_pods).collect();
        let changed: Option<Vec<_>> = changed.into_iter().collect();
        // What is known of old stands under its age, which is everybody's.
        if let (Some(last), Some(changed), Ok(())) = (known.as_mut(), changed, self.up_to_date())
            && let Some(amended) = last.amend(&inner.rules, &changed)
        {
            directory.amend(Source::Kubernetes, amended);
            return None;
        }
        self.judge_all(directory, known)
    }

    fn judge_all(&self, directory: &Directory, known: &mut Option<Known>) -> Option<Duration> {
        let inner = &self.0;
        let server = inner
            .server
            .with(|server| server.as_ref().map(|behind| behind.since.elapsed()));
        let (mut all, mut problems) = (Vec::new(), BTreeSet::new());
        let (mut taken, mut oldest) = (HashSet::new(), None::<Duration>);
        let (mut latest, mut current) = (Known::default(), true);
        for shelves in &inner.rules {
            // What was never seen whole is not judged: an owner could be missing, or a person.
            if shelves.all().any(|shelf| !shelf.standing().listed) {
                latest.rules.push(None);
                continue;
            }
            let ages = shelves
                .all()
                .filter_map(|shelf| Some(shelf.standing().behind?.since.elapsed()));
            let age = ages.chain(server).max();
            current &= age.is_none();
            let mut judged = shelves.judge(&mut taken);
            match age {
                Some(age) if age >= inner.max_age => judged.workspaces.iter_mut().for_each(|one| self.too_old(one)),
                Some(age) => oldest = oldest.max(Some(age)),
                None => {}
            }
            all.append(&mut judged.workspaces);
            problems.append(&mut judged.problems);
            latest.rules.push(Some(judged.ruled));
            latest.shared.extend(judged.shared);
        }
        let mut names = HashSet::new();
        let twice = all.iter().filter(|one| !names.insert(&one.name));
        latest.shared.extend(twice.map(|one| one.name.clone()));
        *known = current.then_some(latest);
        inner.problems.with(|known| {
            for new in problems.difference(known) {
                tracing::warn!(
                    object = new.object,
                    why = new.why,
                    "an object is not as its rule has it"
                );
            }
            *known = problems;
        });
        directory.replace(Source::Kubernetes, all);
        oldest
    }

    /// Nobody enters what is not known any more; its life goes on for those who are inside.
    fn too_old(&self, workspace: &mut Workspace) {
        let age = humantime::format_duration(self.0.max_age);
        workspace.state = State::Failed(format!("the cluster was not heard of for {age}"));
    }

    /// Asks the server now and then whether it is there: a watch that hears nothing cannot tell.
    async fn ask(&self) {
        let mut tick = tokio::time::interval(ASK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let answer = self.0.client.apiserver_version().await.map_err(KubeError::from);
            // Who may not read the version has heard from the server all the same.
            let away = answer.err().filter(KubeError::is_outage);
            let news = self.0.server.with(|server| match (server.as_mut(), away) {
                (Some(behind), Some(why)) => {
                    behind.why = why;
                    None
                }
                (None, Some(why)) => {
                    *server = Some(Behind::now(why.clone()));
                    Some(Some(why))
                }
                (Some(_), None) => {
                    *server = None;
                    Some(None)
                }
                (None, None) => None,
            });
            match news {
                Some(Some(why)) => {
                    let (code, error) = (why.code(), why.to_string());
                    tracing::warn!(code, error, "the API server is away; the last known state serves");
                    self.0.changed.notify_one();
                }
                Some(None) => {
                    tracing::info!("the API server is back");
                    self.0.changed.notify_one();
                }
                None => {}
            }
        }
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Discovery({} rules)", self.0.rules.len())
    }
}

/// What a rule needs to be watched.
fn shelves(rule: &Rule, changed: &Arc<Notify>) -> Shelves {
    let wanted = wanted(rule);
    let scopes: Vec<Option<String>> = match &rule.namespaces {
        Namespaces::These(all) => all.iter().cloned().map(Some).collect(),
        Namespaces::Selected(_) => vec![None],
    };
    let each = |kind: Kind, labels: &str, named: Option<&str>| -> Vec<Arc<Shelf>> {
        let place = |namespace: &Option<String>| Place {
            kind,
            namespace: namespace.clone(),
            labels: labels.to_owned(),
            named: named.map(str::to_owned),
        };
        let shelf = |namespace| Arc::new(Shelf::new(place(namespace), wanted.clone(), Arc::clone(changed)));
        scopes.iter().map(shelf).collect()
    };
    let owners = |kind| each(kind, &rule.owners, None);
    Shelves {
        pods: each(Kind::Pod, &rule.pods, None),
        owners: rule.watches_owners().map(owners).unwrap_or_default(),
        between: rule.between().map(|kind| each(kind, "", None)).unwrap_or_default(),
        claims: rule
            .claims
            .as_ref()
            .map(|labels| each(Kind::Claim, labels, None))
            .unwrap_or_default(),
        assigned: match &rule.assigned_by {
            Some(AssignedBy::ConfigMap(name)) => each(Kind::ConfigMap, "", Some(name)),
            _ => Vec::new(),
        },
        namespaces: is_everywhere(rule).then(|| {
            let place = Place {
                kind: Kind::Namespace,
                namespace: None,
                labels: match &rule.namespaces {
                    Namespaces::Selected(labels) => labels.clone(),
                    Namespaces::These(_) => String::new(),
                },
                named: None,
            };
            Arc::new(Shelf::new(place, wanted.clone(), Arc::clone(changed)))
        }),
        rule: rule.clone(),
    }
}

/// What is kept of the objects that a rule looks at.
fn wanted(rule: &Rule) -> Wanted {
    let end = rule.up_time.as_ref().map(|up_time| &up_time.end);
    Wanted {
        labels: rule.labels(),
        annotations: rule.annotations(),
        every_label: rule.kept.every_label,
        starts: matches!(end, Some(up_time::End::After(_))),
    }
}

fn told(behind: &Behind) -> String {
    let at = behind.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = crate::locks::rfc3339(SystemTime::UNIX_EPOCH + at);
    format!("behind since {at}: {}", behind.why)
}

/// How long changes are gathered before they are judged.
const GATHER: Duration = Duration::from_millis(80);
const ASK_EVERY: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(10);
