//! Connections through channels: what is granted is carried and counted, what is not is refused on every path.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod rig;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::{Event, ForwardConnected, ForwardEnded};
use doorward_certs::{Capabilities, Terms};
use rig::client::{Client, leave, logged_in, rest, until};
use rig::{Rig, everything};
use russh::client::Msg;
use russh::{Channel, ChannelOpenFailure, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

const WITHIN: Duration = Duration::from_secs(20);

/// Everything, and these destinations.
fn to(destinations: &[&str]) -> Terms {
    let mut terms = everything();
    terms.capabilities.local_forward = destinations.iter().map(|text| (*text).to_owned()).collect();
    terms
}

async fn open(client: &Client, host: &str, port: u16) -> Result<Channel<Msg>, Error> {
    let opened = client.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 1);
    tokio::time::timeout(WITHIN, opened).await.expect("no answer")
}

fn code(failed: Result<Channel<Msg>, Error>) -> u32 {
    match failed {
        Err(Error::ChannelOpenFailure(failure)) => failure.code(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => 0,
    }
}

const PROHIBITED: u32 = 1;
const CONNECT_FAILED: u32 = 2;
const RESOURCE_SHORTAGE: u32 = 4;

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    tokio::time::timeout(WITHIN, listener.accept())
        .await
        .unwrap()
        .unwrap()
        .0
}

fn refusals(rig: &Rig, session: uuid::Uuid) -> Vec<(String, String)> {
    rig.recorded(session)
        .into_iter()
        .filter_map(|stamped| match stamped.event {
            Event::Refused(refused) => Some((refused.what, refused.why)),
            _ => None,
        })
        .collect()
}

fn ended(rig: &Rig, session: uuid::Uuid) -> Vec<ForwardEnded> {
    rig.recorded(session)
        .into_iter()
        .filter_map(|stamped| match stamped.event {
            Event::ForwardEnded(ended) => Some(ended),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_carried_both_ways_and_recorded_before_its_bytes() {
    let rig = Rig::start().await;
    let (listener, address) = listener().await;
    let (session, stream) = rig.open(to(&["localhost:*"])).await;
    let client = logged_in(stream).await;
    let mut channel = open(&client, "localhost", address.port()).await.unwrap();
    let mut peer = accept(&listener).await;
    channel.data(&b"to the peer"[..]).await.unwrap();
    let mut heard = [0; 11];
    peer.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"to the peer");
    // The destination stands in the record before the first byte comes back.
    peer.write_all(b"back").await.unwrap();
    let heard = until(&mut channel, |heard| heard.out.len() == 4).await;
    assert_eq!(heard.out, b"back");
    let asked = format!("localhost:{}", address.port());
    let connected = ForwardConnected {
        channel: 0,
        listener: None,
        asked: asked.clone(),
        address: address.to_string(),
    };
    let events: Vec<_> = rig.recorded(session).into_iter().map(|stamped| stamped.event).collect();
    assert!(matches!(&events[1], Event::ChannelOpened(opened) if opened.kind == format!("direct-tcpip {asked}")));
    assert_eq!(events[2], Event::ForwardConnected(connected));
    // Half-close: the client has ended, the peer goes on.
    channel.eof().await.unwrap();
    assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
    peer.write_all(b"a last word").await.unwrap();
    drop(peer);
    let heard = rest(&mut channel).await;
    assert_eq!((heard.out.as_slice(), heard.eof), (&b"a last word"[..], true));
    leave(client).await;
    rig.ended(session).await;
    let ended = ended(&rig, session);
    assert_eq!((ended[0].from_client, ended[0].to_client), (11, 15));
    assert_eq!(ended[0].how, "both sides ended");
    let Event::Coverage(coverage) = rig.recorded(session).pop().unwrap().event else {
        panic!("no coverage")
    };
    assert_eq!(
        (coverage.channels, coverage.bytes_seen, coverage.bytes_recorded),
        (1, 26, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_half_closes_first() {
    let rig = Rig::start().await;
    let (listener, address) = listener().await;
    let (_, stream) = rig.open(to(&["localhost:*"])).await;
    let client = logged_in(stream).await;
    let mut channel = open(&client, "127.0.0.1", address.port()).await.unwrap();
    let mut peer = accept(&listener).await;
    peer.write_all(b"all that I say").await.unwrap();
    peer.shutdown().await.unwrap();
    let heard = until(&mut channel, |heard| heard.eof).await;
    assert_eq!(heard.out, b"all that I say");
    channel.data(&b"and all that I hear"[..]).await.unwrap();
    channel.eof().await.unwrap();
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"and all that I hear");
    // Both have ended: the channel closes.
    rest(&mut channel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_close_arrives() {
    let rig = Rig::start().await;
    let (listener, address) = listener().await;
    let (_, stream) = rig.open(to(&["localhost:*"])).await;
    let client = logged_in(stream).await;
    let channel = open(&client, "localhost", address.port()).await.unwrap();
    let mut peer = accept(&listener).await;
    channel.data_bytes(vec![7; 1_000_000]).await.unwrap();
    channel.close().await.unwrap();
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, vec![7; 1_000_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_closes_the_channel_and_is_recorded() {
    let rig = Rig::start().await;
    let (listener, address) = listener().await;
    let (session, stream) = rig.open(to(&["localhost:*"])).await;
    let client = logged_in(stream).await;
    let mut channel = open(&client, "localhost", address.port()).await.unwrap();
    let peer = accept(&listener).await;
    channel.data(&b"unread"[..]).await.unwrap();
    peer.readable().await.unwrap();
    peer.set_zero_linger().unwrap();
    drop(peer);
    let heard = rest(&mut channel).await;
    assert!(!heard.eof, "a reset is no end");
    leave(client).await;
    rig.ended(session).await;
    assert_eq!(ended(&rig, session)[0].how, "the connection was reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_every_path_to_a_forward_is_refused() {
    let rig = Rig::start().await;
    let (_listener, address) = listener().await;
    let socket = rig.file("s");
    let _socket = UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    let mut terms = everything();
    terms.capabilities = Capabilities {
        exec: true,
        ..Capabilities::default()
    };
    let mut hosts_alone = terms.clone();
    hosts_alone.capabilities.local_forward = vec!["localhost:1".into()];
    let mut sockets_alone = terms.clone();
    sockets_alone.capabilities.local_forward = vec!["unix:/no/such/*".into()];
    for terms in [terms, hosts_alone, sockets_alone] {
        let (session, stream) = rig.open(terms).await;
        let client = logged_in(stream).await;
        assert_eq!(code(open(&client, "localhost", address.port()).await), PROHIBITED);
        assert_eq!(code(client.channel_open_direct_streamlocal(socket).await), PROHIBITED);
        leave(client).await;
        rig.ended(session).await;
        let port = address.port();
        let expected = [
            (format!("direct-tcpip localhost:{port}"), "not granted".to_owned()),
            (format!("direct-streamlocal {socket}"), "not granted".to_owned()),
        ];
        let said = refusals(&rig, session);
        assert_eq!(said.len(), 2);
        for (said, expected) in said.into_iter().zip(expected) {
            assert_eq!(said.0.replace("@openssh.com", ""), expected.0);
            assert_eq!(said.1, expected.1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_forwarded_to_is_refused_in_every_spelling() {
    let (listener, denied) = listener().await;
    let rig = Rig::start_with(&format!("never-forward-to = ['{denied}']"), "").await;
    let (session, stream) = rig.open(to(&["*:*", "[*]:*", "localhost:*"])).await;
    let client = logged_in(stream).await;
    let own = rig.address.port();
    for (host, port, why) in [
        ("169.254.169.254", 80, "link-local and metadata"),
        ("2852039166", 80, "link-local and metadata"),
        ("0xa9fea9fe", 80, "link-local and metadata"),
        ("169.254.43518", 80, "link-local and metadata"),
        ("::ffff:169.254.169.254", 80, "link-local and metadata"),
        ("64:ff9b::a9fe:a9fe", 80, "link-local and metadata"),
        ("fd00:ec2::254", 80, "link-local and metadata"),
        ("fe80::1", 80, "link-local and metadata"),
        ("fe80::1%lo", 80, "zone"),
        ("localhost", own, "the agent's own port"),
        ("127.0.0.1", own, "the agent's own port"),
        ("::ffff:127.0.0.1", own, "the agent's own port"),
        ("::1", own, "the agent's own port"),
        ("0", own, "the agent's own port"),
        ("0.0.0.0", own, "the agent's own port"),
        ("::", own, "the agent's own port"),
        ("127.1", own, "the agent's own port"),
        ("127.9.9.9", own, "the agent's own port"),
        ("2130706433", own, "the agent's own port"),
        ("127.0.0.1", denied.port(), "configuration forbids"),
        ("0", denied.port(), "configuration forbids"),
        ("127.1", denied.port(), "configuration forbids"),
        ("::ffff:127.0.0.1", denied.port(), "configuration forbids"),
    ] {
        assert_eq!(code(open(&client, host, port).await), PROHIBITED, "{host}:{port}");
        let said = refusals(&rig, session).pop().unwrap();
        assert!(said.1.contains(why), "{host}:{port}: {said:?}");
    }
    // Nobody was there.
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_loopback_reach_it_where_it_is_granted() {
    let rig = Rig::start().await;
    let (listener, address) = listener().await;
    let (session, stream) = rig.open(to(&["localhost:*"])).await;
    let client = logged_in(stream).await;
    for host in [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "0.0.0.0",
        "::ffff:127.0.0.1",
    ] {
        let channel = open(&client, host, address.port()).await.unwrap();
        let mut peer = accept(&listener).await;
        channel.close().await.unwrap();
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0, "{host}");
    }
    let dialled: Vec<_> = rig
        .recorded(session)
        .into_iter()
        .filter_map(|stamped| match stamped.event {
            Event::ForwardConnected(connected) => Some(connected.address),
            _ => None,
        })
        .collect();
    assert_eq!(dialled, vec![address.to_string(); 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_told_and_recorded() {
    let rig = Rig::start().await;
    let closed = listener().await.1;
    let (session, stream) = rig.open(to(&["localhost:*", "*.invalid:*", "unix:/*"])).await;
    let client = logged_in(stream).await;
    assert_eq!(code(open(&client, "127.0.0.1", closed.port()).await), CONNECT_FAILED);
    assert_eq!(code(open(&client, "x.invalid", 80).await), CONNECT_FAILED);
    let none = rig.file("none");
    let none = none.to_str().unwrap();
    assert_eq!(code(client.channel_open_direct_streamlocal(none).await), CONNECT_FAILED);
    leave(client).await;
    rig.ended(session).await;
    let failed: Vec<_> = rig
        .recorded(session)
        .into_iter()
        .filter_map(|stamped| match stamped.event {
            Event::ForwardFailed(failed) => Some((failed.asked, failed.why)),
            _ => None,
        })
        .collect();
    assert_eq!(failed[0], (closed.to_string(), format!("{closed}: connection refused")));
    assert!(failed[1].1.starts_with("the name cannot be resolved: "), "{failed:?}");
    assert_eq!(failed[2], (none.to_owned(), "no such file or directory".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_reached_by_their_real_paths() {
    let rig = Rig::start_with("home = 'home'", "").await;
    let folder = std::fs::canonicalize(rig.folder.path()).unwrap();
    std::fs::create_dir_all(folder.join("home/sub")).unwrap();
    let inside = UnixListener::bind(folder.join("home/sub/s")).unwrap();
    let _outside = UnixListener::bind(folder.join("outside")).unwrap();
    let _runtime = UnixListener::bind(folder.join("home/docker.sock")).unwrap();
    symlink(folder.join("outside"), folder.join("home/escape")).unwrap();
    symlink(folder.join("home/sub/s"), folder.join("way-in")).unwrap();
    let (session, stream) = rig.open(to(&["unix:~/*"])).await;
    let client = logged_in(stream).await;
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    for way in ["home/sub/s", "way-in"] {
        let mut channel = client.channel_open_direct_streamlocal(path(way)).await.unwrap();
        let (mut peer, _) = inside.accept().await.unwrap();
        channel.data(&b"ping"[..]).await.unwrap();
        let mut heard = [0; 4];
        peer.read_exact(&mut heard).await.unwrap();
        peer.write_all(b"pong").await.unwrap();
        drop(peer);
        assert_eq!(until(&mut channel, |heard| heard.eof).await.out, b"pong");
    }
    for way in ["outside", "home/escape", "home/docker.sock", "home/../outside"] {
        let refused = client.channel_open_direct_streamlocal(path(way)).await;
        assert_eq!(code(refused), PROHIBITED, "{way}");
    }
    for way in ["", "home/sub/s", "./s", "@abstract"] {
        assert_eq!(
            code(client.channel_open_direct_streamlocal(way).await),
            PROHIBITED,
            "{way}"
        );
    }
    let connected = rig
        .recorded(session)
        .into_iter()
        .find_map(|stamped| match stamped.event {
            Event::ForwardConnected(connected) if connected.asked.ends_with("way-in") => Some(connected.address),
            _ => None,
        });
    assert_eq!(connected, Some(path("home/sub/s")));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_ended_ones_make_room() {
    let rig = Rig::start().await;
    let (listener, address) = listener().await;
    let (session, stream) = rig.open(to(&["localhost:*"])).await;
    let client = logged_in(stream).await;
    let mut all = Vec::new();
    for _ in 0..256 {
        let channel = open(&client, "127.0.0.1", address.port()).await.unwrap();
        all.push((channel, accept(&listener).await));
    }
    assert_eq!(
        code(open(&client, "127.0.0.1", address.port()).await),
        RESOURCE_SHORTAGE
    );
    let why = refusals(&rig, session).pop().unwrap().1;
    assert_eq!(why, "too many forwarded connections are open");
    let (mut first, peer) = all.remove(0);
    first.eof().await.unwrap();
    drop(peer);
    rest(&mut first).await;
    // Its place is free a moment after the channel is closed.
    let again = tokio::time::timeout(WITHIN, async {
        loop {
            if let Ok(channel) = open(&client, "127.0.0.1", address.port()).await {
                return channel;
            }
        }
    });
    again.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_channels_leave_nothing_behind() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(to(&["localhost:1"])).await;
    let client = Arc::new(logged_in(stream).await);
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let flood = |count| {
        let client = Arc::clone(&client);
        async move {
            for _ in 0..count {
                assert_eq!(code(open(&client, "localhost", 2).await), PROHIBITED);
            }
        }
    };
    flood(2_000).await;
    let before = resident();
    flood(20_000).await;
    let grown = resident().saturating_sub(before);
    // The client of the test and its gateway live in this process, too.
    assert!(grown < 20_000, "{grown} KiB for 20000 refused channels");
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo still here").await.unwrap();
    assert_eq!(rest(&mut channel).await.out, b"still here\n");
    assert_eq!(refusals(&rig, session).len(), 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_holds_up_nobody_else() {
    let rig = Rig::start().await;
    let (listener, address) = listener().await;
    let (_, stream) = rig.open(to(&["localhost:*"])).await;
    let client = logged_in(stream).await;
    let stuck = open(&client, "127.0.0.1", address.port()).await.unwrap();
    let peer = accept(&listener).await;
    // As much as the window takes: the sender waits when nobody reads, and what was taken is bounded.
    let sent = async {
        let mut sent = 0;
        while sent < 256 << 20 {
            stuck.data_bytes(vec![1; 32 * 1024]).await.unwrap();
            sent += 32 * 1024;
        }
    };
    let beside = async {
        for round in 0..20 {
            let mut channel = client.channel_open_session().await.unwrap();
            channel.exec(true, format!("cat; echo {round}")).await.unwrap();
            channel.data_bytes(vec![b'x'; 100_000]).await.unwrap();
            channel.eof().await.unwrap();
            let heard = rest(&mut channel).await;
            assert_eq!(heard.out.len(), 100_000 + format!("{round}\n").len());
        }
    };
    tokio::select! {
        () = sent => panic!("a peer that never reads took everything"),
        done = tokio::time::timeout(Duration::from_secs(120), beside) => done.unwrap(),
    }
    drop(peer);
}

#[test]
fn failures_have_the_numbers_of_the_protocol() {
    assert_eq!(ChannelOpenFailure::AdministrativelyProhibited.code(), PROHIBITED);
    assert_eq!(ChannelOpenFailure::ConnectFailed.code(), CONNECT_FAILED);
    assert_eq!(ChannelOpenFailure::ResourceShortage.code(), RESOURCE_SHORTAGE);
}
