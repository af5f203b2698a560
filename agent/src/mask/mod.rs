//! Masking: the workspace's secrets are shown to the person and not recorded.
//!
//! A recording lives for years and is read by many; the values of a pod's environment and of its mounted secrets must not be
//! in it. They are found as they pass, plainly and in base64, however they are cut into writes. What is shown never
//! waits: where the last bytes may be the beginning of a secret, the record says how many they are before they are
//! shown, and what they were as soon as that is known.

mod event;
mod patterns;
mod secrets;
mod stream;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub(crate) use event::{content_events, mask_event, mask_text};
pub(crate) use patterns::Patterns;
pub(crate) use stream::{Masker, Passed};

use patterns::Secret;

/// Where secrets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Whether the agent's own environment is looked through.
    pub environment: bool,
    /// Variables of it that are harmless, beside those that are known to be.
    pub except: Vec<String>,
    /// Files and folders of secrets; read again when they change.
    pub files: Vec<PathBuf>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            environment: true,
            except: Vec::new(),
            files: vec![PathBuf::from(SERVICE_ACCOUNT)],
        }
    }
}

/// The secrets of this workspace. They only become more: one that was replaced is masked as long as the agent runs.
#[derive(Debug)]
pub(crate) struct Masks {
    sources: Sources,
    known: Mutex<Known>,
    /// Where the patterns that are known lie: streams ask for each chunk whether theirs are still those, without the lock.
    place: AtomicUsize,
}

#[derive(Debug)]
struct Known {
    secrets: Vec<Secret>,
    patterns: Arc<Patterns>,
}

impl Masks {
    /// Looks for the secrets that are there now.
    ///
    /// # Errors
    /// A sentence, where there are too many to be looked for.
    pub(crate) fn new(sources: Sources) -> Result<Self, String> {
        let mut secrets = Vec::new();
        if sources.environment {
            secrets.extend(secrets::in_environment(std::env::vars_os(), &sources.except));
        }
        secrets.extend(secrets::in_files(&sources.files));
        let patterns = Arc::new(Patterns::new(&secrets)?);
        Ok(Self {
            sources,
            place: AtomicUsize::new(place_of(&patterns)),
            known: Mutex::new(Known { secrets, patterns }),
        })
    }

    /// What is looked for.
    pub(crate) fn current(&self) -> Arc<Patterns> {
        Arc::clone(&self.known().patterns)
    }

    /// What is looked for, if it is no longer this. Who asks holds the old ones, so nothing else lies in their place.
    pub(crate) fn newer(&self, old: &Arc<Patterns>) -> Option<Arc<Patterns>> {
        (self.place.load(Ordering::Acquire) != place_of(old)).then(|| self.current())
    }

    /// Masks the secrets of another environment as well.
    pub(crate) fn learn(&self, variables: &[(OsString, OsString)]) {
        if self.sources.environment {
            self.add(secrets::in_environment(variables.iter().cloned(), &self.sources.except));
        }
    }

    /// Reads the files again; blocks.
    pub(crate) fn refresh(&self) {
        self.add(secrets::in_files(&self.sources.files));
    }

    fn add(&self, now: Vec<Secret>) {
        let mut known = self.known();
        let mut all = known.secrets.clone();
        all.extend(now.into_iter().filter(|secret| !known.secrets.contains(secret)));
        if all.len() == known.secrets.len() {
            return;
        }
        match Patterns::new(&all) {
            Ok(patterns) => {
                let patterns = Arc::new(patterns);
                self.place.store(place_of(&patterns), Ordering::Release);
                let secrets = all;
                *known = Known { secrets, patterns };
            }
            Err(error) => tracing::error!(error, "new secrets are not masked; restart the agent"),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place_of(patterns: &Arc<Patterns>) -> usize {
    Arc::as_ptr(patterns).addr()
}

/// Reads the files of secrets again every few seconds, until `stop`.
pub(crate) async fn watch(masks: Arc<Masks>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REFRESH_EVERY) => {}
        }
        let masks = Arc::clone(&masks);
        // What fails is logged there; a panic would be ours, and the next round tries again.
        let _ = tokio::task::spawn_blocking(move || masks.refresh()).await;
    }
}

/// A secret is mounted anew without a word; Kubernetes itself takes up to a minute for that.
const REFRESH_EVERY: Duration = Duration::from_secs(3);
/// The pod's own token at the API server.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[cfg(test)]
mod tests {
    use super::*;

    use super::stream::mask_value;

    #[test]
    fn a_secret_that_is_mounted_later_is_looked_for_and_the_old_one_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "first-token").unwrap();
        let masks = Masks::new(Sources {
            environment: false,
            except: Vec::new(),
            files: vec![file.clone()],
        })
        .unwrap();
        let before = masks.current();
        masks.refresh();
        assert!(Arc::ptr_eq(&before, &masks.current()), "nothing changed");
        assert!(masks.newer(&before).is_none());
        std::fs::write(&file, "second-token").unwrap();
        masks.refresh();
        let newer = masks.newer(&before).unwrap();
        assert!(Arc::ptr_eq(&newer, &masks.current()) && masks.newer(&newer).is_none());
        let text = bytes::Bytes::from_static(b"first-token second-token third-token");
        let masked = mask_value(&masks.current(), &text);
        assert_eq!(&masked.bytes[..], b"*********** ************ third-token");
    }

    /// Kubernetes swaps a symbolic link, `..data`, and removes the folder that it led to.
    #[test]
    fn a_volume_whose_data_link_is_swapped_is_read_anew() {
        use std::os::unix::fs::symlink;
        let volume = tempfile::tempdir().unwrap();
        let at = |name: &str| volume.path().join(name);
        let masks = Masks::new(Sources {
            environment: false,
            except: Vec::new(),
            files: vec![volume.path().to_owned()],
        })
        .unwrap();
        std::fs::create_dir(at("..2026_01")).unwrap();
        std::fs::write(at("..2026_01/TFE_TOKEN"), "first-token").unwrap();
        symlink("..2026_01", at("..data")).unwrap();
        symlink("..data/TFE_TOKEN", at("TFE_TOKEN")).unwrap();
        masks.refresh();
        std::fs::create_dir(at("..2026_02")).unwrap();
        std::fs::write(at("..2026_02/TFE_TOKEN"), "second-token").unwrap();
        std::fs::write(at("..2026_02/ADDED"), "added-later").unwrap();
        symlink("..2026_02", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        symlink("..data/ADDED", at("ADDED")).unwrap();
        std::fs::remove_dir_all(at("..2026_01")).unwrap();
        masks.refresh();
        let text = bytes::Bytes::from_static(b"first-token second-token added-later third-token");
        let masked = mask_value(&masks.current(), &text);
        assert_eq!(&masked.bytes[..], b"*********** ************ *********** third-token");
    }
}
