//! Windows and lengths: sums that overflow, packets of no size, data that nobody allowed, readers that never read.

use std::time::Duration;

use doorward_audit::Event;
use tokio::time::timeout;

use crate::rig::packets::{
    CHANNEL_SUCCESS, CLOSE, DATA, EOF, EXTENDED_DATA, Message, OPEN, OPEN_CONFIRMATION, Packets, WINDOW, WINDOW_ADJUST,
};
use crate::rig::{Rig, everything};
use crate::{alone, resident};

/// Runs a command in a channel opened with this window and packet size; gives the agent's number of it.
async fn started(packets: &mut Packets, window: u32, packet: u32, line: &str) -> u32 {
    let open = Message::new(OPEN).string("session").u32(5).u32(window).u32(packet);
    packets.sender.send(open).await.unwrap();
    let answer = packets.receiver.await_any(&[OPEN_CONFIRMATION]).await.unwrap();
    let number = u32::from_be_bytes(answer[5..9].try_into().unwrap());
    packets.sender.send(Message::exec(number, line)).await.unwrap();
    packets.receiver.await_any(&[CHANNEL_SUCCESS]).await.unwrap();
    number
}

/// What comes until the channel closes, and the largest packet. `None` if the connection ends instead.
async fn output(packets: &mut Packets) -> Option<(Vec<u8>, usize)> {
    let (mut all, mut largest) = (Vec::new(), 0);
    loop {
        let packet = packets.receiver.receive().await?;
        match packet[0] {
            DATA => {
                all.extend_from_slice(&packet[9..]);
                largest = largest.max(packet.len());
            }
            CLOSE => return Some((all, largest)),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e07_windows_that_add_up_to_more_than_there_is_carry_the_right_bytes() {
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let expected: String = (0..400_000).map(|number| format!("{number}\n")).collect();
    for (window, adjustments, packet) in [(0, 3, 32 * 1024), (u32::MAX, 2, u32::MAX), (1, 2, 1_000)] {
        let number = started(&mut packets, window, packet, "seq 0 399999").await;
        for _ in 0..adjustments {
            let adjust = Message::new(WINDOW_ADJUST).u32(number).u32(u32::MAX);
            packets.sender.send(adjust).await.unwrap();
        }
        let (all, largest) = output(&mut packets).await.unwrap();
        assert!(all == expected.as_bytes(), "{window}: {} bytes", all.len());
        assert!(largest <= 256 * 1024 && largest <= packet as usize + 9, "{largest}");
        let close = Message::new(CLOSE).u32(number);
        packets.sender.send(close).await.unwrap();
    }
    assert!(packets.works().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn e07_a_client_that_takes_packets_of_no_size_gets_none_and_harms_itself() {
    let rig = Rig::start().await;
    let (_, beside) = rig.open(everything()).await;
    let mut beside = Packets::logged_in(beside).await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let open = Message::new(OPEN).string("session").u32(5).u32(WINDOW).u32(0);
    packets.sender.send(open).await.unwrap();
    // Whether it is cut off at once, or opens a channel in which it hears nothing, is its own affair.
    if let Some(answer) = packets.receiver.await_any(&[OPEN_CONFIRMATION]).await {
        let number = u32::from_be_bytes(answer[5..9].try_into().unwrap());
        packets.sender.send(Message::exec(number, "seq 0 1000")).await.unwrap();
        let heard = timeout(Duration::from_secs(2), output(&mut packets)).await;
        assert!(!matches!(heard, Ok(Some((all, _))) if !all.is_empty()));
    }
    assert!(beside.works().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn e07_empty_packets_and_streams_that_nobody_knows_take_nothing_from_the_rest() {
    let _alone = alone().await;
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let number = started(&mut packets, WINDOW, 32 * 1024, "cat").await;
    let before = resident();
    for _ in 0..20 {
        let empty = (0..5_000).map(|_| Message::new(DATA).u32(number).string(""));
        packets.sender.send_all(empty).await.unwrap();
    }
    // Twice the window, sent as it is opened again.
    let mut left = i64::from(WINDOW);
    for _ in 0..128 {
        while left < 32 * 1024 {
            let adjust = packets.receiver.await_any(&[WINDOW_ADJUST]).await.unwrap();
            left += i64::from(u32::from_be_bytes(adjust[5..9].try_into().unwrap()));
        }
        left -= 32 * 1024;
        let strange = Message::new(EXTENDED_DATA)
            .u32(number)
            .u32(7)
            .string(vec![0; 32 * 1024]);
        packets.sender.send(strange).await.unwrap();
    }
    packets
        .sender
        .send_all([
            Message::new(DATA).u32(number).string("to the end"),
            Message::new(EOF).u32(number),
        ])
        .await
        .unwrap();
    assert_eq!(output(&mut packets).await.unwrap().0, b"to the end");
    assert!(resident() < before + 32 * 1024, "{} kB more", resident() - before);
}

/// Who sends more than the window allows is cut off: nothing else bounds what a reader that never reads would hold.
#[tokio::test(flavor = "multi_thread")]
async fn e07_who_ignores_the_window_is_cut_off() {
    let _alone = alone().await;
    let rig = Rig::start().await;
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let number = started(&mut packets, WINDOW, 32 * 1024, "sleep 300").await;
    let before = resident();
    let chunk = vec![0; 32 * 1024];
    let mut sent = 0_u64;
    while sent < 1 << 30 {
        let data = Message::new(DATA).u32(number).string(&chunk);
        if packets.sender.send(data).await.is_err() {
            break;
        }
        sent += 32 * 1024;
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    assert_eq!(rig.ended(session).await.code, "protocol");
    assert!(resident() < before + 64 * 1024, "{} kB more", resident() - before);
    let refused = |event: &Event| matches!(event, Event::Refused(refused) if refused.why.contains("window"));
    assert!(rig.recorded(session).iter().any(|stamped| refused(&stamped.event)));
}

#[tokio::test(flavor = "multi_thread")]
async fn e10_readers_that_never_read_leave_the_next_channel_and_the_memory_alone() {
    let _alone = alone().await;
    // A home that is there: what is said of a missing one would use up a part of the windows.
    let rig = Rig::start_with("home = '/'", "").await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    for _ in 0..20 {
        started(&mut packets, WINDOW, 32 * 1024, "yes").await;
    }
    // Their windows are used up, and are never opened again.
    while packets.receiver.data < 20 * u64::from(WINDOW) {
        packets.receiver.await_any(&[DATA]).await.unwrap();
    }
    let before = resident();
    for round in 0..50 {
        assert!(packets.works().await, "round {round}");
    }
    assert!(resident() < before + 16 * 1024, "{} kB more", resident() - before);
}
