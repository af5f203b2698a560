//! Ports for servers that must be told theirs, and that keep it over a restart.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::Error;

/// A free address on loopback, outside the range from which the system takes the near ends of connections: otherwise any
/// connection could take the port while its server starts or is down.
pub(super) fn free() -> Result<SocketAddr, Error> {
    let mut last = None;
    for _ in 0..TRIES {
        let port = rand::random_range(FIRST..LAST);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok((Ipv4Addr::LOCALHOST, port).into()),
            Err(error) => last = Some(error),
        }
    }
    Err(Error::NoPort(last))
}

const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;
const TRIES: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_free_and_on_loopback() {
        let address = free().unwrap();
        assert!(address.ip().is_loopback());
        TcpListener::bind(address).unwrap();
    }
}
