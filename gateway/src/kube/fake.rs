//! An API server for tests of faults: it answers as badly as it is told. What a real one does is tested on a real one.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::config::{Kubernetes, KubernetesAccess};

/// What the server does with a request.
pub(crate) enum Answer {
    /// A status and a body.
    Text(u16, String),
    /// Lines, as they come; the stream ends with the last sender, and one may be held here.
    Lines(mpsc::Receiver<String>, Option<mpsc::Sender<String>>),
    /// Nothing, ever.
    Hang,
    /// The head, and never the whole body.
    HalfBody,
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Text(200, value.to_string())
    }

    /// A refusal as the server words it.
    pub(crate) fn refused(code: u16, message: &str) -> Self {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": "Because", "code": code,
        });
        Self::Text(code, status.to_string())
    }
}

/// A server that listens, with the folder of a service account that it takes.
pub(crate) struct FakeServer {
    pub(crate) folder: TempDir,
    url: Url,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl FakeServer {
    pub(crate) async fn start(answer: impl Fn(&Request<Bytes>) -> Answer + Send + Sync + 'static) -> Self {
        crate::record::fixture::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write(folder.path(), "ca.crt", &made.cert.pem());
        write(folder.path(), "token", "the-token");
        write(folder.path(), "namespace", "doorward");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (acceptor, answer) = (TlsAcceptor::from(Arc::new(config)), Arc::new(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&requests);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, answer, counted) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&counted));
                connections.spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        Ok::<_, Infallible>(respond(answer(&Request::from_parts(head, body))).await)
                    });
                    let served = hyper::server::conn::http1::Builder::new();
                    let _ = served.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self {
            folder,
            url: Url::parse(&format!("https://localhost:{port}")).unwrap(),
            requests,
            _tasks: tasks,
        }
    }

    /// The configuration of a gateway whose service account is known there.
    pub(crate) fn settings(&self) -> Kubernetes {
        Kubernetes {
            access: KubernetesAccess::ServiceAccount {
                server: self.url.clone(),
                folder: self.folder.path().to_owned(),
            },
            timeout: Duration::from_millis(500),
            max_age: Duration::from_secs(3600),
            workspaces: Vec::new(),
            audience: "doorward".to_owned(),
            wakes: Default::default(),
            usage: Default::default(),
        }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// How often something was asked.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

async fn respond(answer: Answer) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let body = |status: u16, body| {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    match answer {
        Answer::Text(status, text) => body(status, UnsyncBoxBody::new(Full::from(text))),
        Answer::Lines(lines, held) => {
            let frames = futures_util::stream::unfold((lines, held), async |(mut lines, held)| {
                let line = lines.recv().await?;
                Some((Ok(Frame::data(Bytes::from(line + "\n"))), (lines, held)))
            });
            body(200, UnsyncBoxBody::new(StreamBody::new(frames)))
        }
        Answer::Hang => std::future::pending().await,
        Answer::HalfBody => {
            let start = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"{"))) });
            let frames = futures_util::StreamExt::chain(start, futures_util::stream::pending());
            body(200, StreamBody::new(frames).boxed_unsync())
        }
    }
}
