//! The control stream of a link that is up: liveness, renewal of the host certificate, news of leftovers and of use.

use std::time::Duration;

use doorward_wire::link::{MuxStream, read_message, write_message};
use doorward_wire::message::{Leftovers, Message, MessageError, Renew, Used};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::chain;
use crate::enrol;
use crate::usage::Reports;
use crate::workspace::Workspace;

/// Serves the control stream until the link is no good any more; says why. Of use it tells at most once in `use_every`, and
/// nothing where the gateway does not want to hear of it.
pub(super) async fn serve(workspace: &Workspace, control: MuxStream, use_every: Option<Duration>) -> String {
    let (reader, writer) = tokio::io::split(control);
    let (heard, messages) = mpsc::channel(4);
    tokio::select! {
        why = hear(reader, heard) => why,
        why = answer(workspace, writer, messages, use_every) => why,
    }
}

/// Hands on what the gateway says. It says something every few seconds; silence is a dead peer.
async fn hear<R: AsyncRead + Unpin>(mut from: R, heard: mpsc::Sender<Message>) -> String {
    loop {
        match read_message(&mut from, SILENCE).await {
            Ok(message) => {
                if heard.send(message).await.is_err() {
                    return "the link is closed".to_owned();
                }
            }
            Err(MessageError::Closed) => return "the gateway closed it".to_owned(),
            Err(MessageError::Deadline(_)) => return format!("the gateway was silent for {SILENCE:?}"),
            Err(error) => return chain(&error),
        }
    }
}

async fn answer<W: AsyncWrite + Unpin>(
    workspace: &Workspace,
    mut to: W,
    mut messages: mpsc::Receiver<Message>,
    use_every: Option<Duration>,
) -> String {
    let mut leftovers = workspace.leftovers.changes();
    leftovers.mark_changed();
    let mut reports = use_every.map(|every| workspace.last_use.reports(every));
    let mut renewal = Box::pin(sleep(until_renewal(workspace)));
    loop {
        let say = tokio::select! {
            message = messages.recv() => match message {
                None => return "the link is closed".to_owned(),
                Some(Message::Ping(number)) => Message::Pong(number),
                Some(Message::Pong(_)) => continue,
                Some(Message::Enrolled(enrolled)) if workspace.keeper.is_none() => {
                    match workspace.identity.take(&enrolled.host_certificate, &workspace.shared.host_ca) {
                        Ok(()) => tracing::info!(workspace = %workspace.config.name, "host certificate renewed"),
                        Err(error) => tracing::warn!(%error, "the host certificate that was given is not taken"),
                    }
                    renewal.set(sleep(until_renewal(workspace)));
                    continue;
                }
                Some(Message::LinkRefused(refused)) => {
                    let text: String = refused.text.escape_debug().take(512).collect();
                    return format!("the gateway ended the link: {text}");
                }
                Some(_) => return "the gateway sent a message that is not due".to_owned(),
            },
            Ok(()) = leftovers.changed() => {
                Message::Leftovers(Leftovers { sessions: workspace.leftovers.list() })
            }
            ago = due(&mut reports) => {
                Message::Used(Used { ago_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX) })
            }
            // Who enrols at Vault asks no gateway.
            () = &mut renewal, if workspace.keeper.is_none() => {
                // Asked again if nothing comes of it.
                renewal.set(sleep(RENEW_AGAIN));
                match enrol::again(workspace) {
                    Ok(enrol) => Message::Renew(Renew { enrol }),
                    Err(why) => {
                        tracing::warn!(workspace = %workspace.config.name, why, "no fresh host certificate is asked for");
                        continue;
                    }
                }
            }
        };
        if let Err(error) = write_message(&mut to, &say, WRITE_WITHIN).await {
            return chain(&error);
        }
    }
}

async fn due(reports: &mut Option<Reports>) -> Duration {
    match reports {
        Some(reports) => reports.due().await,
        None => std::future::pending().await,
    }
}

fn until_renewal(workspace: &Workspace) -> Duration {
    let current = workspace.identity.current();
    current
        .certificate
        .as_ref()
        .map_or(RENEW_AGAIN, |shown| shown.until_half_life().max(RENEW_AT_ONCE))
}

/// Two pings of the gateway unanswered.
const SILENCE: Duration = Duration::from_secs(25);
const WRITE_WITHIN: Duration = Duration::from_secs(15);
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// Even a certificate of seconds is not renewed in a tight loop.
const RENEW_AT_ONCE: Duration = Duration::from_secs(1);
