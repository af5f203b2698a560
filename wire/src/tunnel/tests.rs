//! Tunnels over a pipe.

use std::future::poll_fn;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::{accept_async_with_config, client_async_with_config};

use super::*;
use crate::frame::Frame;
use crate::frames::FrameStream;

type Socket = WebSocketStream<DuplexStream>;

async fn sockets(room: usize) -> (Socket, Socket) {
    let (near, far) = duplex(room);
    let client = WebSocketStream::from_raw_socket(near, Role::Client, Some(config()));
    let server = WebSocketStream::from_raw_socket(far, Role::Server, Some(config()));
    tokio::join!(client, server)
}

async fn tunnels(room: usize) -> (TunnelStream<DuplexStream>, TunnelStream<DuplexStream>) {
    let (client, server) = sockets(room).await;
    (TunnelStream::new(client), TunnelStream::new(server))
}

async fn receive(tunnel: &mut TunnelStream<DuplexStream>) -> io::Result<Option<Bytes>> {
    poll_fn(|cx| tunnel.poll_receive(cx)).await
}

/// Sends everything, closes, and reads on until the peer has closed.
async fn send_all(mut tunnel: TunnelStream<DuplexStream>, bytes: Vec<u8>, part: usize) -> Vec<u8> {
    let mut out = Outbox::new();
    let (mut parts, mut got) = (bytes.chunks(part), Vec::new());
    let (mut closed, mut ended) = (false, false);
    poll_fn(|cx| {
        loop {
            if out.is_empty() {
                match parts.next() {
                    Some(part) => out.push(Bytes::copy_from_slice(part)),
                    None => break,
                }
            }
            if tunnel.poll_send(cx, &mut out)?.is_pending() {
                break;
            }
        }
        while !ended {
            match tunnel.poll_receive(cx)? {
                Poll::Ready(Some(chunk)) => got.extend_from_slice(&chunk),
                Poll::Ready(None) => ended = true,
                Poll::Pending => break,
            }
        }
        if out.is_empty() && parts.len() == 0 && !closed {
            closed = tunnel.poll_close(cx)?.is_ready();
        }
        if closed && ended {
            Poll::Ready(io::Result::Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
    .unwrap();
    got
}

#[tokio::test]
async fn much_passes_both_ways_and_closing_loses_nothing() {
    for (room, part) in [(1000, 300), (64 * 1024, 300_000), (1 << 20, 5000)] {
        let (client, server) = tunnels(room).await;
        let up: Vec<u8> = (0..700_000_u32).map(|at| (at >> 2) as u8).collect();
        let down: Vec<u8> = up.iter().map(|byte| byte ^ 0x55).collect();
        // what comes after one side has closed is not promised, so the two close one after the other
        let (got_down, got_up) = tokio::join!(
            send_all(client, up.clone(), part),
            receive_then_send(server, up.len(), &down)
        );
        assert!(got_up == up, "{room} {part}");
        assert!(got_down == down, "{room} {part}");
    }
}

async fn receive_then_send(mut tunnel: TunnelStream<DuplexStream>, expect: usize, bytes: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    let mut out = Outbox::new();
    out.push(Bytes::copy_from_slice(bytes));
    poll_fn(|cx| {
        while got.len() < expect {
            match tunnel.poll_receive(cx)? {
                Poll::Ready(Some(chunk)) => got.extend_from_slice(&chunk),
                Poll::Ready(None) => panic!("ended after {}", got.len()),
                Poll::Pending => break,
            }
        }
        let sent = tunnel.poll_send(cx, &mut out)?.is_ready() && tunnel.poll_flush(cx)?.is_ready();
        if sent && got.len() == expect {
            Poll::Ready(io::Result::Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
    .unwrap();
    assert_eq!(receive(&mut tunnel).await.unwrap(), None);
    poll_fn(|cx| tunnel.poll_close(cx)).await.unwrap();
    got
}

#[tokio::test]
async fn frames_pass() {
    let (client, server) = tunnels(1 << 16).await;
    let (mut client, mut server) = (FrameStream::new(client), FrameStream::new(server));
    let data = Frame::Data {
        offset: 9,
        bytes: Bytes::from(vec![1; 60_000]),
    };
    client.queue(&Frame::Ping(1));
    client.queue(&data);
    let (sent, ()) = tokio::join!(client.flush(), async {
        assert_eq!(server.next().await.unwrap(), Some(Frame::Ping(1)));
        assert_eq!(server.next().await.unwrap(), Some(data.clone()));
    });
    sent.unwrap();
    let (closed, ended) = tokio::join!(client.close(), server.next());
    closed.unwrap();
    assert_eq!(ended.unwrap(), None);
}

#[tokio::test]
async fn a_transport_that_stops_is_no_end() {
    let (client, mut server) = tunnels(1 << 16).await;
    drop(client);
    assert_eq!(
        receive(&mut server).await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    let (mut client, server) = tunnels(1 << 16).await;
    drop(server);
    assert_eq!(
        receive(&mut client).await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    let mut out = Outbox::new();
    out.push(Bytes::from(vec![0; 100_000]));
    poll_fn(|cx| client.poll_send(cx, &mut out)).await.unwrap_err();
}

#[tokio::test]
async fn only_a_close_without_fault_is_an_end() {
    for (code, good) in [
        (CloseCode::Normal, true),
        (CloseCode::Away, false),
        (CloseCode::Error, false),
    ] {
        let (mut client, server) = sockets(1 << 16).await;
        let mut server = TunnelStream::new(server);
        let frame = CloseFrame {
            code,
            reason: "because".into(),
        };
        let (closed, received) = tokio::join!(client.close(Some(frame)), receive(&mut server));
        closed.unwrap();
        match received {
            Ok(None) => assert!(good),
            Err(error) => assert!(!good && error.kind() == io::ErrorKind::ConnectionAborted),
            Ok(Some(_)) => panic!("nothing was sent"),
        }
        // the answer left at once
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    }
}

#[tokio::test]
async fn text_and_messages_too_large_are_refused() {
    for message in [Message::text("no"), Message::binary(vec![0; MAX_TUNNEL_MESSAGE + 1])] {
        let (mut client, server) = sockets(1 << 20).await;
        let mut server = TunnelStream::new(server);
        client.send(message).await.unwrap();
        assert_eq!(
            receive(&mut server).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
    let (mut client, server) = sockets(1 << 20).await;
    let mut server = TunnelStream::new(server);
    client.send(Message::binary(vec![7; MAX_TUNNEL_MESSAGE])).await.unwrap();
    assert_eq!(receive(&mut server).await.unwrap().unwrap().len(), MAX_TUNNEL_MESSAGE);
}

#[tokio::test]
async fn unmasked_bytes_from_a_client_are_refused() {
    let (mut near, far) = duplex(1 << 16);
    let server = WebSocketStream::from_raw_socket(far, Role::Server, Some(config())).await;
    near.write_all(&[0x82, 2, 1, 2]).await.unwrap();
    let error = receive(&mut TunnelStream::new(server)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn pings_are_answered_and_empty_messages_mean_nothing() {
    let (mut client, server) = sockets(1 << 16).await;
    let mut server = TunnelStream::new(server);
    client.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    client.send(Message::binary(Bytes::new())).await.unwrap();
    client.send(Message::binary(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(receive(&mut server).await.unwrap().unwrap(), "x");
    let (pong, _) = tokio::join!(client.next(), async {
        tokio::time::timeout(std::time::Duration::from_millis(200), receive(&mut server)).await
    });
    assert!(matches!(pong, Some(Ok(Message::Pong(bytes))) if bytes == "there?"));
}

#[tokio::test]
async fn bytes_in_the_same_segment_as_the_answer_come_once() {
    let (near, mut far) = duplex(1 << 16);
    let serve = async {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") {
            far.read_exact(&mut byte).await.unwrap();
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).unwrap();
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .unwrap();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        answer.extend_from_slice(&[0x82, 5]);
        answer.extend_from_slice(b"early");
        answer.extend_from_slice(&[0x82, 2]);
        far.write_all(&answer).await.unwrap();
        far.write_all(b"on").await.unwrap();
        far
    };
    let dial = client_async_with_config("ws://gateway.invalid/v1/connect/x", near, Some(config()));
    let (dialled, _far) = tokio::join!(dial, serve);
    let mut client = TunnelStream::new(dialled.unwrap().0);
    assert_eq!(receive(&mut client).await.unwrap().unwrap(), "early");
    assert_eq!(receive(&mut client).await.unwrap().unwrap(), "on");
}

#[tokio::test]
async fn bytes_read_with_the_request_come_once() {
    // a client's masked message, read by the HTTP server together with the request
    let early = [0x82, 0x85, 0, 0, 0, 0, b'e', b'a', b'r', b'l', b'y', 0x82, 0x82, 0, 0];
    let (mut near, far) = duplex(1 << 16);
    let server = WebSocketStream::from_partially_read(far, early.to_vec(), Role::Server, Some(config()));
    let mut server = TunnelStream::new(server.await);
    near.write_all(&[0, 0, b'o', b'n']).await.unwrap();
    assert_eq!(receive(&mut server).await.unwrap().unwrap(), "early");
    assert_eq!(receive(&mut server).await.unwrap().unwrap(), "on");
}

#[tokio::test]
async fn a_handshake_of_its_own_works() {
    let (near, far) = duplex(1 << 16);
    let (client, server) = tokio::join!(
        client_async_with_config("ws://gateway.invalid/", near, Some(config())),
        accept_async_with_config(far, Some(config()))
    );
    let (mut client, mut server) = (TunnelStream::new(client.unwrap().0), TunnelStream::new(server.unwrap()));
    let mut out = Outbox::new();
    out.push(Bytes::from_static(b"hello"));
    poll_fn(|cx| client.poll_send(cx, &mut out)).await.unwrap();
    poll_fn(|cx| client.poll_flush(cx)).await.unwrap();
    assert_eq!(receive(&mut server).await.unwrap().unwrap(), "hello");
}
