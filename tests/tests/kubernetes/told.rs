//! A platform that is told over HTTP how its workspaces are used: it writes down what it was told and says yes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::request::Request;

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method and path.
    pub what: String,
    /// The field `authorization`.
    pub authorization: String,
    /// The body.
    pub body: Value,
}

/// The platform. It ends when this is dropped.
pub struct Told {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    _serving: JoinSet<()>,
}

impl Told {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let (log, mut serving) = (Arc::clone(&calls), JoinSet::new());
        serving.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                // Whoever asks in another way gets no answer.
                let _ = answer(tcp, &log).await;
            }
        });
        Ok(Self {
            address,
            calls,
            _serving: serving,
        })
    }

    /// What it was told, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(tcp: TcpStream, log: &Mutex<Vec<Call>>) -> Result<()> {
    let mut stream = BufReader::new(tcp);
    let request = Request::read(&mut stream).await?;
    log.lock().unwrap_or_else(PoisonError::into_inner).push(Call {
        authorization: request.field("authorization").unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&request.body)?,
        what: request.what,
    });
    stream
        .write_all(b"HTTP/1.1 204 Said\r\nConnection: close\r\n\r\n")
        .await?;
    Ok(stream.shutdown().await?)
}
