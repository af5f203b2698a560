//! TLS clients that an agent should not talk to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_certs::HostKey;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::PATIENCE;

/// Believes any server: these clients are here to be refused.
#[derive(Debug)]
struct Anybody {
    raw: bool,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw
    }
}

/// What such a client shows of itself.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// No key.
    Nothing,
    /// A raw ed25519 key that nobody knows.
    RawKey,
    /// A certificate of its own making.
    X509,
}

/// The configuration of a client that shows this and asks for these application protocols.
///
/// # Errors
/// No key can be made.
pub fn client(shown: Shown, alpn: &[&[u8]]) -> Result<ClientConfig> {
    let raw = !matches!(shown, Shown::X509);
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody { raw }));
    let mut config = match shown {
        Shown::Nothing => config.with_no_client_auth(),
        Shown::RawKey => {
            // What stands before the seed in an ed25519 private key (RFC 8410, section 7).
            let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
            der.extend_from_slice(HostKey::generate()?.seed().as_slice());
            let provider = CryptoProvider::get_default().context("no provider")?;
            let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der));
            let signing = provider.key_provider.load_private_key(private)?;
            let public = signing.public_key().context("no public half")?.to_vec();
            let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], signing));
            config.with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)))
        }
        Shown::X509 => {
            let made = rcgen::generate_simple_self_signed(vec!["gateway".to_owned()])?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
            config.with_client_auth_cert(vec![made.cert.der().clone()], key)?
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// What an agent says to a TLS client, up to the end, beneath which nothing else may come.
///
/// # Errors
/// It does not end the connection within `wait`.
pub async fn heard_over_tls(address: SocketAddr, config: ClientConfig, wait: Duration) -> Result<Vec<u8>> {
    let tcp = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("link.invalid")?;
    let mut heard = Vec::new();
    // A client of TLS 1.3 may believe in a handshake that the server has refused, until it reads.
    if let Ok(mut stream) = timeout(PATIENCE, connector.connect(name, tcp))
        .await
        .context("the handshake hangs")?
    {
        let ended = timeout(wait, stream.read_to_end(&mut heard)).await;
        ensure!(ended.is_ok(), "the agent keeps the connection");
    }
    Ok(heard)
}
