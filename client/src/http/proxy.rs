//! The way through an HTTP proxy: `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` as everybody reads them, and CONNECT
//! (RFC 9110 section 9.3.6). Loopback is never asked for through a proxy.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::error::Error;

/// The longest answer to CONNECT that is read, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// A proxy to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    authorization: Option<Vec<u8>>,
}

/// The proxy that the environment names for this address.
pub(crate) fn from_environment(url: &Url) -> Result<Option<Proxy>, Error> {
    choose(&Matcher::from_env(), url)
}

fn choose(matcher: &Matcher, url: &Url) -> Result<Option<Proxy>, Error> {
    if is_loopback(url) {
        return Ok(None);
    }
    let Some(found) = url.as_str().parse::<Uri>().ok().and_then(|uri| matcher.intercept(&uri)) else {
        return Ok(None);
    };
    let uri = found.uri();
    if uri.scheme_str() != Some("http") {
        let scheme = uri.scheme_str().unwrap_or("that");
        return Err(Error::Configuration(format!(
            "the environment names a proxy by {scheme}; only http is supported"
        )));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let authorization = found.basic_auth().map(|value| value.as_bytes().to_vec());
    Ok(Some(Proxy {
        host,
        port: uri.port_u16().unwrap_or(80),
        authorization,
    }))
}

/// Whether the address is one of this computer's own.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

impl Proxy {
    /// Asks the proxy for a pipe to this host and port. Nothing of what follows the proxy's answer is read.
    pub(crate) async fn connect(&self, mut stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, String> {
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(|error| error.to_string())?;
        let mut head = Vec::new();
        // The server beyond says nothing before we do, so reading byte by byte to the end of the head takes nothing
        // that is not the proxy's.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == LONGEST_HEAD {
                return Err("the proxy's answer is too long".to_owned());
            }
            head.push(
                stream
                    .read_u8()
                    .await
                    .map_err(|_| "the proxy closed the connection".to_owned())?,
            );
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.splitn(3, ' ');
        let version = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next() {
            Some(status) if version && status.len() == 3 && status.starts_with('2') => Ok(stream),
            _ => Err(format!("the proxy answered: {line}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_environment_is_read_as_usual() {
        let matcher = Matcher::builder()
            .https("http://u:p@proxy.corp:3128")
            .no("example.org")
            .build();
        let proxy = choose(&matcher, &url("https://gw.example.com")).unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some(&b"Basic dTpw"[..]));
        for direct in [
            "https://example.org",
            "https://127.0.0.1:8443",
            "https://localhost",
            "https://[::1]",
        ] {
            assert_eq!(choose(&matcher, &url(direct)).unwrap(), None, "{direct}");
        }
        let socks = Matcher::builder().all("socks5://proxy.corp").build();
        assert!(choose(&socks, &url("https://gw.example.com")).is_err());
    }

    #[tokio::test]
    async fn connect_takes_no_byte_that_is_not_the_proxys() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy {
            host: "127.0.0.1".into(),
            port: address.port(),
            authorization: Some(b"Basic x".to_vec()),
        };
        let serve = async |answer: &[u8]| {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(peer.read_u8().await.unwrap());
            }
            peer.write_all(answer).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let connect = async || {
            proxy
                .connect(TcpStream::connect(address).await.unwrap(), "gw", 443)
                .await
        };
        let (head, stream) = tokio::join!(serve(b"HTTP/1.1 200 Fine\r\nVia: x\r\n\r\nbeyond"), connect());
        assert!(
            head.starts_with("CONNECT gw:443 HTTP/1.1\r\n") && head.contains("\r\nProxy-Authorization: Basic x\r\n")
        );
        let mut rest = Vec::new();
        stream.unwrap().read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"beyond");
        let (_, refused) = tokio::join!(serve(b"HTTP/1.1 407 Who are you\r\n\r\n"), connect());
        assert!(refused.unwrap_err().contains("407"));
    }
}
