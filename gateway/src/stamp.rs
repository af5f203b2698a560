//! When a file changed: what is looked at every few seconds, and what is not.
//!
//! Polling rather than notification, because secrets are mounted through links that are exchanged, on file systems
//! that tell nobody.

use std::{
    fs,
    future::Future,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// What tells one state of a file from another: device, inode, length, times of change in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<[i128; 5]>>);

impl Stamp {
    /// The state of these files now; a file that is missing has a state too.
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let one = |file: &Path| {
            let data = fs::metadata(file).ok()?;
            let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            Some([
                i128::from(data.dev()),
                i128::from(data.ino()),
                i128::from(data.len()),
                nanos(data.mtime(), data.mtime_nsec()),
                nanos(data.ctime(), data.ctime_nsec()),
            ])
        };
        Self(files.into_iter().map(one).collect())
    }
}

/// Looks at the files every `interval` until `stop`, and calls `reload` when they differ from what was `read` last.
/// While `reload` fails it is tried again each time, but the log says so only once for each state of the files.
pub(crate) async fn follow<F, E>(
    files: Vec<PathBuf>,
    mut read: Stamp,
    interval: Duration,
    stop: CancellationToken,
    mut reload: F,
) where
    F: FnMut() -> Result<(), E> + Send,
    E: std::fmt::Display,
{
    let mut told = None;
    while !passed(&stop, tokio::time::sleep(interval)).await {
        let now = Stamp::of(files.iter().map(PathBuf::as_path));
        if now == read {
            continue;
        }
        match reload() {
            Ok(()) => {
                tracing::info!(file = %files[0].display(), "reloaded");
                (read, told) = (now, None);
            }
            Err(error) => {
                if told.as_ref() != Some(&now) {
                    tracing::error!(file = %files[0].display(), "the changed file is not taken, the old one stays: {error}");
                    told = Some(now);
                }
            }
        }
    }
}

/// Waits for either; whether it was the stop.
async fn passed(stop: &CancellationToken, wait: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = wait => false,
    }
}
