//! A server that reads one request per connection and answers exactly the bytes that it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// A field of the head.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// A parameter of the form in the body.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.body.as_bytes())
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into())
    }
}

/// A pipe to whoever asked.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// What to answer.
pub(crate) enum Reply {
    /// A status, a content type and a body.
    Body(u16, &'static str, Vec<u8>),
    /// Whatever the function does with the connection.
    Take(Box<dyn FnOnce(Box<dyn Pipe>) -> futures_util::future::BoxFuture<'static, ()> + Send>),
}

impl Reply {
    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::Body(status, "application/json", value.to_string().into_bytes())
    }
}

/// A running server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: JoinSet<()>,
}

impl Server {
    /// Serves on a free port of loopback, with TLS if there is an acceptor.
    pub(crate) async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), asked.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (tls, answer, log) = (tls.clone(), answer.clone(), log.clone());
                connections.spawn(async move {
                    let pipe: Box<dyn Pipe> = match tls {
                        None => Box::new(tcp),
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(tls) => Box::new(tls),
                            // a client that does not trust us
                            Err(_) => return,
                        },
                    };
                    one(pipe, &*answer, &log).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            asked,
            _serving: serving,
        }
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many requests there were for this target.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.asked().iter().filter(|asked| asked.target == target).count()
    }
}

async fn one(mut pipe: Box<dyn Pipe>, answer: &(impl Fn(&Asked) -> Reply + Send + Sync), log: &Mutex<Vec<Asked>>) {
    let Ok(Some(asked)) = timeout(Duration::from_secs(20), read(&mut pipe)).await else {
        return;
    };
    log.lock().unwrap().push(asked.clone());
    match answer(&asked) {
        Reply::Take(take) => take(pipe).await,
        Reply::Body(status, kind, body) => {
            let head = format!(
                "HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = pipe.write_all(&[head.as_bytes(), &body].concat()).await;
            let _ = pipe.shutdown().await;
        }
    }
}

async fn read(pipe: &mut Box<dyn Pipe>) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(pipe.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut asked = Asked {
        method,
        target,
        head,
        body: String::new(),
    };
    let length = asked
        .field("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    pipe.read_exact(&mut body).await.ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}
