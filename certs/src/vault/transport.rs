//! One request to Vault, one answer: bounded in time and size, to the configured address and nowhere else.
//!
//! It follows no redirect (the token would go along), takes no proxy and no `VAULT_*` variable from the environment, and
//! reads no more than [`LARGEST`] bytes. `vaultrs` describes the endpoints; they are carried here, because its own client
//! does none of this.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Certificate, Client, redirect};
use rustify::Endpoint;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::{Settings, VaultError, error::printable};
use crate::Secret;

/// Where requests go, and how.
#[derive(Debug, Clone)]
pub struct Transport {
    way: Arc<RwLock<Way>>,
    ca: Option<PathBuf>,
    base: Url,
    namespace: Option<HeaderValue>,
}

/// A client, and the CA file that it believes.
#[derive(Debug)]
struct Way {
    http: Client,
    pem: Vec<u8>,
    /// Why the file that is there now is not believed.
    trouble: Option<String>,
}

/// What is asked.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The HTTP method.
    pub method: Method,
    /// The path below `/v1/`.
    pub path: &'a str,
    /// JSON, if there is a body; it is wiped once it was sent.
    pub body: Option<Zeroizing<Vec<u8>>>,
    /// The token, if the path needs one.
    pub token: Option<&'a Secret>,
}

/// Vault's answer, whatever its status. The body may hold a token: it is wiped when dropped.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// `Retry-After` in seconds.
    pub retry_after: Option<Duration>,
    /// `Location`, escaped and cut.
    pub location: Option<String>,
    /// The body.
    pub body: Body,
}

/// An answer's body, which `Debug` does not show.
pub struct Body(Zeroizing<Vec<u8>>);

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// The members of Vault's answers that are used.
#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

impl Reply {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// What Vault says is wrong, its sentences joined, escaped and cut; `None` where this is no error of Vault's.
    #[must_use]
    pub fn said(&self) -> Option<String> {
        let read: Errors = serde_json::from_slice(&self.body).ok()?;
        Some(printable(&read.errors.join("; ")))
    }
}

impl Transport {
    /// A client for the address, the CA file and the namespace of these settings. Nothing is asked yet.
    ///
    /// # Errors
    /// [`VaultError::Client`] where the CA file holds no certificate, or the namespace does not fit a header.
    pub fn new(settings: &Settings) -> Result<Self, VaultError> {
        Self::to(&settings.address, settings.ca.as_deref(), settings.namespace.as_deref())
    }

    /// The same, with each of them.
    ///
    /// # Errors
    /// As [`Transport::new`].
    pub(super) fn to(address: &Url, ca: Option<&Path>, namespace: Option<&str>) -> Result<Self, VaultError> {
        let unusable = |text: String| VaultError::Client(text);
        let pem = ca.map(read_ca).transpose().map_err(unusable)?;
        let pem = pem.unwrap_or_default();
        let http = client(ca, &pem).map_err(unusable)?;
        let way = Way {
            http,
            pem,
            trouble: None,
        };
        let namespace = namespace.map(HeaderValue::from_str).transpose();
        Ok(Self {
            way: Arc::new(RwLock::new(way)),
            ca: ca.map(Path::to_owned),
            base: address.clone(),
            namespace: namespace.map_err(|_| unusable("the namespace does not fit a header".to_owned()))?,
        })
    }

    /// Reads the CA file again where it has changed; what was believed goes on being believed where it cannot be used. New
    /// connections are made then: one that an old CA vouched for carries no further request.
    pub(super) fn follow_ca(&self) {
        let Some(file) = &self.ca else { return };
        let read = read_ca(file);
        let same = |way: &Way| read.as_ref().is_ok_and(|pem| *pem == way.pem) && way.trouble.is_none();
        if same(&self.way.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let made = read.and_then(|pem| Ok((client(Some(file), &pem)?, pem)));
        let mut way = self.way.write().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok((http, pem)) => {
                if pem != way.pem {
                    tracing::info!(
                        "the CA file {} has changed, and is believed as it is now",
                        file.display()
                    );
                }
                *way = Way {
                    http,
                    pem,
                    trouble: None,
                };
            }
            Err(text) => {
                if way.trouble.as_ref() != Some(&text) {
                    tracing::warn!("{text}; what it held before is believed");
                }
                way.trouble = Some(text);
            }
        }
    }

    fn http(&self) -> Client {
        self.way.read().unwrap_or_else(PoisonError::into_inner).http.clone()
    }

    /// Scheme, host and port, for texts.
    #[must_use]
    pub fn address(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// [`VaultError`] where there is no answer, or none that may be read. A status that says no is no error here.
    pub async fn send(&self, ask: Ask<'_>, deadline: Instant) -> Result<Reply, VaultError> {
        let (begun, path) = (Instant::now(), ask.path);
        let request = self.request(ask)?;
        let exchange = async {
            let response = self
                .http()
                .execute(request)
                .await
                .map_err(|error| self.failure(&error))?;
            self.read(response, path).await
        };
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            Err(VaultError::Hanging {
                address: self.address(),
                within: Duration::from_millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)),
            })
        })
    }

    /// What is asked of an endpoint.
    ///
    /// # Errors
    /// [`VaultError::Client`] where the endpoint cannot be written.
    pub async fn call<E: Endpoint>(
        &self,
        endpoint: &E,
        token: Option<&Secret>,
        deadline: Instant,
    ) -> Result<Reply, VaultError> {
        let body = endpoint
            .body()
            .map_err(|error| VaultError::Client(chain(&error)))?
            .filter(|body| !body.is_empty());
        let ask = Ask {
            method: endpoint.method().into(),
            path: &endpoint.path(),
            body: body.map(Zeroizing::new),
            token,
        };
        self.send(ask, deadline).await
    }

    /// The `data` of an answer that says yes.
    ///
    /// # Errors
    /// [`VaultError::NotVault`] where it has none, or of another form.
    pub fn data<T: DeserializeOwned>(&self, reply: &Reply, path: &str) -> Result<T, VaultError> {
        let read: Option<Envelope<T>> = serde_json::from_slice(&reply.body).ok();
        read.and_then(|envelope| envelope.data)
            .ok_or_else(|| self.not_vault(reply, path))
    }

    /// What is said of an answer that is not Vault's.
    pub(super) fn not_vault(&self, reply: &Reply, path: &str) -> VaultError {
        VaultError::NotVault {
            address: self.address(),
            path: path.to_owned(),
            status: reply.status.as_u16(),
        }
    }

    fn request(&self, ask: Ask<'_>) -> Result<reqwest::Request, VaultError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| VaultError::Client("the address cannot have a path".to_owned()))?
            .pop_if_empty()
            .push("v1")
            .extend(ask.path.trim().trim_start_matches('/').split('/'));
        let mut request = reqwest::Request::new(ask.method, url);
        let headers = request.headers_mut();
        // Vault refuses requests without it where it is so configured: a browser cannot be made to send it.
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(namespace) = &self.namespace {
            headers.insert("x-vault-namespace", namespace.clone());
        }
        if let Some(token) = ask.token {
            let mut value = HeaderValue::from_str(token.expose())
                .map_err(|_| VaultError::Client("the token does not fit a header".to_owned()))?;
            value.set_sensitive(true);
            headers.insert("x-vault-token", value);
        }
        if let Some(body) = ask.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(Bytes::from_owner(Wiped(body)).into());
        }
        Ok(request)
    }

    async fn read(&self, mut response: reqwest::Response, path: &str) -> Result<Reply, VaultError> {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header(header::RETRY_AFTER).and_then(|text| text.parse().ok());
        let location = header(header::LOCATION).map(printable);
        // Never grown: growing would leave a copy behind that nobody wipes.
        let mut body = Zeroizing::new(Vec::with_capacity(LARGEST));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > LARGEST {
                return Err(VaultError::TooLarge {
                    address: self.address(),
                    path: path.to_owned(),
                    most: LARGEST,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status: response.status(),
            retry_after: retry_after.map(Duration::from_secs),
            location,
            body: Body(body),
        })
    }

    fn failure(&self, error: &reqwest::Error) -> VaultError {
        let (address, why) = (self.address(), chain(error));
        if is_tls(error) {
            VaultError::Tls { address, why }
        } else if error.is_connect() || error.is_timeout() {
            VaultError::Unreachable { address, why }
        } else {
            VaultError::Broken { address, why }
        }
    }
}

/// A client that believes these CA certificates alone; the system's where no file is named.
fn client(file: Option<&Path>, pem: &[u8]) -> Result<Client, String> {
    let mut builder = Client::builder()
        .tls_backend_rustls()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("doorward/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = file {
        let unusable = |text: String| format!("the CA file {} {text}", file.display());
        let all = Certificate::from_pem_bundle(pem).map_err(|error| unusable(format!("is no PEM: {error}")))?;
        if all.is_empty() {
            return Err(unusable("holds no certificate".to_owned()));
        }
        // The client leaves out what it cannot read, and would then believe fewer than the file has, or nobody.
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|one| roots.add(one).map_err(|error| error.to_string()));
            added.map_err(|error| unusable(format!("holds what is no certificate: {error}")))?;
        }
        builder = builder.tls_certs_only(all);
    }
    builder.build().map_err(|error| chain(&error))
}

fn read_ca(file: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let opened = fs::File::open(file).and_then(|opened| opened.take(LARGEST_CA).read_to_end(&mut pem));
    match opened {
        Ok(_) => Ok(pem),
        Err(error) => Err(format!("the CA file {} cannot be read: {error}", file.display())),
    }
}

/// A request's body, which is wiped when HTTP is done with it.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Whether TLS is somewhere among the causes, of which I/O errors hide theirs.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || hidden.is_some_and(|hidden| is_tls(hidden)) || error.source().is_some_and(is_tls)
}

/// The causes of an error, without the URL: it is said elsewhere.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    printable(if text.is_empty() { "the request failed" } else { &text })
}

/// The longest answer that is read, in bytes.
const LARGEST: usize = 64 * 1024;
/// The most that is read of a CA file, in bytes: several times all the public CAs.
const LARGEST_CA: u64 = 4 * 1024 * 1024;
const CONNECT: Duration = Duration::from_secs(2);
/// Shorter than what balancers and address translation usually allow an idle connection.
const IDLE: Duration = Duration::from_secs(30);
