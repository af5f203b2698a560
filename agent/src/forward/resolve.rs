//! Names to addresses, once per connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use tokio::sync::Semaphore;

/// What a host's name or spelling of an address stands for now, each address once. The system's resolver decides.
pub(super) async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    // A resolver that hangs keeps its thread, whatever we do: there must not be many.
    let permit = RESOLVING.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let found = match (host.as_str(), 0).to_socket_addrs() {
            Ok(found) => found,
            Err(_) if host.eq_ignore_ascii_case(LOCALHOST) => {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            Err(error) => return Err(error),
        };
        let mut addresses = Vec::new();
        for address in found.map(|found| found.ip()).take(ADDRESSES) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    });
    task.await.map_err(|_| io::Error::from(io::ErrorKind::Interrupted))?
}

/// Whatever the system's resolver knows (RFC 6761, 6.3): without `/etc/hosts` that of a static program knows no name.
const LOCALHOST: &str = "localhost";
/// Look-ups at once, of all sessions.
static RESOLVING: Semaphore = Semaphore::const_new(32);
/// Addresses of an answer that are looked at.
const ADDRESSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_spelling_of_loopback_is_loopback() {
        for host in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "localhost",
        ] {
            let found = resolve(host).await.unwrap();
            assert!(!found.is_empty(), "{host}");
            assert!(
                found.iter().all(|address| address.to_canonical().is_loopback()),
                "{host}: {found:?}"
            );
        }
        assert!(resolve("no-such-name.invalid").await.is_err());
    }
}
