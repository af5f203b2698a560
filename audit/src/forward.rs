//! The events of forwards in a session's recording: what was connected with what, and how much passed. What passed is
//! counted, not kept.

use minicbor::{CborLen, Decode, Encode};

/// A connection was made through a channel, or taken in for one. Stands behind its `ChannelOpened`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ForwardConnected {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// The listener that took it in, where the workspace listened.
    #[n(1)]
    pub listener: Option<u32>,
    /// What the client asked for: `host:port` or a path, as it wrote it.
    #[n(2)]
    pub asked: String,
    /// The address that the connection is with: the one that was judged and connected to, or the peer that came in.
    #[n(3)]
    pub address: String,
}

/// A connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ForwardEnded {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Bytes from the client.
    #[n(1)]
    pub from_client: u64,
    /// Bytes to the client.
    #[n(2)]
    pub to_client: u64,
    /// How long it lasted, milliseconds.
    #[n(3)]
    pub milliseconds: u64,
    /// How it ended, a sentence.
    #[n(4)]
    pub how: String,
}

/// A connection could not be made, although it was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ForwardFailed {
    /// What the client asked for: `host:port` or a path, as it wrote it.
    #[n(0)]
    pub asked: String,
    /// Why not, with the address.
    #[n(1)]
    pub why: String,
}

/// The workspace began to listen for the user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ListenerOpened {
    /// Number of the listener, unique in the session.
    #[n(0)]
    pub listener: u32,
    /// `tcpip-forward`, `streamlocal-forward`, `auth-agent` or `x11`.
    #[n(1)]
    pub kind: String,
    /// What the client asked for: `address:port` or a path, as it wrote it; empty where it does not choose.
    #[n(2)]
    pub asked: String,
    /// Where it listens.
    #[n(3)]
    pub addresses: Vec<String>,
}

/// The workspace no longer listens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ListenerClosed {
    /// The listener.
    #[n(0)]
    pub listener: u32,
    /// Connections that it took in.
    #[n(1)]
    pub connections: u64,
}
