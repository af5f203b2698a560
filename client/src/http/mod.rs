//! HTTP for everything that the program asks: one connection, one request, one bounded answer.
//!
//! No redirect is ever followed and no cookie kept, so a token goes to the address that was meant and nowhere else.
//! Every step has a deadline.

pub(crate) mod dial;
mod problem;
pub(crate) mod proxy;
pub(crate) mod tls;
mod untrusted;

use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use crate::error::Error;
use crate::pass::Pass;
pub use problem::Problem;
pub(crate) use problem::describe;
use problem::read_problem;

/// How we call ourselves.
pub(crate) const USER_AGENT: &str = concat!("doorward/", env!("CARGO_PKG_VERSION"));
/// How long name, TCP and TLS may take together.
pub(crate) const DIAL: Duration = Duration::from_secs(15);
/// How long an answer may take to begin, and each further part of it to come.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer that is kept in memory, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

/// Who is asked: the two differ in whom TLS trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Gateway,
    Issuer,
}

/// Asks one kind of server.
#[derive(Debug)]
pub(crate) struct Web {
    role: Role,
    ca: Option<PathBuf>,
    tls: OnceLock<Arc<ClientConfig>>,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) whom: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Web {
    /// Asks the gateway: TLS 1.3, and only this CA where one is configured.
    pub(crate) fn gateway(ca: Option<PathBuf>) -> Self {
        Self {
            role: Role::Gateway,
            ca,
            tls: OnceLock::new(),
        }
    }

    /// Asks an issuer: the system's CAs and the configured one; TLS 1.2 or 1.3, or plain HTTP on loopback.
    pub(crate) fn issuer(ca: Option<PathBuf>) -> Self {
        Self {
            role: Role::Issuer,
            ca,
            tls: OnceLock::new(),
        }
    }

    /// The TLS configuration, made when it is first needed.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let tls = match self.role {
            Role::Gateway => tls::for_gateway(self.ca.as_deref())?,
            Role::Issuer => tls::for_issuer(self.ca.as_deref())?,
        };
        Ok(self.tls.get_or_init(|| tls).clone())
    }

    /// `GET`, with the whole answer.
    pub(crate) async fn get(&self, url: &Url, pass: Option<&Pass>) -> Result<Answer, Error> {
        let request = request(Method::GET, url, pass, Bytes::new())?;
        self.ask(url, request).await
    }

    /// `POST` of a form, with the whole answer; with a proof of possession where there is one (RFC 9449 section 5).
    pub(crate) async fn post(&self, url: &Url, form: &[(&str, &str)], proof: Option<&str>) -> Result<Answer, Error> {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request = request(Method::POST, url, None, body.into())?;
        let headers = request.headers_mut();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        if let Some(proof) = proof.and_then(|proof| HeaderValue::from_str(proof).ok()) {
            headers.insert("dpop", proof);
        }
        self.ask(url, request).await
    }

    /// A request that changes something: `body` is sent as JSON, or nothing. Any good answer will do.
    pub(crate) async fn change(
        &self,
        method: Method,
        url: &Url,
        pass: &Pass,
        body: Option<&serde_json::Value>,
    ) -> Result<(), Error> {
        let answer = self.change_for(method, url, pass, body).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(Error::Refused(Problem::parse(answer.status, &answer.body)))
    }

    /// The same with the whole answer, good or not.
    pub(crate) async fn change_for(
        &self,
        method: Method,
        url: &Url,
        pass: &Pass,
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, Error> {
        let bytes = body.map(ToString::to_string).unwrap_or_default();
        let mut request = request(method, url, Some(pass), bytes.into())?;
        if body.is_some() {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        self.ask(url, request).await
    }

    async fn ask(&self, url: &Url, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        let whom = name(url);
        let stream = dial::dial(url, || self.tls()).await?;
        let work = async |response: Response<Incoming>| {
            let (head, body) = response.into_parts();
            let body = collect(&whom, body, LARGEST).await?;
            Ok(Answer {
                whom: whom.clone(),
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        exchange(&whom, stream, request, work).await
    }

    /// `GET`, handing each part of a good answer to `sink`; any other answer is a refusal.
    pub(crate) async fn download(
        &self,
        url: &Url,
        pass: &Pass,
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let whom = name(url);
        let stream = dial::dial(url, || self.tls()).await?;
        let work = async |response: Response<Incoming>| {
            if response.status() != StatusCode::OK {
                return Err(refusal(&whom, response).await);
            }
            let mut body = response.into_body();
            while let Some(part) = next_part(&whom, &mut body).await? {
                sink(&part)?;
            }
            Ok(())
        };
        exchange(
            &whom,
            stream,
            request(Method::GET, url, Some(pass), Bytes::new())?,
            work,
        )
        .await
    }
}

impl Answer {
    /// The body of a good answer.
    ///
    /// # Errors
    /// [`Error::Elsewhere`] for what some network's own page answers in its place.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        if let Some(what) = elsewhere(self.status, &self.headers) {
            return Err(Error::Elsewhere {
                whom: self.whom.clone(),
                what,
            });
        }
        if self.status != StatusCode::OK {
            return Err(Error::Refused(Problem::parse(self.status, &self.body)));
        }
        serde_json::from_slice(&self.body).map_err(|error| Error::Answer {
            whom: self.whom.clone(),
            what: error.to_string(),
        })
    }
}

impl Answer {
    /// The server's clock when it answered, if it says so (RFC 9110 section 6.6.1).
    pub(crate) fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.headers.get(header::DATE)?.to_str().ok()?).ok()
    }
}

/// What an answer that is not the good one means.
pub(crate) async fn refusal(whom: &str, response: Response<Incoming>) -> Error {
    match elsewhere(response.status(), response.headers()) {
        Some(what) => Error::Elsewhere {
            whom: whom.to_owned(),
            what,
        },
        None => Error::Refused(read_problem(response).await),
    }
}

/// What an answer is that no server of ours gives: a redirect, or a good one that is a page for browsers.
fn elsewhere(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if status.is_redirection() {
        let to = field(header::LOCATION).unwrap_or("another address");
        return Some(format!("a redirect to {}", &to[..to.floor_char_boundary(200)]));
    }
    let page = field(header::CONTENT_TYPE).is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    (status.is_success() && page).then(|| "a page for browsers".to_owned())
}

/// A server's name for sentences: host, and port where it isn't the usual one.
pub(crate) fn name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A request in origin form with our headers.
pub(crate) fn request(
    method: Method,
    url: &Url,
    pass: Option<&Pass>,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Error> {
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let builder = Request::builder()
        .method(method.clone())
        .uri(target)
        .header(header::HOST, name(url))
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "application/json, application/problem+json");
    let mut request = builder
        .body(Full::new(body))
        .map_err(|error| Error::Configuration(format!("{url} cannot be asked for: {error}")))?;
    if let Some(pass) = pass {
        pass.authorize(&method, url, request.headers_mut())?;
    }
    Ok(request)
}

/// Sends one request and lets `work` have the answer, while the connection is driven beside it.
pub(crate) async fn exchange<T>(
    whom: &str,
    stream: dial::Stream,
    request: Request<Full<Bytes>>,
    work: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Error>,
) -> Result<T, Error> {
    let unreachable = |error: hyper::Error| Error::Unreachable {
        whom: whom.to_owned(),
        why: reason(&error),
        hint: None,
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .max_headers(64)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(unreachable)?;
    let driver = async {
        // Its failures also reach whoever waits for the answer; only that one knows whether they matter.
        let _ = connection.with_upgrades().await;
        pending::<()>().await;
    };
    let asking = async {
        let response = timeout(ANSWER, sender.send_request(request)).await;
        work(response.map_err(|_| too_slow(whom))?.map_err(unreachable)?).await
    };
    tokio::select! {
        answer = asking => answer,
        () = driver => Err(too_slow(whom)),
    }
}

/// The whole body, if it is no longer than `most` bytes.
pub(crate) async fn collect(whom: &str, mut body: Incoming, most: usize) -> Result<Bytes, Error> {
    let mut whole = Vec::new();
    while let Some(part) = next_part(whom, &mut body).await? {
        if whole.len() + part.len() > most {
            return Err(Error::Answer {
                whom: whom.to_owned(),
                what: format!("more than {most} bytes"),
            });
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.into())
}

/// The next part of a body, or that it is over.
pub(crate) async fn next_part(whom: &str, body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    loop {
        match timeout(ANSWER, body.frame()).await.map_err(|_| too_slow(whom))? {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(Error::Unreachable {
                    whom: whom.to_owned(),
                    why: reason(&error),
                    hint: None,
                });
            }
            Some(Ok(frame)) => {
                if let Ok(part) = frame.into_data() {
                    return Ok(Some(part));
                }
            }
        }
    }
}

fn too_slow(whom: &str) -> Error {
    Error::Unreachable {
        whom: whom.to_owned(),
        why: format!("no answer within {} s", ANSWER.as_secs()),
        hint: None,
    }
}

/// The innermost reason, which says more than hyper's own words.
fn reason(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let io = cause.downcast_ref::<io::Error>();
    if error.is_incomplete_message() || io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
        return "it closed the connection in the middle".to_owned();
    }
    cause.to_string()
}
