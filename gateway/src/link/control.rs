//! The control stream of a link that is up: liveness, renewals, and news of leftovers and of use.

use std::sync::Arc;
use std::time::Duration;

use doorward_wire::link::{MuxIncoming, MuxStream, read_message, write_message};
use doorward_wire::message::{Enrol, Enrolled, Message, MessageError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handshake::{self, HandshakeError, printable};
use super::leftover::{self, News};
use super::standing::{Live, Standing};
use crate::enrol::EnrolError;
use crate::refusal::chain;

/// Serves the control stream until the link is no good any more; says why.
pub(super) async fn serve(
    standing: &Arc<Standing>,
    live: &Arc<Live>,
    control: MuxStream,
    mut incoming: MuxIncoming,
    certificate: Vec<u8>,
) -> String {
    let (reader, writer) = tokio::io::split(control);
    let (heard, messages) = mpsc::channel(4);
    let news = News::default();
    tokio::select! {
        reason = listen(reader, heard, SILENCE) => reason,
        reason = answer(standing, live, writer, messages, &news, certificate) => reason,
        () = leftover::fetch_all(standing, live, &news) => "the link is closed".to_owned(),
        () = refuse_streams(&mut incoming) => "the link is closed".to_owned(),
    }
}

/// Hands on what the agent says. Silence for too long is a dead peer: it owes us an answer every
/// [`PING_EVERY`].
pub(super) async fn listen<R: AsyncRead + Unpin>(
    mut from: R,
    heard: mpsc::Sender<Message>,
    silence: Duration,
) -> String {
    loop {
        match read_message(&mut from, silence).await {
            Ok(message) => {
                if heard.send(message).await.is_err() {
                    return "the link is closed".to_owned();
                }
            }
            Err(MessageError::Closed) => return "the agent closed the link".to_owned(),
            Err(MessageError::Deadline(_)) => {
                return format!("the agent was silent for {silence:?}");
            }
            Err(error) => return chain(&error),
        }
    }
}

async fn answer<W: AsyncWrite + Unpin>(
    standing: &Arc<Standing>,
    live: &Arc<Live>,
    mut to: W,
    mut messages: mpsc::Receiver<Message>,
    news: &News,
    mut certificate: Vec<u8>,
) -> String {
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0;
    let mut renewed = None;
    let mut refused = "";
    loop {
        let reply = tokio::select! {
            _ = pings.tick() => {
                number += 1;
                Message::Ping(number)
            }
            message = messages.recv() => match message {
                None => return "the link is closed".to_owned(),
                Some(Message::Pong(_)) => continue,
                Some(Message::Ping(number)) => Message::Pong(number),
                Some(Message::Leftovers(list)) => {
                    news.put(list);
                    continue;
                }
                Some(Message::Used(used)) => {
                    let target = &standing.target;
                    standing.shared.usage.used(&target.name, &target.life.uid, Duration::from_millis(used.ago_ms));
                    continue;
                }
                // Each is a signature and an entry in the journal, and for a pod a question to the API server.
                Some(Message::Renew(_)) if renewed.is_some_and(|at: Instant| at.elapsed() < RENEW_AT_MOST) => continue,
                Some(Message::Renew(asked)) => {
                    renewed = Some(Instant::now());
                    match renew(standing, live, &certificate, asked.enrol.as_ref()).await {
                        Ok(fresh) => {
                            certificate.clone_from(&fresh);
                            standing.journal_certificate(&fresh);
                            Message::Enrolled(Enrolled { host_certificate: fresh })
                        }
                        Err(error) => {
                            let (workspace, reason) = (standing.target.name.as_str(), error.chain());
                            tracing::warn!(workspace, reason, "host certificate not renewed");
                            if refused != error.code() {
                                standing.journal_refusal(&error);
                            }
                            refused = error.code();
                            continue;
                        }
                    }
                }
                Some(Message::LinkRefused(refused)) => {
                    return format!("the agent ended the link: {}", printable(&refused.text));
                }
                Some(_) => return "the agent sent a message that is not due".to_owned(),
            },
        };
        if let Err(error) = write_message(&mut to, &reply, WRITE_WITHIN).await {
            return chain(&error);
        }
    }
}

/// A fresh host certificate: for an agent whose present one is still good, for a pod by its token.
async fn renew(
    standing: &Arc<Standing>,
    live: &Arc<Live>,
    certificate: &[u8],
    proof: Option<&Enrol>,
) -> Result<Vec<u8>, HandshakeError> {
    if !handshake::signs_hosts(standing) {
        return Err(HandshakeError::Enrol(EnrolError::NotHere));
    }
    let key = live.key.key_data().ed25519();
    let key = key.ok_or(handshake::unexpected("an ed25519 key"))?;
    let target = &standing.target;
    if handshake::is_pod(target) {
        let proof = proof.ok_or(HandshakeError::Enrol(EnrolError::NoPodToken))?;
        let judged = standing.shared.enrolments.judge(target, proof, &key.0).await;
        judged.map_err(HandshakeError::Enrol)?;
    } else {
        handshake::judge(standing, certificate, &key.0).await?;
    }
    handshake::sign(standing, &live.key).await
}

/// The gateway alone opens streams: what an agent opens is dropped.
async fn refuse_streams(incoming: &mut MuxIncoming) {
    while incoming.accept().await.is_some() {
        tracing::debug!("the agent opened a stream; dropped");
    }
}

const PING_EVERY: Duration = Duration::from_secs(10);
/// So long after the last word of the agent the link counts as dead: two pings unanswered.
pub(super) const SILENCE: Duration = Duration::from_secs(25);
const RENEW_AT_MOST: Duration = Duration::from_secs(20);
const WRITE_WITHIN: Duration = Duration::from_secs(15);
