//! What a program is started with when the user's SSH agent or X server is lent to it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use russh::server::Handle;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::incoming::Purpose;
use super::listen::{Bound, Door, Reason, bounded, keep};
use super::{bind, cookie, dial, folder};
use crate::process::with_rights_of;
use crate::session::Session;
use crate::ssh::Why;

/// What a client asks for with `x11-req` (RFC 4254, 6.3.1): its cookie is one that it has made up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Display {
    single: bool,
    protocol: String,
    cookie: Vec<u8>,
    screen: u32,
}

impl Display {
    /// Takes what a client wrote, if it can be given to X clients.
    pub(crate) fn new(single: bool, protocol: &str, cookie: &str, screen: u32) -> Result<Self, Why> {
        let word =
            |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let hex = (2..=512).contains(&cookie.len())
            && cookie.len().is_multiple_of(2)
            && cookie.bytes().all(|b| b.is_ascii_hexdigit());
        if !word(protocol) || !hex || screen > 255 {
            return Err("the request for X11 is malformed");
        }
        Ok(Self {
            single,
            protocol: protocol.to_owned(),
            cookie: cookie::bytes(cookie).ok_or("the request for X11 is malformed")?,
            screen,
        })
    }
}

/// The user's SSH agent in the workspace: one socket for all programs of the connection.
#[derive(Debug, Default)]
pub(super) struct Agent {
    /// Where the agent is to be reached, since it was first lent.
    lent: std::sync::OnceLock<Lent>,
    socket: OnceCell<PathBuf>,
}

struct Lent(Handle);

impl std::fmt::Debug for Lent {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Lent")
    }
}

impl super::Forwards {
    /// The client lends its SSH agent to this and all later programs of the connection.
    pub(crate) fn lend_agent(&self, handle: Handle) {
        // Once is enough.
        let _ = self.agent.lent.set(Lent(handle));
    }
}

/// Variables for a program that starts now, and what could not be done: sentences for the user. The display lasts as
/// long as the channel that asked for it; the agent's socket, as long as the connection.
pub(crate) async fn extras(
    session: &Arc<Session>,
    display: Option<(Display, Handle)>,
    channel: &CancellationToken,
) -> (Vec<(OsString, OsString)>, Vec<String>) {
    let (mut variables, mut missing) = (Vec::new(), Vec::new());
    let agent = &session.forwards().agent;
    if let Some(Lent(handle)) = agent.lent.get() {
        let made = agent.socket.get_or_try_init(|| lend(session, handle.clone()));
        match made.await {
            Ok(path) => variables.push(("SSH_AUTH_SOCK".into(), path.into())),
            Err(why) => missing.push(refused(session, "auth-agent-req", &why)),
        }
    }
    if let Some((display, handle)) = display {
        match show(session, &display, handle, channel).await {
            Ok((name, key)) => {
                variables.push(("DISPLAY".into(), name.into()));
                variables.push(("XAUTHORITY".into(), key.into()));
            }
            Err(why) => missing.push(refused(session, "x11-req", &why)),
        }
    }
    (variables, missing)
}

fn refused(session: &Session, what: &str, why: &str) -> String {
    session.recording().refused(None, what, why);
    format!("doorward: {what} is not served: {why}\r\n")
}

async fn lend(session: &Arc<Session>, handle: Handle) -> Result<PathBuf, Reason> {
    let place = session.forwards().listeners.place()?;
    let path = private(session).await?.join("agent.sock");
    let at = path.clone();
    let (listener, placed) = bounded(with_rights_of(session.account(), move || bind::path(&at))).await?;
    let listener = UnixListener::from_std(listener).map_err(|error| dial::plain(&error))?;
    let bound = Bound {
        purpose: Purpose::Agent,
        door: Door::Socket(listener, placed),
        asked: String::new(),
        addresses: vec![path.display().to_string()],
        place,
    };
    keep(session, handle, None, bound, CancellationToken::new());
    Ok(path)
}

/// Listens for X clients on loopback and gives the account's programs the cookie that they must show.
async fn show(
    session: &Arc<Session>,
    display: &Display,
    handle: Handle,
    channel: &CancellationToken,
) -> Result<(String, PathBuf), Reason> {
    let place = session.forwards().listeners.place()?;
    let folder = private(session).await?;
    let bound = bounded(with_rights_of(session.account(), free_display)).await?;
    let mut listeners = bound.into_iter().map(TcpListener::from_std);
    let broken = |error: io::Error| Reason::from(dial::plain(&error));
    let first = listeners.next().ok_or("no display is free")?.map_err(broken)?;
    let second = listeners.next().transpose().map_err(broken)?;
    let port = first.local_addr().map_err(broken)?.port();
    let number = port - FIRST_PORT;
    let name = format!("{number}.{}", display.screen);
    // Each display has its own: another channel's may live on.
    let key = folder.join(format!("xauthority-{number}"));
    let (at, protocol, cookie) = (key.clone(), display.protocol.clone(), display.cookie.clone());
    bounded(with_rights_of(session.account(), move || {
        cookie::write(&at, number, &protocol, &cookie)
    }))
    .await?;
    let bound = Bound {
        purpose: Purpose::Display { single: display.single },
        asked: String::new(),
        addresses: vec![format!("127.0.0.1:{port}")],
        door: Door::Ports(first, second),
        place,
    };
    keep(session, handle, None, bound, channel.clone());
    Ok((format!("localhost:{name}"), key))
}

fn free_display() -> io::Result<Vec<std::net::TcpListener>> {
    let loopback = [
        std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::Ipv6Addr::LOCALHOST.into(),
    ];
    for number in FIRST_DISPLAY..FIRST_DISPLAY + DISPLAYS {
        match bind::port(&loopback, FIRST_PORT + number) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The session's folder, made when it is first needed and removed at the session's end.
async fn private(session: &Arc<Session>) -> Result<PathBuf, Reason> {
    let made = session.forwards().folder.get_or_try_init(|| async {
        let path = bounded(with_rights_of(session.account(), folder::make)).await?;
        let (keeper, at) = (Arc::clone(session), path.clone());
        session.tasks().spawn(async move {
            keeper.stopping().cancelled().await;
            let _ = with_rights_of(keeper.account(), move || folder::clear(&at)).await;
        });
        Ok::<_, Reason>(path)
    });
    made.await.cloned()
}

/// Displays 0 to 9 are for servers of the workspace's own.
const FIRST_DISPLAY: u16 = 10;
const DISPLAYS: u16 = 1000;
/// The port of display 0.
const FIRST_PORT: u16 = 6000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_cookie_is_taken() {
        let cookie = "00112233445566778899aabbccddeeff";
        let display = |protocol: &str, cookie: &str, screen| Display::new(false, protocol, cookie, screen);
        for (protocol, cookie, screen) in [
            ("", cookie, 0),
            ("MIT\nremove", cookie, 0),
            ("MIT MAGIC", cookie, 0),
            ("MIT-MAGIC-COOKIE-1", "", 0),
            ("MIT-MAGIC-COOKIE-1", "0", 0),
            ("MIT-MAGIC-COOKIE-1", "00\nsource /etc/shadow", 0),
            ("MIT-MAGIC-COOKIE-1", &"00".repeat(1000), 0),
            ("MIT-MAGIC-COOKIE-1", cookie, 256),
        ] {
            let refused = display(protocol, cookie, screen).unwrap_err();
            assert!(refused.contains("malformed"), "{protocol} {cookie}");
        }
        assert!(display("MIT-MAGIC-COOKIE-1", cookie, 0).is_ok());
    }
}
