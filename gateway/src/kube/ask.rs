//! Questions to the API server that are objects to be created and kept by nobody: reviews of tokens and of rights.
//!
//! Each is asked once, within a deadline; only so many are under way at once, and a server that says so is left alone.

use std::{fmt, sync::Arc, time::Duration};

use ::kube::{Api, Client, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::KubeError;
use crate::guarded::Guarded;

/// Asks questions of one kind. Clones share their bounds.
pub(crate) struct Ask<K>(Arc<Inner<K>>);

struct Inner<K> {
    api: Api<K>,
    within: Duration,
    places: Semaphore,
    /// Until then the server wants to be left alone.
    rest: Guarded<Option<Instant>>,
    /// What the last question failed of, if it failed, and when.
    trouble: Guarded<Option<(KubeError, Instant)>>,
}

impl<K> Ask<K>
where
    K: Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + fmt::Debug,
{
    /// Asks through this client: `at_once` questions, each answered `within`.
    pub(crate) fn new(client: Client, within: Duration, at_once: usize) -> Self {
        Self(Arc::new(Inner {
            api: Api::all(client),
            within,
            places: Semaphore::new(at_once),
            rest: Guarded::default(),
            trouble: Guarded::default(),
        }))
    }

    /// Asks if there is a place for it now; `None` if there is not.
    pub(crate) async fn at_once(&self, question: &K) -> Option<Result<K, KubeError>> {
        let _place = self.0.places.try_acquire().ok()?;
        Some(self.ask(question, Instant::now() + self.0.within).await)
    }

    /// Asks as soon as there is a place for it, the wait included in the deadline.
    pub(crate) async fn in_turn(&self, question: &K) -> Result<K, KubeError> {
        let by = Instant::now() + self.0.within;
        let late = || KubeError::Hanging(self.0.within);
        let place = timeout_at(by, self.0.places.acquire()).await.map_err(|_| late())?;
        let _place = place.map_err(|_| late())?;
        self.ask(question, by).await
    }

    async fn ask(&self, question: &K, by: Instant) -> Result<K, KubeError> {
        let inner = &*self.0;
        if let Some(until) = inner.rest.with(|rest| *rest)
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            return Err(KubeError::Throttled { after: Some(left) });
        }
        let answer = match timeout_at(by, inner.api.create(&PostParams::default(), question)).await {
            Ok(answer) => answer.map_err(KubeError::from),
            Err(_) => Err(KubeError::Hanging(inner.within)),
        };
        let failed = answer.as_ref().err().cloned();
        inner
            .trouble
            .with(|trouble| *trouble = failed.map(|error| (error, Instant::now())));
        if let Err(KubeError::Throttled { after }) = &answer {
            let rest = after.unwrap_or(USUAL_REST).min(LONGEST_REST);
            inner.rest.with(|until| *until = Some(Instant::now() + rest));
        }
        answer
    }
}

impl<K> Ask<K> {
    /// What the last question failed of, if it failed a moment ago. What is older says nothing of now: where nobody is sent
    /// because of it, nobody would ask again.
    pub(crate) fn trouble(&self) -> Option<KubeError> {
        let trouble = self.0.trouble.with(|trouble| trouble.clone());
        trouble.filter(|(_, at)| at.elapsed() < TELLING).map(|(error, _)| error)
    }
}

#[cfg(test)]
impl<K> Ask<K> {
    /// Whether the server is left alone; from now on so long, however slow the test is.
    pub(crate) fn rests(&self, longer: Duration) -> bool {
        self.0.rest.with(|rest| rest.replace(Instant::now() + longer).is_some())
    }

    pub(crate) fn places(&self) -> &Semaphore {
        &self.0.places
    }
}

impl<K> Clone for Ask<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for Ask<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Ask(within {:?})", self.0.within)
    }
}

/// How long a failure tells how it is.
const TELLING: Duration = Duration::from_secs(15);
const USUAL_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
