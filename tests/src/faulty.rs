//! An HTTP proxy that answers some requests wrongly, where a proxy of bytes cannot: statuses, lies, lost and halved answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is answered with this status and the advice to come again in a day, and goes nowhere.
    Status(u16),
    /// It is said to have gone well, and goes nowhere.
    Lie,
    /// It is carried out, and the answer is lost.
    LoseAnswer,
    /// It is carried out, and only the first half of the answer arrives.
    HalveAnswer,
    /// Half of it is passed on.
    HalveRequest,
}

/// The proxy. It ends with the test's runtime.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// The method that is spoilt, and how.
    fault: Mutex<(&'static str, Fault)>,
    spoilt: AtomicUsize,
}

impl Faulty {
    /// Listens on a free port, in front of a server that speaks plain HTTP.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            fault: Mutex::new(("", Fault::None)),
            spoilt: AtomicUsize::new(0),
        });
        let (tasks, serving) = (TaskTracker::new(), Arc::clone(&shared));
        let each = tasks.clone();
        tasks.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                each.spawn(async move {
                    // What breaks here breaks for the client, who is who is tested.
                    let _ = serve(client, &shared).await;
                });
            }
        });
        Ok(Self {
            address,
            shared,
            _tasks: tasks,
        })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on every request with this method is spoilt so.
    pub fn spoil(&self, method: &'static str, fault: Fault) {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = (method, fault);
        self.shared.spoilt.store(0, Ordering::SeqCst);
    }

    /// How many requests have been spoilt since then.
    #[must_use]
    pub fn spoilt(&self) -> usize {
        self.shared.spoilt.load(Ordering::SeqCst)
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> Result<()> {
    let mut request = Vec::new();
    let end = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        anyhow::ensure!(
            request.len() < 64 * 1024 && client.read_buf(&mut request).await? > 0,
            "no header"
        );
    };
    let head = String::from_utf8(request[..end].to_vec())?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    while request.len() < end + length.unwrap_or(0) {
        anyhow::ensure!(client.read_buf(&mut request).await? > 0, "no body");
    }
    let (method, fault) = *shared.fault.lock().unwrap_or_else(PoisonError::into_inner);
    let fault = if head.starts_with(method) && !method.is_empty() {
        fault
    } else {
        Fault::None
    };
    if fault != Fault::None {
        shared.spoilt.fetch_add(1, Ordering::SeqCst);
    }
    match fault {
        Fault::Status(status) => {
            let body = "<Error><Code>Spoilt</Code><Message>not today</Message></Error>";
            let length = body.len();
            let head = format!("HTTP/1.1 {status} No\r\nconnection: close\r\nretry-after: 86400\r\n");
            let answer = format!("{head}content-length: {length}\r\n\r\n{body}");
            client.write_all(answer.as_bytes()).await?;
            return Ok(());
        }
        Fault::Lie => {
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\netag: \"abc\"\r\ncontent-length: 0\r\n\r\n";
            client.write_all(answer.as_bytes()).await?;
            return Ok(());
        }
        _ => {}
    }
    let mut upstream = TcpStream::connect(shared.upstream).await?;
    let (line, rest) = head.split_once("\r\n").context("a request line")?;
    upstream
        .write_all(format!("{line}\r\nconnection: close\r\n{rest}").as_bytes())
        .await?;
    let body = &request[end..];
    if fault == Fault::HalveRequest {
        upstream.write_all(&body[..body.len() / 2]).await?;
        return Ok(());
    }
    upstream.write_all(body).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    match fault {
        Fault::LoseAnswer => {}
        Fault::HalveAnswer => client.write_all(&answer[..answer.len() / 2]).await?,
        _ => client.write_all(&answer).await?,
    }
    Ok(())
}
