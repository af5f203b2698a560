//! TLS 1.3 with raw ed25519 public keys on both sides (RFC 7250).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// The application protocol that both sides insist on.
pub const LINK_ALPN: &[u8] = b"doorward-link/1";

/// The stream of an established link.
pub type LinkIo<S> = tokio_rustls::TlsStream<S>;

/// The ed25519 public key that the peer proved to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(pub [u8; 32]);

/// Our ed25519 key for links.
#[derive(Clone)]
pub struct LinkKey {
    public: [u8; 32],
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The key is unusable.
    #[error("link key is unusable")]
    Key,
    /// The handshake failed.
    #[error("TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    /// The deadline passed.
    #[error("TLS handshake took longer than {0:?}")]
    Deadline(Duration),
    /// The peer did not agree to [`LINK_ALPN`].
    #[error("peer does not speak the link protocol")]
    Protocol,
    /// The peer presented no ed25519 key.
    #[error("peer presented no ed25519 key")]
    PeerKey,
}

impl LinkKey {
    /// From the 32-byte seed of an ed25519 private key.
    ///
    /// # Errors
    /// [`LinkError::Key`].
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, LinkError> {
        let _ = seed;
        Err(LinkError::Key)
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

/// Dials: the TLS client's side.
///
/// # Errors
/// [`LinkError`].
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    key: &LinkKey,
    deadline: Duration,
) -> Result<(LinkIo<S>, PeerKey), LinkError> {
    let _ = (io, key, deadline);
    Err(LinkError::Protocol)
}

/// Accepts: the TLS server's side.
///
/// # Errors
/// [`LinkError`].
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    key: &LinkKey,
    deadline: Duration,
) -> Result<(LinkIo<S>, PeerKey), LinkError> {
    let _ = (io, key, deadline);
    Err(LinkError::Protocol)
}
