//! One kind of object in one place, kept up to date: listed once, then watched, through everything that ends a watch.
//!
//! The list that was known stays while the server is away. A watch goes on where the last one ended; where the server has
//! forgotten that (410), everything is listed anew, and what vanished meanwhile is noticed.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::kube::{
    Client,
    api::{ListParams, WatchParams},
    core::{Request, WatchEvent},
};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use tokio::{sync::Notify, time::Instant};

use super::{
    rule::Kind,
    seen::{Object, Wanted},
};
use crate::{guarded::Guarded, kube::KubeError};

/// What is watched where.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// In this namespace; in all of them if there is none.
    pub(super) namespace: Option<String>,
    /// A label selector; empty for all.
    pub(super) labels: String,
    /// The one object that is meant, if only one is.
    pub(super) named: Option<String>,
}

/// Namespace and name.
pub(super) type Key = (String, String);

/// The objects of one place as they were last seen.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) place: Place,
    wanted: Wanted,
    objects: Guarded<Objects>,
    standing: Guarded<Standing>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Objects {
    all: HashMap<Key, Arc<Object>>,
    fresh: Fresh,
}

/// What has changed on a shelf since somebody asked.
#[derive(Debug)]
pub(super) enum Fresh {
    /// These, which are there or no longer.
    These(HashSet<Key>),
    /// Anything.
    Whole,
}

impl Default for Fresh {
    fn default() -> Self {
        Self::These(HashSet::new())
    }
}

impl Fresh {
    fn add(&mut self, key: Key) {
        if let Self::These(keys) = self {
            keys.insert(key);
            if keys.len() > MOST_FRESH {
                *self = Self::Whole;
            }
        }
    }
}

/// How well a place is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Whether it was ever listed.
    pub(super) listed: bool,
    /// Since when nothing is heard of it, and why.
    pub(super) behind: Option<Behind>,
}

/// That something is not known any more as it should be.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    pub(super) since: Instant,
    pub(super) at: SystemTime,
    pub(super) why: KubeError,
}

impl Behind {
    pub(super) fn now(why: KubeError) -> Self {
        Self {
            since: Instant::now(),
            at: SystemTime::now(),
            why,
        }
    }
}

impl Shelf {
    pub(super) fn new(place: Place, wanted: Wanted, changed: Arc<Notify>) -> Self {
        Self {
            place,
            wanted,
            objects: Guarded::default(),
            standing: Guarded::default(),
            changed,
        }
    }

    /// Puts these on the shelf, as if they had been listed.
    #[cfg(test)]
    pub(super) fn set(&self, objects: Vec<Object>) {
        let trimmed = objects.into_iter().map(|mut object| {
            self.wanted.trim(&mut object);
            (key(&object), Arc::new(object))
        });
        self.objects.with(|own| {
            *own = Objects {
                all: trimmed.collect(),
                fresh: Fresh::Whole,
            }
        });
        self.standing.with(|standing| standing.listed = true);
    }

    /// Everything that is there, in no order.
    pub(super) fn objects(&self) -> Vec<Arc<Object>> {
        self.objects
            .with(|objects| objects.all.values().map(Arc::clone).collect())
    }

    /// What has changed since this was asked last.
    pub(super) fn fresh(&self) -> Fresh {
        self.objects.with(|objects| std::mem::take(&mut objects.fresh))
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.objects.with(|objects| objects.all.get(&key).map(Arc::clone))
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.with(|standing| standing.clone())
    }

    /// Keeps it up to date for ever.
    pub(super) async fn follow(&self, client: &Client) {
        let mut pauses = Pauses::default();
        loop {
            let version = match self.list(client).await {
                Ok(version) => version,
                Err(error) => {
                    self.failed(&mut pauses, error).await;
                    continue;
                }
            };
            pauses = Pauses::default();
            self.watch(client, version).await;
        }
    }

    /// Lists everything, and takes that for all there is. Gives the version to watch from.
    pub(super) async fn list(&self, client: &Client) -> Result<String, KubeError> {
        let request = Request::new(self.place.kind.path(self.place.namespace.as_deref()));
        let mut objects = HashMap::new();
        let mut params = ListParams {
            label_selector: self.label_selector(),
            field_selector: self.field_selector(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let asked = request.list(&params).map_err(::kube::Error::BuildRequest)?;
            let page: Page = client.request(asked).await?;
            for mut object in page.items.unwrap_or_default() {
                self.wanted.trim(&mut object);
                if objects.len() >= MOST {
                    return Err(KubeError::Garbage(format!("more than {MOST} objects")));
                }
                objects.insert(key(&object), Arc::new(object));
            }
            params.continue_token = page.metadata.next.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version.filter(|version| !version.is_empty());
            let version = version.ok_or_else(|| KubeError::Garbage("a list without a version".to_owned()))?;
            self.objects.with(|own| {
                for (key, object) in &mut objects {
                    if let Some(old) = own.all.get(key).filter(|old| *old == object) {
                        *object = Arc::clone(old);
                    }
                }
                *own = Objects {
                    all: objects,
                    fresh: Fresh::Whole,
                };
            });
            self.heard();
            self.changed.notify_one();
            return Ok(version);
        }
    }

    /// Watches until everything has to be listed anew.
    async fn watch(&self, client: &Client, mut version: String) {
        let request = Request::new(self.place.kind.path(self.place.namespace.as_deref()));
        let params = WatchParams {
            label_selector: self.label_selector(),
            field_selector: self.field_selector(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        };
        let mut pauses = Pauses::default();
        loop {
            let began = Instant::now();
            let ended = match request.watch(&params, &version) {
                Ok(asked) => self.one_watch(client, asked, &mut version).await,
                Err(error) => Err(::kube::Error::BuildRequest(error).into()),
            };
            match ended {
                Err(KubeError::Gone) => return,
                Err(error) => self.failed(&mut pauses, error).await,
                // A server, or something before it, that closes every watch at once is not asked without pause.
                Ok(()) if began.elapsed() < SHORTEST_WATCH => tokio::time::sleep(pauses.next()).await,
                Ok(()) => pauses = Pauses::default(),
            }
        }
    }

    async fn one_watch(
        &self,
        client: &Client,
        asked: http::Request<Vec<u8>>,
        version: &mut String,
    ) -> Result<(), KubeError> {
        let mut events = pin!(client.request_events::<Object>(asked).await?);
        self.heard();
        loop {
            let Ok(event) = tokio::time::timeout(WATCH_SILENCE, events.try_next()).await else {
                return Err(KubeError::Hanging(WATCH_SILENCE));
            };
            match event? {
                None => return Ok(()),
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => self.put(object, version),
                Some(WatchEvent::Deleted(object)) => self.remove(object, version),
                Some(WatchEvent::Bookmark(mark)) => *version = mark.metadata.resource_version,
                Some(WatchEvent::Error(status)) => return Err(::kube::Error::Api(status).into()),
            }
            self.heard();
        }
    }

    pub(super) fn put(&self, mut object: Object, version: &mut String) {
        *version = self.wanted.trim(&mut object);
        let changed = self.objects.with(|objects| {
            let key = key(&object);
            let full = objects.all.len() >= MOST && !objects.all.contains_key(&key);
            let same = objects.all.get(&key).is_some_and(|old| **old == object);
            if !same && !full {
                objects.fresh.add(key.clone());
                objects.all.insert(key, Arc::new(object));
            }
            !same
        });
        if changed {
            self.changed.notify_one();
        }
    }

    pub(super) fn remove(&self, mut object: Object, version: &mut String) {
        *version = self.wanted.trim(&mut object);
        let key = key(&object);
        let removed = self.objects.with(|objects| match objects.all.get(&key) {
            Some(old) if old.metadata.uid == object.metadata.uid => {
                objects.fresh.add(key.clone());
                objects.all.remove(&key)
            }
            _ => None,
        });
        if removed.is_some() {
            self.changed.notify_one();
        }
    }

    fn heard(&self) {
        let news = self.standing.with(|standing| {
            let news = !standing.listed || standing.behind.is_some();
            (standing.listed, standing.behind) = (true, None);
            news
        });
        if news {
            tracing::info!(place = self.to_string(), "the cluster is followed");
            self.changed.notify_one();
        }
    }

    /// Notes why nothing is heard, and waits before the next attempt.
    async fn failed(&self, pauses: &mut Pauses, why: KubeError) {
        let after = match why {
            KubeError::Throttled { after } => after.unwrap_or_default().min(LONGEST_PLEA),
            _ => Duration::ZERO,
        };
        let news = self.standing.with(|standing| match &mut standing.behind {
            Some(behind) => std::mem::replace(&mut behind.why, why.clone()).code() != why.code(),
            behind @ None => {
                *behind = Some(Behind::now(why.clone()));
                true
            }
        });
        if news {
            let (code, error) = (why.code(), why.to_string());
            tracing::warn!(
                place = self.to_string(),
                code,
                error,
                remedy = why.remedy(),
                "the cluster cannot be followed"
            );
            self.changed.notify_one();
        }
        tokio::time::sleep(after.max(pauses.next())).await;
    }

    fn label_selector(&self) -> Option<String> {
        Some(self.place.labels.clone()).filter(|labels| !labels.is_empty())
    }

    fn field_selector(&self) -> Option<String> {
        self.place.named.as_ref().map(|name| format!("metadata.name={name}"))
    }
}

impl std::fmt::Display for Shelf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { kind, namespace, .. } = &self.place;
        match namespace {
            Some(namespace) => write!(formatter, "{}s in {namespace}", kind.name()),
            None => write!(formatter, "{}s in all namespaces", kind.name()),
        }
    }
}

fn key(object: &Object) -> Key {
    (object.metadata.namespace.clone(), object.metadata.name.clone())
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    items: Option<Vec<Object>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Pauses that double, and are spread so that many gateways do not ask as one.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(Duration::from_millis(200))
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(rand::random_range(0.5..1.0))
    }
}

const PAGE: u32 = 500;
/// More objects than any gateway has workspaces: what exceeds it is a mistake in a selector.
const MOST: usize = 50_000;
/// More changes than anybody would look at one by one.
const MOST_FRESH: usize = 1_000;
/// How long the server keeps a watch open; a connection that died in silence is noticed a little later.
const WATCH_SECONDS: u32 = 60;
const WATCH_SILENCE: Duration = Duration::from_secs(65);
const SHORTEST_WATCH: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PLEA: Duration = Duration::from_secs(60);
