//! Messages at the wrong time, and attempts to become somebody else.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use doorward_audit::Event;
use uuid::Uuid;

use crate::rig::packets::{
    AUTH_FAILURE, AUTH_REQUEST, AUTH_SUCCESS, CHANNEL_FAILURE, GLOBAL_REQUEST, IGNORE, KEXINIT, Message, PK_OK,
    Packets, SERVICE_REQUEST,
};
use crate::rig::{Rig, everything, my_login};

/// Where in its life a connection is.
#[derive(Debug, Clone, Copy)]
enum At {
    Start,
    InsideKeys,
    BeforeService,
    BeforeLogin,
}

async fn brought(rig: &Rig, at: At) -> (Uuid, Packets) {
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    match at {
        At::Start => {}
        At::InsideKeys => {
            packets.begin_keys().await;
            packets.receiver.await_any(&[KEXINIT]).await.unwrap();
        }
        At::BeforeService => packets.keys().await,
        At::BeforeLogin => {
            packets.keys().await;
            packets.service().await;
        }
    }
    (session, packets)
}

/// What a message of this number holds: enough for whoever reads any of its fields.
fn message(number: u8) -> Message {
    match number {
        90 => Message::open(0),
        98 => Message::exec(0, "echo in"),
        _ => Message::new(number).string("session").u32(0).u32(0).string("").u32(0),
    }
}

async fn every_number(rig: &Rig, at: At) {
    for number in 1..=255 {
        let (session, mut packets) = brought(rig, at).await;
        // Whoever is cut off need not take the rest.
        let _ = packets.sender.send(message(number)).await;
        let _ = packets.sender.send(Message::open(1)).await;
        packets.sender.close().await;
        for answer in packets.receiver.rest().await {
            assert!(
                answer[0] < GLOBAL_REQUEST && answer[0] != AUTH_SUCCESS,
                "{at:?}: {number} is answered by {}",
                answer[0]
            );
        }
        rig.ended(session).await;
        let opened = |event: &Event| matches!(event, Event::ChannelOpened(_));
        assert!(
            !rig.recorded(session).iter().any(|stamped| opened(&stamped.event)),
            "{at:?}: {number} opens a channel"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_no_message_before_the_login_opens_a_channel() {
    let rig = Rig::start().await;
    tokio::join!(
        every_number(&rig, At::Start),
        every_number(&rig, At::InsideKeys),
        every_number(&rig, At::BeforeService),
        every_number(&rig, At::BeforeLogin),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_after_the_login_every_message_is_answered_ignored_or_the_end() {
    let rig = Rig::start().await;
    for number in 1..=255 {
        let (_, stream) = rig.open(everything()).await;
        let mut packets = Packets::logged_in(stream).await;
        let sent = packets.sender.send(message(number)).await.is_ok();
        let works = sent && packets.works().await;
        // What belongs to another phase is no reason to end, what cannot be read is.
        if [IGNORE, 4, SERVICE_REQUEST, AUTH_REQUEST, AUTH_SUCCESS, 192].contains(&number) {
            assert!(works, "{number} ends the connection");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_a_key_exchange_inside_a_key_exchange_is_the_end() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    let ours = packets.begin_keys().await;
    packets.begin_keys().await;
    assert!(!packets.finish_keys(&ours, &[]).await);
    assert_eq!(rig.ended(session).await.code, "protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn e02_keys_are_strict_and_a_packet_more_or_less_around_them_is_the_end() {
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    let lists = packets.receiver.await_any(&[KEXINIT]).await.unwrap();
    let marker = b"kex-strict-s-v00@openssh.com";
    assert!(lists.windows(marker.len()).any(|window| window == marker));
    // One more, where only the man in the middle could put it.
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    let ours = packets.begin_keys().await;
    let more = [Message::new(IGNORE).string("")];
    let went_on = packets.finish_keys(&ours, &more).await;
    // It may have ended already.
    if went_on
        && packets
            .sender
            .send(Message::new(SERVICE_REQUEST).string("ssh-userauth"))
            .await
            .is_ok()
    {
        assert!(packets.receiver.rest().await.is_empty());
    }
    assert_eq!(rig.ended(session).await.code, "protocol");
    // One less, the first under the new keys.
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    packets.keys().await;
    packets.sender.packet(&Message::new(IGNORE).string("").0);
    packets.service().await;
    packets.receiver.rest().await;
    assert_eq!(rig.ended(session).await.code, "protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn e03_the_login_is_the_streams_before_and_after_it_is_accepted() {
    let rig = Rig::start().await;
    for other in ["no-such-login", "", "root\0", "daemon"] {
        let (session, stream) = rig.open(everything()).await;
        let mut packets = Packets::over(stream).await;
        packets.keys().await;
        packets.service().await;
        packets
            .sender
            .send_all([Message::none(other), Message::none(my_login().as_str())])
            .await
            .unwrap();
        let answers = packets.receiver.rest().await;
        assert!(!answers.iter().any(|answer| answer[0] == AUTH_SUCCESS), "{other:?}");
        assert_eq!(rig.ended(session).await.code, "other-login");
    }
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    packets.sender.send(Message::none("daemon")).await.unwrap();
    assert!(packets.works().await);
}

/// A request to log in with a key: asked only, or signed.
fn with_key(packets: &Packets, key: &Ed25519KeyPair, signer: Option<&Ed25519KeyPair>) -> Message {
    let bare = || Message(Vec::new());
    let blob = bare().string("ssh-ed25519").string(key.public_key());
    let head = Message::new(AUTH_REQUEST)
        .string(my_login().as_str())
        .string("ssh-connection")
        .string("publickey")
        .byte(u8::from(signer.is_some()))
        .string("ssh-ed25519")
        .string(blob);
    let Some(signer) = signer else { return head };
    let signed = [bare().string(packets.session()).0, head.0.clone()].concat();
    let signature = bare().string("ssh-ed25519").string(signer.sign(&signed));
    head.string(signature)
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn e04_a_key_logs_in_by_its_own_signature_and_no_other() {
    let rig = Rig::start().await;
    let (one, other) = (key(1), key(2));
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    packets.keys().await;
    packets.service().await;
    let answers = &[PK_OK, AUTH_SUCCESS, AUTH_FAILURE];
    for (request, expected) in [
        (with_key(&packets, &one, None), PK_OK),
        (with_key(&packets, &one, Some(&other)), AUTH_FAILURE),
        (with_key(&packets, &other, Some(&other)), AUTH_SUCCESS),
    ] {
        packets.sender.send(request).await.unwrap();
        assert_eq!(packets.receiver.await_any(answers).await.unwrap()[0], expected);
    }
    assert!(packets.works().await);
    packets.sender.close().await;
    rig.ended(session).await;
    // Who it was is what the stream's certificate says, whichever key a client likes to show.
    let opened = rig.recorded(session).remove(0).event;
    assert!(matches!(opened, Event::Opened(opened) if opened.user.starts_with("user=bob ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn e05_attempts_to_log_in_are_counted_whatever_their_kind() {
    let rig = Rig::start().await;
    let one = key(1);
    let other = |packets: &Packets, kind: u32| match kind {
        0 => with_key(packets, &one, None),
        1 => with_key(packets, &one, Some(&key(2))),
        2 => Message::new(AUTH_REQUEST)
            .string(my_login().as_str())
            .string("ssh-connection")
            .string("no-such-method"),
        // Two hundred and fifty million answers to a question that nobody asked.
        _ => Message::new(61).u32(1 << 28),
    };
    for kind in 0..4 {
        let (session, stream) = rig.open(everything()).await;
        let mut packets = Packets::over(stream).await;
        packets.keys().await;
        packets.service().await;
        let request = other(&packets, kind);
        let many = (0..10_000).map(|_| request.clone());
        let Packets { sender, receiver, .. } = &mut packets;
        let (_, answers) = tokio::join!(
            async {
                let _ = sender.send_all(many).await;
                sender.close().await;
            },
            receiver.rest()
        );
        assert!(answers.len() < 200, "kind {kind}: {} answers", answers.len());
        assert!(
            !answers
                .iter()
                .any(|answer| answer[0] == AUTH_SUCCESS || answer[0] == CHANNEL_FAILURE)
        );
        rig.ended(session).await;
    }
}
