//! What the workspace listens on for the user: ports, sockets, the user's SSH agent and X server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::{Event, ListenerClosed, ListenerOpened};
use doorward_certs::{RemoteForward, Terms};
use rig::client::{leave, rest};
use rig::echoing::{Echoing, REJECTED, said};
use rig::{Rig, everything};
use russh::client::{self, Handle};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UnixStream};

const WITHIN: Duration = Duration::from_secs(20);
async fn logged_in(stream: DuplexStream) -> Handle<Echoing> {
    rig::echoing::logged_in(stream, rig::my_login().as_str()).await
}

fn listening(reach: RemoteForward) -> Terms {
    let mut terms = everything();
    terms.capabilities.remote_forward = reach;
    terms
}

fn events<T>(rig: &Rig, session: uuid::Uuid, wanted: impl Fn(Event) -> Option<T>) -> Vec<T> {
    let all = rig.recorded(session).into_iter();
    all.filter_map(|stamped| wanted(stamped.event)).collect()
}

fn opened(event: Event) -> Option<ListenerOpened> {
    match event {
        Event::ListenerOpened(opened) => Some(opened),
        _ => None,
    }
}

fn closed(event: Event) -> Option<ListenerClosed> {
    match event {
        Event::ListenerClosed(closed) => Some(closed),
        _ => None,
    }
}

fn refused(event: Event) -> Option<(String, String)> {
    match event {
        Event::Refused(refused) => Some((refused.what, refused.why)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_listened_on_and_cancelled() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(listening(RemoteForward::Loopback)).await;
    let client = logged_in(stream).await;
    let port = client.tcpip_forward("localhost", 0).await.unwrap();
    let port = u16::try_from(port).unwrap();
    for text in ["one", "two"] {
        let back = said(TcpStream::connect(("127.0.0.1", port)).await.unwrap(), text).await;
        let turned: String = text.chars().rev().collect();
        assert_eq!(back, format!("localhost:{port}: {turned}"));
    }
    // The port is taken now, and free when the client hears that it is.
    assert!(client.tcpip_forward("localhost", port.into()).await.is_err());
    client.cancel_tcpip_forward("localhost", port.into()).await.unwrap();
    assert!(client.cancel_tcpip_forward("localhost", port.into()).await.is_err());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert_eq!(client.tcpip_forward("127.0.0.1", port.into()).await.unwrap(), 0);
    leave_echoing(client).await;
    rig.ended(session).await;
    let listeners = events(&rig, session, opened);
    assert_eq!(listeners[0].kind, "tcpip-forward");
    assert!(
        listeners[0].addresses.contains(&format!("127.0.0.1:{port}")),
        "{listeners:?}"
    );
    assert_eq!(
        events(&rig, session, closed)
            .iter()
            .map(|one| one.connections)
            .collect::<Vec<_>>(),
        [2, 0]
    );
    let carried = events(&rig, session, |event| match event {
        Event::ForwardConnected(connected) => connected.listener,
        _ => None,
    });
    assert_eq!(carried, [0, 0]);
    let why = events(&rig, session, refused);
    assert_eq!(
        why,
        [(
            format!("tcpip-forward localhost:{port}"),
            "address already in use".to_owned()
        )]
    );
    // With the connection the listener is gone.
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_client_does_not_take_is_recorded_and_gives_its_place_back() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(listening(RemoteForward::Loopback)).await;
    let client = logged_in(stream).await;
    let rejected = client.tcpip_forward(REJECTED, 0).await.unwrap();
    let taken = client.tcpip_forward("localhost", 0).await.unwrap();
    // More than there are places for at once: each is given back.
    for _ in 0..300 {
        let mut peer = TcpStream::connect((REJECTED, u16::try_from(rejected).unwrap()))
            .await
            .unwrap();
        let ended = tokio::time::timeout(WITHIN, peer.read(&mut [0; 1])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
    let port = u16::try_from(taken).unwrap();
    let back = said(TcpStream::connect(("127.0.0.1", port)).await.unwrap(), "one").await;
    assert_eq!(back, format!("localhost:{port}: eno"));
    leave_echoing(client).await;
    rig.ended(session).await;
    let failed = events(&rig, session, |event| match event {
        Event::ForwardFailed(failed) => Some((failed.asked, failed.why)),
        _ => None,
    });
    assert_eq!(failed.len(), 300);
    let (asked, why) = &failed[0];
    assert_eq!(*asked, format!("forwarded-tcpip {REJECTED}:{rejected}"));
    assert!(why.starts_with("the client does not take it"), "{why}");
    let connected = events(&rig, session, |event| match event {
        Event::ForwardConnected(connected) => Some(connected.asked),
        _ => None,
    });
    assert_eq!(connected, [format!("localhost:{port}")]);
}

async fn leave_echoing(client: Handle<Echoing>) {
    client
        .disconnect(russh::Disconnect::ByApplication, "", "")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_where_it_is_not_granted() {
    let rig = Rig::start().await;
    let path = rig.file("s");
    let path = path.to_str().unwrap();
    let mut forwards_only = everything();
    forwards_only.capabilities.local_forward = vec!["*:*".into(), "unix:/*".into()];
    for terms in [everything(), forwards_only] {
        let (session, stream) = rig.open(terms).await;
        let client = logged_in(stream).await;
        assert!(client.tcpip_forward("localhost", 0).await.is_err());
        assert!(client.streamlocal_forward(path).await.is_err());
        let mut channel = client.channel_open_session().await.unwrap();
        channel.agent_forward(true).await.unwrap();
        channel
            .request_x11(true, false, "MIT-MAGIC-COOKIE-1", "0011", 0)
            .await
            .unwrap();
        channel
            .exec(true, "echo \"<$SSH_AUTH_SOCK$XAUTHORITY>\"")
            .await
            .unwrap();
        assert_eq!(rest(&mut channel).await.out, b"<>\n");
        leave_echoing(client).await;
        rig.ended(session).await;
        let why = events(&rig, session, refused);
        let what: Vec<_> = why.iter().map(|(what, _)| what.split(' ').next().unwrap()).collect();
        assert_eq!(
            what,
            ["tcpip-forward", "streamlocal-forward", "auth-agent-req", "x11-req"]
        );
        assert!(why.iter().all(|(_, why)| why == "not granted"), "{why:?}");
    }
    let (session, stream) = rig.open(listening(RemoteForward::Loopback)).await;
    let client = logged_in(stream).await;
    for address in [
        "",
        "*",
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "192.0.2.1",
        "0",
        "elsewhere",
    ] {
        assert!(client.tcpip_forward(address, 0).await.is_err(), "{address:?}");
    }
    assert!(client.streamlocal_forward("relative").await.is_err());
    let why = events(&rig, session, refused);
    assert_eq!(why.len(), 9);
    assert!(why[0].1.contains("beyond the workspace's loopback"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_is_listened_on_where_that_is_granted() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(listening(RemoteForward::Any)).await;
    let client = logged_in(stream).await;
    let port = client.tcpip_forward("", 0).await.unwrap();
    let back = said(
        TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap()))
            .await
            .unwrap(),
        "x",
    )
    .await;
    assert_eq!(back, format!(":{port}: x"));
    let addresses = &events(&rig, session, opened)[0].addresses;
    assert!(addresses.contains(&format!("0.0.0.0:{port}")), "{addresses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_private_and_gone_afterwards() {
    let rig = Rig::start().await;
    let path = rig.file("s");
    let text = path.to_str().unwrap();
    // As a crash leaves it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (session, stream) = rig.open(listening(RemoteForward::Loopback)).await;
    let client = logged_in(stream).await;
    client.streamlocal_forward(text).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(
        said(UnixStream::connect(&path).await.unwrap(), "abc").await,
        format!("{text}: cba")
    );
    assert!(client.streamlocal_forward(text).await.is_err(), "it is in use");
    client.cancel_streamlocal_forward(text).await.unwrap();
    assert!(!path.exists());
    client.streamlocal_forward(text).await.unwrap();
    leave_echoing(client).await;
    rig.ended(session).await;
    assert!(!path.exists());
    let listeners = events(&rig, session, opened);
    assert_eq!(
        (listeners.len(), listeners[0].kind.as_str()),
        (2, "streamlocal-forward")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_are_bounded() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(listening(RemoteForward::Loopback)).await;
    let client = logged_in(stream).await;
    let mut ports = Vec::new();
    for _ in 0..32 {
        ports.push(client.tcpip_forward("127.0.0.1", 0).await.unwrap());
    }
    assert!(client.tcpip_forward("127.0.0.1", 0).await.is_err());
    let why = events(&rig, session, refused).pop().unwrap().1;
    assert!(why.contains("as many places"), "{why}");
    client.cancel_tcpip_forward("127.0.0.1", ports[0]).await.unwrap();
    let again = tokio::time::timeout(WITHIN, async {
        while client.tcpip_forward("127.0.0.1", 0).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    again.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_lent_to_later_programs_until_the_connection_ends() {
    let rig = Rig::start().await;
    let mut terms = everything();
    terms.capabilities.agent_forwarding = true;
    let (session, stream) = rig.open(terms).await;
    let client = logged_in(stream).await;
    // Nobody has asked for it yet.
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo \"<$SSH_AUTH_SOCK>\"").await.unwrap();
    assert_eq!(rest(&mut channel).await.out, b"<>\n");
    let mut first = client.channel_open_session().await.unwrap();
    first.agent_forward(true).await.unwrap();
    first.exec(true, "printf %s \"$SSH_AUTH_SOCK\"").await.unwrap();
    let path = String::from_utf8(rest(&mut first).await.out).unwrap();
    let path = std::path::PathBuf::from(path);
    let folder = path.parent().unwrap();
    assert_eq!(std::fs::metadata(folder).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    // The channel that asked is closed; a later one has it all the same.
    let mut later = client.channel_open_session().await.unwrap();
    later.exec(true, "printf %s \"$SSH_AUTH_SOCK\"").await.unwrap();
    assert_eq!(rest(&mut later).await.out, path.to_str().unwrap().as_bytes());
    assert_eq!(
        said(UnixStream::connect(&path).await.unwrap(), "keys").await,
        "agent: syek"
    );
    leave_echoing(client).await;
    rig.ended(session).await;
    assert!(!folder.exists());
    assert_eq!(events(&rig, session, opened)[0].kind, "auth-agent");
    assert_eq!(events(&rig, session, closed)[0].connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_x_server_is_lent_to_one_channel_or_refused_with_the_reason() {
    let rig = Rig::start().await;
    let mut terms = everything();
    terms.capabilities.x11_forwarding = true;
    let (session, stream) = rig.open(terms).await;
    let client = logged_in(stream).await;
    let cookie = "00112233445566778899aabbccddeeff";
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .request_x11(true, true, "MIT-MAGIC-COOKIE-1", cookie, 0)
        .await
        .unwrap();
    channel
        .exec(
            true,
            "echo \"$DISPLAY $XAUTHORITY\"; od -An -tx1 $XAUTHORITY | tr -d ' \\n'; echo; cat",
        )
        .await
        .unwrap();
    let heard = rig::client::until(&mut channel, |heard| heard.out.ends_with(b"\n")).await;
    let heard = if String::from_utf8_lossy(&heard.out).contains(cookie) {
        heard
    } else {
        let more = rig::client::until(&mut channel, |more| String::from_utf8_lossy(&more.out).contains(cookie)).await;
        rig::client::Heard {
            out: [heard.out, more.out].concat(),
            ..more
        }
    };
    let text = String::from_utf8(heard.out).unwrap();
    let display = text.split(' ').next().unwrap();
    let number: u16 = display
        .strip_prefix("localhost:")
        .unwrap()
        .strip_suffix(".0")
        .unwrap()
        .parse()
        .unwrap();
    assert!(number >= 10, "{text}");
    let back = said(TcpStream::connect(("127.0.0.1", 6000 + number)).await.unwrap(), "draw").await;
    assert_eq!(back, "x11: ward");
    // One connection was asked for.
    let gone = tokio::time::timeout(WITHIN, async {
        while TcpStream::connect(("127.0.0.1", 6000 + number)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    gone.await.unwrap();
    assert_eq!(events(&rig, session, opened)[0].kind, "x11");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_root_everything_is_done_with_the_logins_rights() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let rig = Rig::start().await;
    let mut terms = everything();
    terms.login = doorward_certs::Login::try_from("daemon").unwrap();
    terms.capabilities.remote_forward = RemoteForward::Loopback;
    terms.capabilities.agent_forwarding = true;
    terms.capabilities.local_forward = vec!["localhost:*".into(), "unix:/*".into()];
    let (session, stream) = rig.open(terms).await;
    let config = Arc::new(client::Config::default());
    let mut client = client::connect_stream(config, stream, Echoing).await.unwrap();
    assert!(client.authenticate_none("daemon").await.unwrap().success());
    // A port and a folder of root's, and a socket of root's.
    assert!(client.tcpip_forward("localhost", 79).await.is_err());
    let private = rig.folder.path().join("private");
    std::fs::create_dir(&private).unwrap();
    let socket = private.join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    assert!(client.streamlocal_forward(format!("{socket}2")).await.is_err());
    assert!(client.channel_open_direct_streamlocal(socket).await.is_err());
    let why = events(&rig, session, refused);
    assert!(why.iter().all(|(_, why)| why == "permission denied"), "{why:?}");
    assert_eq!(why.len(), 2);
    // The agent's socket is the login's; nobody else gets in.
    let mut channel = client.channel_open_session().await.unwrap();
    channel.agent_forward(true).await.unwrap();
    channel.exec(true, "printf %s \"$SSH_AUTH_SOCK\"").await.unwrap();
    let path = String::from_utf8(rest(&mut channel).await.out).unwrap();
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().uid(), daemon.uid.as_raw());
    let probe = |uid: u32| {
        use std::os::unix::process::CommandExt;
        let mut python = std::process::Command::new("perl");
        python.args([
            "-MIO::Socket::UNIX",
            "-e",
            "exit(IO::Socket::UNIX->new(Peer => $ARGV[0]) ? 0 : 1)",
            &path,
        ]);
        python.current_dir("/").uid(uid).gid(uid);
        python.status().map(|status| status.success())
    };
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    if let (Ok(theirs), Ok(others)) = (probe(daemon.uid.as_raw()), probe(nobody.uid.as_raw())) {
        assert!(theirs && !others, "{theirs} {others}");
    }
    // A TCP socket is the login's, too, as the kernel's rules about owners see it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _open = client
        .channel_open_direct_tcpip("localhost", port.into(), "", 0)
        .await
        .unwrap();
    let (_peer, from) = listener.accept().await.unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!(":{:04X} ", from.port());
    let row = table.lines().find(|line| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|at| format!("{at} ").ends_with(&own))
    });
    assert_eq!(row.unwrap().split_whitespace().nth(7).unwrap(), daemon.uid.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_client_that_listened_for_it() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(listening(RemoteForward::Loopback)).await;
    let client = rig::client::logged_in(stream).await;
    let port = client.tcpip_forward("127.0.0.1", 0).await.unwrap();
    // This client takes what comes and never reads it.
    let mut peer = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap()))
        .await
        .unwrap();
    peer.write_all(b"x").await.unwrap();
    leave(client).await;
    rig.ended(session).await;
    let mut left = Vec::new();
    let _ = tokio::time::timeout(WITHIN, peer.read_to_end(&mut left))
        .await
        .expect("the connection hangs");
    assert!(left.is_empty());
}
