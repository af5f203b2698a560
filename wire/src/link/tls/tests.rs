//! Handshakes that work, and peers that are refused.

use std::sync::Once;

use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn key(seed: u8) -> LinkKey {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| provider().install_default().unwrap());
    LinkKey::from_seed(&[seed; 32]).unwrap()
}

type Made = Result<(LinkIo<DuplexStream>, PeerKey), LinkError>;

/// Dials our server's side with another client's configuration.
async fn dial(client: ClientConfig) -> (std::io::Result<()>, Made) {
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from("link.invalid").unwrap();
    let dial = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        // a client learns only by reading that its own key was refused
        match stream.read(&mut [0]).await? {
            0 => Ok(()),
            _ => panic!("nobody writes"),
        }
    };
    let server = key(2);
    let accept = async { super::accept(far, &server, DEADLINE).await };
    tokio::join!(dial, accept)
}

/// Answers our client's side with another server's configuration.
async fn answer(server: ServerConfig) -> Made {
    let (near, far) = duplex(1 << 16);
    let client = key(1);
    let accept = async {
        let _ = TlsAcceptor::from(Arc::new(server)).accept(far).await;
    };
    tokio::join!(connect(near, &client, DEADLINE), accept).0
}

fn handshake_error(made: Made) -> Error {
    let Err(LinkError::Handshake(error)) = made else {
        panic!("{:?}", made.map(|(_, peer)| peer))
    };
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(error) => error.clone(),
        None => panic!("{error:?}"),
    }
}

fn like(key: &LinkKey) -> (ClientConfig, ServerConfig) {
    ((*key.client).clone(), (*key.server).clone())
}

fn x509() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    key(0);
    let made = rcgen::generate_simple_self_signed(vec!["link.invalid".into()]).unwrap();
    let private = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    (vec![made.cert.der().clone()], private.into())
}

#[tokio::test]
async fn both_learn_which_key_the_other_holds() {
    let (near, far) = duplex(1 << 16);
    let (gateway, agent) = (key(1), key(2));
    let (dialled, accepted) = tokio::join!(connect(near, &gateway, DEADLINE), accept(far, &agent, DEADLINE));
    let ((mut dialled, server), (mut accepted, client)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((server.0, client.0), (agent.public(), gateway.public()));
    assert_ne!(server, client);
    let suite = dialled.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
    dialled.write_all(b"hello").await.unwrap();
    dialled.flush().await.unwrap();
    let mut got = [0; 5];
    accepted.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

#[test]
fn the_public_key_is_the_seeds() {
    // RFC 8032, section 7.1, test 1
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    key(0);
    let key = LinkKey::from_seed(seed.as_slice().try_into().unwrap()).unwrap();
    assert_eq!(key.public().as_slice(), public);
    assert!(!format!("{key:?}").contains("9d, 97") && !format!("{key:?}").contains("157, 97"));
}

#[tokio::test]
async fn another_application_protocol_is_refused() {
    let (mut client, mut server) = like(&key(3));
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (_, accepted) = dial(client).await;
    assert_eq!(handshake_error(accepted), Error::NoApplicationProtocol);
    server.alpn_protocols = vec![b"h2".to_vec()];
    assert!(matches!(answer(server).await, Err(LinkError::Handshake(_))));
}

#[tokio::test]
async fn no_application_protocol_is_refused() {
    let (mut client, mut server) = like(&key(3));
    client.alpn_protocols.clear();
    assert!(matches!(dial(client).await.1, Err(LinkError::Protocol)));
    server.alpn_protocols.clear();
    assert!(matches!(answer(server).await, Err(LinkError::Protocol)));
}

/// A ClientHello as TLS 1.2 had it (RFC 5246, section 7.4.1.2): nothing in it offers TLS 1.3.
fn hello_1_2() -> Vec<u8> {
    let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 29]; // supported groups: x25519
    extensions.extend_from_slice(&[0, 13, 0, 4, 0, 2, 8, 7]); // signature algorithms: ed25519
    extensions.extend_from_slice(&[0, 16, 0, 18, 0, 16, 15]); // ALPN
    extensions.extend_from_slice(LINK_ALPN);
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]); // random
    hello.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0, 0, extensions.len() as u8]);
    hello.extend_from_slice(&extensions);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend_from_slice(&hello);
    record
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let (mut near, far) = duplex(1 << 16);
    near.write_all(&hello_1_2()).await.unwrap();
    let refused = handshake_error(accept(far, &key(2), DEADLINE).await);
    assert!(matches!(refused, Error::PeerIncompatible(_)), "{refused:?}");
    // a ServerHello of TLS 1.2, with the suite that a client of that time would have asked for
    let (near, mut far) = duplex(1 << 16);
    let mut hello = vec![22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0xc0, 0x2b, 0]);
    far.write_all(&hello).await.unwrap();
    let made = connect(near, &key(1), DEADLINE).await;
    assert!(matches!(
        handshake_error(made),
        Error::PeerIncompatible(_) | Error::PeerMisbehaved(_)
    ));
}

#[tokio::test]
async fn x509_is_refused() {
    let (chain, private) = x509();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let mut client = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.clone(), private.clone_key())
        .unwrap();
    client.alpn_protocols = vec![LINK_ALPN.to_vec()];
    let refused = handshake_error(dial(client).await.1);
    assert!(matches!(refused, Error::PeerIncompatible(_)), "{refused:?}");
    let mut server = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .unwrap();
    server.alpn_protocols = vec![LINK_ALPN.to_vec()];
    // the server, which has no raw key, says so itself
    let refused = handshake_error(answer(server).await);
    assert!(matches!(refused, Error::AlertReceived(_)), "{refused:?}");
}

#[tokio::test]
async fn a_client_without_a_key_is_refused() {
    let (with_key, _) = like(&key(3));
    let verifier = Arc::new(AnyEd25519 {
        algorithms: CryptoProvider::get_default().unwrap().signature_verification_algorithms,
    });
    let mut client = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    client.alpn_protocols = with_key.alpn_protocols;
    let (learned, accepted) = dial(client).await;
    assert!(learned.is_err());
    assert!(
        matches!(accepted, Err(LinkError::Handshake(_))),
        "{:?}",
        accepted.map(|(_, peer)| peer)
    );
}

#[tokio::test]
async fn a_key_that_is_not_ed25519_is_refused() {
    let (_, private) = x509();
    let signing = CryptoProvider::get_default()
        .unwrap()
        .key_provider
        .load_private_key(private)
        .unwrap();
    let spki = CertificateDer::from(signing.public_key().unwrap().to_vec());
    let certified = Arc::new(CertifiedKey::new(vec![spki], signing));
    let (mut client, mut server) = like(&key(3));
    client.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified.clone()));
    // the client has no key for what our server asks of it, or is caught when it shows one all the same
    assert!(matches!(dial(client).await.1, Err(LinkError::Handshake(_))));
    server.cert_resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified));
    assert!(matches!(answer(server).await, Err(LinkError::Handshake(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stalls_is_left_at_the_deadline() {
    let (near, far) = duplex(1 << 16);
    let key = key(1);
    let (dialled, accepted) = tokio::join!(connect(near, &key, Duration::from_secs(3)), async {
        let (_silent, mine) = duplex(64);
        accept(mine, &key, Duration::from_secs(4)).await
    });
    drop(far);
    assert!(matches!(dialled, Err(LinkError::Deadline(_))));
    assert!(matches!(accepted, Err(LinkError::Deadline(_))));
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let (mut near, far) = duplex(1 << 16);
    near.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    assert!(matches!(
        accept(far, &key(1), DEADLINE).await,
        Err(LinkError::Handshake(_))
    ));
}
