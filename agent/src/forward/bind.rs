//! Ports and sockets to listen on, made with the login's rights: a privileged port only where the login may have one, a
//! socket of mode 0600 in a folder where the login may make one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use doorward_certs::RemoteForward;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, sockopt};
use nix::sys::stat::{self, FchmodatFlags, FileStat, Mode, SFlag};
use nix::unistd::{self, UnlinkatFlags};

use super::socket::{connect_to, handle};
use crate::ssh::{NOT_GRANTED, Why};

/// The addresses that a client means (RFC 4254, 7.1), if it may have them. The first must be had, the others can be missing.
pub(super) fn addresses(asked: &str, reach: RemoteForward) -> Result<Vec<IpAddr>, Why> {
    let both = |v4: Ipv4Addr, v6: Ipv6Addr| vec![v4.into(), v6.into()];
    let meant = match asked {
        "localhost" => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        "" | "*" => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        address => match address.parse::<IpAddr>() {
            Ok(address) => vec![address.to_canonical()],
            Err(_) => return Err("the address to listen on is neither localhost nor an address"),
        },
    };
    match reach {
        RemoteForward::None => Err(NOT_GRANTED),
        RemoteForward::Loopback if !meant.iter().all(IpAddr::is_loopback) => {
            Err("listening beyond the workspace's loopback is not granted")
        }
        RemoteForward::Loopback | RemoteForward::Any => Ok(meant),
    }
}

/// Listens on a port, 0 for any, of these addresses.
pub(super) fn port(addresses: &[IpAddr], port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let port = match listeners.first() {
            Some(first) => first.local_addr()?.port(),
            None => port,
        };
        match listen(SocketAddr::new(*address, port)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if listeners.is_empty() => return Err(error),
            // A machine without IPv6, say.
            Err(_) => {}
        }
    }
    Ok(listeners)
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let listener = socket::socket(family, SockType::Stream, flags(), None)?;
    socket::setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    if at.is_ipv6() {
        socket::setsockopt(&listener, sockopt::Ipv6V6Only, &true)?;
    }
    socket::bind(listener.as_raw_fd(), &SockaddrStorage::from(at))?;
    socket::listen(&listener, backlog())?;
    Ok(listener.into())
}

/// A socket that is in its place, and how to take it away again.
#[derive(Debug)]
pub(super) struct Placed {
    folder: OwnedFd,
    name: OsString,
    /// What was placed; as long as it is held, nothing else gets its number.
    file: OwnedFd,
}

/// Listens on a socket. One that is there already is replaced if it is the account's and nobody listens on it any more.
pub(super) fn path(path: &Path) -> io::Result<(UnixListener, Placed)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let folder = fcntl::open(
        parent,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let listener = socket::socket(AddressFamily::Unix, SockType::Stream, flags(), None)?;
    let at = handle(&folder).join(name);
    let place = || -> io::Result<()> { Ok(socket::bind(listener.as_raw_fd(), &UnixAddr::new(&at)?)?) };
    match place() {
        Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32) && is_stale(&folder, name, &at) => {
            unistd::unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir)?;
            place()?;
        }
        placed => placed?,
    }
    // Before it listens nobody can connect, whatever its mode is.
    stat::fchmodat(
        &folder,
        name,
        Mode::S_IRUSR | Mode::S_IWUSR,
        FchmodatFlags::FollowSymlink,
    )?;
    socket::listen(&listener, backlog())?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let placed = Placed {
        file: fcntl::openat(&folder, name, flags, Mode::empty())?,
        folder,
        name: name.to_owned(),
    };
    Ok((listener.into(), placed))
}

impl Placed {
    /// Takes the socket away, unless something else is in its place by now.
    pub(super) fn remove(&self) -> io::Result<()> {
        let name = self.name.as_os_str();
        if node(&look(&self.folder, name)?) == node(&stat::fstat(&self.file)?) {
            unistd::unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(())
    }
}

/// A socket of whoever acts here, left behind by a listener that is gone.
fn is_stale(folder: &OwnedFd, name: &OsStr, at: &Path) -> bool {
    let ours = look(folder, name).is_ok_and(|found| {
        SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
            && found.st_uid == unistd::Uid::effective().as_raw()
    });
    ours && connect_to(at).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn look(folder: &OwnedFd, name: &OsStr) -> io::Result<FileStat> {
    Ok(stat::fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Device and number of a file.
fn node(found: &FileStat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

fn flags() -> SockFlag {
    SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC
}

fn backlog() -> Backlog {
    Backlog::new(128).unwrap_or(Backlog::MAXCONN)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn only_loopback_is_listened_on_unless_more_is_granted() {
        let loopback = |asked| addresses(asked, RemoteForward::Loopback);
        assert_eq!(loopback("localhost").unwrap().len(), 2);
        for good in ["127.0.0.1", "::1", "127.1.2.3", "::ffff:127.0.0.1"] {
            assert!(loopback(good).unwrap().iter().all(IpAddr::is_loopback), "{good}");
        }
        for bad in [
            "",
            "*",
            "0.0.0.0",
            "::",
            "10.0.0.1",
            "::ffff:0.0.0.0",
            "0",
            "host",
            "localhost.",
            "127.1",
        ] {
            assert!(loopback(bad).is_err(), "{bad:?}");
            assert!(addresses(bad, RemoteForward::None).is_err(), "{bad:?}");
        }
        assert_eq!(addresses("localhost", RemoteForward::None), Err(NOT_GRANTED));
        for good in ["", "*", "0.0.0.0", "::", "10.0.0.1"] {
            assert!(addresses(good, RemoteForward::Any).is_ok(), "{good:?}");
        }
        for bad in ["0", "host", "127.1"] {
            assert!(addresses(bad, RemoteForward::Any).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_busy_port_is_refused_and_any_port_is_one_for_all_addresses() {
        let both = addresses("localhost", RemoteForward::Loopback).unwrap();
        let first = port(&both, 0).unwrap();
        let taken = first[0].local_addr().unwrap().port();
        assert!(taken != 0 && first.iter().all(|one| one.local_addr().unwrap().port() == taken));
        assert_eq!(port(&both, taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_is_private_and_only_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("s");
        let (listener, placed) = path(&at).unwrap();
        assert_eq!(std::fs::metadata(&at).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(path(&at).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // As after a crash: the listener is gone, the file is not.
        drop(listener);
        let (_again, newer) = path(&at).unwrap();
        placed.remove().unwrap();
        assert!(at.exists(), "what is not ours was removed");
        newer.remove().unwrap();
        assert!(!at.exists());
        for (name, make) in [("file", false), ("link", true)] {
            let other = folder.path().join(name);
            match make {
                true => symlink("/nowhere", &other).unwrap(),
                false => std::fs::write(&other, b"kept").unwrap(),
            }
            assert!(path(&other).is_err(), "{name}");
            assert!(other.symlink_metadata().is_ok(), "{name} is gone");
        }
        assert!(path(&folder.path().join("none/s")).is_err());
    }
}
