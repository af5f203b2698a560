//! The tunnel between client and gateway: a stream of bytes in binary WebSocket messages (RFC 6455).
//!
//! Where a message begins and ends means nothing. Text is refused, and so are messages beyond [`MAX_TUNNEL_MESSAGE`];
//! pings are answered beneath. An end in order is the closing handshake with no code or 1000; a transport that stops
//! without it, and any other code, is an error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::carrier::{Carrier, Outbox};

/// A WebSocket as a carrier.
#[derive(Debug)]
pub struct TunnelStream<S> {
    socket: WebSocketStream<S>,
    ended: bool,
    closed: bool,
}

/// The largest message that is accepted, in bytes.
pub const MAX_TUNNEL_MESSAGE: usize = 256 * 1024;
/// The largest message that is sent, in bytes.
const MESSAGE: usize = 128 * 1024;
/// How much is gathered before it is written without a flush.
const GATHER: usize = 48 * 1024;

/// The configuration with which a tunnel's WebSocket is to be made, on both sides.
#[must_use]
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(GATHER)
        .max_write_buffer_size(GATHER + 4 * MESSAGE)
        .max_message_size(Some(MAX_TUNNEL_MESSAGE))
        .max_frame_size(Some(MAX_TUNNEL_MESSAGE))
}

impl<S: AsyncRead + AsyncWrite + Unpin> TunnelStream<S> {
    /// Over this WebSocket, which was made with [`config`].
    pub fn new(socket: WebSocketStream<S>) -> Self {
        Self {
            socket,
            ended: false,
            closed: false,
        }
    }

    /// The transport beneath.
    pub fn transport(&self) -> &S {
        self.socket.get_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Carrier for TunnelStream<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Ok(Some(bytes))),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    self.ended = true;
                    // the answer to the close; if it cannot leave now, closing our side sends it
                    let _ = Pin::new(&mut self.socket).poll_flush(cx);
                    match frame {
                        Some(frame) if frame.code != CloseCode::Normal => {
                            let code = u16::from(frame.code);
                            let text = format!("peer closed the tunnel with code {code}");
                            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, text)));
                        }
                        _ => {}
                    }
                }
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let text = "message in the tunnel that is not binary";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                Some(Err(error)) => return Poll::Ready(Err(failure(error))),
                None => self.ended = true,
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(failure)?;
            let Some(mut chunk) = out.pop() else { break };
            if chunk.len() > MESSAGE {
                out.unpop(chunk.split_off(MESSAGE));
            }
            Pin::new(&mut self.socket)
                .start_send(Message::Binary(chunk))
                .map_err(failure)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(failure)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
                Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => self.closed = true,
                Err(error) => return Poll::Ready(Err(failure(error))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn failure(error: Error) -> io::Error {
    let kind = match error {
        Error::Io(error) => return error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => io::ErrorKind::UnexpectedEof,
        Error::Protocol(ProtocolError::SendAfterClosing) => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests;
