//! Questions about tokens, held back: an answer serves for seconds, one question serves all who wait for it, and tokens that
//! were never good are asked about at a bounded rate, so that a flood of nonsense at our door is none at the API server's.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use crate::{
    config::TokenReview,
    guarded::Guarded,
    kube::{
        KubeError,
        people::{NotTaken, People},
        rights::Subject,
    },
    oidc::{digest, turns::Line},
};

/// The SHA-256 of a token. The tokens themselves are not kept.
type Key = [u8; 32];
type Said = Result<Arc<Subject>, NotTaken>;
/// Questions under way, each with its answer for all who wait for it.
type UnderWay = Guarded<HashMap<Key, Arc<OnceCell<Result<Said, Failure>>>>>;

/// Why nothing is known of a token.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Too many unknown tokens.
    Busy,
    /// The server gave no answer.
    Server(KubeError),
}

/// Asks, and remembers for a while.
#[derive(Debug)]
pub(super) struct Reviews {
    people: People,
    cache: Duration,
    within: Duration,
    line: Line,
    known: Guarded<HashMap<Key, (Said, Instant)>>,
    /// Tokens that were good, and when last: a flood of others does not hold them back.
    good: Guarded<HashMap<Key, Instant>>,
    under_way: UnderWay,
    trouble: Guarded<Option<(KubeError, Instant)>>,
}

impl Reviews {
    pub(super) fn new(people: People, settings: &TokenReview) -> Self {
        Self {
            people,
            cache: settings.cache,
            within: settings.timeout,
            line: Line::new(Duration::from_secs(1) / settings.per_second.max(1)),
            known: Guarded::default(),
            good: Guarded::default(),
            under_way: Guarded::default(),
            trouble: Guarded::default(),
        }
    }

    /// Whose the token is, or was a moment ago; `source` is where it was shown from.
    pub(super) async fn whose(&self, token: &str, source: IpAddr) -> Result<Said, Failure> {
        let key = digest(token);
        let known = self.known.with(|known| known.get(&key).cloned());
        if let Some((said, asked)) = known
            && asked.elapsed() < self.cache
        {
            return Ok(said);
        }
        self.ask_of(key, token, source).await
    }

    /// Whose a token is now that was good before.
    pub(super) async fn ask(&self, token: &str) -> Result<Said, Failure> {
        self.ask_of(digest(token), token, IpAddr::from([0; 16])).await
    }

    /// Asks about a token that nobody has.
    pub(super) async fn try_out(&self) -> Result<(), KubeError> {
        self.people.whose(NOBODYS).await.map(drop)
    }

    /// What the last question failed of, if it failed a moment ago. What is older says nothing of now: where nobody is sent because
    /// of it, nobody would ask again.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.with(|trouble| trouble.clone());
        let trouble = trouble.filter(|(_, at)| at.elapsed() < TELLING);
        trouble.map(|(error, _)| format!("{}: {error}", error.code()))
    }

    async fn ask_of(&self, key: Key, token: &str, source: IpAddr) -> Result<Said, Failure> {
        let place = Place::of(&self.under_way, key);
        place
            .cell
            .get_or_init(|| self.question(key, token, source))
            .await
            .clone()
    }

    async fn question(&self, key: Key, token: &str, source: IpAddr) -> Result<Said, Failure> {
        let by = tokio::time::Instant::now() + self.within;
        self.turn(&key, source, by).await?;
        let asked = Instant::now();
        let answer = tokio::time::timeout_at(by, self.people.whose(token)).await;
        let answer = answer.unwrap_or(Err(KubeError::Hanging(self.within)));
        let failed = answer.as_ref().err().cloned();
        self.trouble
            .with(|trouble| *trouble = failed.map(|error| (error, Instant::now())));
        let said = answer.map_err(Failure::Server)?.map(Arc::new);
        self.remember(key, &said, asked);
        Ok(said)
    }

    /// Waits until another unknown token may be asked about; known ones need not wait.
    async fn turn(&self, key: &Key, source: IpAddr, by: tokio::time::Instant) -> Result<(), Failure> {
        let was_good = self.good.with(|good| good.get(key).copied());
        if was_good.is_some_and(|last| last.elapsed() < REMEMBERED) {
            return Ok(());
        }
        let now = Instant::now();
        let patience = by.into_std().duration_since(now) / 2;
        let wait = self.line.turn(source, now, patience);
        tokio::time::sleep(wait.ok_or(Failure::Busy)?).await;
        Ok(())
    }

    fn remember(&self, key: Key, said: &Said, asked: Instant) {
        self.known.with(|known| {
            if known.len() >= MOST_KNOWN {
                known.retain(|_, (_, asked)| asked.elapsed() < self.cache);
            }
            // What was said before must not outlive what is said now.
            known.remove(&key);
            if known.len() < MOST_KNOWN {
                known.insert(key, (said.clone(), asked));
            }
        });
        self.good.with(|good| match said {
            Err(_) => {
                good.remove(&key);
            }
            Ok(_) => {
                if good.len() >= MOST_KNOWN {
                    good.retain(|_, last| last.elapsed() < REMEMBERED);
                }
                if good.len() < MOST_KNOWN || good.contains_key(&key) {
                    good.insert(key, asked);
                }
            }
        });
    }
}

/// A question under way, which others may wait for; it is forgotten with the last who waits.
struct Place<'r> {
    all: &'r UnderWay,
    key: Key,
    cell: Arc<OnceCell<Result<Said, Failure>>>,
}

impl<'r> Place<'r> {
    fn of(all: &'r UnderWay, key: Key) -> Self {
        let cell = all.with(|all| match all.get(&key) {
            // One that was answered is over: whoever comes now wants to know how it is now.
            Some(cell) if !cell.initialized() => Arc::clone(cell),
            _ => {
                let cell = Arc::new(OnceCell::new());
                all.insert(key, Arc::clone(&cell));
                cell
            }
        });
        Self { all, key, cell }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.with(|all| {
            let ours = all.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
            // The map's own, and ours.
            if ours && (self.cell.initialized() || Arc::strong_count(&self.cell) <= 2) {
                all.remove(&self.key);
            }
        });
    }
}

#[cfg(test)]
impl Reviews {
    /// Makes the last failure older.
    pub(super) fn age_trouble(&self, by: Duration) {
        self.trouble.with(|trouble| {
            if let Some((_, at)) = trouble {
                *at = at.checked_sub(by).unwrap();
            }
        });
    }

    /// How much is kept: answers, good tokens, questions under way.
    pub(super) fn kept(&self) -> (usize, usize, usize) {
        (
            self.known.with(|known| known.len()),
            self.good.with(|good| good.len()),
            self.under_way.with(|all| all.len()),
        )
    }
}

const NOBODYS: &str = "doorward-trial-token-of-nobody";
/// The most answers that are kept, and the most good tokens that are recognised.
const MOST_KNOWN: usize = 8192;
/// How long a token is recognised as one that was good.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// How long a failure tells how it is.
const TELLING: Duration = Duration::from_secs(15);
