//! Bytes between Doorward's own programs: frames of a session stream, messages of a link, the link itself and the
//! tunnel. It decides nothing about who may do what, and reads no SSH.
//!
//! The core ([`frame`], [`message`], [`endpoint`]) does no I/O and reads no clock; [`driver`] runs an endpoint over a
//! [`Carrier`], [`relay`] passes a session through the gateway.

pub mod carrier;
pub mod driver;
pub mod endpoint;
pub mod frame;
pub mod frames;
mod heap;
pub mod link;
pub mod message;
pub mod relay;
#[cfg(feature = "websocket")]
pub mod tunnel;

pub use carrier::{Carrier, Outbox, Plain};
pub use driver::{
    Closed, DriverError, Incoming, Leftover, RecordLost, RecordSink, SessionHandle, SshReader, SshStream, SshWriter,
    agent_end, client_end, send_leftover,
};
pub use endpoint::{Endpoint, Limits, ProtocolFault, Said};
pub use frame::{End, Frame, FrameDecoder, FrameError, RECORDING_UNAVAILABLE};
pub use frames::{FrameStream, StreamError};
pub use link::provider as tls_provider;

/// What every Doorward SSH server says first, without the line end. It may never change: a client may have been
/// shown it before the server that it then meets was awake, and it is part of what both sides sign.
pub const SSH_IDENTIFICATION: &str = "SSH-2.0-Doorward";
/// The version of the link's messages.
pub const LINK_VERSION: u16 = 1;
/// The version of the session stream's frames; the WebSocket subprotocol carries it.
pub const SESSION_VERSION: u16 = 1;
/// The WebSocket subprotocol of a tunnel.
pub const TUNNEL_PROTOCOL: &str = "doorward-session-1";
