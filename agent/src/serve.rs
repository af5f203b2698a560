//! The life of the agent: load, bind, say where, serve, drain.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::container;
use crate::enrol;
use crate::error::Error;
use crate::forward;
use crate::link;
use crate::mask::{self, Masks};
use crate::workspace::{Shared, Workspace};

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every session and link ended in order.
    Drained,
    /// Some did not in time and were dropped.
    Late,
}

/// Serves until `stop`, then ends sessions and links in order.
///
/// # Errors
/// [`Error`] if it cannot start; nothing was served then.
pub async fn run(config: Config, stop: CancellationToken) -> Result<Ended, Error> {
    run_announced(config, None, stop).await
}

/// Like [`run`], and writes the bound addresses to a file once all are bound: `{"workspaces":[{"name","listen"}]}`.
///
/// # Errors
/// [`Error`] if it cannot start; nothing was served then.
pub async fn run_announced(config: Config, announce: Option<&Path>, stop: CancellationToken) -> Result<Ended, Error> {
    let life = Life {
        stop,
        ..Life::default()
    };
    serve_for(config, announce, &life).await
}

/// From when to when the agent serves. Copies are of the same life.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    /// Cancelled once every address is bound.
    pub(crate) bound: CancellationToken,
    /// Cancelled when the agent stops.
    pub(crate) stop: CancellationToken,
    why: Arc<OnceLock<String>>,
}

impl Life {
    /// Ends it, with a sentence for whoever has a session.
    pub(crate) fn end(&self, why: impl Into<String>) {
        // The first one counts.
        let _ = self.why.set(why.into());
        self.stop.cancel();
    }

    /// Why it ends.
    pub(crate) fn why(&self) -> String {
        let usual = || "the workspace's agent is stopping".to_owned();
        self.why.get().cloned().unwrap_or_else(usual)
    }
}

/// Like [`run_announced`], for such a life.
pub(crate) async fn serve_for(config: Config, announce: Option<&Path>, life: &Life) -> Result<Ended, Error> {
    let shared = Arc::new(Shared {
        user_ca: config.user_ca,
        host_ca: config.host_ca,
        enrol: config.enrol,
        container: config.container,
        ports: OnceLock::new(),
        places: Arc::new(Semaphore::new(config.limits.sessions)),
        limits: config.limits,
        masks: Arc::new(Masks::new(config.masks).map_err(Error::Masks)?),
        program: config.program,
        life: life.clone(),
        tasks: TaskTracker::new(),
    });
    let mut workspaces = Vec::with_capacity(config.workspaces.len());
    for workspace in config.workspaces {
        workspaces.push(Workspace::load(workspace, &shared)?);
    }
    let mut ports = Vec::with_capacity(workspaces.len());
    let mut bound = Vec::with_capacity(workspaces.len());
    for workspace in workspaces {
        let address = workspace.config.listen;
        let refused = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let local = listener.local_addr().map_err(refused)?;
        ports.push(local.port());
        let listen = local.to_string();
        tracing::info!(workspace = %workspace.config.name, listen, "listening for links");
        bound.push((
            Bound {
                name: workspace.config.name.to_string(),
                listen,
            },
            workspace,
            listener,
        ));
    }
    // Set once, here.
    let _ = shared.ports.set(ports);
    if let Some(path) = announce {
        let workspaces = bound.iter().map(|(bound, ..)| bound).collect();
        announced(path, &Announcement { workspaces }).map_err(|source| Error::Announce {
            path: path.into(),
            source,
        })?;
    }
    if let Some(container) = shared.container.clone() {
        let found = tokio::task::spawn_blocking(move || container::find(&container)).await;
        match found {
            Ok(Ok(root)) => tracing::info!(process = root.token(), "sessions enter another container"),
            // It may start later: each session looks again.
            Ok(Err(error)) => tracing::warn!(%error, "another container cannot be entered now"),
            Err(_) => {}
        }
    }
    life.bound.cancel();
    // What an agent that was killed has left behind.
    let _ = tokio::task::spawn_blocking(forward::sweep).await;
    for (_, workspace, listener) in bound {
        let workspace = Arc::new(workspace);
        shared.tasks.spawn(enrol::vault::keep(Arc::clone(&workspace)));
        shared.tasks.spawn(link::listen(workspace, listener));
    }
    shared
        .tasks
        .spawn(mask::watch(Arc::clone(&shared.masks), life.stop.clone()));
    life.stop.cancelled().await;
    tracing::info!("stopping");
    shared.tasks.close();
    Ok(match tokio::time::timeout(DRAIN_WITHIN, shared.tasks.wait()).await {
        Ok(()) => Ended::Drained,
        Err(_) => Ended::Late,
    })
}

#[derive(Serialize)]
struct Announcement<'a> {
    workspaces: Vec<&'a Bound>,
}

#[derive(Serialize)]
struct Bound {
    name: String,
    listen: String,
}

/// Written beside, then renamed: whoever waits for the file finds it whole.
fn announced(path: &Path, announcement: &Announcement<'_>) -> std::io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    std::fs::write(&fresh, serde_json::to_vec(announcement)?)?;
    std::fs::rename(&fresh, path)
}

const DRAIN_WITHIN: Duration = Duration::from_secs(30);
