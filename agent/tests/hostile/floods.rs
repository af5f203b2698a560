//! Floods: of what nobody asked for, of requests, of channels that are refused, of channels that come and go.

use crate::rig::packets::{
    CLOSE, GLOBAL_REQUEST, Message, OPEN, OPEN_CONFIRMATION, OPEN_FAILURE, Packets, REQUEST, REQUEST_FAILURE,
    REQUEST_SUCCESS, WINDOW,
};
use crate::rig::{Rig, everything};
use crate::{alone, resident};

/// What a flood may cost for good, in kilobytes; both ends of it are in this process.
const GROWTH: u64 = 48 * 1024;
const ROUNDS: u32 = 100;
const AT_ONCE: u32 = 1_000;

/// Sends this a hundred thousand times, and hears as many answers with one of these numbers, if any is expected.
async fn flood(packets: &mut Packets, message: impl Fn(u32) -> Message, answers: &[u8]) {
    let Packets { sender, receiver, .. } = packets;
    for round in 0..ROUNDS {
        let sending = sender.send_all((0..AT_ONCE).map(|at| message(round * AT_ONCE + at)));
        let hearing = async {
            let mut heard = 0;
            while !answers.is_empty() && heard < AT_ONCE {
                let answer = receiver.await_any(answers).await;
                assert!(answer.is_some(), "the connection ended in round {round} after {heard}");
                heard += 1;
            }
        };
        let (sent, ()) = tokio::join!(sending, hearing);
        sent.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_pings_before_the_login_cost_nothing() {
    let _alone = alone().await;
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    packets.keys().await;
    let before = resident();
    flood(&mut packets, |_| Message::new(192).string("ping"), &[]).await;
    packets.service().await;
    packets
        .sender
        .send(Message::none(crate::rig::my_login().as_str()))
        .await
        .unwrap();
    assert!(packets.works().await);
    assert!(resident() < before + GROWTH, "{} kB more", resident() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_answers_without_a_question_and_questions_without_end_cost_nothing() {
    let _alone = alone().await;
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let (_, beside) = rig.open(everything()).await;
    let mut beside = Packets::logged_in(beside).await;
    let channel = packets.open().await;
    let before = resident();
    for number in [REQUEST_SUCCESS, REQUEST_FAILURE] {
        flood(&mut packets, |_| Message::new(number), &[]).await;
    }
    for number in [99, 100] {
        flood(&mut packets, |_| Message::new(number).u32(channel), &[]).await;
    }
    let global = |_| Message::new(GLOBAL_REQUEST).string("no-such@example.com").byte(1);
    flood(&mut packets, global, &[REQUEST_FAILURE]).await;
    let request = |_| Message::new(REQUEST).u32(channel).string("no-such@example.com").byte(1);
    flood(&mut packets, request, &[100]).await;
    let variable = |at| Message::request(channel, "env").string(format!("X{at}")).string("1");
    flood(&mut packets, variable, &[100]).await;
    assert!(beside.works().await);
    assert!(packets.works().await);
    assert!(resident() < before + GROWTH, "{} kB more", resident() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn e08_a_hundred_thousand_refused_channels_leave_nothing_behind() {
    let _alone = alone().await;
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let (_, beside) = rig.open(everything()).await;
    let mut beside = Packets::logged_in(beside).await;
    let open = |kind: &str, at| Message::new(OPEN).string(kind).u32(at).u32(WINDOW).u32(32 * 1024);
    let before = resident();
    let forward = |at| {
        let to = open("direct-tcpip", at).string("192.0.2.1").u32(80);
        to.string("127.0.0.1").u32(1)
    };
    flood(&mut packets, forward, &[OPEN_FAILURE]).await;
    // Of a kind that it does not know the library refuses each twice.
    for round in 0..ROUNDS {
        let many = (0..AT_ONCE).map(|at| open("no-such@example.com", at));
        packets.sender.send_all(many).await.unwrap();
        for _ in 0..2 * AT_ONCE {
            let answer = packets.receiver.await_any(&[OPEN_FAILURE]).await;
            assert!(answer.is_some(), "the connection ended in round {round}");
        }
    }
    assert!(beside.works().await);
    assert!(packets.works().await);
    assert!(resident() < before + GROWTH, "{} kB more", resident() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn e08_channels_at_once_are_bounded_and_one_that_closes_makes_room() {
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let mut first = 0;
    for _ in 0..256 {
        first = packets.open().await;
    }
    packets.sender.send(Message::open(0)).await.unwrap();
    let answer = packets
        .receiver
        .await_any(&[OPEN_CONFIRMATION, OPEN_FAILURE])
        .await
        .unwrap();
    assert_eq!(answer[0], OPEN_FAILURE);
    packets.sender.send(Message::new(CLOSE).u32(first)).await.unwrap();
    packets.receiver.await_any(&[CLOSE]).await.unwrap();
    assert!(packets.works().await);
}

/// The library keeps a little of each channel that we close before the client does; so there is an end to it.
#[tokio::test(flavor = "multi_thread")]
async fn e08_channels_that_end_by_themselves_are_bounded_for_one_connection() {
    let rig = Rig::start_with("", "channels-per-connection = 20").await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let open = async |packets: &mut Packets| {
        packets.sender.send(Message::open(0)).await.unwrap();
        let answer = packets.receiver.await_any(&[OPEN_CONFIRMATION, OPEN_FAILURE]).await;
        answer.unwrap()
    };
    // What the client closes costs nothing.
    for _ in 0..50 {
        let answer = open(&mut packets).await;
        assert_eq!(answer[0], OPEN_CONFIRMATION);
        let number = u32::from_be_bytes(answer[5..9].try_into().unwrap());
        packets.sender.send(Message::new(CLOSE).u32(number)).await.unwrap();
        packets.receiver.await_any(&[CLOSE]).await.unwrap();
    }
    for round in 0..20 {
        assert!(packets.works().await, "round {round}");
    }
    assert_eq!(open(&mut packets).await[0], OPEN_FAILURE);
    let (_, stream) = rig.open(everything()).await;
    assert!(Packets::logged_in(stream).await.works().await);
}
