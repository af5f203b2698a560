//! A whole gateway for tests, in process, on ports of its own, beside an issuer that can misbehave.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use jsonwebtoken::Algorithm;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    Running,
    config::Config,
    oidc::fake::{FakeIssuer, Key},
};

/// A gateway with its issuer and its folder.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) issuer: FakeIssuer,
    pub(crate) key: Key,
    pub(crate) running: Running,
    pub(crate) stop: CancellationToken,
}

pub(crate) const POLICY: &str = r#"
[[role]]
name = "developer"
groups = ["developers"]
workspaces = ["devenv-0"]
allow = ["shell", "exec", "pty"]
"#;

/// A folder with everything that [`text`] names.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path(), "localhost");
    doorward_certs::Local::create_files(&folder.path().join("user-ca"), &folder.path().join("host-ca")).unwrap();
    fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    fs::write(folder.path().join("logins.toml"), "[logins]\n\"bob\" = \"bob\"\n").unwrap();
    for name in ["introspection", "s3-access-key", "s3-secret-key"] {
        private(&folder.path().join(name), "secret");
    }
    folder
}

/// Writes a new self-signed certificate for this name.
pub(crate) fn write_certificate(folder: &std::path::Path, name: &str) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    private(&folder.join("tls.key.new"), &made.signing_key.serialize_pem());
    fs::write(folder.join("tls.crt.new"), made.cert.pem()).unwrap();
    fs::rename(folder.join("tls.key.new"), folder.join("tls.key")).unwrap();
    fs::rename(folder.join("tls.crt.new"), folder.join("tls.crt")).unwrap();
}

/// Writes a file that nobody else may read.
pub(crate) fn private(file: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A configuration that is good, with `more` at its end.
pub(crate) fn text(issuer: &str, more: &str) -> String {
    format!(
        r#"state-directory = "state"
[listen]
address = "127.0.0.1:0"
certificate = "tls.crt"
key = "tls.key"
reload-interval = "10ms"
[admin]
address = "127.0.0.1:0"
[oidc]
issuer = "{issuer}"
client-id = "doorward"
audience = "doorward-gateway"
keys-cool-down = "10ms"
[authority.local]
user-ca = "user-ca"
host-ca = "host-ca"
[link]
key = "gateway.key"
[records]
directory = "records"
[policy]
file = "policy.toml"
[[workspace]]
name = "devenv-0"
uid = "uid-0"
address = "127.0.0.1:1"
login = "node"
owner = "bob"
[[workspace]]
name = "devenv-1"
uid = "uid-1"
address = "127.0.0.1:1"
login = "node"
{more}
"#
    )
}

impl Bench {
    /// A gateway whose issuer answers well.
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// The same with more configuration.
    pub(crate) async fn with(more: &str) -> Self {
        let bench = Self::before_issuer(more).await;
        bench.issuer.appear().await;
        eventually(|| bench.running.gateway().identities.ready().is_ok()).await;
        bench
    }

    /// A gateway whose issuer does not answer yet.
    pub(crate) async fn before_issuer(more: &str) -> Self {
        Self::in_folder(folder(), |text| text + more).await
    }

    /// The same in a folder of one's own, with a configuration that was changed.
    pub(crate) async fn in_folder(folder: TempDir, change: impl FnOnce(String) -> String) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = Key::new("one", Algorithm::ES256);
        let issuer = FakeIssuer::absent(&[&key]).await;
        let file = folder.path().join("gateway.toml");
        fs::write(&file, change(text(&issuer.url, ""))).unwrap();
        let stop = CancellationToken::new();
        let running = Running::start(Config::load(&file).unwrap(), stop.clone())
            .await
            .unwrap();
        Self {
            folder,
            issuer,
            key,
            running,
            stop,
        }
    }

    /// A bearer token with a change to bob's claims.
    pub(crate) fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.issuer.claims();
        change(&mut claims);
        self.key.sign(&self.key.header().to_string(), &claims.to_string())
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    /// A client that believes the certificate in the folder now.
    pub(crate) fn client(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.certificate()).unwrap())
            .unwrap();
        rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.running.listen_address()).await.unwrap()
    }

    /// A TLS connection.
    pub(crate) async fn tls(&self) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(Arc::new(self.client()));
        connector
            .connect(ServerName::try_from("localhost").unwrap(), self.tcp().await)
            .await
            .unwrap()
    }

    /// Sends raw bytes and reads until the gateway closes.
    pub(crate) async fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = self.tls().await;
        // A gateway that has answered already may have closed.
        let _ = stream.write_all(request).await;
        let _ = stream.flush().await;
        Reply::read(&mut stream).await
    }

    /// A GET with these extra header lines.
    pub(crate) async fn get(&self, path: &str, lines: &str) -> Reply {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").as_bytes())
            .await
    }

    /// A request with a body, if it has one.
    pub(crate) async fn send(&self, method: &str, path: &str, lines: &str, body: &str) -> Reply {
        let length = match body.is_empty() {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}{length}\r\n{body}").as_bytes())
            .await
    }

    /// The same with a token, the body as JSON.
    pub(crate) async fn send_as(&self, method: &str, token: &str, path: &str, body: &str) -> Reply {
        let kind = match body.is_empty() {
            true => "",
            false => "Content-Type: application/json\r\n",
        };
        self.send(method, path, &format!("Authorization: Bearer {token}\r\n{kind}"), body)
            .await
    }

    /// A GET with a token.
    pub(crate) async fn get_as(&self, token: &str, path: &str) -> Reply {
        self.get(path, &format!("Authorization: Bearer {token}\r\n")).await
    }

    /// A GET on the plain listener for probes.
    pub(crate) async fn probe(&self, path: &str) -> Reply {
        let mut stream = TcpStream::connect(self.running.admin_address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Reply::read(&mut stream).await
    }
}

/// The lines of a good request for a tunnel, after the request line and Host.
pub(crate) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What came back before the end of the connection.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
}

impl Reply {
    /// Reads to the end, which must come soon.
    pub(crate) async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        let read = async {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                bytes.extend_from_slice(&part[..count]);
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("the connection stayed open");
        Self {
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// The status, or 0 if the connection closed without an answer.
    pub(crate) fn status(&self) -> u16 {
        self.text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// Waits until the condition holds.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the condition never came");
}
