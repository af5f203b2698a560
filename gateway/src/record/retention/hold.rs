//! Placing a hold and taking it away: in the directory, or in the bucket, where every gateway sees it, and on its objects.

use std::io;

use uuid::Uuid;

use super::Hold;
use crate::record::bucket::BucketError;
use crate::record::store::{Inner, Store};
use crate::record::{Failure, layout};

impl Store {
    /// All recordings that are held, oldest first.
    pub fn holds(&self) -> Vec<Hold> {
        self.0.retention.all()
    }

    /// Has a recording held: from now on nobody deletes it, here or in the bucket. Again says so anew.
    ///
    /// # Errors
    /// The disk or the object store refuses. What was done of it stays, and it counts as held.
    pub async fn hold(&self, hold: Hold) -> Result<(), Failure> {
        let inner = &self.0;
        let _alone = inner.retention.changing.lock().await;
        let text = serde_json::to_vec_pretty(&hold).map_err(|error| Failure::Storage(error.to_string()))?;
        let session = hold.session;
        inner.retention.seen(session, Some(hold));
        if inner.shipping.is_none()
            && let Some(dir) = layout::session_dir(&inner.root, session)
        {
            let written = text.clone();
            let done = tokio::task::spawn_blocking(move || layout::replace(&dir, layout::HOLD, &written)).await;
            stored("keep a hold", done.map_err(io::Error::other).and_then(|done| done))?;
        }
        if let (Some(shipping), Some(folder)) = (&inner.shipping, layout::session_folder(session)) {
            let name = format!("{folder}/{}", layout::HOLD);
            let put = shipping.bucket.replace(&name, text.into()).await;
            kept(put)?;
            kept(on_objects(inner, &folder).await)?;
        }
        Ok(())
    }

    /// Takes a hold away; whether there was one.
    ///
    /// # Errors
    /// The disk or the object store refuses; then it stays held.
    pub async fn release(&self, session: Uuid) -> Result<bool, Failure> {
        let inner = &self.0;
        let _alone = inner.retention.changing.lock().await;
        if !inner.retention.holds(session) {
            return Ok(false);
        }
        if let (Some(shipping), Some(folder)) = (&inner.shipping, layout::session_folder(session)) {
            if shipping.bucket.locks {
                kept(shipping.bucket.release_folder(&folder).await)?;
            }
            kept(shipping.bucket.erase(&format!("{folder}/{}", layout::HOLD)).await)?;
        }
        if inner.shipping.is_none()
            && let Some(dir) = layout::session_dir(&inner.root, session)
        {
            let done = tokio::task::spawn_blocking(move || {
                layout::remove(&dir.join(layout::HOLD))?;
                layout::sync_dir(&dir)
            });
            stored(
                "forget a hold",
                done.await.map_err(io::Error::other).and_then(|done| done),
            )?;
        }
        inner.retention.seen(session, None);
        Ok(true)
    }
}

/// Where the bucket locks objects, the hold stands on each of them; those that are sent later get it as they are sent.
async fn on_objects(inner: &Inner, folder: &str) -> Result<(), BucketError> {
    let Some(bucket) = inner.shipping.as_ref().map(|shipping| &shipping.bucket) else {
        return Ok(());
    };
    if !bucket.locks {
        return Ok(());
    }
    // Sending goes on meanwhile, and a whole segment takes the place of its pieces: what is gone when its turn comes is looked
    // for anew.
    let mut found = bucket.list(folder).await?;
    for _ in 0..MOST_LOOKS {
        let mut refused = None;
        for object in found.iter().filter(|object| !object.name.ends_with(layout::HOLD)) {
            if let Err(error) = bucket.hold(&object.name).await {
                refused = Some((object.name.clone(), error));
                break;
            }
        }
        let Some((name, error)) = refused else {
            return Ok(());
        };
        found = bucket.list(folder).await?;
        if found.iter().any(|object| object.name == name) {
            return Err(error);
        }
    }
    Err(BucketError::Down(
        "stand still for long enough to hold all objects".to_owned(),
    ))
}

/// How often the objects are listed anew: more often than a segment's pieces give way while one round lasts.
const MOST_LOOKS: usize = 8;

fn kept(done: Result<(), BucketError>) -> Result<(), Failure> {
    done.map_err(|error| Failure::Storage(format!("change a hold: {error}")))
}

fn stored(what: &str, done: io::Result<()>) -> Result<(), Failure> {
    done.map_err(|error| Failure::storage(what, &error))
}
