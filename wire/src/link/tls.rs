//! TLS 1.3 with raw ed25519 public keys on both sides (RFC 8446, RFC 7250).
//!
//! It proves which keys the two sides hold and nothing more: any ed25519 key is let through, and whoever calls judges
//! it by the certificates that the hellos carry. TLS 1.2, X.509, other kinds of key and peers that do not name
//! [`LINK_ALPN`] are refused; nothing is resumed.
//!
//! The agent's key here is its SSH host key. The two uses cannot be mistaken for one another: what TLS 1.3 signs
//! begins with 64 spaces and the context string `TLS 1.3, server CertificateVerify` (RFC 8446, section 4.4.3), what an
//! SSH server signs is the bare hash of a key exchange (RFC 4253, section 8), and our recordings' heads are signed
//! behind the preamble and namespace of SSHSIG.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// The application protocol that both sides insist on.
pub const LINK_ALPN: &[u8] = b"doorward-link/1";

/// The stream of an established link.
pub type LinkIo<S> = TlsStream<S>;

/// The ed25519 public key that the peer proved to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(pub [u8; 32]);

/// Our ed25519 key for links, made ready for both sides of a handshake. Clones share it.
#[derive(Clone)]
pub struct LinkKey {
    public: [u8; 32],
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("LinkKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The process has no TLS provider: its `main` installs one before anything else.
    #[error("no TLS provider is installed")]
    NoProvider,
    /// The key, or what the provider makes of it, is unusable.
    #[error("link key is unusable")]
    Key(#[source] Error),
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

/// The TLS provider for all of our programs: aws-lc-rs with the AES-GCM suites first, the cheaper one before the
/// other. To be installed once, at the start of `main`.
#[must_use]
pub fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
        _ => 2,
    });
    provider
}

impl LinkKey {
    /// From the 32-byte seed of an ed25519 private key (RFC 8032).
    ///
    /// # Errors
    /// [`LinkError::NoProvider`], [`LinkError::Key`].
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, LinkError> {
        let provider = CryptoProvider::get_default().ok_or(LinkError::NoProvider)?;
        let mut der = PKCS8_ED25519.to_vec();
        der.extend_from_slice(seed);
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der));
        let signing = provider
            .key_provider
            .load_private_key(private)
            .map_err(LinkError::Key)?;
        let spki = signing
            .public_key()
            .ok_or_else(|| LinkError::Key(Error::General("key without a public half".into())))?;
        let PeerKey(public) = ed25519(&spki).ok_or(LinkError::PeerKey)?;
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], signing));
        let verifier = Arc::new(AnyEd25519 {
            algorithms: provider.signature_verification_algorithms,
        });

        let mut client = ClientConfig::builder_with_protocol_versions(&[&TLS13])
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified.clone())));
        client.alpn_protocols = vec![LINK_ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;

        let mut server = ServerConfig::builder_with_protocol_versions(&[&TLS13])
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
        server.alpn_protocols = vec![LINK_ALPN.to_vec()];
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        Ok(Self {
            public,
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

/// Dials: the TLS client's side of the handshake, within the deadline.
///
/// # Errors
/// [`LinkError`].
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    key: &LinkKey,
    deadline: Duration,
) -> Result<(LinkIo<S>, PeerKey), LinkError> {
    // raw keys have no name; this one is sent nowhere
    let name = ServerName::try_from("link.invalid").map_err(|_| LinkError::Protocol)?;
    let handshake = TlsConnector::from(key.client.clone()).connect(name, io);
    established(handshake, deadline).await
}

/// Accepts: the TLS server's side of the handshake, within the deadline.
///
/// # Errors
/// [`LinkError`].
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    key: &LinkKey,
    deadline: Duration,
) -> Result<(LinkIo<S>, PeerKey), LinkError> {
    established(TlsAcceptor::from(key.server.clone()).accept(io), deadline).await
}

async fn established<S, T: Into<TlsStream<S>>>(
    handshake: impl Future<Output = std::io::Result<T>>,
    deadline: Duration,
) -> Result<(LinkIo<S>, PeerKey), LinkError> {
    let mut stream: TlsStream<S> = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| LinkError::Deadline(deadline))?
        .map_err(LinkError::Handshake)?
        .into();
    match &mut stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(Some(BUFFERED)),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(Some(BUFFERED)),
    }
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(LINK_ALPN) {
        return Err(LinkError::Protocol);
    }
    let peer = match session.peer_certificates() {
        Some([spki]) => ed25519(spki).ok_or(LinkError::PeerKey)?,
        _ => return Err(LinkError::PeerKey),
    };
    Ok((stream, peer))
}

/// How much may be encrypted at once: as much as is written at once, so that it leaves by one system call.
const BUFFERED: usize = 256 * 1024;

/// Lets any peer through that proves to hold the ed25519 key which it presents.
#[derive(Debug)]
struct AnyEd25519 {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyEd25519 {
    fn judge(spki: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        if others.is_empty() && ed25519(spki).is_some() {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadEncoding))
        }
    }

    fn verify(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for AnyEd25519 {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::judge(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, spki, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyEd25519 {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::judge(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, spki, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// The key of an ed25519 SubjectPublicKeyInfo (RFC 8410), in its only encoding.
fn ed25519(spki: &[u8]) -> Option<PeerKey> {
    let key = spki.strip_prefix(SPKI_ED25519)?;
    key.try_into().ok().map(PeerKey)
}

/// What stands before the key in an ed25519 SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the seed in an ed25519 private key of version 1 (RFC 8410, section 7).
const PKCS8_ED25519: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[cfg(test)]
mod tests;
