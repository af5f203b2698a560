//! `connect`, as `ssh` starts it: pipes in and out, and a session end behind a WebSocket.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use doorward_wire::tunnel::{self, TunnelStream};
use doorward_wire::{End, Frame, Limits, SshReader, SshWriter, agent_end};
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;
use crate::run::{LIMIT, Said, finish};
use crate::server::{Asked, Pipe, Reply};

const PATH: &str = "/v1/connect/devenv-0";

fn switching(asked: &Asked) -> String {
    switching_with(asked, "")
}

/// The answer with more fields.
fn switching_with(asked: &Asked, more: &str) -> String {
    assert_eq!(asked.field("upgrade"), Some("websocket"));
    assert_eq!(asked.field("sec-websocket-protocol"), Some("doorward-session-1"));
    let key = asked.field("sec-websocket-key").unwrap();
    assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

/// A binary message from a server, unmasked.
fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let mut message = vec![0x82];
    match length {
        0..126 => message.push(u8::try_from(length).unwrap()),
        _ => {
            message.push(126);
            message.extend(length.to_be_bytes());
        }
    }
    message.extend(bytes);
    message
}

/// Plays the session's other end with this function, which says how it ends.
fn session<F>(gateway: &Gateway, play: F)
where
    F: Fn(SshReader, SshWriter) -> BoxFuture<'static, End> + Clone + Send + Sync + 'static,
{
    session_with(gateway, "", play);
}

/// The same, with more fields in the answer.
pub(crate) fn session_with<F>(gateway: &Gateway, fields: &str, play: F)
where
    F: Fn(SshReader, SshWriter) -> BoxFuture<'static, End> + Clone + Send + Sync + 'static,
{
    let fields = fields.to_owned();
    gateway.on(PATH, move |asked| {
        let (head, play) = (switching_with(asked, &fields), play.clone());
        Reply::Take(Box::new(move |mut pipe: Box<dyn Pipe>| {
            Box::pin(async move {
                pipe.write_all(head.as_bytes()).await.unwrap();
                let socket = WebSocketStream::from_raw_socket(pipe, Role::Server, Some(tunnel::config())).await;
                let (stream, _records, handle, driver) = agent_end(TunnelStream::new(socket), Limits::default());
                let (reader, writer) = stream.into_split();
                let play = async {
                    let end = play(reader, writer).await;
                    handle.notice("a notice\u{1b}[2J");
                    handle.end(end);
                };
                let _ = tokio::join!(driver, play);
            })
        }))
    });
}

fn ok() -> End {
    End::new(0, "ended", "")
}

pub(crate) fn start(folder: &crate::run::Folder) -> Child {
    folder
        .command(&["connect", "devenv-0"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_and_ends_are_kept_apart() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    // everything that comes is sent back, and when it ends, a last word and then the end
    session(&gateway, |mut reader, mut writer| {
        Box::pin(async move {
            while let Some(chunk) = reader.chunk().await.unwrap() {
                writer.write_all(&chunk).await.unwrap();
            }
            writer.write_all(b"last word").await.unwrap();
            writer.shutdown().await.unwrap();
            ok()
        })
    });
    let mut child = start(&folder);
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let payload: Vec<u8> = (0..12_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let expected = [&payload[..], b"last word"].concat();
    let send = async {
        input.write_all(&payload).await.unwrap();
        drop(input);
    };
    let mut got = Vec::new();
    let receive = timeout(LIMIT, output.read_to_end(&mut got));
    let ((), received) = tokio::join!(send, receive);
    received.unwrap().unwrap();
    assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    let ran = finish(child).await.expect(0);
    assert_eq!(ran.err, "doorward: a notice\\x1b[2J\n");
    let asked = &gateway.server.asked()[0];
    assert_eq!(asked.field("authorization"), Some("Bearer access-0"));
    assert!(!asked.target.contains("access"));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_goes_on_after_input_ended_and_the_other_way_round() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    session(&gateway, |mut reader, mut writer| {
        Box::pin(async move {
            // our direction ends first; then what still comes is counted into the exit code
            writer.write_all(b"early").await.unwrap();
            writer.shutdown().await.unwrap();
            let mut count = 0;
            while let Some(chunk) = reader.chunk().await.unwrap() {
                count += chunk.len();
            }
            End::new(u8::try_from(count).unwrap(), "counted", "")
        })
    });
    let mut child = start(&folder);
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut early = String::new();
    timeout(LIMIT, output.read_to_string(&mut early))
        .await
        .expect("standard output is closed")
        .unwrap();
    assert_eq!(early, "early");
    input.write_all(b"1234567").await.unwrap();
    drop(input);
    finish(child).await.expect(7);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_the_segment_of_the_answer_are_neither_lost_nor_doubled() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    for extra in [0, 1, 60_000] {
        gateway.on(PATH, move |asked| {
            let mut all = switching(asked).into_bytes();
            let bytes = Bytes::from([b"SSH-2.0-Doorward\r\n".to_vec(), vec![b'x'; extra]].concat());
            let (length, fin) = (bytes.len() as u64, bytes.len() as u64);
            let data = Frame::Data { offset: 0, bytes }.to_bytes();
            all.extend(message(&data));
            all.extend(message(&Frame::Fin { offset: fin }.to_bytes()));
            assert_eq!(length, fin);
            all.extend(message(&Frame::End(End::new(0, "ended", "")).to_bytes()));
            Reply::Take(Box::new(move |mut pipe| {
                Box::pin(async move {
                    pipe.write_all(&all).await.unwrap();
                    // what the client says to the end, and then the end of the connection
                    let _ = pipe.read(&mut [0; 1024]).await;
                })
            }))
        });
        let ran = folder.run(&["connect", "devenv-0"]).await.expect(0);
        assert_eq!(ran.out, format!("SSH-2.0-Doorward\r\n{}", "x".repeat(extra)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_an_end_is_the_exit_code_and_one_line() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    session(&gateway, |reader, writer| {
        Box::pin(async move {
            drop((reader, writer));
            End::new(
                254,
                "record-unavailable",
                "the recording cannot be kept\n\u{1b}]0;x\u{7}",
            )
        })
    });
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(254);
    assert!(
        ran.err
            .contains("doorward: the recording cannot be kept\\n\\x1b]0;x\\x07\n"),
        "{}",
        ran.err
    );
    assert_eq!(ran.out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_with_their_hints() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let cases: [(u16, &str, &str, i32); 4] = [
        (403, "bob may not enter devenv-0", "ask an admin\n\u{1b}[31m", 77),
        (503, "vault is not available", "try again in a minute", 255),
        (429, "too many sessions", "end one", 255),
        (404, "there is no such workspace", "", 77),
    ];
    for (status, text, hint, code) in cases {
        gateway.on(PATH, move |_| problem(status, "code", text, hint));
        let ran = folder.run(&["connect", "devenv-0"]).await.expect(code);
        assert_eq!(ran.out, "");
        let mut expected = format!("doorward: {text}\n");
        if !hint.is_empty() {
            let escaped = hint.replace('\n', "\\n").replace('\u{1b}', "\\x1b");
            expected.push_str(&format!("hint: {escaped}\n"));
        }
        assert_eq!(ran.err, expected);
    }
    for (reply, text) in [(
        Reply::Body as fn(u16, &'static str, Vec<u8>) -> Reply,
        "something in front of the gateway answered 502 Bad Gateway",
    )] {
        gateway.on(PATH, move |_| reply(502, "text/html", vec![b'<'; 1 << 20]));
        let ran = folder.run(&["connect", "devenv-0"]).await.expect(255);
        assert_eq!(ran.err, format!("doorward: {text}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_refreshed_once() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    gateway.on(PATH, |asked| match asked.field("authorization") {
        Some("Bearer access-1") => problem(403, "denied", "not you", ""),
        _ => problem(401, "token-untrusted", "the key is gone", ""),
    });
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(77);
    assert_eq!(ran.err, "doorward: not you\n");
    gateway.on(PATH, |_| {
        problem(401, "token-untrusted", "no token is good", "log in again")
    });
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(77);
    assert_eq!(ran.err, "doorward: no token is good\nhint: log in again\n");
    assert_eq!((issuer.server.count("/token"), gateway.server.count(PATH)), (2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_tunnel_are_refused() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let answers: [(&str, &str); 5] = [
        (
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            "not for our request",
        ),
        (
            "HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            "no WebSocket",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "answered 200"),
        ("SSH-2.0-OpenSSH\r\n", "doorward: "),
        ("", "closed the connection"),
    ];
    for (answer, text) in answers {
        gateway.on(PATH, move |_| {
            Reply::Take(Box::new(move |mut pipe| {
                Box::pin(async move {
                    pipe.write_all(answer.as_bytes()).await.unwrap();
                    pipe.shutdown().await.unwrap();
                })
            }))
        });
        let ran = folder.run(&["connect", "devenv-0"]).await.expect(255);
        assert!(ran.err.contains(text) && ran.out.is_empty(), "{answer:?}: {}", ran.err);
    }
    // a tunnel that breaks off
    gateway.on(PATH, |asked| {
        let head = switching(asked);
        Reply::Take(Box::new(move |mut pipe| {
            Box::pin(async move {
                let data = Frame::Data {
                    offset: 0,
                    bytes: Bytes::from_static(b"before"),
                }
                .to_bytes();
                pipe.write_all(&[head.as_bytes(), &message(&data)].concat())
                    .await
                    .unwrap();
            })
        }))
    });
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(255);
    assert!(ran.err.contains("connection to the gateway broke"), "{}", ran.err);
    assert_eq!(ran.out, "before", "what came before the break is still written");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_never_reach_the_network() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    for name in ["../x", "a/b", "$(touch x)", "a b", "-x", "", "devenv-0\n"] {
        let ran = folder.run(&["connect", "--", name]).await.expect(64);
        assert!(ran.out.is_empty() && !ran.err.contains('\u{1b}'), "{name}: {ran:?}");
    }
    folder.run(&["connect", "devenv-0", "$(x)"]).await.expect(64);
    assert!(gateway.server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_logged_in_is_asked_on_standard_error_and_goes_on() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, -1);
    std::fs::remove_file(folder.path().join("tokens.json")).unwrap();
    session(&gateway, |reader, mut writer| {
        Box::pin(async move {
            // in two parts, as networks have it
            writer.write_all(b"SSH-2.0-Door").await.unwrap();
            writer.write_all(b"ward\r\nand more").await.unwrap();
            drop((reader, writer));
            ok()
        })
    });
    let hold = Arc::new(Semaphore::new(0));
    issuer.set(|script| script.hold = Some(hold.clone()));
    let mut children = [start(&folder), start(&folder)];
    // while nobody has logged in yet, ssh has its identification from both, and nothing else
    for child in &mut children {
        let mut said = [0; 18];
        let read = child.stdout.as_mut().unwrap().read_exact(&mut said);
        timeout(LIMIT, read).await.unwrap().unwrap();
        assert_eq!(&said, b"SSH-2.0-Doorward\r\n");
    }
    hold.add_permits(1);
    let (mut asked, mut waited) = (0, 0);
    for child in &mut children {
        let err = Said::of(child).rest().await;
        asked += err.matches("  address: ").count();
        waited += err.matches("another doorward").count();
    }
    for child in children {
        let ran = finish(child).await.expect(0);
        assert_eq!(ran.out, "and more", "what was said early is not said again");
    }
    assert_eq!((asked, waited), (1, 1), "of several at once, one asks");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspace_than_the_announced_one_is_refused() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let play = |text: &'static str| {
        session(&gateway, move |reader, mut writer| {
            Box::pin(async move {
                let _ = writer.write_all(text.as_bytes()).await;
                drop((reader, writer));
                ok()
            })
        });
    };
    let logged_out = || {
        let folder = gateway.logged_in(&issuer, -1);
        std::fs::remove_file(folder.path().join("tokens.json")).unwrap();
        folder
    };
    play("SSH-2.0-OpenSSH_9.9\r\nfoot in the door");
    let ran = logged_out().run(&["connect", "devenv-0"]).await.expect(255);
    assert_eq!(ran.out, "SSH-2.0-Doorward\r\n");
    assert!(ran.err.contains("did not identify itself"), "{}", ran.err);
    // a gateway that names another one, or none: nothing is said before it comes
    for identification in [
        json!("SSH-2.0-OpenSSH_9.9"),
        json!(null),
        json!("SSH-2.0-Doorward\r\nx"),
    ] {
        gateway.json(
            "/.well-known/doorward",
            json!({"version": 1, "issuer": issuer.url(), "client-id": "doorward", "ssh-identification": identification}),
        );
        let ran = logged_out().run(&["connect", "devenv-0"]).await.expect(0);
        assert_eq!(ran.out, "SSH-2.0-OpenSSH_9.9\r\nfoot in the door");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_login_can_be_switched_off() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, -1);
    std::fs::remove_file(folder.path().join("tokens.json")).unwrap();
    let settings = folder.read("config.toml");
    let never = format!("{settings}login = \"never\"\n");
    for (args, env, settings) in [
        (&["connect", "--no-login", "devenv-0"][..], "", &settings),
        (&["connect", "devenv-0"], "1", &settings),
        (&["connect", "devenv-0"], "", &never),
    ] {
        std::fs::write(folder.path().join("config.toml"), settings).unwrap();
        let child = folder.command(args).env("DOORWARD_NO_LOGIN", env).spawn().unwrap();
        let ran = finish(child).await.expect(77);
        assert!(
            ran.err.contains("not logged in") && ran.err.contains("hint: doorward login"),
            "{}",
            ran.err
        );
        assert_eq!(ran.out, "", "{args:?}");
    }
    assert!(issuer.server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_lets_the_last_bytes_through() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let (sender, mut got) = tokio::sync::mpsc::channel(1);
    session(&gateway, move |mut reader, mut writer| {
        let sender = sender.clone();
        Box::pin(async move {
            writer.write_all(b"ready").await.unwrap();
            let mut all = Vec::new();
            while let Ok(Some(chunk)) = reader.chunk().await {
                all.extend_from_slice(&chunk);
            }
            sender.send(all).await.unwrap();
            drop(writer);
            ok()
        })
    });
    let mut child = start(&folder);
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut ready = [0; 5];
    timeout(LIMIT, output.read_exact(&mut ready)).await.unwrap().unwrap();
    // as ssh does it: the last bytes, the end, and a hang-up at once
    input.write_all(b"disconnect").await.unwrap();
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGHUP).unwrap();
    drop((input, output));
    assert_eq!(timeout(LIMIT, got.recv()).await.unwrap().unwrap(), b"disconnect");
    let status = timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_the_session() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    session(&gateway, |reader, mut writer| {
        Box::pin(async move {
            while writer.write_all(&[7; 4096]).await.is_ok() {}
            drop(reader);
            ok()
        })
    });
    let mut child = start(&folder);
    let input = child.stdin.take();
    drop(child.stdout.take());
    let status = timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    drop(input);
}
