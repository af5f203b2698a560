//! Whole sessions over everything at once: tunnel, relay, and a TLS link with many streams.

#![cfg(feature = "websocket")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use doorward_wire::driver::{Closed, Said};
use doorward_wire::link::{
    LinkKey, Mux, MuxIncoming, MuxLimits, Side, accept, connect, mux, read_message, write_message,
};
use doorward_wire::message::{Message, StreamOpen};
use doorward_wire::relay::{Counters, Event, Relay, RelayLimits};
use doorward_wire::tunnel::{TunnelStream, config};
use doorward_wire::{End, Limits, SshStream, agent_end, client_end};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::{accept_async_with_config, client_async_with_config};

const SOON: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with the test")]
fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

/// A link between a gateway and an agent.
async fn link() -> (Mux, MuxIncoming) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| doorward_wire::tls_provider().install_default().unwrap());
    let (near, far) = duplex(100_000);
    let (gateway, agent) = (
        LinkKey::from_seed(&[1; 32]).unwrap(),
        LinkKey::from_seed(&[2; 32]).unwrap(),
    );
    let (near, far) = tokio::join!(connect(near, &gateway, SOON), accept(far, &agent, SOON));
    let (opener, _, driver) = mux(near.unwrap().0, Side::Gateway, MuxLimits::default());
    run(driver);
    let (_, incoming, driver) = mux(far.unwrap().0, Side::Agent, MuxLimits::default());
    run(driver);
    (opener, incoming)
}

/// The agent: records everything that it is told and shows, answers with the same bytes turned over.
async fn serve(mut incoming: MuxIncoming) {
    while let Some(mut stream) = incoming.accept().await {
        run(async move {
            let open = read_message(&mut stream, SOON).await.unwrap();
            assert_eq!(open, Message::StreamOpen(StreamOpen::Control));
            let (ssh, sink, handle, driver) = agent_end(stream, Limits::default());
            let driver = run(driver);
            let (mut reader, mut writer) = ssh.into_split();
            while let Some(chunk) = reader.chunk().await.unwrap() {
                let turned: Vec<u8> = chunk.iter().map(|byte| !byte).collect();
                sink.append(Bytes::from(turned.clone())).await.unwrap();
                writer.write_all(&turned).await.unwrap();
            }
            sink.wait_acked(sink.finish(), SOON).await.unwrap();
            let end = End::new(0, "ended", "");
            handle.end(end.clone());
            assert_eq!(driver.await.unwrap().unwrap(), Closed::Said(end));
        });
    }
}

/// The gateway's part of one session: returns the recording and what was counted.
async fn session(mux: Mux, tunnel: impl doorward_wire::Carrier) -> (Vec<u8>, Counters) {
    let mut stream = mux.open().await.unwrap();
    write_message(&mut stream, &Message::StreamOpen(StreamOpen::Control), SOON)
        .await
        .unwrap();
    let mut relay = Relay::new(tunnel, stream, RelayLimits::default());
    let (mut stored, mut ended) = (Vec::new(), None);
    loop {
        match relay.next().await {
            Event::Record { offset, bytes } => {
                assert_eq!(offset, stored.len() as u64);
                stored.extend_from_slice(&bytes);
                relay.ack_records(stored.len() as u64);
            }
            Event::RecordEnd { offset } => ended = Some(offset),
            Event::Gone { fault, side } => assert!(fault.is_none(), "{side:?} {fault:?}"),
            Event::Ended { .. } => {}
            Event::Over => break,
        }
    }
    assert_eq!(ended, Some(stored.len() as u64));
    let counters = relay.counters();
    relay.close(SOON).await;
    (stored, counters)
}

fn noise(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The user: sends in pieces, ends its direction, and reads on to the end.
async fn user(ssh: SshStream, sent: Vec<u8>, piece: usize) -> Vec<u8> {
    let (mut reader, mut writer) = ssh.into_split();
    let (mut got, copy) = (Vec::new(), sent.clone());
    let write = async {
        for piece in copy.chunks(piece) {
            writer.write_all(piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    tokio::join!(write, async { reader.read_to_end(&mut got).await.unwrap() });
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sessions_side_by_side_keep_every_byte_apart() {
    let (opener, incoming) = link().await;
    run(serve(incoming));
    let mut sessions = Vec::new();
    for (seed, (length, piece)) in [(1, 1), (0, 1), (3_000_000, 32_000), (2_000_000, 700), (20_000, 7)]
        .into_iter()
        .enumerate()
    {
        let opener = opener.clone();
        sessions.push(run(async move {
            let (near, far) = duplex(50_000);
            let (client, server) = tokio::join!(
                client_async_with_config("ws://gateway.invalid/", near, Some(config())),
                accept_async_with_config(far, Some(config()))
            );
            let gateway = run(session(opener, TunnelStream::new(server.unwrap())));
            let (ssh, mut incoming, handle, driver) =
                client_end(TunnelStream::new(client.unwrap().0), Limits::default());
            let driver = run(driver);
            let sent = noise(seed as u32, length);
            let got = user(ssh, sent.clone(), piece).await;
            let turned: Vec<u8> = sent.iter().map(|byte| !byte).collect();
            assert!(got == turned, "session {seed}");
            let end = End::new(0, "ended", "");
            assert_eq!(incoming.next().await, Some(Said::End(end.clone())));
            assert_eq!(handle.counters(), (length as u64, length as u64));
            assert_eq!(driver.await.unwrap().unwrap(), Closed::Heard(end));
            let (stored, counters) = gateway.await.unwrap();
            assert!(stored == turned, "recording {seed}");
            let length = length as u64;
            assert_eq!(
                counters,
                Counters {
                    client_to_agent: length,
                    agent_to_client: length,
                    records: length
                }
            );
        }));
    }
    for session in sessions {
        session.await.unwrap();
    }
    assert!(!opener.is_closed());
}
