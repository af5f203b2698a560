//! Requests and beginnings that are malformed, absurd or merely odd.

use std::time::Duration;

use crate::rig::packets::{CHANNEL_FAILURE, CHANNEL_SUCCESS, CLOSE, DATA, Message, Packets, REQUEST};
use crate::rig::{Rig, everything};

async fn answered(packets: &mut Packets, request: Message) -> Option<u8> {
    packets.sender.send(request).await.ok()?;
    let answer = packets.receiver.await_any(&[CHANNEL_SUCCESS, CHANNEL_FAILURE]).await;
    answer.map(|answer| answer[0])
}

fn pty(channel: u32, size: [u32; 4], modes: &[u8]) -> Message {
    let [cols, rows, width, height] = size;
    let request = Message::request(channel, "pty-req").string("xterm").u32(cols).u32(rows);
    request.u32(width).u32(height).string(modes)
}

/// What a channel says until it closes.
async fn output(packets: &mut Packets) -> String {
    let mut all = Vec::new();
    while let Some(packet) = packets.receiver.await_any(&[DATA, CLOSE]).await {
        match packet[0] {
            DATA => all.extend_from_slice(&packet[9..]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&all).replace('\r', "")
}

#[tokio::test(flavor = "multi_thread")]
async fn e13_what_would_run_other_code_is_refused_and_the_rest_goes_on() {
    let rig = Rig::start_with("accept-env = ['*']", "").await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let channel = packets.open().await;
    for name in [
        "LD_PRELOAD",
        "LD_AUDIT",
        "DYLD_INSERT_LIBRARIES",
        "BASH_ENV",
        "ENV",
        "SSH_ORIGINAL_COMMAND",
        "SSH_AUTH_SOCK",
        "DOORWARD_SESSION",
        "BASH_FUNC_id%%",
        "PATH",
        "IFS",
    ] {
        let request = Message::request(channel, "env").string(name).string("/tmp/x");
        assert_eq!(answered(&mut packets, request).await, Some(CHANNEL_FAILURE), "{name}");
    }
    // A megabyte in all, in pieces that a packet holds.
    let mut taken = 0;
    for at in 0..8 {
        let value = "x".repeat(128 * 1024 - 64);
        let request = Message::request(channel, "env")
            .string(format!("BIG_{at}"))
            .string(value);
        taken += u32::from(answered(&mut packets, request).await == Some(CHANNEL_SUCCESS));
    }
    assert!(taken <= 1, "{taken} were taken");
    let nul = Message::exec(channel, "echo a\0; id");
    assert_eq!(answered(&mut packets, nul).await, Some(CHANNEL_FAILURE));
    let nul = Message::request(channel, "env").string("LC_X").string("a\0b");
    assert_eq!(answered(&mut packets, nul).await, Some(CHANNEL_FAILURE));
    assert!(packets.works().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn e16_terminals_of_no_size_or_a_billion_and_modes_that_make_no_sense() {
    // A home that is there: what is said of a missing one would be heard as well.
    let rig = Rig::start_with("home = '/'", "").await;
    let huge = 1_000_000_000;
    for (size, said) in [
        ([0, 0, 0, 0], "0 0\n"),
        ([huge, huge, huge, huge], "9999 9999\n"),
        ([u32::MAX; 4], "9999 9999\n"),
    ] {
        let (_, stream) = rig.open(everything()).await;
        let mut packets = Packets::logged_in(stream).await;
        let channel = packets.open().await;
        // Codes that nobody knows, flags that are neither on nor off, characters beyond a byte.
        let modes = [
            250, 0, 0, 0, 1, 53, 9, 9, 9, 9, 3, 255, 255, 255, 255, 129, 255, 255, 255, 255, 0,
        ];
        assert_eq!(
            answered(&mut packets, pty(channel, size, &modes)).await,
            Some(CHANNEL_SUCCESS)
        );
        packets.sender.send(Message::exec(channel, "stty size")).await.unwrap();
        assert_eq!(output(&mut packets).await, said);
    }
    for modes in [&[53][..], &[53, 0, 0, 0], &[0, 0], &[53; 4_000]] {
        let (_, beside) = rig.open(everything()).await;
        let mut beside = Packets::logged_in(beside).await;
        let (session, stream) = rig.open(everything()).await;
        let mut packets = Packets::logged_in(stream).await;
        let channel = packets.open().await;
        let answer = answered(&mut packets, pty(channel, [80, 24, 0, 0], modes)).await;
        assert_eq!(answer, None, "{modes:?}");
        assert_eq!(rig.ended(session).await.code, "protocol");
        assert!(beside.works().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e16_a_storm_of_interrupts_and_sizes_breaks_nothing() {
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let mut packets = Packets::logged_in(stream).await;
    let channel = packets.open().await;
    answered(&mut packets, pty(channel, [80, 24, 0, 0], &[0])).await;
    let line = "trap '' INT WINCH; stty -echo; echo ready; read line; \
        until [ \"$(stty size)\" = '17 71' ]; do sleep 0.02; done; stty size; echo $line";
    packets.sender.send(Message::exec(channel, line)).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"ready\r\n") {
        said.extend_from_slice(&packets.receiver.await_any(&[DATA]).await.unwrap()[9..]);
    }
    let resized = |cols: u32, rows: u32| {
        let size = Message::new(REQUEST).u32(channel).string("window-change").byte(0);
        size.u32(cols).u32(rows).u32(0).u32(0)
    };
    let typed = |keys: &str| Message::new(DATA).u32(channel).string(keys);
    for round in 0..1_000_u32 {
        let storm = [resized(round, round), typed(&"\x03".repeat(20))];
        packets.sender.send_all(storm).await.unwrap();
    }
    packets
        .sender
        .send_all([resized(71, 17), typed("done\n")])
        .await
        .unwrap();
    // The size may be taken a moment after what is typed: the latest counts.
    let said = output(&mut packets).await;
    assert!(said.contains("17 71\ndone\n"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e17_beginnings_that_are_none_end_at_once_or_at_the_deadline() {
    let rig = Rig::start_with("", "login-time = '2s'").await;
    let lines = "not ssh at all\r\n".repeat(1_000_000).into_bytes();
    let long = format!("SSH-2.0-{}\r\n", "x".repeat(300)).into_bytes();
    let endless = vec![b'x'; 1 << 20];
    let beginnings: [&[u8]; 7] = [
        &lines,
        &long,
        &endless,
        b"SSH-1.5-old\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0\r\n",
        b"\xff\xff\xff\xff\r\n",
    ];
    for beginning in beginnings {
        let (session, stream) = rig.open(everything()).await;
        let mut packets = Packets::silent(stream);
        let _ = packets.sender.raw(beginning).await;
        assert_eq!(
            rig.ended(session).await.code,
            "protocol",
            "{:?}",
            &beginning[..16.min(beginning.len())]
        );
    }
    // A byte now and then: the deadline is for the whole of it.
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::silent(stream);
    let trickle = async {
        for byte in b"SSH-2.0-slowly" {
            let _ = packets.sender.raw(&[*byte]).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let (end, ()) = tokio::join!(rig.ended(session), trickle);
    assert_eq!(end.code, "login-deadline");
    // Nor is there more time for who stops later on.
    let (session, stream) = rig.open(everything()).await;
    let mut packets = Packets::over(stream).await;
    packets.keys().await;
    assert_eq!(rig.ended(session).await.code, "login-deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn e17_odd_but_lawful_beginnings_are_served() {
    let rig = Rig::start().await;
    for line in [
        "SSH-2.0-x\n",
        "SSH-1.99-both\r\n",
        "SSH-2.0-with a comment, and more\r\n",
    ] {
        let (_, stream) = rig.open(everything()).await;
        let mut packets = Packets::begun(stream, line).await;
        packets.keys().await;
        packets.service().await;
        packets
            .sender
            .send(Message::none(crate::rig::my_login().as_str()))
            .await
            .unwrap();
        assert!(packets.works().await, "{line:?}");
    }
}
