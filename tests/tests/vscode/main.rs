//! VS Code, as far as it can be had: the very shapes in which its extension for remote work calls `ssh`, against a stock
//! sshd and against Doorward through the Host entry that `doorward config` writes; then its own server in the workspace,
//! used in a browser through the forward.
//!
//! `tests/clients/install` gets what this needs. What is not there is named, and fails the run where `CI` is set.

mod page;
mod window;

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use tests::both::{Server, both};
use tests::{PATIENCE, Shared, noise, sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use window::{Window, free_port};

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        Shared::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "vscode",
        )
    })
}

/// Whether these are there; says by name what is left out if not, and fails where everything is wanted.
fn there(programs: &[&str]) -> Result<bool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // an absolute path takes the place of the folder that it is joined to
    let is_there = |program: &&&str| std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    let absent: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    ensure!(
        absent.is_empty() || std::env::var_os("CI").is_none(),
        "not there: {absent:?}; tests/clients/install gets them"
    );
    for program in &absent {
        eprintln!("skipped: {program} is not there; tests/clients/install gets it");
    }
    Ok(absent.is_empty())
}

/// The server that the window has started says who it is, and sends back what it gets.
async fn served<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, window: &Window) -> Result<()> {
    let bytes = noise(1 << 20);
    let talk = async {
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let write = async {
            to.write_all(&bytes).await?;
            to.shutdown().await
        };
        let mut back = Vec::new();
        let (wrote, read) = tokio::join!(write, from.read_to_end(&mut back));
        wrote?;
        read?;
        Ok::<_, anyhow::Error>(back)
    };
    let back = timeout(PATIENCE, talk).await.context("the server does not answer")??;
    let greeting = format!("pid {}\n", window.fact("pid")?);
    let echoed = back
        .strip_prefix(greeting.as_bytes())
        .with_context(|| format!("not {greeting:?}: {:?}", back.get(..20)))?;
    ensure!(
        sha256(echoed) == sha256(&bytes),
        "{} bytes came back changed",
        echoed.len()
    );
    Ok(())
}

async fn a_window_and_what_comes_after(server: &Server, shell: &str) -> Result<()> {
    let script = window::script(&format!("{shell}-{}", server.name), "node \"$HOME_OF/payload\" 0");
    let first = Window::open(server, &[], shell, &script).await?;
    let _server = first.server()?;
    ensure!(first.fact("fresh")? == "yes", "it found a server that nobody started");
    ensure!(first.fact("shell")? == shell, "another shell: {}", first.fact("shell")?);
    ensure!(
        first.fact("payload")? == script.payload_sha256,
        "the here-document arrived changed"
    );
    served(first.through_socks("127.0.0.1", first.port()?).await?, &first).await?;
    served(first.through_socks("localhost", first.port()?).await?, &first).await?;
    let before = first.fact("pid")?.to_owned();

    // Closing the window ends ssh at once; the server stays, and the next windows find it.
    first.close().await?;
    let again = futures_util::future::join_all((0..3).map(|_| Window::open(server, &[], shell, &script))).await;
    for window in again {
        let window = window?;
        ensure!(window.fact("fresh")? == "no", "the server was gone");
        ensure!(window.fact("pid")? == before, "another server");
        served(window.through_socks("127.0.0.1", window.port()?).await?, &window).await?;
    }
    Ok(())
}

#[test]
fn a_window_starts_a_server_that_the_next_ones_find() -> Result<()> {
    if !there(&["node"])? {
        return Ok(());
    }
    stand().run(|stand| async move {
        both(stand, "windows", "", async |server| {
            for shell in ["bash", "sh"] {
                a_window_and_what_comes_after(server, shell).await.context(shell)?;
            }
            Ok(())
        })
        .await
    })
}

/// Without `-D` (`remote.SSH.enableDynamicForwarding`): the port is asked for first, and forwarded by a second connection.
#[test]
fn without_a_dynamic_forward_a_second_connection_forwards_the_port() -> Result<()> {
    if !there(&["node"])? {
        return Ok(());
    }
    stand().run(|stand| async move {
        both(stand, "local", "", async |server| {
            let script = window::script(&format!("local-{}", server.name), "node \"$HOME_OF/payload\" 0");
            let asking = Window::open(server, &[], "bash", &script).await?;
            let _server = asking.server()?;
            let (far, near) = (asking.port()?, free_port().await?);
            // Nothing more to read: the shell ends by itself, and well.
            asking.finish().await?;
            let forward = format!("{near}:127.0.0.1:{far}");
            let window = Window::open(server, &["-L", &forward], "bash", &script).await?;
            ensure!(window.fact("fresh")? == "no", "the server was gone");
            served(TcpStream::connect(("127.0.0.1", near)).await?, &window).await
        })
        .await
    })
}

/// The server listens on a socket (`remote.SSH.remoteServerListenOnSocket`), and is reached from a port and from a socket.
#[test]
fn a_server_on_a_socket_is_reached_from_a_port_and_from_a_socket() -> Result<()> {
    if !there(&["node"])? {
        return Ok(());
    }
    stand().run(|stand| async move {
        both(stand, "socket", "", async |server| {
            let folder = tempfile::tempdir_in("/tmp")?;
            let at = |name: &str| folder.path().join(name).display().to_string();
            let run = format!("node \"$HOME_OF/payload\" '{}'", at("far"));
            let script = window::script(&format!("socket-{}", server.name), &run);
            let port = free_port().await?;
            let (by_port, by_socket) = (format!("{port}:{}", at("far")), format!("{}:{}", at("near"), at("far")));
            let window = Window::open(server, &["-L", &by_port, "-L", &by_socket], "bash", &script).await?;
            let _server = window.server()?;
            ensure!(
                window.fact("listeningOn")? == at("far"),
                "{}",
                window.fact("listeningOn")?
            );
            served(TcpStream::connect(("127.0.0.1", port)).await?, &window).await?;
            served(UnixStream::connect(Path::new(&at("near"))).await?, &window).await
        })
        .await
    })
}
