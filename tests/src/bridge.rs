//! A port on loopback that leads into a workspace, for programs that know no ProxyCommand: each connection is one
//! `doorward connect`.

use std::process::Stdio;

use anyhow::{Context, Result};
use doorward_dev::stack::ClientFolder;
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The port, open until this is dropped.
#[derive(Debug)]
pub struct Bridge {
    port: u16,
    _tasks: JoinSet<()>,
}

impl Bridge {
    /// Opens it.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(client: &ClientFolder, workspace: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
        let port = listener.local_addr()?.port();
        let client = client.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let client = client.clone();
                connections.spawn(async move {
                    if let Err(error) = carried(&client, workspace, tcp).await {
                        eprintln!("a connection of the bridge failed: {error:#}");
                    }
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

async fn carried(client: &ClientFolder, workspace: &str, tcp: TcpStream) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut child = client
        .command(["connect", workspace])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let (mut from, mut to) = tcp.into_split();
    let up = async {
        let copied = copy(&mut from, &mut stdin).await;
        drop(stdin);
        copied
    };
    let down = async {
        let copied = copy(&mut stdout, &mut to).await;
        let _ = to.shutdown().await;
        copied
    };
    // A peer that is gone ends its direction; the program ends by itself then.
    let _ = tokio::join!(up, down);
    child.wait().await?;
    Ok(())
}
