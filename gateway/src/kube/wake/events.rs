//! What the cluster tells of a workspace that starts: the pod being placed, its image being pulled, a quota that is full.

use std::{collections::HashMap, time::Duration};

use ::kube::{Api, api::ListParams};
use k8s_openapi::api::core::v1::Event;
use tokio::time::{Instant, sleep};

use super::super::{Cluster, KubeError};
use crate::workspace::{Place, line};

/// Tells each new event of the pod and of what it belongs to; comes back with a sentence once the pod cannot be made, and for
/// as long that nobody else made it. Without the permission to read events it tells nothing, for ever.
pub(crate) async fn follow(cluster: &Cluster, place: &Place, mut say: impl FnMut(&str)) -> String {
    let api: Api<Event> = Api::namespaced(cluster.client(), &place.namespace);
    let owner = place.owner.as_ref().map(|owner| owner.name.as_str());
    let names: Vec<&str> = place.pod.as_deref().into_iter().chain(owner).collect();
    let (mut seen, mut first) = (HashMap::new(), true);
    let mut failing: Option<(Instant, String)> = None;
    loop {
        let mut fresh = Vec::new();
        for name in &names {
            let wanted = ListParams::default()
                .fields(&format!("involvedObject.name={name}"))
                .limit(MOST);
            match api.list(&wanted).await.map_err(KubeError::from) {
                Ok(list) => fresh.extend(list.items.into_iter().filter(|event| {
                    let id = event.metadata.uid.clone().unwrap_or_default();
                    let count = event.count.or(event.series.as_ref().and_then(|series| series.count));
                    seen.insert(id, count) != Some(count)
                })),
                Err(error @ (KubeError::Forbidden(_) | KubeError::Unauthorised(_))) => {
                    tracing::info!(namespace = place.namespace, "events are not told to people: {error}");
                    return std::future::pending().await;
                }
                Err(_) => {}
            }
        }
        fresh.sort_by_key(|event| event.last_timestamp.clone().map(|time| time.0));
        for event in fresh.iter().filter(|_| !first) {
            let text = sentence(event);
            match event.reason.as_deref() {
                Some("FailedCreate") => {
                    let since = failing.take().map_or_else(Instant::now, |(since, _)| since);
                    failing = Some((since, text.clone()));
                }
                Some("SuccessfulCreate") => failing = None,
                _ => {}
            }
            say(&text);
        }
        first = false;
        if let Some((since, text)) = &failing
            && since.elapsed() >= PATIENCE
        {
            return format!("its pod cannot be made: {text}");
        }
        sleep(INTERVAL).await;
    }
}

fn sentence(event: &Event) -> String {
    match (&event.message, &event.reason) {
        (Some(message), _) if !message.is_empty() => line(message),
        (_, Some(reason)) => line(reason),
        _ => String::new(),
    }
}

const MOST: u32 = 50;
const INTERVAL: Duration = Duration::from_secs(1);
/// A quota is often full for a moment alone.
const PATIENCE: Duration = Duration::from_secs(15);
