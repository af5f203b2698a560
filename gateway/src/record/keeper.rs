//! What the store does by itself: notices that its disk works again, and closes what nobody closes.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::layout;
use super::store::Inner;
use crate::guarded::Guarded;

/// Whether the disk takes bytes.
#[derive(Default)]
pub(super) struct Health {
    state: Guarded<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    failing: Option<String>,
    /// How often the disk has refused, so that a probe does not answer for what failed while it ran.
    failures: u64,
}

impl Health {
    /// The disk refused something. New sessions are refused until a probe succeeds.
    pub(super) fn fail(&self, text: &str) {
        let first = self.state.with(|state| {
            state.failures += 1;
            state.failing.replace(text.to_owned()).is_none()
        });
        if first {
            tracing::error!(fault = text, "the record store fails; new sessions are refused");
        }
        self.changed.notify_one();
    }

    /// How often the disk has refused until now.
    pub(super) fn failures(&self) -> u64 {
        self.state.with(|state| state.failures)
    }

    /// The disk works again, as a probe found that began after so many failures. One that came since stands.
    pub(super) fn recover(&self, failures: u64) {
        let recovered = self
            .state
            .with(|state| state.failures == failures && state.failing.take().is_some());
        if recovered {
            tracing::info!("the record store works again");
        }
    }

    /// Why the disk refuses, `Ok` if it does not.
    pub(super) fn ready(&self) -> Result<(), String> {
        self.state.with(|state| state.failing.clone().map_or(Ok(()), Err))
    }
}

/// Watches the disk while it fails, and closes recordings that no agent comes back for.
pub(super) async fn keep(store: Arc<Inner>, stop: CancellationToken) {
    let mut give_up = Instant::now() + PATIENCE;
    let mut given_up = false;
    begin_earlier(&store, given_up).await;
    loop {
        let failing = store.health.ready().is_err();
        tokio::select! {
            () = stop.cancelled() => return,
            () = store.health.changed.notified(), if !failing => {}
            () = tokio::time::sleep(PROBE_EVERY), if failing => {}
            () = tokio::time::sleep_until(give_up), if !given_up => {
                // Closing signs receipts, and nobody could judge those without a certificate.
                if store.credential.certificate().is_some() {
                    given_up = true;
                    close_forgotten(&store).await;
                } else {
                    give_up = Instant::now() + PATIENCE;
                }
            }
        }
        if store.health.ready().is_err() {
            look(&store).await;
        }
        begin_earlier(&store, given_up).await;
    }
}

/// Probes the disk, and if it works finishes what its failure left unfinished.
async fn look(store: &Arc<Inner>) {
    let owner = Arc::clone(store);
    let failures = store.health.failures();
    let probed = store.tasks.spawn_blocking(move || {
        probe(&owner.root)?;
        owner.close_broken()
    });
    match probed.await {
        Ok(Ok(())) => store.health.recover(failures),
        Ok(Err(error)) => tracing::debug!(%error, "the record store still fails"),
        Err(error) => tracing::error!(%error, "probe of the record store"),
    }
}

/// Begins the recordings of sessions that an earlier life could only note. Those for whose agents nobody waits any more are closed.
async fn begin_earlier(store: &Arc<Inner>, given_up: bool) {
    if store.unbegun.earlier().is_empty() || store.health.ready().is_err() {
        return;
    }
    let owner = Arc::clone(store);
    if let Err(error) = store.tasks.spawn_blocking(move || owner.begin_earlier()).await {
        tracing::error!(%error, "beginning of old recordings");
    }
    if given_up {
        close_forgotten(store).await;
    }
}

async fn close_forgotten(store: &Arc<Inner>) {
    let owner = Arc::clone(store);
    let closed = store.tasks.spawn_blocking(move || {
        for session in owner.take_unclosed(None) {
            owner.close_stopped(session);
        }
    });
    if let Err(error) = closed.await {
        tracing::error!(%error, "closing of old recordings");
    }
}

/// Writes, syncs and removes a file that is large enough to show that there is room again.
fn probe(root: &Path) -> io::Result<()> {
    let path = root.join(".probe");
    layout::remove(&path)?;
    let mut file = layout::create_new(&path)?;
    let written = file.write_all(&vec![0; PROBE_BYTES]).and_then(|()| file.sync_all());
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// How long after its start the gateway waits for agents to bring what is left of old sessions.
const PATIENCE: Duration = Duration::from_secs(120);
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_BYTES: usize = 1024 * 1024;
