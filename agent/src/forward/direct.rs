//! A connection that the client asks for (RFC 4254, 7.2, and OpenSSH's for sockets): judged, dialled, recorded,
//! carried.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::{ForwardConnected, ForwardEnded, ForwardFailed};
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::carry::{self, Carried, carry};
use super::judge::Asked;
use super::{Place, dial, failure, refusal, resolve, shown, socket};
use crate::channel::Inlet;
use crate::session::{Session, Tally};
use crate::ssh::{Level, Why};
use crate::tap::{Outlet, Stop, Tap};

/// What is to be reached.
#[derive(Debug)]
pub(crate) enum Target {
    /// A host's port.
    Host(Asked),
    /// A socket in the workspace's file system.
    Socket(PathBuf),
}

/// A channel that a client wants to be opened.
pub(crate) struct Opening {
    /// The channel.
    pub(crate) channel: Channel<Msg>,
    /// How the client is told whether it is open.
    pub(crate) reply: ChannelOpenHandle,
    /// The connection.
    pub(crate) handle: Handle,
    /// Where the length of its queue is told.
    pub(crate) level: Arc<Level>,
}

/// A connection, whatever it is made of.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Where its other end is, if that has an address.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// Why there is none.
enum NotConnected {
    /// It is not allowed.
    Refused(Why),
    /// It is allowed, and did not work.
    Failed(String),
}

impl Target {
    /// `direct-tcpip` or `direct-streamlocal@openssh.com`.
    fn kind(&self) -> &'static str {
        match self {
            Self::Host(_) => "direct-tcpip",
            Self::Socket(_) => "direct-streamlocal@openssh.com",
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(asked) => asked.fmt(to),
            Self::Socket(path) => to.write_str(shown(&path.to_string_lossy())),
        }
    }
}

/// Serves a channel that the client wants to be connected somewhere.
pub(crate) async fn direct(session: Arc<Session>, opening: Opening, target: Target, _place: Place) {
    let asked = target.to_string();
    let connected = tokio::select! {
        connected = connect(&session, &target) => connected,
        () = session.stopping().cancelled() => return,
    };
    let (stream, address) = match connected {
        Ok(connected) => connected,
        Err(NotConnected::Refused(why)) => {
            session
                .recording()
                .refused(None, format!("{} {asked}", target.kind()), why);
            return opening.reply.reject(refusal(why)).await;
        }
        Err(NotConnected::Failed(why)) => {
            let failed = ForwardFailed {
                asked,
                why: shown(&why).to_owned(),
            };
            // A recording that is lost ends the session by itself.
            let _ = session.recording().record(failed, Tally::default()).await;
            let answer = failure(&ChannelOpenFailure::ConnectFailed, why);
            return opening.reply.reject(answer).await;
        }
    };
    let number = session.recording().next_channel();
    let kind = format!("{} {asked}", target.kind());
    let connected = ForwardConnected {
        channel: number,
        listener: None,
        asked,
        address,
    };
    let tap = match begin(&session, number, &kind, connected).await {
        Ok(tap) => tap,
        Err(_) => return opening.reply.reject(ChannelOpenFailure::ResourceShortage).await,
    };
    opening.reply.accept().await;
    let forward = Forward {
        channel: opening.channel,
        handle: opening.handle,
        level: opening.level,
        tap,
    };
    serve(&session, forward, stream).await;
}

/// A channel with its connection's beginning recorded.
pub(super) struct Forward {
    pub(super) channel: Channel<Msg>,
    pub(super) handle: Handle,
    pub(super) level: Arc<Level>,
    pub(super) tap: Tap,
}

/// Records that a channel is open and with what it is connected.
pub(super) async fn begin(
    session: &Session,
    number: u32,
    kind: &str,
    connected: ForwardConnected,
) -> Result<Tap, Stop> {
    let tap = Tap::open(session, number, kind).await?;
    tap.note(|_| connected).await?;
    Ok(tap)
}

/// Carries what passes, and records how it ended.
pub(super) async fn serve(session: &Session, forward: Forward, stream: Stream) {
    let began = Instant::now();
    let (mut reader, write) = forward.channel.split();
    let stopping = session.stopping();
    let closed = stopping.child_token();
    let outlet = Outlet::new(forward.tap, write, forward.handle, closed.clone());
    let inlet = Inlet::new(forward.level);
    let carried = async {
        match stream {
            Stream::Tcp(stream) => carry(&outlet, &inlet, stream.into_split(), &closed, stopping).await,
            Stream::Unix(stream) => carry(&outlet, &inlet, stream.into_split(), &closed, stopping).await,
        }
    };
    let mut draining = std::pin::pin!(carry::drain(&mut reader, &inlet, &closed));
    let Carried {
        from_client,
        to_client,
        how,
        whole,
    } = tokio::select! {
        biased;
        () = &mut draining => return,
        carried = carried => carried,
    };
    inlet.discard();
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ended = |channel| ForwardEnded {
        channel,
        from_client,
        to_client,
        milliseconds,
        how: how.to_owned(),
    };
    let close = async {
        // A recording that is lost ends the session by itself.
        let _ = outlet.tap().note(ended).await;
        if whole {
            // A client closes by itself then; the SSH library forgets a channel only if the client is the first.
            let _ = timeout(CLIENT_CLOSES_WITHIN, closed.cancelled()).await;
        }
        let silent = stopping.is_cancelled() && !session.recording().is_broken();
        outlet.close(silent).await;
    };
    // To the last moment the reader is emptied: what a client still sends must not stand in the way of the close.
    tokio::select! {
        biased;
        () = draining => {}
        () = close => {}
    }
}

/// Finds out what was asked for, judges it, and connects to exactly what was judged.
async fn connect(session: &Session, target: &Target) -> Result<(Stream, String), NotConnected> {
    let by = Instant::now() + dial::WITHIN;
    let forwards = session.forwards();
    match target {
        Target::Host(asked) => {
            let found = timeout_at(by, resolve::resolve(asked.host())).await;
            let found = found
                .map_err(|_| NotConnected::Failed("the name could not be resolved in time".to_owned()))?
                .map_err(|error| {
                    NotConnected::Failed(format!("the name cannot be resolved: {}", dial::plain(&error)))
                })?;
            let never = forwards.never.now();
            let allowed = forwards.destinations.judge(asked, &found, &never);
            let allowed = allowed.map_err(NotConnected::Refused)?;
            let (stream, address) = dial::tcp(session.account(), &allowed, by)
                .await
                .map_err(NotConnected::Failed)?;
            Ok((Stream::Tcp(stream), address.to_string()))
        }
        Target::Socket(path) => {
            let connected = timeout_at(by, socket::connect(session.account(), path, &forwards.sockets)).await;
            let connected = connected.map_err(|_| NotConnected::Failed("no answer in time".to_owned()))?;
            match connected {
                Ok((stream, address)) => Ok((Stream::Unix(stream), shown(&address.to_string_lossy()).to_owned())),
                Err(socket::NotReached::Refused(why)) => Err(NotConnected::Refused(why)),
                Err(socket::NotReached::Failed(error)) => Err(NotConnected::Failed(dial::plain(&error))),
            }
        }
    }
}

/// How long a client whose channel has ended both ways may take to close it.
const CLIENT_CLOSES_WITHIN: Duration = Duration::from_secs(1);
