mod unstored;

use std::time::Duration;

use doorward_audit::{Outcome, Verdict};
use doorward_wire::{End, Frame, FrameStream, Limits, Plain, agent_end, client_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use uuid::Uuid;

use super::*;
use crate::record::fixture::{Author, Rig, start};
use crate::record::{Closing, Failure};

const SOON: Duration = Duration::from_secs(20);

/// A relay under test with both ends in the test's hand.
struct Bench {
    rig: Rig,
    session: Uuid,
    author: Author,
    client: DuplexStream,
    agent: DuplexStream,
    kill: watch::Sender<Option<Dismissal>>,
    stop: CancellationToken,
    passing: tokio::task::JoinHandle<(Passage, doorward_audit::SessionIndex)>,
}

impl Bench {
    async fn new() -> Self {
        Self::lasting(Duration::from_secs(3600)).await
    }

    async fn lasting(longest: Duration) -> Self {
        Self::bounded(longest, SILENCE).await
    }

    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    async fn bounded(longest: Duration, silence: Duration) -> Self {
        let rig = Rig::new().await;
        let session = Uuid::now_v7();
        let author = Author::new(session);
        let recording = rig.store.begin(start(session)).await.unwrap();
        recording.expect_key(author.key.public_key().clone());
        let (client, to_client) = tokio::io::duplex(256 * 1024);
        let (agent, to_agent) = tokio::io::duplex(256 * 1024);
        let (kill, killed) = watch::channel(None);
        let stop = CancellationToken::new();
        let bounds = Bounds {
            longest,
            ending: stop.clone(),
            killed,
            silence,
            notice: None,
            stops: watch::channel(None).1,
            herald: Herald::nobody(),
        };
        let passing = tokio::spawn(async move {
            let mut recording = Keeping::strict(recording);
            let passage = pass(Plain::new(to_client), Plain::new(to_agent), &mut recording, bounds).await;
            let closing = Closing {
                reason: passage.ending.reason(),
                counted: None,
            };
            let index = recording.finish(closing, SOON).await.unwrap();
            (passage, index)
        });
        Self {
            rig,
            session,
            author,
            client,
            agent,
            kill,
            stop,
            passing,
        }
    }

    fn frames(self) -> (FrameStream<Plain<DuplexStream>>, FrameStream<Plain<DuplexStream>>, Rest) {
        let Self {
            rig,
            session,
            author,
            client,
            agent,
            kill,
            stop,
            passing,
        } = self;
        let rest = Rest {
            rig,
            session,
            author,
            kill,
            stop,
            passing,
        };
        (
            FrameStream::new(Plain::new(client)),
            FrameStream::new(Plain::new(agent)),
            rest,
        )
    }
}

struct Rest {
    rig: Rig,
    session: Uuid,
    author: Author,
    kill: watch::Sender<Option<Dismissal>>,
    stop: CancellationToken,
    passing: tokio::task::JoinHandle<(Passage, doorward_audit::SessionIndex)>,
}

impl Rest {
    async fn end(self) -> (Passage, doorward_audit::SessionIndex, doorward_audit::Report) {
        let (passage, index) = tokio::time::timeout(SOON, self.passing).await.unwrap().unwrap();
        let report = self.rig.verify(self.session, &self.author.key);
        assert!(report.findings.is_empty(), "{report:?}");
        (passage, index, report)
    }
}

async fn next<C: Carrier>(from: &mut FrameStream<C>) -> Frame {
    tokio::time::timeout(SOON, from.next())
        .await
        .unwrap()
        .unwrap()
        .expect("a frame")
}

/// The next frame that is no acknowledgement of records.
async fn next_but_acks<C: Carrier>(from: &mut FrameStream<C>) -> Frame {
    loop {
        match next(from).await {
            Frame::RecordAck { .. } => {}
            frame => return frame,
        }
    }
}

fn record(offset: u64, bytes: &bytes::Bytes) -> Frame {
    Frame::Record {
        offset,
        bytes: bytes.clone(),
    }
}

fn data(offset: u64, bytes: &'static [u8]) -> Frame {
    Frame::Data {
        offset,
        bytes: bytes::Bytes::from_static(bytes),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test awaits them")]
async fn a_session_passes_both_ways_and_is_recorded() {
    let bench = Bench::new().await;
    let Bench {
        rig,
        session,
        mut author,
        client,
        agent,
        passing,
        ..
    } = bench;
    let (mut ssh, sink, handle, driver) = agent_end(Plain::new(agent), Limits::default());
    let agent = tokio::spawn(driver);
    let (mut near, mut said, _handle, driver) = client_end(Plain::new(client), Limits::default());
    let client = tokio::spawn(driver);
    let serve = tokio::spawn(async move {
        sink.append(author.open()).await.unwrap();
        let mut line = [0; 5];
        ssh.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"hello");
        for _ in 0..200 {
            sink.append(author.output(10_000)).await.unwrap();
            ssh.write_all(&[7; 10_000]).await.unwrap();
        }
        sink.append(author.end()).await.unwrap();
        handle.end(End::new(0, "closed", "bye"));
        author
    });
    near.write_all(b"hello").await.unwrap();
    let mut got = vec![0; 2_000_000];
    near.read_exact(&mut got).await.unwrap();
    assert!(got.iter().all(|byte| *byte == 7));
    let author = serve.await.unwrap();
    let last = tokio::time::timeout(SOON, said.next()).await.unwrap();
    assert!(format!("{last:?}").contains("bye"), "{last:?}");
    let (passage, index) = tokio::time::timeout(SOON, passing).await.unwrap().unwrap();
    assert_eq!(passage.ending.code(), "finished", "{:?}", passage.ending);
    assert_eq!(
        (passage.counters.client_to_agent, passage.counters.agent_to_client),
        (5, 2_000_000)
    );
    assert_eq!(index.outcome, Some(Outcome::Complete));
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
    agent.await.unwrap().unwrap();
    client.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test awaits it")]
async fn bytes_reach_the_client_only_after_their_record_reached_the_store() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let mut author = Author::new(session);
    let recording = rig.store.begin(start(session)).await.unwrap();
    let received = recording.received_by();
    let (client, to_client) = tokio::io::duplex(1 << 20);
    let (agent, to_agent) = tokio::io::duplex(1 << 20);
    let (_kill, killed) = watch::channel(None);
    let bounds = Bounds {
        longest: SOON,
        ending: CancellationToken::new(),
        killed,
        silence: SILENCE,
        notice: None,
        stops: watch::channel(None).1,
        herald: Herald::nobody(),
    };
    let mut taken = Keeping::strict(recording);
    let passing =
        tokio::spawn(async move { pass(Plain::new(to_client), Plain::new(to_agent), &mut taken, bounds).await });
    let (mut client, mut agent) = (
        FrameStream::new(Plain::new(client)),
        FrameStream::new(Plain::new(agent)),
    );
    // All in one piece, so that the relay has every chance to be ahead of the records.
    let (mut recorded, mut ends) = (0, Vec::new());
    for n in 0..300 {
        let bytes = author.output(50);
        agent.queue(&record(recorded, &bytes));
        agent.queue(&data(n, b"x"));
        recorded += bytes.len() as u64;
        ends.push(recorded);
    }
    agent.flush().await.unwrap();
    for (n, end) in ends.iter().enumerate() {
        assert_eq!(next(&mut client).await, data(n as u64, b"x"));
        assert!(received() >= *end, "byte {n} was ahead of its record");
    }
    // A record that cannot be taken ends the session, with the code that says so.
    agent.send(&record(recorded + 1, &author.output(5))).await.unwrap();
    match next(&mut client).await {
        Frame::End(end) => assert_eq!(end.exit, 254),
        frame => panic!("{frame:?}"),
    }
    drop((client, agent));
    let passage = tokio::time::timeout(SOON, passing).await.unwrap().unwrap();
    assert!(
        matches!(passage.ending, Ending::RecordFailed(Failure::Protocol(_))),
        "{:?}",
        passage.ending
    );
}

#[tokio::test]
async fn an_acknowledgement_means_durable() {
    let (client, mut agent, mut rest) = Bench::new().await.frames();
    let opened = rest.author.open();
    agent.send(&record(0, &opened)).await.unwrap();
    let Frame::RecordAck { offset } = next(&mut agent).await else {
        panic!("no acknowledgement")
    };
    assert_eq!(offset, opened.len() as u64);
    assert_eq!(rest.rig.stored(rest.session), opened);
    drop((client, agent));
    rest.end().await;
}

#[tokio::test]
async fn a_killed_agent_leaves_all_it_sent_and_the_client_a_sentence() {
    let (mut client, mut agent, mut rest) = Bench::new().await.frames();
    let (opened, output) = (rest.author.open(), rest.author.output(5000));
    agent.queue(&record(0, &opened));
    agent.queue(&record(opened.len() as u64, &output));
    agent.queue(&data(0, b"shown"));
    agent.flush().await.unwrap();
    drop(agent);
    assert_eq!(next(&mut client).await, data(0, b"shown"));
    match next(&mut client).await {
        Frame::End(end) => assert_eq!((end.exit, end.code.as_str()), (255, "agent-gone")),
        frame => panic!("{frame:?}"),
    }
    drop(client);
    let stored = [opened, output].concat();
    let (passage, index, report) = rest.end().await;
    assert_eq!(passage.ending.code(), "agent-gone");
    assert_eq!(
        (index.outcome, index.record_bytes),
        (Some(Outcome::Abnormal), stored.len() as u64)
    );
    assert!(index.reason.unwrap().contains("agent is gone"));
    assert_eq!(report.verdict(), Verdict::Abnormal);
}

#[tokio::test]
async fn when_the_client_vanishes_the_last_records_are_still_taken() {
    let (client, mut agent, mut rest) = Bench::new().await.frames();
    let opened = rest.author.open();
    agent.send(&record(0, &opened)).await.unwrap();
    drop(client);
    match next_but_acks(&mut agent).await {
        Frame::End(end) => assert_eq!(end.code, "client-gone"),
        frame => panic!("{frame:?}"),
    }
    let last = rest.author.end();
    agent.queue(&record(opened.len() as u64, &last));
    let end = (opened.len() + last.len()) as u64;
    agent.queue(&Frame::RecordEnd { offset: end });
    agent.flush().await.unwrap();
    loop {
        match next(&mut agent).await {
            Frame::RecordAck { offset } if offset == end => break,
            Frame::RecordAck { .. } => {}
            frame => panic!("{frame:?}"),
        }
    }
    drop(agent);
    let (passage, index, report) = rest.end().await;
    assert_eq!(passage.ending.code(), "client-gone");
    assert_eq!(index.outcome, Some(Outcome::Complete));
    assert_eq!(report.verdict(), Verdict::Complete);
}

#[tokio::test]
async fn a_client_may_not_send_what_is_the_agents() {
    let forbidden = [
        Frame::Record {
            offset: 0,
            bytes: bytes::Bytes::from_static(b"forged"),
        },
        Frame::RecordAck { offset: 99 },
        Frame::RecordEnd { offset: 0 },
        Frame::Notice { text: "hear me".into() },
    ];
    for frame in forbidden {
        let (mut client, mut agent, rest) = Bench::new().await.frames();
        client.send(&frame).await.unwrap();
        match next(&mut agent).await {
            Frame::End(end) => assert_eq!(end.code, "client-protocol", "{frame:?}"),
            other => panic!("{frame:?} led to {other:?}"),
        }
        drop((client, agent));
        let (passage, index, _) = rest.end().await;
        assert_eq!((passage.ending.code(), index.record_bytes), ("client-protocol", 0));
    }
}

#[tokio::test]
async fn what_is_no_frame_cuts_its_sender_off() {
    use tokio::io::AsyncWriteExt as _;
    let bench = Bench::new().await;
    let Bench {
        rig,
        session,
        author,
        mut client,
        agent,
        kill,
        stop,
        passing,
    } = bench;
    client.write_all(&[0xee, 0, 0, 1, 0]).await.unwrap();
    let mut agent = FrameStream::new(Plain::new(agent));
    assert!(matches!(next(&mut agent).await, Frame::End(_)));
    drop((client, agent));
    let (passage, ..) = Rest {
        rig,
        session,
        author,
        kill,
        stop,
        passing,
    }
    .end()
    .await;
    assert_eq!(passage.ending.code(), "client-protocol");
}

#[tokio::test]
async fn pings_are_answered_on_the_spot() {
    let (mut client, mut agent, rest) = Bench::new().await.frames();
    client.send(&Frame::Ping(7)).await.unwrap();
    assert_eq!(next(&mut client).await, Frame::Pong(7));
    agent.send(&Frame::Ping(8)).await.unwrap();
    assert_eq!(next(&mut agent).await, Frame::Pong(8));
    drop((client, agent));
    rest.end().await;
}

#[tokio::test]
async fn time_stop_and_kill_end_a_session_with_a_sentence() {
    for (code, said) in [
        ("too-long", "longest time"),
        ("gateway-stops", "stopping"),
        ("killed", "by an admin"),
    ] {
        let longest = if code == "too-long" {
            Duration::from_millis(50)
        } else {
            SOON
        };
        let (mut client, mut agent, rest) = Bench::lasting(longest).await.frames();
        match code {
            "gateway-stops" => rest.stop.cancel(),
            "killed" => {
                rest.kill.send_replace(Some(Dismissal::Killed("by an admin".into())));
            }
            _ => {}
        }
        for side in [&mut client, &mut agent] {
            match next(side).await {
                Frame::End(end) => assert!(end.code == code && end.text.contains(said), "{end:?}"),
                frame => panic!("{frame:?}"),
            }
        }
        drop((client, agent));
        let (passage, ..) = rest.end().await;
        assert_eq!(passage.ending.code(), code);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_no_record() {
    let (client, mut agent, mut rest) = Bench::new().await.frames();
    let chunk: bytes::Bytes = vec![1; 60_000].into();
    let opened = rest.author.open();
    agent.queue(&record(0, &opened));
    let mut offset = opened.len() as u64;
    // Twice what the pipe to the client holds, and less than an agent's window.
    for n in 0..20 {
        agent.queue(&Frame::Data {
            offset: n * 60_000,
            bytes: chunk.clone(),
        });
        let bytes = rest.author.output(1000);
        agent.queue(&record(offset, &bytes));
        offset += bytes.len() as u64;
        agent.flush().await.unwrap();
    }
    loop {
        match next(&mut agent).await {
            Frame::RecordAck { offset: acked } if acked == offset => break,
            Frame::RecordAck { .. } => {}
            frame => panic!("{frame:?}"),
        }
    }
    drop((client, agent));
    let (_, index, _) = rest.end().await;
    assert_eq!(index.record_bytes, offset);
}

#[tokio::test]
async fn a_session_whose_client_is_gone_before_it_began_is_recorded_to_its_end() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let mut author = Author::new(session);
    let mut recording = Keeping::strict(rig.store.begin(start(session)).await.unwrap());
    let (agent, to_agent) = tokio::io::duplex(64 * 1024);
    let (_kill, killed) = watch::channel(None);
    let bounds = Bounds {
        longest: SOON,
        ending: CancellationToken::new(),
        killed,
        silence: SILENCE,
        notice: None,
        stops: watch::channel(None).1,
        herald: Herald::nobody(),
    };
    let mut agent = FrameStream::new(Plain::new(agent));
    let whole: bytes::Bytes = [author.open(), author.end()].concat().into();
    let play = async {
        agent.queue(&record(0, &whole));
        agent.queue(&Frame::RecordEnd {
            offset: whole.len() as u64,
        });
        agent.flush().await.unwrap();
        while !matches!(next(&mut agent).await, Frame::RecordAck { offset } if offset == whole.len() as u64) {}
        drop(agent);
    };
    let (passage, ()) = tokio::join!(pass(Nobody, Plain::new(to_agent), &mut recording, bounds), play);
    assert_eq!(passage.ending.code(), "client-gone");
    let index = recording
        .finish(
            Closing {
                reason: "gone".into(),
                counted: None,
            },
            SOON,
        )
        .await
        .unwrap();
    assert_eq!(index.outcome, Some(Outcome::Complete));
}

#[tokio::test]
async fn a_client_that_only_pings_is_not_silent() {
    let silence = Duration::from_millis(300);
    let (mut client, agent, rest) = Bench::bounded(SOON, silence).await.frames();
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < silence * 4 {
        number += 1;
        client.queue(&Frame::Ping(number));
        client.flush().await.unwrap();
        match next(&mut client).await {
            Frame::Pong(answered) => assert_eq!(answered, number),
            frame => panic!("after {:?}: {frame:?}", began.elapsed()),
        }
    }
    // from here on it is silent
    match next(&mut client).await {
        Frame::End(end) => assert_eq!(end.code, "client-silent"),
        frame => panic!("{frame:?}"),
    }
    drop((client, agent));
    let (passage, ..) = rest.end().await;
    assert_eq!(passage.ending.code(), "client-silent");
}

/// Records stand before the bytes that they tell of; so whose agent has shown more than a key exchange and recorded nothing
/// does not record at all.
#[tokio::test]
async fn an_agent_that_shows_and_does_not_record_is_noticed() {
    let (mut client, mut agent, rest) = Bench::new().await.frames();
    agent.send(&data(0, &[7; 4000])).await.unwrap();
    assert_eq!(next(&mut client).await, data(0, &[7; 4000]));
    agent.send(&data(4000, &[7; 5000])).await.unwrap();
    assert_eq!(next(&mut client).await, data(4000, &[7; 5000]));
    match next(&mut client).await {
        Frame::End(end) => assert_eq!((end.exit, end.code.as_str()), (254, "unrecorded")),
        frame => panic!("{frame:?}"),
    }
    drop((client, agent));
    let (passage, index, ..) = rest.end().await;
    assert_eq!(passage.ending.code(), "unrecorded");
    assert_eq!(index.outcome, Some(Outcome::Abnormal));
}

#[tokio::test]
async fn the_longest_time_is_said_ahead_and_nothing_of_it_stands_in_the_session() {
    // The warning of a minute comes as soon as the session has begun.
    let longest = Duration::from_secs(60) + Duration::from_millis(100);
    let (mut client, _agent, rest) = Bench::lasting(longest).await.frames();
    loop {
        match tokio::time::timeout(SOON, client.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            Frame::Notice { text } => {
                assert!(text.contains("ends in 1m"), "{text}");
                break;
            }
            other => assert!(!matches!(other, Frame::Data { .. } | Frame::End(_)), "{other:?}"),
        }
    }
    drop(rest);
}
