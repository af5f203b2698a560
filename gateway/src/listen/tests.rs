//! TLS as clients meet it, and a crowd at the door.

use std::{sync::Arc, time::Duration};

use rustls::ProtocolVersion;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::testing::{Bench, Reply, eventually, write_certificate};

#[tokio::test]
async fn tls_is_1_3_with_aes_gcm_and_http_1_1() {
    let bench = Bench::start().await;
    let mut client = bench.client();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(client));
    let stream = connector
        .connect("localhost".try_into().unwrap(), bench.tcp().await)
        .await
        .unwrap();
    let (_, connection) = stream.get_ref();
    assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
    let suite = format!("{:?}", connection.negotiated_cipher_suite().unwrap().suite());
    assert!(suite.contains("AES") && suite.contains("GCM"), "{suite}");

    let mut client = bench.client();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(client));
    assert!(
        connector
            .connect("localhost".try_into().unwrap(), bench.tcp().await)
            .await
            .is_err()
    );
}

/// A ClientHello that offers TLS 1.2 alone gets an alert (protocol_version), not a handshake.
#[tokio::test]
async fn tls_1_2_is_refused() {
    let bench = Bench::start().await;
    let mut body = vec![0x03, 0x03];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Extensions: groups and signature algorithms that a server of 1.2 would want.
    let extensions = [0x00, 0x0a, 0, 4, 0, 2, 0, 0x17, 0x00, 0x0d, 0, 4, 0, 2, 4, 3];
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut handshake = vec![1, length[1], length[2], length[3]];
    handshake.extend_from_slice(&body);
    let mut record = vec![0x16, 0x03, 0x01];
    record.extend_from_slice(&u16::try_from(handshake.len()).unwrap().to_be_bytes());
    record.extend_from_slice(&handshake);
    let mut tcp = bench.tcp().await;
    tcp.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert_eq!(
        (answer.first(), answer.get(6)),
        (Some(&0x15), Some(&70)),
        "an alert: {answer:?}"
    );
}

/// A3: a handshake that comes in tiny records and single bytes works or ends cleanly.
#[tokio::test]
async fn a_handshake_in_crumbs_works() {
    let bench = Bench::start().await;
    let mut client = bench.client();
    client.max_fragment_size = Some(32);
    let mut session =
        rustls::ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut tcp = bench.tcp().await;
    let mut read = [0; 4096];
    while session.is_handshaking() {
        let mut out = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut out).unwrap();
        }
        for byte in out {
            tcp.write_all(&[byte]).await.unwrap();
        }
        if session.is_handshaking() {
            let count = tcp.read(&mut read).await.unwrap();
            assert_ne!(count, 0, "the gateway closed");
            session.read_tls(&mut &read[..count]).unwrap();
            session.process_new_packets().unwrap();
        }
    }
    // The same hello cut into records of one byte each.
    let mut tcp = bench.tcp().await;
    let mut session =
        rustls::ClientConnection::new(Arc::new(bench.client()), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    for byte in &hello[5..] {
        if tcp.write_all(&[0x16, 3, 1, 0, 1, *byte]).await.is_err() {
            break;
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), tcp.read(&mut read))
        .await
        .expect("an answer or an end");
    assert_eq!(bench.get("/v1/trust", "").await.status(), 200);
}

/// A11: nobody can say for another where a connection comes from.
#[tokio::test]
async fn the_proxy_protocol_is_not_spoken() {
    let bench = Bench::start().await;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x7f\0\0\x01\0\x01\0\x02".as_slice();
    for preface in [b"PROXY TCP4 10.0.0.1 127.0.0.1 1 2\r\n".as_slice(), v2] {
        let mut tcp = bench.tcp().await;
        tcp.write_all(preface).await.unwrap();
        let reply = Reply::read(&mut tcp).await;
        assert!(!reply.text.contains("HTTP"), "{}", reply.text);
    }
}

/// H2, A1: a crowd from one address fills its places, and those who have a request still get through.
#[tokio::test]
async fn a_crowd_at_the_door_keeps_nobody_out() {
    let bench = Bench::with("[limits]\nunauthenticated = 64\nunauthenticated-per-address = 16\n").await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(bench.tcp().await);
    }
    for _ in 0..20 {
        assert_eq!(bench.get("/v1/trust", "").await.status(), 200);
    }
    // Those that waited longest were closed; the newest may still wait.
    let mut first = crowd.remove(0);
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(5), first.read(&mut [0]))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
}

/// The certificate is exchanged while the gateway runs; a bad one is not taken.
#[tokio::test]
async fn a_changed_certificate_is_shown_if_it_is_good() {
    let bench = Bench::start().await;
    let shown = || async {
        let seen = seen_certificate(&bench).await;
        CertificateDer::from_pem_file(bench.folder.path().join("tls.crt")).is_ok_and(|file| file == seen)
    };
    assert!(shown().await);
    let before = seen_certificate(&bench).await;

    let good = std::fs::read(bench.folder.path().join("tls.crt")).unwrap();
    std::fs::write(
        bench.folder.path().join("tls.crt"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    )
    .unwrap();
    let taken = crate::listen::certificate::load(
        &bench.folder.path().join("tls.crt"),
        &bench.folder.path().join("tls.key"),
    );
    assert!(taken.is_err());
    assert_eq!(seen_certificate(&bench).await, before);
    std::fs::write(bench.folder.path().join("tls.crt"), good).unwrap();

    write_certificate(bench.folder.path(), "localhost");
    let wait = async {
        while !shown().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("the new certificate was never shown");
    assert_ne!(seen_certificate(&bench).await, before);
}

async fn seen_certificate(bench: &Bench) -> CertificateDer<'static> {
    let client = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let stream = connector
        .connect("localhost".try_into().unwrap(), bench.tcp().await)
        .await
        .unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A client that looks at any certificate.
#[derive(Debug)]
struct Anything;

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn a_stopping_gateway_takes_no_more_connections() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/v1/trust", "").await.status(), 200);
    bench.stop.cancel();
    eventually(|| std::net::TcpStream::connect(bench.running.listen_address()).is_err()).await;
    let ready = bench.probe("/readyz").await;
    assert_eq!(ready.status(), 503, "{}", ready.text);
    assert!(ready.json()["checks"]["running"].as_str().unwrap().contains("stopping"));
    let drained = bench.running.finish(&Default::default()).await;
    assert_eq!(drained, crate::tasks::Drained::Quietly);
}
