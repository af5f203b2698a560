//! How a request reaches the object store: our own HTTP client, our own signature.
//!
//! It follows no redirect, uses no proxy, reads nothing from the environment and believes the configured CA alone where there
//! is one. It signs here, and not in `object_store`, because what that crate cannot say must be under the signature too: the
//! headers of object lock, and that finishing a multipart upload must not replace anything.

use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, header};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::{Certificate, Client, redirect};

use super::BucketError;
use crate::config::S3;

/// Sends requests as they are.
#[derive(Clone, Debug)]
pub(super) struct Plain(Client);

/// Signs requests, then sends them.
#[derive(Clone)]
pub(super) struct Signed {
    plain: Plain,
    credentials: AwsCredentialProvider,
    region: String,
}

/// What a new object is protected by; travels in a request's extensions until it is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::record) struct Protection {
    /// Nobody may delete it before, RFC 3339.
    pub(in crate::record) retain_until: Option<String>,
    /// Nobody may delete it at all.
    pub(in crate::record) held: bool,
}

/// In a response's extensions: the store has said the checksum of what it took, and it is ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirmed;

impl Plain {
    pub(super) fn new(settings: &S3) -> Result<Self, BucketError> {
        let unusable = |text: String| BucketError::Unusable(text);
        let mut builder = Client::builder()
            .tls_backend_rustls()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(settings.timeout.min(CONNECT))
            .read_timeout(settings.timeout)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("doorward-gateway/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &settings.ca {
            let wrong = |text: String| unusable(format!("the CA file {} {text}", file.display()));
            let pem = fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
            let all = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(format!("is no PEM: {error}")))?;
            if all.is_empty() {
                return Err(wrong("holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_only(all);
        }
        builder
            .build()
            .map(Self)
            .map_err(|error| unusable(crate::refusal::chain(&error)))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = request.headers().get(CHECKSUM).cloned();
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse();
        let url = url.map_err(|error: url::ParseError| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(match body.as_bytes() {
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(body),
        });
        let response = self.0.execute(request).await.map_err(failed)?;
        let (mut parts, body) = http::Response::from(response).into_parts();
        if let (Some(sent), Some(stored)) = (sent, parts.headers.get(CHECKSUM)) {
            if sent != *stored {
                let differs = std::io::Error::other("the store has other bytes than were sent");
                return Err(HttpError::new(HttpErrorKind::Decode, differs));
            }
            parts.extensions.insert(Confirmed);
        }
        let body = http_body_util::BodyExt::map_err(body, failed);
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

impl Signed {
    pub(super) fn new(plain: Plain, credentials: AwsCredentialProvider, region: &str) -> Self {
        Self {
            plain,
            credentials,
            region: region.to_owned(),
        }
    }

    /// Signs and sends.
    pub(super) async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        protect(&mut request);
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let digest = request.headers().get(CHECKSUM);
        let digest = digest.and_then(|digest| STANDARD.decode(digest.as_bytes()).ok());
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, digest.as_deref())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        self.plain.send(request).await
    }
}

/// Puts what `object_store` cannot say into the header.
fn protect(request: &mut HttpRequest) {
    let query = request.uri().query().unwrap_or_default();
    let creates = (*request.method() == Method::PUT && !query.contains("uploadId="))
        || (*request.method() == Method::POST && query.starts_with("uploads"));
    let finishes = *request.method() == Method::POST && query.starts_with("uploadId=");
    let protection = request.extensions().get::<Protection>().cloned().unwrap_or_default();
    let headers = request.headers_mut();
    if creates {
        if let Some(until) = protection
            .retain_until
            .and_then(|until| HeaderValue::try_from(until).ok())
        {
            headers.insert(LOCK_MODE, HeaderValue::from_static("COMPLIANCE"));
            headers.insert(LOCK_UNTIL, until);
        }
        if protection.held {
            headers.insert(LOCK_HOLD, HeaderValue::from_static("ON"));
        }
    }
    if finishes {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
}

type Call<'f> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>;

impl HttpService for Plain {
    fn call<'s, 'f>(&'s self, request: HttpRequest) -> Call<'f>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(self.send(request))
    }
}

impl HttpService for Signed {
    fn call<'s, 'f>(&'s self, request: HttpRequest) -> Call<'f>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(self.send(request))
    }
}

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpConnector for Signed {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({})", self.region)
    }
}

fn failed(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_body() || error.is_decode() {
        HttpErrorKind::Interrupted
    } else {
        HttpErrorKind::Request
    };
    // The address stands in the message of whoever asked.
    HttpError::new(kind, error.without_url())
}

/// Of the whole body, in base64; the store checks it before it takes an object.
pub(super) const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const LOCK_MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const LOCK_UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
const LOCK_HOLD: HeaderName = HeaderName::from_static("x-amz-object-lock-legal-hold");
const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);
