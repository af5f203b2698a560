//! One kind of object in one place, kept up to date: listed once, then watched, through everything that ends a watch.
//!
//! What was known stays while the server is away. A watch goes on where the last one ended; where the server has
//! forgotten that (410), everything is listed anew, and what vanished meanwhile is noticed.

use std::{
    fmt,
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
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Notify, time::Instant};

use super::KubeError;
use crate::guarded::Guarded;

/// What is kept of what is seen.
pub(super) trait Store {
    /// What is read of an object.
    type Object: DeserializeOwned + Clone;
    /// What was listed so far.
    type Listing: Default;

    /// Takes one object of a list.
    fn add(&self, listing: &mut Self::Listing, object: Self::Object) -> Result<(), KubeError>;

    /// Takes a list for all that there is.
    fn replace(&self, listing: Self::Listing);

    /// Takes an object that is new or has changed; gives its version, and whether that matters to anybody.
    fn put(&self, object: Self::Object) -> (String, bool);

    /// Drops an object; gives its version, and whether that matters to anybody.
    fn remove(&self, object: Self::Object) -> (String, bool);

    /// Whether something that is there was not kept and should be by now: then everything is listed anew.
    fn is_short(&self) -> bool {
        false
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// Where the server has it.
    pub(super) path: String,
    /// A label selector; empty for all.
    pub(super) labels: String,
    /// The one object that is meant, if only one is.
    pub(super) named: Option<String>,
    /// How many objects come at once.
    pub(super) page: u32,
    /// What it is, for operators.
    pub(super) what: String,
}

/// The objects of one place as they were last seen.
#[derive(Debug)]
pub(super) struct Watch<S> {
    pub(super) store: S,
    query: Query,
    standing: Guarded<Standing>,
    changed: Arc<Notify>,
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

impl<S: Store> Watch<S> {
    pub(super) fn new(store: S, query: Query, changed: Arc<Notify>) -> Self {
        Self {
            store,
            query,
            standing: Guarded::default(),
            changed,
        }
    }

    /// As if everything had been listed.
    #[cfg(test)]
    pub(super) fn was_listed(&self) {
        self.standing.with(|standing| standing.listed = true);
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.with(|standing| standing.clone())
    }

    /// Keeps it up to date for ever.
    pub(super) async fn follow(&self, client: &Client) {
        let (mut pauses, mut anew) = (Pauses::default(), Pauses::default());
        loop {
            let version = match self.list(client).await {
                Ok(version) => version,
                Err(error) => {
                    self.failed(&mut pauses, error).await;
                    continue;
                }
            };
            pauses = Pauses::default();
            let began = Instant::now();
            self.watch(client, version).await;
            // Whatever has everything listed anew, over and over, is not listed without pause.
            match began.elapsed() < SHORTEST_WATCH {
                true => tokio::time::sleep(anew.next()).await,
                false => anew = Pauses::default(),
            }
        }
    }

    /// Lists everything, and takes that for all there is. Gives the version to watch from.
    pub(super) async fn list(&self, client: &Client) -> Result<String, KubeError> {
        let request = Request::new(&self.query.path);
        let mut listing = S::Listing::default();
        let mut params = ListParams {
            label_selector: self.label_selector(),
            field_selector: self.field_selector(),
            limit: Some(self.query.page),
            ..ListParams::default()
        };
        loop {
            let asked = request.list(&params).map_err(::kube::Error::BuildRequest)?;
            let page: Page<S::Object> = client.request(asked).await?;
            for object in page.items.unwrap_or_default() {
                self.store.add(&mut listing, object)?;
            }
            params.continue_token = page.metadata.next.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version.filter(|version| !version.is_empty());
            let version = version.ok_or_else(|| KubeError::Garbage("a list without a version".to_owned()))?;
            self.store.replace(listing);
            self.heard();
            self.changed.notify_one();
            return Ok(version);
        }
    }

    /// Watches until everything has to be listed anew.
    async fn watch(&self, client: &Client, mut version: String) {
        let request = Request::new(&self.query.path);
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
        let mut events = pin!(client.request_events::<S::Object>(asked).await?);
        self.heard();
        loop {
            let Ok(event) = tokio::time::timeout(WATCH_SILENCE, events.try_next()).await else {
                return Err(KubeError::Hanging(WATCH_SILENCE));
            };
            match event? {
                None => return Ok(()),
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    self.saw(self.store.put(object), version)
                }
                Some(WatchEvent::Deleted(object)) => self.saw(self.store.remove(object), version),
                Some(WatchEvent::Bookmark(mark)) => *version = mark.metadata.resource_version,
                Some(WatchEvent::Error(status)) => return Err(::kube::Error::Api(status).into()),
            }
            self.heard();
            if self.store.is_short() {
                return Err(KubeError::Gone);
            }
        }
    }

    fn saw(&self, (newest, matters): (String, bool), version: &mut String) {
        *version = newest;
        if matters {
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
            tracing::info!(place = self.query.what, "the cluster is followed");
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
                place = self.query.what,
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
        Some(self.query.labels.clone()).filter(|labels| !labels.is_empty())
    }

    fn field_selector(&self) -> Option<String> {
        self.query.named.as_ref().map(|name| format!("metadata.name={name}"))
    }
}

impl<S> fmt::Display for Watch<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.query.what)
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    metadata: PageMeta,
    items: Option<Vec<T>>,
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

/// How long the server keeps a watch open; a connection that died in silence is noticed a little later.
const WATCH_SECONDS: u32 = 60;
const WATCH_SILENCE: Duration = Duration::from_secs(65);
const SHORTEST_WATCH: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PLEA: Duration = Duration::from_secs(60);
