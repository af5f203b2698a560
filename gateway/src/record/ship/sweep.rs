//! What the spool need not keep: recordings that the bucket has had for long enough.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::SHIPPED;
use crate::record::layout;
use crate::record::store::{Claim, Inner};

/// Finds at the start what was not sent before, and then removes what is no longer needed, until `stop`.
pub(in crate::record) async fn sweep(store: Arc<Inner>, stop: CancellationToken) {
    let Some(shipping) = store.shipping.clone() else { return };
    let inner = Arc::clone(&store);
    let found = tokio::task::spawn_blocking(move || {
        remove_aside(&inner.root);
        unsent(&inner)
    });
    let found = found.await;
    match found.map_err(io::Error::other).and_then(|found| found) {
        Ok(found) => {
            for (session, bytes) in found {
                shipping.closed(session, bytes);
            }
        }
        Err(error) => tracing::error!(%error, "the spool cannot be looked through; what it holds may not be sent"),
    }
    let every = (shipping.keep / 4).clamp(Duration::from_millis(200), Duration::from_secs(60));
    let mut due = Instant::now() + every;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every.min(LOOK_EVERY)) => {}
        }
        // A disk that refuses may be full of what the bucket has: nothing is as good a use of its room as the next session.
        let refuses = store.health.ready().is_err();
        if !refuses && Instant::now() < due {
            continue;
        }
        due = Instant::now() + every;
        let inner = Arc::clone(&store);
        let keep = if refuses { Duration::ZERO } else { shipping.keep };
        let swept = tokio::task::spawn_blocking(move || remove_old(&inner, keep)).await;
        if let Err(error) = swept.map_err(io::Error::other).and_then(|done| done) {
            tracing::warn!(%error, "recordings that the object store has stay in the spool");
        }
    }
}

/// Removes what a gateway that was killed had put aside to be removed.
fn remove_aside(root: &Path) {
    let days = fs::read_dir(root).into_iter().flatten().flatten();
    let days = days.filter(|day| day.file_name().to_str().is_some_and(layout::is_day));
    let all = days.flat_map(|day| fs::read_dir(day.path()).into_iter().flatten().flatten());
    for folder in all.filter(|folder| folder.file_name().to_str().is_some_and(is_aside)) {
        if let Err(error) = fs::remove_dir_all(folder.path()) {
            tracing::warn!(%error, folder = %folder.path().display(), "what was to be removed stays in the spool");
        }
    }
}

fn is_aside(name: &str) -> bool {
    let session = name.strip_prefix('.').and_then(|name| name.strip_suffix(ASIDE));
    session.is_some_and(|session| Uuid::try_parse(session).is_ok())
}

/// Closed sessions that carry no mark, with the bytes of their streams.
fn unsent(inner: &Inner) -> io::Result<Vec<(Uuid, u64)>> {
    let mut all = Vec::new();
    layout::each(&inner.root, |session, dir| {
        if dir.join(SHIPPED).exists() {
            return Ok(());
        }
        let entry = crate::record::index::read(&inner.root, session)?;
        all.extend(
            entry
                .filter(|one| one.ended.is_some())
                .map(|one| (session, one.record_bytes)),
        );
        Ok(())
    })?;
    all.sort_unstable();
    Ok(all)
}

fn remove_old(inner: &Arc<Inner>, keep: Duration) -> io::Result<()> {
    layout::each(&inner.root, |session, dir| {
        let mark = dir.join(SHIPPED);
        let Ok(about) = fs::metadata(&mark) else { return Ok(()) };
        let age = SystemTime::now().duration_since(about.modified()?).unwrap_or_default();
        if age < keep {
            return Ok(());
        }
        // Whoever goes on with it takes the mark away first, and has the claim.
        let Some(_claim) = Claim::take(inner, session) else {
            return Ok(());
        };
        if !mark.exists() {
            return Ok(());
        }
        // Out of sight in one step: half a folder must not be taken for a recording.
        let aside = dir.with_file_name(format!(".{session}{ASIDE}"));
        fs::rename(dir, &aside)?;
        fs::remove_dir_all(&aside)
    })
}

const ASIDE: &str = ".gone";
/// So often somebody looks whether the disk refuses.
const LOOK_EVERY: Duration = Duration::from_secs(1);
