//! The link between gateway and agent: TLS 1.3 with raw public keys, messages, and many streams over it.

mod gather;
mod mux;
mod tls;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub use mux::{Mux, MuxError, MuxIncoming, MuxLimits, MuxStream, Side, mux};
pub use tls::{LINK_ALPN, LinkError, LinkIo, LinkKey, PeerKey, accept, connect, provider};

use crate::message::{MAX_MESSAGE, Message, MessageError};

/// Sets a link's socket up: small messages leave at once, and little waits in the kernel, so that a keystroke
/// beside a large transfer does not queue behind it.
///
/// # Errors
/// Those of the operating system.
pub fn tune(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// How many bytes may wait in the kernel that were not sent yet.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// Reads one message.
///
/// # Errors
/// [`MessageError`]; [`MessageError::Closed`] if the peer closed the stream instead.
pub async fn read_message<R: AsyncRead + Unpin>(from: &mut R, deadline: Duration) -> Result<Message, MessageError> {
    tokio::time::timeout(deadline, read(from))
        .await
        .map_err(|_| MessageError::Deadline(deadline))?
}

async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<Message, MessageError> {
    let mut header = [0; 4];
    let mut got = 0;
    while got < header.len() {
        match from.read(&mut header[got..]).await.map_err(MessageError::Io)? {
            0 if got == 0 => return Err(MessageError::Closed),
            0 => return Err(MessageError::Truncated),
            count => got += count,
        }
    }
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_MESSAGE {
        return Err(MessageError::Oversized(length));
    }
    // It may hold a token.
    let mut body = zeroize::Zeroizing::new(vec![0; length]);
    from.read_exact(&mut body).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => MessageError::Truncated,
        _ => MessageError::Io(error),
    })?;
    Message::decode(&body)
}

/// Writes one message and flushes it.
///
/// # Errors
/// [`MessageError`].
pub async fn write_message<W: AsyncWrite + Unpin>(
    to: &mut W,
    message: &Message,
    deadline: Duration,
) -> Result<(), MessageError> {
    let bytes = message.encode()?;
    let write = async {
        to.write_all(&bytes).await?;
        to.flush().await
    };
    tokio::time::timeout(deadline, write)
        .await
        .map_err(|_| MessageError::Deadline(deadline))?
        .map_err(MessageError::Io)
}
