//! The issuer's keys, kept fresh by one task that alone asks for them.
//!
//! It asks at the start, then every `keys-refresh`; after a failure sooner, with a growing pause. A check that meets an unknown
//! key id may wish for a fetch: all wishes of the moment share one, and after any fetch the next wish waits for the
//! cool-down. While the issuer cannot be asked, known keys go on being believed until `keys-max-age`.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::issuer::{FETCH, Issuer, Published};
use crate::{config::Oidc, metrics, tasks::Tasks};

/// The keys as the checks see them.
#[derive(Debug)]
pub(super) struct Keys {
    known: watch::Receiver<Known>,
    wish: Arc<Notify>,
    cool_down: Duration,
    max_age: Duration,
}

/// What is known at one moment.
#[derive(Debug, Clone, Default)]
struct Known {
    published: Option<(Arc<Published>, Instant)>,
    /// How many fetches have ended, and when the last one did.
    fetches: u64,
    last: Option<Instant>,
    /// Why the last fetch failed.
    trouble: Option<String>,
}

/// Keys to check with, or why there are none.
pub(super) struct Current {
    pub(super) published: Option<Arc<Published>>,
    pub(super) trouble: Option<String>,
    fetches: u64,
}

impl Keys {
    /// Begins to follow the issuer's keys.
    pub(super) fn follow(issuer: Issuer, settings: &Oidc, tasks: &Tasks) -> Self {
        let (publish, known) = watch::channel(Known::default());
        let wish = Arc::new(Notify::new());
        let (cool_down, refresh) = (settings.keys_cool_down, settings.keys_refresh);
        let follower = Follower {
            issuer,
            publish,
            wish: Arc::clone(&wish),
            cool_down,
            refresh,
        };
        let stop = tasks.closing().clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follower.run() => {}
            }
        });
        Self {
            known,
            wish,
            cool_down,
            max_age: settings.keys_max_age,
        }
    }

    /// The keys of this moment.
    pub(super) fn now(&self) -> Current {
        let known = self.known.borrow();
        let fresh = known
            .published
            .as_ref()
            .filter(|(_, fetched)| fetched.elapsed() <= self.max_age);
        let trouble = match (&known.published, fresh) {
            (Some(_), None) => Some("the identity provider's keys are too old".to_owned()),
            (None, _) if known.trouble.is_none() => {
                Some("the identity provider's keys were not fetched yet".to_owned())
            }
            _ => known.trouble.clone(),
        };
        Current {
            published: fresh.map(|(keys, _)| Arc::clone(keys)),
            trouble,
            fetches: known.fetches,
        }
    }

    /// The keys after a fetch that ended later than `seen`, if the cool-down allows one; what there is otherwise.
    pub(super) async fn after(&self, seen: &Current) -> Current {
        let cooling = self
            .known
            .borrow()
            .last
            .is_some_and(|last| last.elapsed() < self.cool_down);
        if self.known.borrow().fetches == seen.fetches && !cooling {
            self.wish.notify_one();
            let mut known = self.known.clone();
            // A fetch has a deadline of its own; this one is for the case that it began just before the wish.
            let waited = tokio::time::timeout(PATIENCE, known.wait_for(|known| known.fetches > seen.fetches)).await;
            if waited.is_err() {
                let late = format!("no answer within {PATIENCE:?}");
                return Current {
                    trouble: Some(late),
                    ..self.now()
                };
            }
        }
        self.now()
    }

    /// The age of the keys, if there are any.
    pub(super) fn age(&self) -> Option<Duration> {
        self.known
            .borrow()
            .published
            .as_ref()
            .map(|(_, fetched)| fetched.elapsed())
    }
}

/// The one task that asks the issuer.
struct Follower {
    issuer: Issuer,
    publish: watch::Sender<Known>,
    wish: Arc<Notify>,
    cool_down: Duration,
    refresh: Duration,
}

impl Follower {
    async fn run(self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let result = self.issuer.keys().await;
            metrics::keys_fetched(result.is_ok());
            let next = match &result {
                Ok(_) => {
                    pause = SHORTEST_PAUSE;
                    self.refresh
                }
                Err(error) => {
                    tracing::warn!("the identity provider's keys cannot be fetched: {error}");
                    let next = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    next.min(self.refresh)
                }
            };
            self.publish.send_modify(|known| {
                known.fetches += 1;
                known.last = Some(Instant::now());
                match result {
                    Ok(published) => {
                        known.published = Some((Arc::new(published), Instant::now()));
                        known.trouble = None;
                    }
                    Err(error) => known.trouble = Some(error.to_string()),
                }
            });
            let wished = async {
                tokio::time::sleep(self.cool_down).await;
                self.wish.notified().await;
            };
            tokio::select! {
                () = wished => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }
}

/// How long a check waits for a fetch: a little more than one may take.
const PATIENCE: Duration = Duration::from_secs(4);
const _: () = assert!(FETCH.as_millis() < PATIENCE.as_millis());
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
