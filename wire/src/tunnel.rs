//! The tunnel between client and gateway: a stream of bytes in binary WebSocket messages (RFC 6455).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::carrier::{Carrier, Outbox};

/// A WebSocket as a carrier and as a stream of bytes.
#[derive(Debug)]
pub struct TunnelStream<S> {
    socket: WebSocketStream<S>,
}

/// The largest message that is accepted, in bytes.
pub const MAX_TUNNEL_MESSAGE: usize = 256 * 1024;

/// The configuration with which a tunnel's WebSocket must be made, on both sides.
#[must_use]
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_TUNNEL_MESSAGE))
        .max_frame_size(Some(MAX_TUNNEL_MESSAGE))
}

impl<S: AsyncRead + AsyncWrite + Unpin> TunnelStream<S> {
    /// Over this WebSocket, which was made with [`config`].
    pub fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket }
    }

    /// The transport beneath.
    pub fn transport(&self) -> &S {
        self.socket.get_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TunnelStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TunnelStream<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Carrier for TunnelStream<S> {
    fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_send(&mut self, _: &mut Context<'_>, _: &mut Outbox) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}
