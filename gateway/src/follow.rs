//! What follows the directory: open sessions first, then links.
//!
//! A session whose workspace has changed is decided again at once; one whose life is over ends with a sentence. Only then
//! are the links brought up to date, so that a session hears why it ends before its link goes.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{Gateway, link::Target, recheck, session::Dismissal};

/// Brings the links up to date for the first time.
pub(crate) fn begin(gateway: &Gateway) -> watch::Receiver<u64> {
    let changes = gateway.workspaces.changes();
    links(gateway);
    changes
}

/// Follows until the gateway closes.
pub(crate) async fn run(gateway: Arc<Gateway>, mut changes: watch::Receiver<u64>) {
    let closing = gateway.tasks.closing().clone();
    let mut linked = None;
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
        sessions(&gateway);
        // Read before the list is: a life that is new by then is told of once more.
        let lives = gateway.workspaces.lives();
        if linked.replace(lives) != Some(lives) {
            links(&gateway);
        }
    }
}

fn sessions(gateway: &Gateway) {
    for (session, standing) in gateway.sessions.standings() {
        gateway.sessions.follow_stop(session, &gateway.workspaces);
        let began = standing.grant().workspace();
        let now = gateway.workspaces.find(&began.name);
        if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, began)) {
            continue;
        }
        let why = match began.over(now.as_deref()) {
            Some(sentence) => Dismissal::Over(sentence),
            None => match recheck::as_heard(gateway, &standing, standing.identity(), standing.grant().heard()) {
                Ok(()) => continue,
                Err(sentence) => Dismissal::Revoked(sentence),
            },
        };
        tracing::info!(%session, workspace = %began.name, user = standing.identity().user(), ?why, "the session is ended");
        gateway.sessions.dismiss(session, &why);
    }
}

fn links(gateway: &Gateway) {
    let all = gateway.workspaces.list();
    gateway.usage.keep_to(&all);
    gateway.links.keep_to(all.iter().filter_map(|workspace| {
        Some(Target {
            name: workspace.name.clone(),
            life: workspace.life.clone()?,
        })
    }));
}
