//! Bytes that come in one piece with the request for a tunnel, or with its answer.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::raw::Door;

/// A transport whose first write carries a request before what is written, as if the answer were certain. The
/// answer's header is taken off what is read.
#[derive(Debug)]
pub struct Pipelined<S> {
    stream: S,
    waiting: Vec<u8>,
    begun: bool,
    together: Arc<AtomicUsize>,
    heard: Vec<u8>,
    open: bool,
}

impl<S> Pipelined<S> {
    /// Over this stream, with this request. The counter will show how many bytes went in one write with it.
    pub fn new(stream: S, request: &str, together: Arc<AtomicUsize>) -> Self {
        Self {
            stream,
            waiting: request.into(),
            begun: false,
            together,
            heard: Vec::new(),
            open: false,
        }
    }
}

impl<S: AsyncWrite + Unpin> Pipelined<S> {
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.begun && !self.waiting.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting))?;
            self.waiting.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Pipelined<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while !self.open {
            let mut part = [0; 2048];
            let mut part = ReadBuf::new(&mut part);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.heard.extend_from_slice(part.filled());
            if let Some(end) = self.heard.windows(4).position(|window| window == b"\r\n\r\n") {
                if !self.heard.starts_with(b"HTTP/1.1 101 ") {
                    return Poll::Ready(Err(io::Error::other("no tunnel")));
                }
                self.heard.drain(..end + 4);
                self.open = true;
            }
        }
        if self.heard.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, to);
        }
        let count = to.remaining().min(self.heard.len());
        to.put_slice(&self.heard[..count]);
        self.heard.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Pipelined<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.begun {
            self.begun = true;
            self.together.store(bytes.len(), Ordering::Relaxed);
            self.waiting.extend_from_slice(bytes);
            // What is left of it goes out with the next write or flush.
            let _ = self.push(cx)?;
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.push(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.push(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.push(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How an answer that opens a tunnel is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The answer and the first bytes behind it are one TLS record.
    Together,
    /// Each of the first two thousand bytes is a TLS record of its own.
    Crumbs,
}

/// Listens with a gateway's own certificate, passes everything on to it, and cuts its answers. Runs as long as the
/// tracker's runtime. Counts the tunnels whose answer was cut.
///
/// # Errors
/// The certificate cannot be read, or no port be bound.
pub async fn between(
    door: Door,
    stack: &Path,
    cut: Cut,
    tasks: &TaskTracker,
    tunnels: Arc<AtomicUsize>,
) -> Result<SocketAddr> {
    let chain = vec![CertificateDer::from_pem_file(stack.join("tls.crt")).context("the gateway's certificate")?];
    let key = PrivateKeyDer::from_pem_file(stack.join("tls.key")).context("the gateway's key")?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let owner = tasks.clone();
    tasks.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let pass = pass(acceptor.clone(), tcp, door.clone(), cut, Arc::clone(&tunnels));
            // A connection that breaks is its client's to report.
            owner.spawn(async move { drop(pass.await) });
        }
    });
    Ok(address)
}

async fn pass(acceptor: TlsAcceptor, tcp: TcpStream, door: Door, cut: Cut, tunnels: Arc<AtomicUsize>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let (mut from_client, mut to_client) = tokio::io::split(acceptor.accept(tcp).await?);
    let (mut from_gateway, mut to_gateway) = tokio::io::split(door.tls().await?);
    let up = async {
        copy(&mut from_client, &mut to_gateway).await?;
        to_gateway.shutdown().await
    };
    let down = async {
        let mut first = vec![0; 4096];
        let mut got = from_gateway.read(&mut first).await?;
        if first.starts_with(b"HTTP/1.1 101 ") {
            while !first[..got].windows(5).any(|window| window.starts_with(b"\r\n\r\n")) {
                match from_gateway.read(&mut first[got..]).await? {
                    0 => break,
                    count => got += count,
                }
            }
            tunnels.fetch_add(1, Ordering::Relaxed);
        }
        match cut {
            Cut::Together => to_client.write_all(&first[..got]).await?,
            Cut::Crumbs => {
                for crumb in first[..got.min(2000)].chunks(1) {
                    to_client.write_all(crumb).await?;
                    to_client.flush().await?;
                }
                to_client.write_all(&first[got.min(2000)..got]).await?;
            }
        }
        to_client.flush().await?;
        copy(&mut from_gateway, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(up, down)?;
    Ok(())
}
