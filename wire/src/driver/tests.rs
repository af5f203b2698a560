//! Two ends over a pipe.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::carrier::Plain;
use crate::frame::Frame;
use crate::frames::FrameStream;

type Driving = JoinHandle<Result<Closed, DriverError>>;

/// Runs a driver; the test's runtime owns it.
#[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with the test")]
fn run(driver: impl Future<Output = Result<Closed, DriverError>> + Send + 'static) -> Driving {
    tokio::spawn(driver)
}

struct Agent {
    ssh: SshStream,
    sink: RecordSink,
    handle: SessionHandle,
    driver: Driving,
}

/// An agent's end, and its peer in frames.
fn agent(limits: Limits) -> (Agent, FrameStream<Plain<DuplexStream>>) {
    let (near, far) = duplex(16 * 1024);
    let (ssh, sink, handle, driver) = agent_end(Plain::new(near), limits);
    (
        Agent {
            ssh,
            sink,
            handle,
            driver: run(driver),
        },
        FrameStream::new(Plain::new(far)),
    )
}

struct Client {
    ssh: SshStream,
    incoming: Incoming,
    handle: SessionHandle,
    driver: Driving,
}

fn client(limits: Limits) -> (Client, FrameStream<Plain<DuplexStream>>) {
    let (near, far) = duplex(16 * 1024);
    let (ssh, incoming, handle, driver) = client_end(Plain::new(near), limits);
    (
        Client {
            ssh,
            incoming,
            handle,
            driver: run(driver),
        },
        FrameStream::new(Plain::new(far)),
    )
}

/// Both ends over one pipe; good for everything but records, which a client refuses.
fn pair(limits: Limits) -> (Agent, Client) {
    let (near, far) = duplex(16 * 1024);
    let (ssh, sink, handle, driver) = agent_end(Plain::new(near), limits);
    let agent = Agent {
        ssh,
        sink,
        handle,
        driver: run(driver),
    };
    let (ssh, incoming, handle, driver) = client_end(Plain::new(far), limits);
    (
        agent,
        Client {
            ssh,
            incoming,
            handle,
            driver: run(driver),
        },
    )
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test]
async fn much_passes_both_ways_at_once() {
    let (mut agent, mut client) = pair(Limits {
        window: 100_000,
        ..Limits::default()
    });
    let (down, up) = (noise(3_000_000), noise(2_000_000));
    let (mut agent_reads, mut agent_writes) = tokio::io::split(&mut agent.ssh);
    let (mut client_reads, mut client_writes) = tokio::io::split(&mut client.ssh);
    let (mut got_down, mut got_up) = (Vec::new(), Vec::new());
    let write = async |to: &mut (dyn tokio::io::AsyncWrite + Unpin + Send), bytes: &[u8]| {
        to.write_all(bytes).await.unwrap();
        to.shutdown().await.unwrap();
    };
    tokio::join!(
        write(&mut agent_writes, &down),
        write(&mut client_writes, &up),
        async { agent_reads.read_to_end(&mut got_up).await.unwrap() },
        async { client_reads.read_to_end(&mut got_down).await.unwrap() },
    );
    assert!(got_down == down && got_up == up);
    assert_eq!(agent.handle.counters(), (2_000_000, 3_000_000));
}

#[tokio::test]
async fn a_session_ends_for_both_when_the_agent_says_so() {
    let (mut agent, mut client) = pair(Limits::default());
    let end = End::new(0, "ended", "");
    agent.ssh.write_all(b"bye").await.unwrap();
    agent.handle.notice("recorded");
    agent.handle.end(end.clone());
    assert_eq!(
        agent.ssh.write(b"more").await.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    let mut got = String::new();
    client.ssh.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "bye");
    assert_eq!(client.incoming.next().await, Some(Said::Notice("recorded".into())));
    assert_eq!(client.incoming.next().await, Some(Said::End(end.clone())));
    assert_eq!(client.incoming.next().await, None);
    assert_eq!(client.handle.heard_end(), Some(end.clone()));
    assert_eq!(client.driver.await.unwrap().unwrap(), Closed::Heard(end.clone()));
    assert_eq!(agent.driver.await.unwrap().unwrap(), Closed::Said(end));
}

#[tokio::test]
async fn output_after_the_other_direction_ended_arrives() {
    let (mut agent, mut client) = pair(Limits::default());
    client.ssh.shutdown().await.unwrap();
    let mut nothing = Vec::new();
    agent.ssh.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
    agent.ssh.write_all(b"late").await.unwrap();
    let mut got = [0; 4];
    client.ssh.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"late");
    drop(agent.ssh);
    assert_eq!(client.ssh.read(&mut got).await.unwrap(), 0);
}

#[tokio::test]
async fn dropping_every_handle_ends_in_order() {
    let (agent, client) = pair(Limits::default());
    let (mut reader, mut writer) = client.ssh.into_split();
    writer.write_all(b"some").await.unwrap();
    drop((writer, client.incoming, client.handle));
    let (mut got, mut ssh) = (String::new(), agent.ssh);
    ssh.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "some");
    drop((ssh, agent.sink, agent.handle));
    assert_eq!(reader.chunk().await.unwrap(), None);
    drop(reader);
    assert_eq!(client.driver.await.unwrap().unwrap(), Closed::Finished);
    assert_eq!(agent.driver.await.unwrap().unwrap(), Closed::Finished);
}

#[tokio::test]
async fn a_cut_is_no_end() {
    let (agent, far) = agent(Limits::default());
    drop(far);
    let mut ssh = agent.ssh;
    assert!(matches!(
        agent.driver.await.unwrap(),
        Err(DriverError::Cut | DriverError::Io(_))
    ));
    assert_eq!(
        ssh.read(&mut [0; 9]).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionAborted
    );
    assert_eq!(ssh.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(agent.sink.ready().await, Err(RecordLost::Closed));
}

#[tokio::test]
async fn a_dropped_driver_leaves_nobody_waiting() {
    let (near, _far) = duplex(1024);
    let (mut ssh, mut incoming, _handle, driver) = client_end(Plain::new(near), Limits::default());
    let mut to = [0; 9];
    let (read, said) = tokio::join!(ssh.read(&mut to), async {
        let said = incoming.next();
        drop(driver);
        said.await
    });
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(said, None);
}

#[tokio::test]
async fn bad_frames_and_broken_rules_have_their_names() {
    let (agent, mut far) = agent(Limits::default());
    far.send(&Frame::Notice {
        text: "not yours".into(),
    })
    .await
    .unwrap();
    let fault = agent.driver.await.unwrap();
    assert!(
        matches!(fault, Err(DriverError::Protocol(ProtocolFault::Forbidden(_)))),
        "{fault:?}"
    );

    let (client, far) = client(Limits::default());
    let mut raw = far.into_inner().into_inner();
    raw.write_all(&[99, 0, 0, 0]).await.unwrap();
    let fault = client.driver.await.unwrap();
    assert!(
        matches!(fault, Err(DriverError::Frame(FrameError::UnknownKind(99)))),
        "{fault:?}"
    );

    let (client, far) = self::client(Limits::default());
    let mut raw = far.into_inner().into_inner();
    raw.write_all(&[1, 0]).await.unwrap();
    drop(raw);
    let fault = client.driver.await.unwrap();
    assert!(
        matches!(fault, Err(DriverError::Frame(FrameError::Truncated { missing: 2 }))),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_reader_that_stalls_bounds_what_is_held() {
    let limits = Limits {
        window: 50_000,
        ..Limits::default()
    };
    let (mut agent, mut client) = pair(limits);
    let bytes = noise(200_000);
    let (mut taken, mut full) = (0, false);
    while !full {
        let write = tokio::time::timeout(Duration::from_millis(200), agent.ssh.write(&bytes[taken..]));
        match write.await {
            Ok(count) => taken += count.unwrap(),
            Err(_) => full = true,
        }
    }
    assert_eq!(taken, limits.window);
    let mut got = vec![0; bytes.len()];
    let (mut read, mut write) = (0, taken);
    while read < bytes.len() {
        tokio::select! {
            count = client.ssh.read(&mut got[read..]) => read += count.unwrap(),
            count = agent.ssh.write(&bytes[write..]), if write < bytes.len() => write += count.unwrap(),
        }
    }
    assert!(got == bytes);
}

/// Reads frames until one is not of the kinds that may stand between.
async fn next(far: &mut FrameStream<Plain<DuplexStream>>) -> Frame {
    loop {
        match far.next().await.unwrap().expect("a frame") {
            Frame::Ack { .. } => {}
            frame => return frame,
        }
    }
}

#[tokio::test]
async fn a_record_leaves_before_the_bytes_that_show_it_even_from_a_full_queue() {
    // the pipe holds 16 KiB and nobody reads it yet, so all of this waits in the queue
    let (mut agent, mut far) = agent(Limits {
        window: 400_000,
        record_unacked: 100_000,
        ..Limits::default()
    });
    let writer = async {
        for count in 0..300_u64 {
            let shown = count.to_be_bytes().repeat(100);
            agent
                .sink
                .append(Bytes::from(count.to_be_bytes().repeat(50)))
                .await
                .unwrap();
            agent.ssh.write_all(&shown).await.unwrap();
        }
    };
    let reader = async {
        let (mut recorded, mut shown, mut acked) = (Vec::new(), Vec::new(), 0);
        while shown.len() < 300 * 800 {
            match next(&mut far).await {
                Frame::Record { bytes, .. } => recorded.extend_from_slice(&bytes),
                Frame::Data { bytes, .. } => shown.extend_from_slice(&bytes),
                frame => panic!("{frame:?}"),
            }
            assert!(shown.len() <= recorded.len() * 2, "shown before it was recorded");
            if recorded.len() - acked > 20_000 {
                acked = recorded.len();
                far.send(&Frame::RecordAck { offset: acked as u64 }).await.unwrap();
            }
        }
    };
    tokio::join!(writer, reader);
}

#[tokio::test(start_paused = true)]
async fn appending_waits_for_room_and_fails_when_acknowledgements_stall() {
    let limits = Limits {
        record_unacked: 10,
        record_stall: Duration::from_secs(7),
        ..Limits::default()
    };
    let (agent, mut far) = agent(limits);
    assert_eq!(agent.sink.append(Bytes::from_static(b"0123456")).await, Ok(7));
    assert_eq!(agent.sink.append(Bytes::from_static(b"7890123")).await, Ok(14));
    let begun = Instant::now();
    let (waited, ()) = tokio::join!(agent.sink.append(Bytes::from_static(b"x")), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        far.send(&Frame::RecordAck { offset: 7 }).await.unwrap();
    });
    assert_eq!((waited, begun.elapsed()), (Ok(15), Duration::from_secs(5)));
    assert_eq!(agent.sink.acked(), 7);
    // eight are under way: there is room, until their acknowledgement is overdue
    assert_eq!(agent.sink.ready().await, Ok(()));
    assert_eq!(
        agent.sink.wait_acked(15, Duration::from_secs(3)).await,
        Err(RecordLost::Stalled)
    );
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(agent.sink.ready().await, Err(RecordLost::Stalled));
    let done = agent.sink.wait_acked(15, Duration::from_secs(3));
    far.send(&Frame::RecordAck { offset: 15 }).await.unwrap();
    // the acknowledgement may still be under way when the first look finds it overdue
    if done.await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(agent.sink.wait_acked(15, Duration::from_secs(3)).await, Ok(()));
    }
    assert_eq!(agent.sink.append(Bytes::from_static(b"y")).await, Ok(16));
}

#[tokio::test(start_paused = true)]
async fn with_a_bound_of_nothing_each_append_is_durable_when_it_returns() {
    let (agent, mut far) = agent(Limits {
        record_unacked: 0,
        ..Limits::default()
    });
    let begun = Instant::now();
    let (appended, ()) = tokio::join!(agent.sink.append(Bytes::from_static(b"abc")), async {
        assert!(matches!(next(&mut far).await, Frame::Record { .. }));
        tokio::time::sleep(Duration::from_secs(2)).await;
        far.send(&Frame::RecordAck { offset: 3 }).await.unwrap();
    });
    assert_eq!((appended, begun.elapsed()), (Ok(3), Duration::from_secs(2)));
}

#[tokio::test]
async fn what_was_not_acknowledged_is_left_over_and_can_be_sent_later() {
    let (agent, mut far) = agent(Limits::default());
    let bytes = noise(150_000);
    agent.sink.append(Bytes::from(bytes[..100_000].to_vec())).await.unwrap();
    let mut got = 0;
    while got < 100_000 {
        if let Frame::Record { bytes, .. } = next(&mut far).await {
            got += bytes.len();
        }
    }
    far.send(&Frame::RecordAck { offset: 60_000 }).await.unwrap();
    agent.sink.wait_acked(60_000, Duration::from_secs(9)).await.unwrap();
    assert_eq!(agent.sink.take_leftover(), None, "not while the driver runs");
    drop(far);
    agent.driver.await.unwrap().unwrap_err();
    // the recording is closed in order although its stream is gone
    assert_eq!(
        agent.sink.append_now(Bytes::from(bytes[100_000..].to_vec())),
        Ok(150_000)
    );
    agent.sink.finish();
    let mut left = agent.sink.take_leftover().unwrap();
    assert_eq!((left.offset, left.end(), left.ended), (60_000, 150_000, true));
    assert!(left.chunks.concat() == bytes[60_000..]);
    assert_eq!(agent.sink.take_leftover(), None);

    let (near, far) = duplex(16 * 1024);
    let mut far = FrameStream::new(Plain::new(far));
    let store = async {
        let mut stored = Vec::new();
        loop {
            match next(&mut far).await {
                Frame::Record { offset, bytes } => {
                    assert_eq!(offset, 60_000 + stored.len() as u64);
                    stored.extend_from_slice(&bytes);
                }
                Frame::RecordEnd { offset } => {
                    assert_eq!(offset, 150_000);
                    far.send(&Frame::RecordAck { offset }).await.unwrap();
                    assert_eq!(far.next().await.unwrap(), None);
                    return stored;
                }
                frame => panic!("{frame:?}"),
            }
        }
    };
    let (sent, stored) = tokio::join!(
        send_leftover(Plain::new(near), &mut left, Duration::from_secs(9)),
        store
    );
    sent.unwrap();
    assert!(stored == bytes[60_000..] && left.chunks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_leftover_that_nobody_acknowledges_is_kept() {
    let mut left = Leftover {
        offset: 5,
        chunks: vec![Bytes::from_static(b"abc")],
        ended: false,
    };
    let (near, _far) = duplex(1024);
    let outcome = send_leftover(Plain::new(near), &mut left, Duration::from_secs(3)).await;
    assert!(matches!(outcome, Err(DriverError::Silent)), "{outcome:?}");
    assert_eq!(left.end(), 8);
}

#[tokio::test(start_paused = true)]
async fn few_consumed_bytes_are_acknowledged_after_a_while() {
    let (mut client, mut far) = client(Limits::default());
    far.send(&Frame::Data {
        offset: 0,
        bytes: Bytes::from_static(b"prompt"),
    })
    .await
    .unwrap();
    client.ssh.read_exact(&mut [0; 6]).await.unwrap();
    let begun = Instant::now();
    assert_eq!(far.next().await.unwrap(), Some(Frame::Ack { offset: 6 }));
    assert!(begun.elapsed() <= LATE_ACK, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_asks_for_signs_of_life_and_gives_up_without_them() {
    let limits = Limits {
        ping: Duration::from_secs(10),
        silence: Duration::from_secs(25),
        ..Limits::default()
    };
    let (client, mut far) = client(limits);
    let begun = Instant::now();
    assert_eq!(far.next().await.unwrap(), Some(Frame::Ping(1)));
    assert_eq!(begun.elapsed().as_secs(), 10);
    far.send(&Frame::Pong(1)).await.unwrap();
    assert_eq!(far.next().await.unwrap(), Some(Frame::Ping(2)));
    assert_eq!(begun.elapsed().as_secs(), 20);
    let outcome = client.driver.await.unwrap();
    assert!(matches!(outcome, Err(DriverError::Silent)), "{outcome:?}");
    assert_eq!(begun.elapsed().as_secs(), 35);
    drop((client.ssh, client.incoming, client.handle));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_takes_does_not_last_for_ever() {
    let (mut agent, _far) = agent(Limits {
        linger: Duration::from_secs(4),
        ..Limits::default()
    });
    agent.ssh.write_all(&noise(100_000)).await.unwrap();
    agent.handle.end(End::new(0, "ended", ""));
    let begun = Instant::now();
    let outcome = agent.driver.await.unwrap();
    assert!(matches!(outcome, Err(DriverError::Silent)), "{outcome:?}");
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_close_is_left_after_a_while() {
    let (client, mut far) = client(Limits {
        linger: Duration::from_secs(4),
        ..Limits::default()
    });
    let end = End::new(0, "ended", "");
    far.send(&Frame::End(end.clone())).await.unwrap();
    let begun = Instant::now();
    assert_eq!(client.driver.await.unwrap().unwrap(), Closed::Heard(end));
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test]
async fn a_leftover_whose_stream_breaks_keeps_what_was_not_acknowledged() {
    let mut left = Leftover {
        offset: 5,
        chunks: vec![Bytes::from_static(b"abc"), Bytes::from_static(b"def")],
        ended: true,
    };
    let (near, far) = duplex(1024);
    let mut far = FrameStream::new(Plain::new(far));
    let (outcome, ()) = tokio::join!(
        send_leftover(Plain::new(near), &mut left, Duration::from_secs(9)),
        async {
            while !matches!(next(&mut far).await, Frame::RecordEnd { offset: 11 }) {}
            far.send(&Frame::RecordAck { offset: 9 }).await.unwrap();
            drop(far);
        }
    );
    assert!(
        matches!(outcome, Err(DriverError::Cut | DriverError::Io(_))),
        "{outcome:?}"
    );
    assert_eq!((left.offset, left.chunks.concat().as_slice()), (9, &b"ef"[..]));
    let (near, far) = duplex(1024);
    let mut far = FrameStream::new(Plain::new(far));
    let (outcome, _) = tokio::join!(
        send_leftover(Plain::new(near), &mut left, Duration::from_secs(9)),
        async { far.send(&Frame::RecordAck { offset: 12 }).await }
    );
    let beyond = ProtocolFault::AckBeyond { offset: 12, sent: 11 };
    assert!(
        matches!(outcome, Err(DriverError::Protocol(fault)) if fault == beyond),
        "{outcome:?}"
    );
}
