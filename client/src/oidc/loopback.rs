//! The port on loopback to which the browser brings the answer (RFC 8252 section 7.3).
//!
//! Any program and any web page may knock here. Only `GET /callback` on our own address with the state of this login
//! ends the wait; everything else is told that there is nothing, and changes nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::secret::Secret;

/// How long a person has.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long one connection may take.
const CONNECTION: Duration = Duration::from_secs(10);
/// How many connections are served at a time.
const CONNECTIONS: usize = 16;
const PATH: &str = "/callback";

/// What the browser brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) code: Option<Secret>,
    pub(super) iss: Option<String>,
    pub(super) error: Option<String>,
    pub(super) error_description: Option<String>,
}

/// A port of our own that waits for one answer.
#[derive(Debug)]
pub(super) struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
}

impl Loopback {
    /// Takes a free port.
    pub(super) async fn listen() -> Result<Self, Error> {
        let failed = Error::file("listen on", "127.0.0.1");
        let bound = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bound.await.map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where the issuer must send the browser.
    pub(super) fn redirect_uri(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Waits for the answer that carries this state.
    pub(super) async fn wait(self, state: &str) -> Result<Answered, Error> {
        let (sender, mut answers) = mpsc::channel(1);
        let mut serving = JoinSet::new();
        let patience = sleep(PATIENCE);
        tokio::pin!(patience);
        let answered = loop {
            tokio::select! {
                () = &mut patience => return Err(Error::LoginExpired(PATIENCE.as_secs() / 60)),
                Some(answered) = answers.recv() => break answered,
                Some(_) = serving.join_next() => {}
                accepted = self.listener.accept(), if serving.len() < CONNECTIONS => {
                    // A connection that is gone before it was taken is nobody's loss.
                    if let Ok((stream, _)) = accepted {
                        serving.spawn(serve(stream, self.address, state.to_owned(), sender.clone()));
                    }
                }
            }
        };
        // Whoever else is connected has nothing to wait for: browsers like to open a connection too many.
        Ok(answered)
    }
}

/// Serves one connection; hands the answer on once the page that goes with it is sent.
async fn serve(stream: TcpStream, own: SocketAddr, state: String, answers: mpsc::Sender<Answered>) {
    let got = OnceLock::new();
    let service = service_fn(|request: Request<Incoming>| {
        let page = match judge(&request, own, &state) {
            Some(answered) => {
                let page = if answered.error.is_none() { DONE } else { REFUSED };
                // There is one request in a connection.
                let _ = got.set(answered);
                reply(StatusCode::OK, page)
            }
            None => reply(StatusCode::NOT_FOUND, NOTHING),
        };
        async move { Ok::<_, std::convert::Infallible>(page) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever a stranger does with this connection is no failure of ours.
    let _ = timeout(CONNECTION, connection).await;
    if let Some(answered) = got.get() {
        // Full means that the answer was here before: a reload of the page.
        let _ = answers.try_send(answered.clone());
    }
}

/// The answer in a request, if it is one and belongs to this login. The host must be the address itself, so that no
/// name that leads here (DNS rebinding) can speak for it.
fn judge<B>(request: &Request<B>, own: SocketAddr, state: &str) -> Option<Answered> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    if request.method() != Method::GET || request.uri().path() != PATH || host != own.to_string() {
        return None;
    }
    let mut answered = Answered::default();
    let mut same = false;
    let mut seen = Vec::new();
    for (name, value) in url::form_urlencoded::parse(request.uri().query()?.as_bytes()) {
        if seen.contains(&name) {
            // RFC 6749 section 3.1: no parameter twice.
            return None;
        }
        match name.as_ref() {
            "state" => same = value == state,
            "code" => answered.code = Some(value.into_owned().into()),
            "iss" => answered.iss = Some(value.into_owned()),
            "error" => answered.error = Some(value.into_owned()),
            "error_description" => answered.error_description = Some(value.into_owned()),
            _ => {}
        }
        seen.push(name);
    }
    (same && (answered.code.is_some() || answered.error.is_some())).then_some(answered)
}

fn reply(status: StatusCode, page: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(page.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const DONE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Doorward</title>\
<body style=\"font-family:sans-serif;max-width:32em;margin:4em auto\"><h1>Back to the terminal</h1>\
<p>Doorward has the issuer's answer. You can close this window; the terminal says the rest.</p></body></html>\n";
const REFUSED: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Doorward</title>\
<body style=\"font-family:sans-serif;max-width:32em;margin:4em auto\"><h1>Not logged in</h1>\
<p>The issuer refused. You can close this window; the terminal says why.</p></body></html>\n";
const NOTHING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Nothing here</title>\
<body><p>There is nothing here.</p></body></html>\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> SocketAddr {
        "127.0.0.1:4567".parse().unwrap()
    }

    fn asked(method: Method, target: &str, host: &str) -> Option<Answered> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", host)
            .body(())
            .unwrap();
        judge(&request, own(), "st")
    }

    #[test]
    fn only_our_own_answer_counts() {
        let answered = asked(
            Method::GET,
            "/callback?code=c%2Fd&state=st&iss=https%3A%2F%2Fi",
            "127.0.0.1:4567",
        )
        .unwrap();
        assert_eq!(answered.code.unwrap().expose(), "c/d");
        assert_eq!(answered.iss.unwrap(), "https://i");
        for (method, target, host) in [
            (Method::GET, "/callback?code=c&state=other", "127.0.0.1:4567"),
            (Method::GET, "/callback?code=c", "127.0.0.1:4567"),
            (Method::GET, "/callback?state=st", "127.0.0.1:4567"),
            (Method::GET, "/callback", "127.0.0.1:4567"),
            (Method::GET, "/callback?code=c&state=other&state=st", "127.0.0.1:4567"),
            (Method::GET, "/callback?code=c&state=st&code=d", "127.0.0.1:4567"),
            (Method::GET, "/callback/?code=c&state=st", "127.0.0.1:4567"),
            (Method::GET, "/favicon.ico?code=c&state=st", "127.0.0.1:4567"),
            (Method::POST, "/callback?code=c&state=st", "127.0.0.1:4567"),
            (Method::HEAD, "/callback?code=c&state=st", "127.0.0.1:4567"),
            (Method::GET, "/callback?code=c&state=st", "evil.example:4567"),
            (Method::GET, "/callback?code=c&state=st", "localhost:4567"),
        ] {
            assert_eq!(asked(method.clone(), target, host), None, "{method} {target} at {host}");
        }
    }
}
