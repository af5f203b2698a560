//! Ports that are known before the program which listens on them has started: bound here without listening, and kept for
//! as long as the stack runs, so that nobody else is given them meanwhile.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt};

use super::Error;

/// A port on loopback. The program binds it as well, which the system allows where both set `SO_REUSEADDR`, as every
/// listener of ours does, and only one listens.
#[derive(Debug)]
pub(super) struct Reserved {
    address: SocketAddr,
    _socket: OwnedFd,
}

impl Reserved {
    /// A free one.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn new() -> Result<Self, Error> {
        Self::bound().map_err(|errno| Error::file("reserve", "a port")(io::Error::from(errno)))
    }

    fn bound() -> nix::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // After the port is chosen: the system gives out a port twice to those who ask for re-use beforehand.
        bind(
            socket.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)),
        )?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        let given: SockaddrIn = getsockname(socket.as_raw_fd())?;
        Ok(Self {
            address: SocketAddr::V4(given.into()),
            _socket: socket,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_may_have_the_port_again_and_again_and_it_is_given_to_nobody_else() {
        let reserved = Reserved::new().unwrap();
        for _ in 0..2 {
            TcpListener::bind(reserved.address()).unwrap();
        }
        let others: Vec<_> = (0..200).map(|_| Reserved::new().unwrap()).collect();
        assert!(others.iter().all(|other| other.address() != reserved.address()));
    }
}
