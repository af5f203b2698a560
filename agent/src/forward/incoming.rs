//! A connection that came in: the client is asked to take it (RFC 4254, 7.2), then it is carried like any other.

use std::sync::Arc;

use doorward_audit::{ForwardConnected, ForwardFailed};
use russh::server::{Handle, Msg};
use russh::{Channel, Error};

use super::direct::{Forward, Stream, begin, serve};
use super::{Place, shown};
use crate::session::{Session, Tally};

/// Why the workspace listens.
#[derive(Debug)]
pub(super) enum Purpose {
    /// For an address as it was asked for, and a port.
    Port(String, u16),
    /// For a path.
    Socket(String),
    /// For the user's SSH agent.
    Agent,
    /// For the user's X server; for one connection only, or more.
    Display { single: bool },
}

impl Purpose {
    /// What was asked for, in the protocol's word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Port(..) => "tcpip-forward",
            Self::Socket(_) => "streamlocal-forward",
            Self::Agent => "auth-agent",
            Self::Display { .. } => "x11",
        }
    }

    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::Display { single: true })
    }

    /// The kind of its channels, and what the client asked for.
    fn channel(&self) -> (&'static str, String) {
        match self {
            Self::Port(address, port) => ("forwarded-tcpip", format!("{}:{port}", shown(address))),
            Self::Socket(path) => ("forwarded-streamlocal@openssh.com", shown(path).to_owned()),
            Self::Agent => ("auth-agent@openssh.com", String::new()),
            Self::Display { .. } => ("x11", String::new()),
        }
    }

    async fn open(&self, handle: &Handle, stream: &Stream) -> Result<Channel<Msg>, Error> {
        let from = stream.peer();
        let (address, port) = match from {
            Some(from) => (from.ip().to_canonical().to_string(), u32::from(from.port())),
            None => (String::new(), 0),
        };
        match self {
            Self::Port(asked, bound) => {
                // The client knows its forward by the address that it has asked for.
                let opened = handle.channel_open_forwarded_tcpip(asked.as_str(), (*bound).into(), address, port);
                opened.await
            }
            Self::Socket(path) => handle.channel_open_forwarded_streamlocal(path.as_str()).await,
            Self::Agent => handle.channel_open_agent().await,
            Self::Display { .. } => handle.channel_open_x11(address, port).await,
        }
    }
}

/// Serves a connection that came in. It waits for the client's answer as long as the session lasts, and keeps its place.
pub(super) async fn incoming(
    session: Arc<Session>,
    handle: Handle,
    listener: u32,
    purpose: Arc<Purpose>,
    stream: Stream,
    from: String,
    _place: Place,
) {
    let (kind, asked) = purpose.channel();
    let opened = async {
        let channel = purpose.open(&handle, &stream).await?;
        let level = session.forwards().levels().of(channel.id().number()).await;
        Ok((channel, level))
    };
    let opened: Result<_, Error> = tokio::select! {
        opened = opened => opened,
        () = session.stopping().cancelled() => return,
    };
    let (channel, level) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let failed = ForwardFailed {
                asked: format!("{kind} {asked}").trim_end().to_owned(),
                why: format!("the client does not take it: {error}"),
            };
            // A recording that is lost ends the session by itself.
            let _ = session.recording().record(failed, Tally::default()).await;
            return;
        }
    };
    let number = session.recording().next_channel();
    let described = format!("{kind} {asked}");
    let connected = ForwardConnected {
        channel: number,
        listener: Some(listener),
        asked,
        address: from,
    };
    let Ok(tap) = begin(&session, number, described.trim_end(), connected).await else {
        return;
    };
    let forward = Forward {
        channel,
        handle,
        level,
        tap,
    };
    serve(&session, forward, stream).await;
}
