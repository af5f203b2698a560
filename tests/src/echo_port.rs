//! A port on loopback that sends back what it gets, until the sender ends.

use anyhow::{Context, Result};
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The port, open until this is dropped.
#[derive(Debug)]
pub struct EchoPort {
    port: u16,
    _tasks: JoinSet<()>,
}

impl EchoPort {
    /// Opens it.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
        let port = listener.local_addr()?.port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = tcp.into_split();
                    // a peer that is gone has had its echo
                    let _ = copy(&mut from, &mut to).await;
                    let _ = to.shutdown().await;
                });
            }
        });
        Ok(Self { port, _tasks: tasks })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}
