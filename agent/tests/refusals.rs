//! What an agent refuses, and how its sessions end when they must.

mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use doorward_agent::Ended;
use doorward_audit::Event;
use doorward_certs::{Capabilities, HostKey, Login};
use doorward_wire::link::{LinkKey, MuxLimits, Side, connect, mux, read_message, write_message};
use doorward_wire::message::{GatewayHello, Message, StreamOpen};
use rig::client::{self, leave, logged_in, rest, until};
use rig::{Rig, everything, ssh};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(20);

fn refusals(rig: &Rig, session: uuid::Uuid) -> Vec<(String, String)> {
    rig.recorded(session)
        .into_iter()
        .filter_map(|stamped| match stamped.event {
            Event::Refused(refused) => Some((refused.what, refused.why)),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_login_is_refused_with_a_sentence() {
    let rig = Arc::new(Rig::start().await);
    let address = rig.listen(everything()).await;
    let done = ssh(rig.folder.path(), address, &["-l", "mallory"], "true")
        .output()
        .await
        .unwrap();
    // The first -l counts for ssh; so another user is asked for by an option of ours.
    assert!(done.status.success());
    let (session, stream) = rig.open(everything()).await;
    let mut client = client::connect(stream).await;
    // Refused, or the stream ends first: either way nobody gets in.
    assert!(
        !client
            .authenticate_none("mallory")
            .await
            .is_ok_and(|answer| answer.success())
    );
    let end = rig.ended(session).await;
    assert_eq!((end.code.as_str(), end.exit), ("other-login", 77));
    assert!(
        end.text.contains("'mallory'") && end.text.contains(rig::my_login().as_str()),
        "{}",
        end.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_proof_is_accepted_because_the_stream_is_the_credential() {
    let rig = Rig::start().await;
    let login = rig::my_login();
    let (_, stream) = rig.open(everything()).await;
    let mut client = client::connect(stream).await;
    assert!(
        client
            .authenticate_password(login.as_str(), "anything")
            .await
            .unwrap()
            .success()
    );
    let (_, stream) = rig.open(everything()).await;
    let mut client = client::connect(stream).await;
    let key = Arc::new(HostKey::generate().unwrap().private_key().clone());
    let key = russh::keys::PrivateKeyWithHashAlg::new(key, None);
    assert!(
        client
            .authenticate_publickey(login.as_str(), key)
            .await
            .unwrap()
            .success()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_refused_and_recorded() {
    let rig = Rig::start().await;
    let mut terms = everything();
    terms.capabilities = Capabilities {
        exec: true,
        ..Capabilities::default()
    };
    let (session, stream) = rig.open(terms).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel.request_shell(true).await.unwrap();
    channel.agent_forward(true).await.unwrap();
    channel
        .request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0)
        .await
        .unwrap();
    channel.exec(true, "echo yes").await.unwrap();
    assert_eq!(rest(&mut channel).await.out, b"yes\n");
    assert!(
        client
            .channel_open_direct_tcpip("169.254.169.254", 80, "127.0.0.1", 1)
            .await
            .is_err()
    );
    assert!(
        client
            .channel_open_direct_streamlocal("/var/run/docker.sock")
            .await
            .is_err()
    );
    leave(client).await;
    rig.ended(session).await;
    let refused = refusals(&rig, session);
    let what: Vec<_> = refused.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(
        what,
        [
            "pty-req",
            "shell",
            "auth-agent-req",
            "x11-req",
            "direct-tcpip 169.254.169.254:80",
            "direct-streamlocal /var/run/docker.sock"
        ]
    );
    assert!(refused.iter().all(|(_, why)| why == "not granted"), "{refused:?}");
    // `ssh` has no words for these; of the others it says what was refused.
    let said =
        |what| format!("your roles do not give you {what} in devenv-0 (doorward explain devenv-0 says what they do)");
    let mut notices = rig.gateway.notices.subscribe();
    let both = notices.wait_for(|all| all.len() >= 2);
    let notices = tokio::time::timeout(WITHIN, both).await.unwrap().unwrap();
    assert_eq!(*notices, [said("a terminal"), said("a shell")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_bounded_and_closed_ones_make_room() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(client.channel_open_session().await.unwrap());
    }
    assert!(client.channel_open_session().await.is_err());
    for channel in open.drain(..16) {
        channel.close().await.unwrap();
    }
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo yes").await.unwrap();
    assert_eq!(rest(&mut channel).await.out, b"yes\n");
    assert!(refusals(&rig, session).contains(&("session".into(), "too many channels are open".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_one_session_and_no_other() {
    let rig = Rig::start().await;
    let session = uuid::Uuid::now_v7();
    let certificate = rig.certificate(session, everything()).await;
    assert!(rig.open_with(session, certificate.clone()).await.is_ok());
    let again = rig.open_with(session, certificate.clone()).await.unwrap_err();
    assert!(again.starts_with("certificate-replayed: "), "{again}");
    let other = rig.open_with(uuid::Uuid::now_v7(), certificate).await.unwrap_err();
    assert!(other.starts_with("certificate-wrong-session: "), "{other}");
    let nonsense = rig.open_with(session, b"nonsense".to_vec()).await.unwrap_err();
    assert!(nonsense.starts_with("certificate-malformed: "), "{nonsense}");
    let mut terms = everything();
    terms.login = Login::try_from("no-such-login").unwrap();
    let (_, refused) = rig.try_open(terms).await;
    let refused = refused.unwrap_err();
    assert!(
        refused.starts_with("login-unavailable: ") && refused.contains("no-such-login"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_of_one_login_takes_no_other() {
    let rig = Rig::start_with(&format!("login = '{}'", rig::my_login()), "").await;
    assert!(rig.try_open(everything()).await.1.is_ok());
    let mut terms = everything();
    terms.login = Login::try_from("nobody").unwrap();
    let refused = rig.try_open(terms).await.1.unwrap_err();
    assert!(
        refused.starts_with("login-unavailable: ") && refused.contains("'nobody'"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_hears_nothing_but_why() {
    let rig = Rig::start().await;
    // Plain bytes: no banner.
    let mut tcp = TcpStream::connect(rig.address).await.unwrap();
    let mut byte = [0; 1];
    let silence = tokio::time::timeout(Duration::from_millis(200), tcp.read(&mut byte)).await;
    assert!(silence.is_err(), "the agent speaks first");
    // A key that no authority vouches for.
    let key = HostKey::generate().unwrap();
    let tcp = TcpStream::connect(rig.address).await.unwrap();
    let (io, _) = connect(tcp, &LinkKey::from_seed(&key.seed()).unwrap(), WITHIN)
        .await
        .unwrap();
    let (mux, _incoming, driver) = mux(io, Side::Gateway, MuxLimits::default());
    rig.tasks.spawn(driver);
    let mut control = mux.open().await.unwrap();
    write_message(&mut control, &Message::StreamOpen(StreamOpen::Control), WITHIN)
        .await
        .unwrap();
    let request = doorward_certs::LinkRequest {
        subject: rig.gateway.key.public_key().clone(),
        valid_for: WITHIN,
    };
    let stolen = rig
        .gateway
        .authority
        .sign_link(&request, std::time::SystemTime::now())
        .await
        .unwrap();
    let hello = GatewayHello {
        version: doorward_wire::LINK_VERSION,
        gateway_version: "thief".into(),
        link_certificate: stolen.blob().to_vec(),
        use_every_s: None,
    };
    write_message(&mut control, &Message::GatewayHello(hello), WITHIN)
        .await
        .unwrap();
    match read_message(&mut control, WITHIN).await.unwrap() {
        Message::LinkRefused(refused) => assert_eq!(refused.code, "certificate-wrong-subject"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_log_in_is_cut() {
    let rig = Rig::start_with("", "login-time = '300ms'").await;
    for say in [&b""[..], b"SSH-2.0-nobody\r\n"] {
        let (session, mut stream) = rig.open(everything()).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, say).await.unwrap();
        assert_eq!(rig.ended(session).await.code, "login-deadline");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_recorded_ends_with_254_and_a_sentence() {
    let rig = Arc::new(Rig::start_with("", "record-unacked-bytes = 20000\nrecord-stall = '500ms'").await);
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .exec(true, "head -c 10000000 /dev/urandom; sleep 60")
        .await
        .unwrap();
    until(&mut channel, |heard| heard.out.len() > 100_000).await;
    rig.gateway.ack.store(false, Ordering::Relaxed);
    let heard = rest(&mut channel).await;
    assert_eq!(heard.status, Some(254));
    let said = String::from_utf8_lossy(&heard.err);
    assert!(said.contains("must be recorded"), "{said}");
    assert_eq!(rig.ended(session).await.exit, 254);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_link_left_over_is_fetched_by_the_next() {
    let rig = Arc::new(Rig::start().await);
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo before; sleep 60").await.unwrap();
    let heard = until(&mut channel, |heard| !heard.out.is_empty()).await;
    assert!(
        rig.output(session, 1).starts_with(&heard.out),
        "nothing is shown that is not recorded"
    );
    rig.gateway.cut.cancel();
    rig.mux().close();
    rig.link().await;
    let mut leftovers = rig.gateway.leftovers.subscribe();
    let held = leftovers.wait_for(|held| held.iter().any(|left| left.session == session));
    let held = tokio::time::timeout(WITHIN, held).await.unwrap().unwrap().clone();
    assert_eq!(rig.fetch(uuid::Uuid::now_v7(), 0).await.unwrap_err(), "no-such-records");
    let have = rig.gateway.records.lock().unwrap()[&session].len() as u64;
    assert!(held[0].first_unacked <= have && have < held[0].end);
    rig.fetch(session, have).await.unwrap();
    let events = rig.recorded(session);
    assert!(matches!(events.last().unwrap().event, Event::Coverage(_)));
    let codes: Vec<&str> = events
        .iter()
        .filter_map(|stamped| match &stamped.event {
            Event::Ended(ended) => Some(ended.code.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(codes, ["link-lost"]);
    assert_eq!(rig.fetch(session, have).await.unwrap_err(), "no-such-records");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_ends_its_sessions_in_order() {
    let mut rig = Rig::start().await;
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "sleep 300 & echo $! $$; wait").await.unwrap();
    let heard = until(&mut channel, |heard| !heard.out.is_empty()).await;
    let pids = String::from_utf8(heard.out).unwrap();
    let (stopped, heard) = tokio::join!(rig.stop(), rest(&mut channel));
    assert_eq!(stopped, Ended::Drained);
    // Nothing made the client leave before it was told why.
    assert!(heard.order.is_empty(), "{heard:?}");
    assert_eq!(rig.ended(session).await.code, "agent-stopping");
    for pid in pids.split_whitespace() {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(
            state.is_err() || state.unwrap().contains(") Z "),
            "process {pid} lives on"
        );
    }
    assert!(matches!(
        rig.recorded(session).last().unwrap().event,
        Event::Coverage(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_no_longer_than_granted() {
    let rig = Rig::start().await;
    let mut terms = everything();
    terms.longest = Duration::from_secs(1);
    let (session, stream) = rig.open(terms).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "exec sleep 300").await.unwrap();
    assert!(rest(&mut channel).await.status.is_none());
    assert_eq!(rig.ended(session).await.code, "longest");
}
