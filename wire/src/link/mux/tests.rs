//! Streams beside streams over a pipe.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::task::JoinHandle;

use super::*;

#[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with the test")]
fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

struct End {
    mux: Mux,
    incoming: MuxIncoming,
    driver: JoinHandle<Result<(), MuxError>>,
}

fn pair(limits: MuxLimits) -> (End, End) {
    let (near, far) = duplex(64 * 1024);
    let end = |io, side| {
        let (mux, incoming, driver) = mux(io, side, limits);
        End {
            mux,
            incoming,
            driver: run(driver),
        }
    };
    (end(near, Side::Gateway), end(far, Side::Agent))
}

/// A stream from one end to the other, known to both.
async fn stream(from: &End, to: &mut End) -> (MuxStream, MuxStream) {
    let mut near = from.mux.open().await.unwrap();
    near.write_all(b"!").await.unwrap();
    let mut far = to.incoming.accept().await.unwrap();
    far.read_exact(&mut [0]).await.unwrap();
    far.write_all(b"!").await.unwrap();
    near.read_exact(&mut [0]).await.unwrap();
    (near, far)
}

#[tokio::test]
async fn bytes_pass_whole_through_both_kinds_of_reading() {
    let (gateway, mut agent) = pair(MuxLimits::default());
    let (mut near, mut far) = stream(&gateway, &mut agent).await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at >> 3) as u8).collect();
    let copy = bytes.clone();
    let write = run(async move {
        let mut out = Outbox::new();
        for part in copy.chunks(70_000) {
            out.push(Bytes::copy_from_slice(part));
            poll_fn(|cx| near.poll_send(cx, &mut out)).await.unwrap();
        }
        poll_fn(|cx| near.poll_close(cx)).await.unwrap();
        near
    });
    let mut got = vec![0; 300_001];
    far.read_exact(&mut got).await.unwrap();
    while let Some(chunk) = poll_fn(|cx| far.poll_receive(cx)).await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert!(got == bytes);
    let mut near = write.await.unwrap();
    far.write_all(b"late").await.unwrap();
    far.shutdown().await.unwrap();
    let mut late = String::new();
    near.read_to_string(&mut late).await.unwrap();
    assert_eq!(late, "late");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_no_other_and_fills_no_more_than_its_window() {
    let (gateway, mut agent) = pair(MuxLimits::default());
    let (mut stalled, _unread) = stream(&gateway, &mut agent).await;
    let (mut live, mut echo) = stream(&gateway, &mut agent).await;
    let flood = run(async move {
        let mut sent = 0;
        loop {
            let write = tokio::time::timeout(Duration::from_secs(2), stalled.write(&[0; 10_000]));
            match write.await {
                Ok(count) => sent += count.unwrap(),
                Err(_) => return sent,
            }
        }
    });
    for round in 0..200_u8 {
        live.write_all(&[round; 1000]).await.unwrap();
        let mut got = [0; 1000];
        echo.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [round; 1000]);
    }
    let sent = flood.await.unwrap();
    assert!((CREDIT..CREDIT + 10).contains(&(sent + 1)), "{sent}");
}

#[tokio::test]
async fn a_dropped_stream_is_reset_and_that_is_no_end() {
    let (gateway, mut agent) = pair(MuxLimits::default());
    let (near, mut far) = stream(&gateway, &mut agent).await;
    drop(near);
    let error = far.read(&mut [0; 9]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let (near, mut far) = stream(&gateway, &mut agent).await;
    drop(near);
    let error = poll_fn(|cx| far.poll_receive(cx)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused_and_the_link_lives() {
    let (gateway, mut agent) = pair(MuxLimits {
        streams: 5,
        backlog: 5,
        ..MuxLimits::default()
    });
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(stream(&gateway, &mut agent).await);
    }
    assert!(matches!(gateway.mux.open().await, Err(MuxError::TooMany)));
    open.pop();
    // the end that dropped it knows at once
    open.push(stream(&gateway, &mut agent).await);
    assert!(matches!(gateway.mux.open().await, Err(MuxError::TooMany)));
}

#[tokio::test]
async fn streams_that_nobody_accepts_are_reset() {
    let (gateway, mut agent) = pair(MuxLimits {
        backlog: 2,
        ..MuxLimits::default()
    });
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut stream = gateway.mux.open().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        open.push(stream);
    }
    for stream in open.iter_mut().skip(2) {
        assert_eq!(
            stream.read(&mut [0]).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }
    let mut first = agent.incoming.accept().await.unwrap();
    first.write_all(b"y").await.unwrap();
    open[0].read_exact(&mut [0]).await.unwrap();
}

#[tokio::test]
async fn many_openings_and_drops_keep_the_link() {
    let (gateway, mut agent) = pair(MuxLimits {
        streams: 50,
        ..MuxLimits::default()
    });
    let accept = run(async move {
        let mut count = 0;
        while let Some(mut stream) = agent.incoming.accept().await {
            stream.read_exact(&mut [0]).await.unwrap();
            count += 1;
            if count == 2000 {
                break;
            }
        }
        (agent, count)
    });
    for _ in 0..2000 {
        let mut stream = gateway.mux.open().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(
            stream.read(&mut [0]).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }
    assert_eq!(accept.await.unwrap().1, 2000);
    assert!(!gateway.mux.is_closed());
}

#[tokio::test]
async fn closing_delivers_what_was_sent_and_wakes_everybody() {
    let (gateway, mut agent) = pair(MuxLimits::default());
    let (mut near, mut far) = stream(&gateway, &mut agent).await;
    near.write_all(b"last words").await.unwrap();
    let waits = run(async move { near.read(&mut [0]).await });
    gateway.mux.close();
    gateway.driver.await.unwrap().unwrap();
    assert_eq!(waits.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut got = [0; 10];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"last words");
    assert_eq!(
        far.read(&mut got).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    agent.driver.await.unwrap().unwrap();
    assert!(agent.incoming.accept().await.is_none());
    agent.mux.closed().await;
    assert!(matches!(agent.mux.open().await, Err(MuxError::Closed)));
}

#[tokio::test]
async fn dropping_the_driver_wakes_everybody() {
    let (gateway, mut agent) = pair(MuxLimits::default());
    let (mut near, mut far) = stream(&gateway, &mut agent).await;
    gateway.driver.abort();
    gateway.mux.closed().await;
    assert_eq!(
        near.read(&mut [0]).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(
        far.read(&mut [0]).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test(start_paused = true)]
async fn closing_towards_a_peer_that_does_not_read_ends() {
    let (near, _far) = duplex(100);
    let (mux, _incoming, driver) = mux(near, Side::Gateway, MuxLimits::default());
    let driver = run(driver);
    let mut stream = mux.open().await.unwrap();
    stream.write_all(&[0; 10_000]).await.unwrap();
    mux.close();
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_no_link_is_an_error() {
    let (near, mut far) = duplex(1000);
    let (_mux, _incoming, driver) = mux(near, Side::Agent, MuxLimits::default());
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(driver.await, Err(MuxError::Failed(_))));
}
