//! The TLS connection as HTTP sees it: what the parser would forgive is made unforgivable.
//!
//! The HTTP parser takes a bare LF as the end of a line (RFC 9112, section 2.2 lets it). Two parsers that disagree about
//! where a line ends is how requests are smuggled, so here every line of the header ends in CR LF, no CR stands alone,
//! and no empty line stands before the request: anything else reaches the parser as a NUL, which it answers with 400.
//! What follows the header is left alone: it belongs to the tunnel.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    time::Sleep,
};
use tokio_rustls::server::TlsStream;

/// The stream under one connection. When HTTP lets go of it, whoever waits for it gets the bare stream back.
#[derive(Debug)]
pub struct EdgeIo {
    stream: Option<TlsStream<TcpStream>>,
    header: Header,
    stall: Option<Stall>,
    back: Option<oneshot::Sender<TlsStream<TcpStream>>>,
}

/// How long a peer may take to take a part of an answer. A tunnel has none: there the relay judges.
#[derive(Debug, Default)]
struct Stall(Option<Pin<Box<Sleep>>>);

impl Stall {
    /// Passes on what a write came to; one that has waited too long fails.
    fn watch<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.0 = None;
            return result;
        }
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not take the answer",
        )))
    }
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
                stall: Some(Stall::default()),
                back: Some(back),
            },
            returned,
        )
    }

    /// The stream as a tunnel: bytes of any value, and as slow as its peer likes.
    pub(super) fn into_tunnel(mut self) -> Self {
        self.header = Header::Over;
        self.stall = None;
        self
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TlsStream<TcpStream>>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn watch<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &mut self.stall {
            Some(stall) => stall.watch(result, cx),
            None => result,
        }
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
        let result = self.stream()?.poll_write(cx, from);
        self.watch(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.stream()?.poll_write_vectored(cx, from);
        self.watch(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.stream()?.poll_flush(cx);
        self.watch(result, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// How long a peer may take to take a part of an answer.
const STALL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Where the first byte stands that may not stand there, or where the header ends; lines are cut as RFC 9112 has them.
    fn judged(bytes: &[u8]) -> Result<Option<usize>, usize> {
        let mut begin = 0;
        loop {
            let line = &bytes[begin..];
            let Some(at) = line.iter().position(|byte| matches!(byte, 0 | b'\r' | b'\n')) else {
                return Ok(None);
            };
            let (first, rest) = (begin == 0 && at == 0, &line[at..]);
            match rest {
                [b'\r', ..] if first => return Err(0),
                [b'\r', b'\n', ..] if at == 0 => return Ok(Some(begin + 2)),
                [b'\r', b'\n', ..] => begin += at + 2,
                [b'\r'] => return Ok(None),
                [b'\r', ..] => return Err(begin + at + 1),
                _ => return Err(begin + at),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        /// However a header is cut into reads, what two parsers could read differently reaches none.
        #[test]
        fn a_line_ends_in_one_way_alone(
            bytes in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), Just(b'a'), Just(b' '), any::<u8>()], 0..40),
            cuts in vec(1_usize..9, 1..40),
        ) {
            let mut header = Header::LineStart { first: true };
            let mut passed = bytes.clone();
            let (mut rest, mut cuts) = (passed.as_mut_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (part, after) = rest.split_at_mut(cuts.next().unwrap_or(1).min(rest.len()));
                if header != Header::Over {
                    header.check(part);
                }
                rest = after;
            }
            match judged(&bytes) {
                Ok(end) => {
                    prop_assert_eq!(&passed, &bytes);
                    prop_assert_eq!(header == Header::Over, end.is_some());
                }
                Err(at) => {
                    prop_assert_eq!(passed[at], 0);
                    prop_assert_eq!(&passed[..at], &bytes[..at]);
                }
            }
        }
    }
}
