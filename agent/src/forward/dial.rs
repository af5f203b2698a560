//! Connecting to judged addresses, one after the other, within a deadline.

use std::io;
use std::net::{SocketAddr, TcpStream as Std};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::process::{Account, with_rights_of};

/// Connects to the first address that answers; says what each of them said if none does.
pub(super) async fn tcp(account: &Account, to: &[SocketAddr], by: Instant) -> Result<(TcpStream, SocketAddr), String> {
    let mut said = Vec::new();
    for (index, address) in to.iter().enumerate() {
        // Each gets its share of the time that is left, the last one all of it.
        let left = by.saturating_duration_since(Instant::now());
        let sharers = u32::try_from(to.len() - index).unwrap_or(u32::MAX).min(SHARERS);
        let until = Instant::now() + left / sharers;
        match timeout_at(until, connect(account, *address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => said.push(format!("{address}: {}", plain(&error))),
            Err(_) => said.push(format!("{address}: no answer in time")),
        }
    }
    Err(said.join("; "))
}

async fn connect(account: &Account, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    // Made by the account, so that rules of the kernel about its sockets hold for this one.
    let made = with_rights_of(account, move || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        Ok(socket(family, SockType::Stream, flags, None)?)
    });
    let stream = TcpSocket::from_std_stream(Std::from(made.await?)).connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The system's word for an error, without its number.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// How long a connection may take to be made, with the look-up of its name.
pub(super) const WITHIN: Duration = Duration::from_secs(15);
/// So many addresses share what is left of it.
const SHARERS: u32 = 4;

#[cfg(test)]
mod tests {
    use nix::unistd::{Uid, User};
    use tokio::net::TcpListener;

    use super::*;
    use crate::process::Overrides;

    fn me() -> Account {
        let me = User::from_uid(Uid::effective()).unwrap().unwrap();
        Account::find(&me.name, &Overrides::default()).unwrap()
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let by = Instant::now() + WITHIN;
        let (stream, address) = tcp(&me(), &[closed, good], by).await.unwrap();
        assert_eq!(address, good);
        assert!(stream.nodelay().unwrap());
        let said = tcp(&me(), &[closed], by).await.unwrap_err();
        assert_eq!(said, format!("{closed}: connection refused"));
    }

    #[tokio::test]
    async fn an_address_that_is_silent_leaves_time_for_the_next() {
        // A full queue answers nothing.
        let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let silent = full.local_addr().unwrap();
        let _first = std::net::TcpStream::connect(silent).unwrap();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = (good.local_addr().unwrap(), good);
        let by = Instant::now() + Duration::from_secs(2);
        assert_eq!(tcp(&me(), &[silent, good.0], by).await.unwrap().1, good.0);
        let by = Instant::now() + Duration::from_millis(200);
        let said = tcp(&me(), &[silent], by).await.unwrap_err();
        assert_eq!(said, format!("{silent}: no answer in time"));
    }
}
