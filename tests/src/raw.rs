//! A client of the gateway that says exactly the bytes which a test chooses, and hears exactly those that come back.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::PATIENCE;

/// A gateway's address, and the one CA that vouches for it.
#[derive(Clone)]
pub struct Door {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "Door({})", self.address)
    }
}

impl Door {
    /// The door at this address, judged by the CA in this PEM file.
    ///
    /// # Errors
    /// The file holds no certificate.
    pub fn new(address: SocketAddr, ca: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).context("the CA's certificate")?)?;
        let mut tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            address,
            tls: Arc::new(tls),
        })
    }

    /// A TCP connection, nothing said on it.
    ///
    /// # Errors
    /// None can be had.
    pub async fn tcp(&self) -> Result<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.context("no connection")?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// A TLS connection, nothing said on it.
    ///
    /// # Errors
    /// None can be had, or the handshake fails.
    pub async fn tls(&self) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost")?;
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, self.tcp().await?);
        timeout(PATIENCE, handshake)
            .await
            .context("the TLS handshake hung")?
            .context("no TLS")
    }

    /// The first message of a TLS handshake with this door.
    ///
    /// # Errors
    /// rustls cannot make it.
    pub fn client_hello(&self) -> Result<Vec<u8>> {
        let mut connection = ClientConnection::new(Arc::clone(&self.tls), ServerName::try_from("localhost")?)?;
        let mut hello = Vec::new();
        connection.write_tls(&mut hello)?;
        Ok(hello)
    }

    /// Says all of this in one write, and hears everything until the gateway closes. Also tells which address we
    /// came from, which is how the gateway's journal names us.
    ///
    /// # Errors
    /// No connection, or the gateway keeps it open.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Result<(SocketAddr, Reply)> {
        let mut stream = self.tls().await?;
        let us = stream.get_ref().0.local_addr()?;
        // A gateway that has already answered may have closed.
        let _ = stream.write_all(request.as_ref()).await;
        let _ = stream.flush().await;
        Ok((us, Reply::read(&mut stream).await?))
    }
}

/// What came back on a connection, up to its end.
#[derive(Clone, Debug)]
pub struct Reply(pub Vec<u8>);

impl Reply {
    /// Reads to the end. A connection that breaks has ended too.
    ///
    /// # Errors
    /// The end does not come.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self> {
        let mut all = Vec::new();
        let mut part = [0; 4096];
        let read = async {
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                all.extend_from_slice(&part[..count]);
            }
        };
        timeout(PATIENCE, read).await.context("the connection stays open")?;
        Ok(Self(all))
    }

    /// All of it as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The HTTP status; 0 where there is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        let text = self.text();
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next());
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// A field of the header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let mut lines = text.split("\r\n\r\n").next()?.lines();
        lines.find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }

    /// What stands behind the header.
    #[must_use]
    pub fn body(&self) -> String {
        self.text()
            .split_once("\r\n\r\n")
            .map_or_else(String::new, |(_, body)| body.to_owned())
    }

    /// A member of the problem body (RFC 9457); empty where there is none.
    #[must_use]
    pub fn problem(&self, member: &str) -> String {
        let body: Value = serde_json::from_str(&self.body()).unwrap_or_default();
        body[member].as_str().unwrap_or_default().to_owned()
    }
}

/// The field lines that make a request one for a tunnel.
pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A GET for a path with these field lines, each with its line end.
#[must_use]
pub fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// A request for a workspace's tunnel with this bearer token.
#[must_use]
pub fn tunnel(workspace: &str, token: &str) -> String {
    get(
        &format!("/v1/connect/{workspace}"),
        &format!("{UPGRADE}Authorization: Bearer {token}\r\n"),
    )
}

/// What a plain HTTP server, such as that for metrics, has at a path.
///
/// # Errors
/// No connection, or another answer than 200.
pub async fn plain(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(get(path, "Connection: close\r\n").as_bytes()).await?;
    let reply = Reply::read(&mut stream).await?;
    anyhow::ensure!(reply.status() == 200, "{path}: {}", reply.text());
    Ok(reply.body())
}

/// A number that the metrics of a gateway show; 0 where the name does not stand there. `name` includes the labels.
///
/// # Errors
/// No metrics can be had.
pub async fn metric(admin: SocketAddr, name: &str) -> Result<f64> {
    let text = plain(admin, "/metrics").await?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    Ok(value.unwrap_or(0.0))
}
