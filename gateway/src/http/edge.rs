//! The TLS connection as HTTP sees it: what the parser would forgive is made unforgivable.
//!
//! The HTTP parser takes a bare LF as the end of a line (RFC 9112, section 2.2 lets it). Two parsers that disagree about
//! where a line ends is how requests are smuggled, so here every line of the header ends in CR LF, no CR stands alone,
//! and no empty line stands before the request: anything else reaches the parser as a NUL, which it answers with 400.
//! What follows the header is left alone: it belongs to the tunnel.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::server::TlsStream;

/// The stream under one connection. When HTTP lets go of it, whoever waits for it gets the bare stream back.
#[derive(Debug)]
pub struct EdgeIo {
    stream: Option<TlsStream<TcpStream>>,
    header: Header,
    back: Option<oneshot::Sender<TlsStream<TcpStream>>>,
}

/// Where in the request's header the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// At the start of a line; whether any line stood before.
    LineStart { first: bool },
    /// Within a line.
    Line,
    /// After the CR that ends a line; whether the line was empty.
    Cr { empty: bool },
    /// Past the empty line: not header any more.
    Over,
}

impl EdgeIo {
    /// The stream for HTTP, and where it comes back when HTTP has let go of it.
    pub(super) fn new(stream: TlsStream<TcpStream>) -> (Self, oneshot::Receiver<TlsStream<TcpStream>>) {
        let (back, returned) = oneshot::channel();
        (
            Self {
                stream: Some(stream),
                header: Header::LineStart { first: true },
                back: Some(back),
            },
            returned,
        )
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TlsStream<TcpStream>>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Header {
    /// The state after `byte`, or nothing if the byte may not stand here.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Over, _) => Some(Self::Over),
            (_, 0) | (Self::LineStart { .. } | Self::Line, b'\n') | (Self::LineStart { first: true }, b'\r') => None,
            (Self::LineStart { .. }, b'\r') => Some(Self::Cr { empty: true }),
            (Self::Line, b'\r') => Some(Self::Cr { empty: false }),
            (Self::Cr { empty: true }, b'\n') => Some(Self::Over),
            (Self::Cr { empty: false }, b'\n') => Some(Self::LineStart { first: false }),
            (Self::Cr { .. }, _) => None,
            (Self::LineStart { .. } | Self::Line, _) => Some(Self::Line),
        }
    }

    /// Passes over `bytes`; one that may not stand where it does becomes NUL.
    fn check(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            match self.after(*byte) {
                Some(Self::Over) => {
                    *self = Self::Over;
                    return;
                }
                Some(next) => *self = next,
                None => {
                    *byte = 0;
                    *self = Self::Line;
                }
            }
        }
    }
}

impl Drop for EdgeIo {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Nobody waits once the stream has become a tunnel.
            let _ = back.send(stream);
        }
    }
}

impl AsyncRead for EdgeIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(self.stream()?.poll_read(cx, into))?;
        if self.header != Header::Over {
            self.header.check(&mut into.filled_mut()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EdgeIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
