//! Links from gateways: TLS, who is who, then many streams.
//!
//! Nothing is said to a peer that has not shown a link certificate of a trusted authority for the very key that it
//! proved in the TLS handshake.

mod control;
mod hello;
mod newcomers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use doorward_wire::link::{MuxIncoming, MuxLimits, MuxStream, Side, accept, mux, read_message, tune, write_message};
use doorward_wire::message::{self, Message, OpenRecords, Refused, StreamAnswer, StreamOpen};
use doorward_wire::send_leftover;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::session::{self, Link};
use crate::workspace::Workspace;
use newcomers::{Newcomers, Place};

/// Accepts links for a workspace until the agent stops.
pub(crate) async fn listen(workspace: Arc<Workspace>, listener: TcpListener) {
    let newcomers = Newcomers::default();
    let links = Arc::new(Semaphore::new(LINKS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = workspace.shared.life.stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let place = newcomers.enter(peer.ip());
                let served = serve(Arc::clone(&workspace), tcp, peer, place, Arc::clone(&links));
                workspace.shared.tasks.spawn(served);
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "cannot accept a link");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve(workspace: Arc<Workspace>, tcp: TcpStream, peer: SocketAddr, place: Place, links: Arc<Semaphore>) {
    let name = workspace.config.name.clone();
    match link(&workspace, tcp, peer, place, links).await {
        Ok(why) => tracing::info!(workspace = %name, %peer, why, "link closed"),
        Err(why) => tracing::info!(workspace = %name, %peer, why, "link refused or broken"),
    }
}

/// One link from its handshake to its end; says why it ended.
async fn link(
    workspace: &Arc<Workspace>,
    tcp: TcpStream,
    peer: SocketAddr,
    place: Place,
    links: Arc<Semaphore>,
) -> Result<String, String> {
    let agent = tcp.local_addr().map_err(|error| error.to_string())?;
    tune(&tcp).map_err(|error| error.to_string())?;
    let handshake = accept(tcp, workspace.identity.link_key(), HANDSHAKE_WITHIN);
    let (io, gateway) = tokio::select! {
        accepted = handshake => accepted.map_err(|error| chain(&error))?,
        () = place.given_way() => return Err(GAVE_WAY.to_owned()),
    };
    let (mux, mut incoming, driver) = mux(io, Side::Agent, MuxLimits::default());
    // The driver is polled here, beside what it drives: the link lives in this one task.
    let work = async {
        let greeted = async {
            let control = tokio::time::timeout(HANDSHAKE_WITHIN, incoming.accept()).await;
            let control = control
                .map_err(|_| "no control stream was opened")?
                .ok_or("the gateway closed the link")?;
            hello::exchange(workspace, control, &gateway.0).await
        };
        let (control, use_every) = tokio::select! {
            greeted = greeted => greeted?,
            () = place.given_way() => return Err(GAVE_WAY.to_owned()),
            () = workspace.shared.life.stop.cancelled() => return Err("the agent stops".to_owned()),
        };
        let _link = links
            .try_acquire()
            .map_err(|_| "there are as many links as may be".to_owned())?;
        drop(place);
        tracing::info!(workspace = %workspace.config.name, "link up");
        let link = Link {
            key: gateway.0,
            agent,
            gateway: peer,
        };
        let why = tokio::select! {
            why = control::serve(workspace, control, use_every) => why,
            () = streams(workspace, &mut incoming, link) => "the gateway closed it".to_owned(),
            () = drained(workspace) => "the agent stops".to_owned(),
        };
        Ok(why)
    };
    let (mut driver, mut work) = (Box::pin(driver), Box::pin(work));
    let ended = tokio::select! {
        outcome = &mut work => {
            mux.close();
            // Lets what was said before go out; a peer that takes nothing is left.
            let _ = tokio::time::timeout(CLOSE_WITHIN, driver).await;
            return outcome;
        }
        ended = &mut driver => ended,
    };
    // What came with the end is read after it: a gateway that refuses says why, and closes in the same breath.
    match (tokio::time::timeout(CLOSE_WITHIN, work).await, ended) {
        (Ok(Err(why)), _) => Err(why),
        (_, Ok(())) => Ok("the gateway closed it".to_owned()),
        (_, Err(error)) => Err(chain(&error)),
    }
}

/// Resolves once the agent stops and the sessions of this agent have had their time to end.
async fn drained(workspace: &Workspace) {
    let shared = &workspace.shared;
    shared.life.stop.cancelled().await;
    let all = u32::try_from(shared.limits.sessions).unwrap_or(u32::MAX);
    // Every place free: no session is left.
    let _ = tokio::time::timeout(STOP_WITHIN, shared.places.acquire_many(all)).await;
}

/// Serves the streams that the gateway opens.
async fn streams(workspace: &Arc<Workspace>, incoming: &mut MuxIncoming, link: Link) {
    while let Some(stream) = incoming.accept().await {
        workspace
            .shared
            .tasks
            .spawn(stream_opened(Arc::clone(workspace), stream, link));
    }
}

async fn stream_opened(workspace: Arc<Workspace>, mut stream: MuxStream, link: Link) {
    match read_message(&mut stream, OPEN_WITHIN).await {
        Ok(Message::StreamOpen(StreamOpen::Session(open))) => {
            Box::pin(session::serve(workspace, stream, open, link)).await;
        }
        Ok(Message::StreamOpen(StreamOpen::Records(open))) => records(&workspace, stream, open).await,
        Ok(_) => tracing::info!("a stream that begins with another message than is due; dropped"),
        Err(error) => tracing::info!(%error, "a stream without a beginning; dropped"),
    }
}

/// Sends what is left over of a recording; what the gateway did not take is held further.
async fn records(workspace: &Workspace, mut stream: MuxStream, open: OpenRecords) {
    let OpenRecords { session, from } = open;
    let leftover = workspace.leftovers.take(session, from);
    let answer = match leftover {
        Some(_) => StreamAnswer::Opened(message::Opened {}),
        None => StreamAnswer::Refused(Refused {
            code: "no-such-records".into(),
            text: "these records are not held here".into(),
        }),
    };
    let said = write_message(&mut stream, &Message::StreamAnswer(answer), OPEN_WITHIN).await;
    let Some(mut leftover) = leftover else { return };
    let sent = match said {
        Ok(()) => send_leftover(stream, &mut leftover, workspace.shared.limits.record_stall)
            .await
            .map_err(|e| chain(&e)),
        Err(error) => Err(chain(&error)),
    };
    match sent {
        Ok(()) => tracing::info!(%session, "left over records are stored"),
        Err(why) => {
            tracing::warn!(%session, why, "left over records are not stored yet");
            workspace.leftovers.keep(session, leftover);
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += ": ";
        text += &cause.to_string();
        next = cause.source();
    }
    text
}

/// Links of a workspace at once: a gateway has few replicas.
const LINKS: usize = 64;
const GAVE_WAY: &str = "it had not shown who it is when others came";
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(3);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
