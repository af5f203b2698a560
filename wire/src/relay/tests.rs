//! A relay between two ends.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::carrier::Plain;
use crate::driver::{Closed, DriverError, Incoming, RecordSink, Said, SessionHandle, SshStream};
use crate::endpoint::Limits;
use crate::{agent_end, client_end};

type Carried = Plain<DuplexStream>;
type Driving = JoinHandle<Result<Closed, DriverError>>;

#[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with the test")]
fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

struct Whole {
    agent: (SshStream, RecordSink, SessionHandle, Driving),
    client: (SshStream, Incoming, SessionHandle, Driving),
    relay: Relay<Carried, Carried>,
}

fn whole() -> Whole {
    let ((near, to_agent), (far, to_client)) = (duplex(16 * 1024), duplex(16 * 1024));
    let limits = Limits::default();
    let (ssh, sink, handle, driver) = agent_end(Plain::new(near), limits);
    let agent = (ssh, sink, handle, run(driver));
    let (ssh, incoming, handle, driver) = client_end(Plain::new(far), limits);
    let client = (ssh, incoming, handle, run(driver));
    let relay = Relay::new(Plain::new(to_client), Plain::new(to_agent), RelayLimits::default());
    Whole { agent, client, relay }
}

/// Stores records, acknowledges them at once, and returns what happened.
async fn serve(mut relay: Relay<Carried, Carried>) -> (Vec<u8>, Vec<String>, Counters) {
    let (mut stored, mut events) = (Vec::new(), Vec::new());
    loop {
        match relay.next().await {
            Event::Record { offset, bytes } => {
                assert_eq!(offset, stored.len() as u64);
                stored.extend_from_slice(&bytes);
                relay.ack_records(stored.len() as u64);
            }
            Event::RecordEnd { offset } => events.push(format!("record ends at {offset}")),
            Event::Ended { by, end } => events.push(format!("{by:?} says {}", end.code)),
            Event::Gone { side, fault } => events.push(format!("{side:?} gone, fault {}", fault.is_some())),
            Event::Over => return (stored, events, relay.counters()),
        }
    }
}

#[tokio::test]
async fn a_session_passes_and_its_records_stay() {
    let Whole { agent, client, relay } = whole();
    let relay = run(serve(relay));
    let (mut ssh, sink, handle, driver) = agent;
    let up = run(async move {
        let (mut ssh, mut incoming, _handle, driver) = client;
        ssh.write_all(b"ls\n").await.unwrap();
        let mut got = Vec::new();
        ssh.read_to_end(&mut got).await.unwrap();
        (got, incoming.next().await, driver.await.unwrap().unwrap())
    });
    let mut asked = [0; 3];
    ssh.read_exact(&mut asked).await.unwrap();
    let shown = vec![5; 1_000_000];
    for part in shown.chunks(10_000) {
        sink.append(Bytes::copy_from_slice(&part[..100])).await.unwrap();
        ssh.write_all(part).await.unwrap();
    }
    let length = sink.finish();
    sink.wait_acked(length, Duration::from_secs(10)).await.unwrap();
    let end = End::new(0, "ended", "");
    handle.end(end.clone());
    let (got, said, closed) = up.await.unwrap();
    assert!(got == shown);
    assert_eq!(
        (said, closed),
        (Some(Said::End(end.clone())), Closed::Heard(end.clone()))
    );
    assert_eq!(driver.await.unwrap().unwrap(), Closed::Said(end));
    let (stored, events, counters) = relay.await.unwrap();
    assert_eq!(stored, vec![5; 10_000]);
    assert_eq!(events[..2], ["record ends at 10000", "Agent says ended"]);
    assert!(events.contains(&"Client gone, fault false".into()) && events.contains(&"Agent gone, fault false".into()));
    assert_eq!(
        counters,
        Counters {
            client_to_agent: 3,
            agent_to_client: 1_000_000,
            records: 10_000
        }
    );
}

#[tokio::test]
async fn records_still_come_after_the_client_is_gone() {
    let Whole {
        agent,
        client,
        mut relay,
    } = whole();
    drop(client.0);
    client.3.abort();
    assert!(matches!(relay.next().await, Event::Gone { side: Side::Client, .. }));
    relay.end(&End::new(255, "client-gone", ""));
    let (mut ssh, sink, handle, _driver) = agent;
    let relay = run(serve(relay));
    let mut rest = Vec::new();
    ssh.read_to_end(&mut rest).await.unwrap();
    assert_eq!(handle.heard_end().unwrap().code, "client-gone");
    let end = sink.append(Bytes::from_static(b"the last block")).await.unwrap();
    sink.wait_acked(end, Duration::from_secs(10)).await.unwrap();
    sink.finish();
    handle.end(End::new(0, "ended", ""));
    let (stored, events, _) = relay.await.unwrap();
    assert_eq!(stored, b"the last block");
    assert_eq!(
        events,
        ["record ends at 14", "Agent says ended", "Agent gone, fault false"]
    );
}

#[tokio::test]
async fn the_gateway_can_speak_and_end_a_session_by_itself() {
    let Whole {
        agent,
        client,
        mut relay,
    } = whole();
    let end = End::new(254, "record-stalled", "the recording could not be stored");
    relay.notice("this session is recorded");
    relay.end(&end);
    relay.notice("too late to be heard");
    let relay = run(serve(relay));
    let (_ssh, mut incoming, _handle, driver) = client;
    assert_eq!(
        incoming.next().await,
        Some(Said::Notice("this session is recorded".into()))
    );
    assert_eq!(incoming.next().await, Some(Said::End(end.clone())));
    assert_eq!(driver.await.unwrap().unwrap(), Closed::Heard(end.clone()));
    let (ssh, sink, handle, driver) = agent;
    drop((ssh, sink, handle));
    assert_eq!(driver.await.unwrap().unwrap(), Closed::Heard(end));
    relay.await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_asked_to_end_has_the_last_word() {
    let Whole {
        agent,
        client,
        mut relay,
    } = whole();
    relay.ask_to_end(&End::new(crate::RECORDING_UNAVAILABLE, "record-store", "no room"));
    let relay = run(serve(relay));
    let (mut ssh, sink, handle, driver) = agent;
    assert_eq!(handle.asked_to_end().await.code, "record-store");
    // Nobody waits for what will not come.
    sink.append_now(Bytes::from_static(b"kept for later")).unwrap();
    assert_eq!(
        sink.wait_acked(100, Duration::from_secs(3600)).await,
        Err(crate::RecordLost::Refused)
    );
    // The stream still goes both ways.
    let (mut near, mut incoming, _handle, closed) = client;
    near.write_all(b"window").await.unwrap();
    let mut got = [0; 6];
    ssh.read_exact(&mut got).await.unwrap();
    ssh.write_all(b"exit status 254").await.unwrap();
    handle.end(End::new(254, "record-store", "no room"));
    let mut shown = Vec::new();
    near.read_to_end(&mut shown).await.unwrap();
    assert_eq!(shown, b"exit status 254");
    assert!(matches!(incoming.next().await, Some(Said::End(end)) if end.exit == 254));
    assert!(matches!(closed.await.unwrap().unwrap(), Closed::Heard(_)));
    assert_eq!(ssh.read(&mut got).await.unwrap(), 0);
    assert!(driver.await.unwrap().is_ok());
    relay.await.unwrap();
}

#[tokio::test]
async fn a_client_cannot_ask_an_agent_to_end_for_its_recording() {
    let (mut relay, mut client, mut agent) = raw();
    client
        .send(&Frame::End(End::new(254, "record-store", "forged")))
        .await
        .unwrap();
    assert!(matches!(relay.next().await, Event::Ended { by: Side::Client, .. }));
    let mut heard = std::pin::pin!(agent.next());
    let heard = tokio::select! {
        heard = &mut heard => heard,
        _ = relay.next() => heard.await,
    };
    assert!(matches!(heard.unwrap(), Some(Frame::End(end)) if end.exit == 0));
}

fn raw() -> (Relay<Carried, Carried>, FrameStream<Carried>, FrameStream<Carried>) {
    let ((client, to_client), (agent, to_agent)) = (duplex(1 << 20), duplex(1 << 20));
    let limits = RelayLimits { queue: 100_000 };
    let relay = Relay::new(Plain::new(to_client), Plain::new(to_agent), limits);
    (
        relay,
        FrameStream::new(Plain::new(client)),
        FrameStream::new(Plain::new(agent)),
    )
}

#[tokio::test]
async fn a_side_that_sends_what_it_may_not_is_at_fault() {
    let record = Frame::Record {
        offset: 0,
        bytes: Bytes::from_static(b"forged"),
    };
    let ack = Frame::RecordAck { offset: 9 };
    let notice = Frame::Notice { text: "forged".into() };
    for (side, frame) in [
        (Side::Client, record),
        (Side::Client, ack.clone()),
        (Side::Client, notice),
        (Side::Client, Frame::RecordEnd { offset: 0 }),
        (Side::Agent, ack),
    ] {
        let (mut relay, mut client, mut agent) = raw();
        let from = if side == Side::Client { &mut client } else { &mut agent };
        from.send(&frame).await.unwrap();
        let event = relay.next().await;
        let Event::Gone {
            side: gone,
            fault: Some(RelayFault::Forbidden(kind)),
        } = event
        else {
            panic!("{event:?}")
        };
        assert_eq!((gone, kind), (side, frame.kind()));
    }
}

#[tokio::test]
async fn pings_are_answered_and_go_no_further() {
    let (mut relay, mut client, mut agent) = raw();
    client.send(&Frame::Ping(7)).await.unwrap();
    client.send(&Frame::Fin { offset: 0 }).await.unwrap();
    let (pong, passed) = tokio::select! {
        event = relay.next() => panic!("{event:?}"),
        both = async { tokio::join!(client.next(), agent.next()) } => both,
    };
    assert_eq!(pong.unwrap(), Some(Frame::Pong(7)));
    assert_eq!(passed.unwrap(), Some(Frame::Fin { offset: 0 }));
}

#[tokio::test]
async fn a_client_that_does_not_read_fills_no_more_than_the_bound() {
    let ((client, to_client), (agent, to_agent)) = (duplex(1000), duplex(1000));
    let mut relay = Relay::new(
        Plain::new(to_client),
        Plain::new(to_agent),
        RelayLimits { queue: 50_000 },
    );
    let mut agent = FrameStream::new(Plain::new(agent));
    let mut sent = 0_u64;
    let flood = async {
        loop {
            agent
                .send(&Frame::Data {
                    offset: sent,
                    bytes: Bytes::from(vec![0; 1000]),
                })
                .await
                .unwrap();
            sent += 1000;
        }
    };
    tokio::select! {
        event = relay.next() => panic!("{event:?}"),
        () = flood => {}
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    assert!((50_000..60_000).contains(&sent), "{sent}");
    // it goes on where it stood as soon as the client reads
    let mut client = FrameStream::new(Plain::new(client));
    let read = async {
        let mut got = 0;
        while got + 4000 < sent {
            let Some(Frame::Data { offset, bytes }) = client.next().await.unwrap() else {
                panic!("no data")
            };
            assert_eq!(offset, got);
            got += bytes.len() as u64;
        }
    };
    tokio::select! {
        event = relay.next() => panic!("{event:?}"),
        () = read => {}
    }
}

#[tokio::test]
async fn closing_sends_what_is_queued() {
    let (mut relay, mut client, mut agent) = raw();
    relay.end(&End::new(0, "stopping", ""));
    let (_, heard, told) = tokio::join!(
        relay.close(Duration::from_secs(10)),
        async {
            let heard = client.next().await.unwrap();
            client.close().await.unwrap();
            heard
        },
        async {
            let told = agent.next().await.unwrap();
            agent.close().await.unwrap();
            told
        }
    );
    assert_eq!(heard, told);
    assert!(matches!(heard, Some(Frame::End(end)) if end.code == "stopping"));
}

#[tokio::test]
async fn what_follows_a_record_waits_until_the_caller_has_it() {
    let (mut relay, mut client, mut agent) = raw();
    let data = |offset, byte| Frame::Data {
        offset,
        bytes: Bytes::from(vec![byte; 60_000]),
    };
    for (round, byte) in [1, 2, 3].into_iter().enumerate() {
        let offset = round as u64;
        agent.queue(&Frame::Record {
            offset,
            bytes: Bytes::from(vec![byte]),
        });
        agent.queue(&data(offset * 60_000, byte));
    }
    agent.flush().await.unwrap();
    let mut recorded = 0;
    for _ in 0..3 {
        let Event::Record { bytes, .. } = relay.next().await else {
            panic!("no record")
        };
        recorded = bytes[0];
        let mut now = std::task::Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(next) = client.poll_next(&mut now) {
            let Some(Frame::Data { bytes, .. }) = next.unwrap() else {
                panic!("no data")
            };
            assert!(bytes[0] < recorded, "shown before the caller had its record");
        }
    }
    assert_eq!(recorded, 3);
    let mut now = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(relay.poll_next(&mut now).is_pending());
    let last = client.next().await.unwrap();
    assert!(matches!(last, Some(Frame::Data { .. })), "{last:?}");
}
