//! From an address to a stream: name, proxy, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::proxy::{self, Proxy};
use super::{DIAL, name, untrusted};
use crate::error::Error;

/// How long one address has before the next one is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How many addresses of one name are tried.
const MOST_ADDRESSES: usize = 8;

/// A connection: TLS, or plain TCP to an issuer on loopback.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Dials the address of a URL. Plain HTTP is spoken on loopback alone. `tls` is asked once the rest of the address
/// makes sense.
pub(crate) async fn dial(url: &Url, tls: impl FnOnce() -> Result<Arc<ClientConfig>, Error>) -> Result<Stream, Error> {
    let whom = name(url);
    let config = match url.scheme() {
        "https" => Some(tls()?),
        "http" if proxy::is_loopback(url) => None,
        scheme => {
            return Err(Error::Configuration(format!(
                "{whom} must be asked by https, not by {scheme}"
            )));
        }
    };
    let connect = async {
        let tcp = reach(url, &whom).await?;
        // Otherwise a small packet waits for the acknowledgement of the one before: 40 ms at a time.
        doorward_wire::link::tune(&tcp).map_err(|error| unreachable(&whom, error))?;
        match config {
            None => Ok(Stream::Plain(tcp)),
            Some(config) => secure(url, &whom, tcp, config).await,
        }
    };
    let slow = |_| Error::Unreachable {
        whom: whom.clone(),
        why: format!("no connection within {} s", DIAL.as_secs()),
        hint: Some("is the address right, and does it need a VPN or a proxy (HTTPS_PROXY) from here?"),
    };
    timeout(DIAL, connect).await.map_err(slow)?
}

async fn reach(url: &Url, whom: &str) -> Result<TcpStream, Error> {
    let port = url.port_or_known_default().unwrap_or(443);
    let Some(proxy) = proxy::from_environment(url)? else {
        return tcp(&host(url)?, port).await.map_err(|error| unreachable(whom, error));
    };
    let through = format!("the proxy {}:{}", proxy.host, proxy.port);
    let stream = tcp(&proxy_host(&proxy), proxy.port)
        .await
        .map_err(|error| unreachable(&through, error))?;
    let target = url.host_str().unwrap_or_default();
    let asked = proxy.connect(stream, target, port).await;
    asked.map_err(|why| Error::Unreachable {
        whom: whom.to_owned(),
        why,
        hint: None,
    })
}

fn proxy_host(proxy: &Proxy) -> Host<String> {
    match proxy.host.parse() {
        Ok(IpAddr::V4(address)) => Host::Ipv4(address),
        Ok(IpAddr::V6(address)) => Host::Ipv6(address),
        Err(_) => Host::Domain(proxy.host.clone()),
    }
}

fn host(url: &Url) -> Result<Host<String>, Error> {
    url.host()
        .map(|host| host.to_owned())
        .ok_or_else(|| Error::Configuration(format!("{url} names no host")))
}

/// Connects to a host; a literal address costs no look-up, and of several addresses a dead one costs [`STAGGER`].
async fn tcp(host: &Host<String>, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match host {
        Host::Ipv4(address) => vec![(*address, port).into()],
        Host::Ipv6(address) => vec![(*address, port).into()],
        Host::Domain(name) => interleave(tokio::net::lookup_host((name.as_str(), port)).await?),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    loop {
        match waiting.next() {
            Some(address) => trying.push(TcpStream::connect(address)),
            None if trying.is_empty() => return Err(last),
            None => {}
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(tried) = trying.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = sleep(STAGGER), if more => {}
        }
    }
}

/// The addresses of one name, families in turn, beginning with the one that the system prefers.
fn interleave(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = found.collect();
    let Some(first) = found.first().map(SocketAddr::is_ipv6) else {
        return found;
    };
    let (mut preferred, mut other) = (0, 0);
    // Position in its own family, then the preferred family: a stable sort keeps the system's order within each.
    found.sort_by_cached_key(|address| {
        let own = address.is_ipv6() == first;
        let place = if own { &mut preferred } else { &mut other };
        *place += 1;
        (*place, !own)
    });
    found.truncate(MOST_ADDRESSES);
    found
}

async fn secure(url: &Url, whom: &str, tcp: TcpStream, config: Arc<ClientConfig>) -> Result<Stream, Error> {
    let server = match host(url)? {
        Host::Domain(name) => {
            ServerName::try_from(name).map_err(|_| Error::Configuration(format!("{whom} is no name")))?
        }
        Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
        Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
    };
    match TlsConnector::from(config).connect(server, tcp).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => Err(judge(whom, error)),
    }
}

fn unreachable(whom: &str, error: io::Error) -> Error {
    Error::Unreachable {
        whom: whom.to_owned(),
        why: error.to_string(),
        hint: None,
    }
}

fn judge(whom: &str, error: io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(fault)) => {
            let (why, hint) = untrusted::explain(fault);
            Error::Untrusted {
                whom: whom.to_owned(),
                why,
                hint,
            }
        }
        Some(error) => {
            let (why, hint) = untrusted::refused(error);
            Error::Unreachable {
                whom: whom.to_owned(),
                why,
                hint,
            }
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => Error::Unreachable {
            whom: whom.to_owned(),
            why: "it closed the connection during the TLS handshake".into(),
            hint: None,
        },
        None => unreachable(whom, error),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"].map(address);
        let order = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"].map(address);
        assert_eq!(interleave(found.into_iter()), order);
    }

    #[tokio::test]
    async fn plain_http_stays_on_this_computer() {
        for text in ["http://192.0.2.1/", "ftp://127.0.0.1/", "http://issuer.example/"] {
            let tls = || -> Result<Arc<ClientConfig>, Error> { panic!("no TLS for {text}") };
            let error = dial(&Url::parse(text).unwrap(), tls).await.unwrap_err();
            assert_eq!(error.exit(), 78, "{error}");
        }
    }
}
