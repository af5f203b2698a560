//! Connecting at all: bytes that come early on either side, many at once, some that stall.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use doorward_audit::Event;
use doorward_wire::tunnel::{TunnelStream, config};
use doorward_wire::{End, Limits, client_end};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use tests::early::{Cut, Pipelined, between};
use tests::front::{At, DEADLINE, Front, remote};
use tests::journal::journal;
use tests::raw::{Reply, tunnel};
use tests::{Stand, noise, sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::task::TaskTracker;

fn on<F: Future<Output = Result<()>>>(test: impl FnOnce(&'static Stand, &'static At) -> F) -> Result<()> {
    static FRONT: OnceLock<Front> = OnceLock::new();
    let start = || {
        Front::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "connects",
        )
    };
    FRONT.get_or_init(start).run(test)
}

/// OpenSSH's first bytes go out in the same TLS record as the request; its key exchange would notice one byte that is
/// lost, doubled or moved.
#[test]
fn what_comes_with_an_accepted_request_arrives_once_and_in_order() -> Result<()> {
    on(|_, At { second, bob, .. }| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = format!("Port={}", listener.local_addr()?.port());
        let together = Arc::new(AtomicUsize::new(0));
        let pass = async {
            let (mut tcp, _) = listener.accept().await?;
            let request = tunnel("devenv-0", &second.issuer.access_token("bob")?);
            let stream = Pipelined::new(second.door()?.tls().await?, &request, Arc::clone(&together));
            let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config())).await;
            let (mut ssh, _incoming, handle, driver) = client_end(TunnelStream::new(socket), Limits::default());
            let copy = async {
                let copied = copy_bidirectional(&mut tcp, &mut ssh).await;
                handle.end(End::new(0, "left", ""));
                copied
            };
            let (copied, _) = tokio::join!(copy, driver);
            Ok::<_, anyhow::Error>(copied?)
        };
        let bytes = noise(300_000);
        let options = ["-o", "ProxyCommand=none", "-o", "HostName=127.0.0.1", "-o", &port];
        let (passed, outcome) = tokio::join!(pass, remote(bob, &options, "cat", &bytes));
        let outcome = outcome?;
        ensure!(
            outcome.code == Some(0),
            "{:?} {}, passed: {passed:?}",
            outcome.code,
            outcome.said()
        );
        ensure!(
            sha256(&outcome.stdout) == sha256(&bytes),
            "{} of {} bytes",
            outcome.stdout.len(),
            bytes.len()
        );
        let together = together.load(Ordering::Relaxed);
        ensure!(
            together > "SSH-2.0-".len(),
            "only {together} bytes went with the request"
        );
        Ok(())
    })
}

/// The client's side of the same: the agent's first bytes come in the same TLS record as the 101, or bytes one by one.
#[test]
fn what_comes_with_the_answer_is_not_lost_on_the_client() -> Result<()> {
    on(|stand, At { second, .. }| async move {
        let (stack, tasks) = (stand.folder().join("stack"), TaskTracker::new());
        for cut in [Cut::Together, Cut::Crumbs] {
            let tunnels = Arc::new(AtomicUsize::new(0));
            let address = between(second.door()?, &stack, cut, &tasks, Arc::clone(&tunnels)).await?;
            let bob = second
                .client(stand, &format!("bob behind {cut:?}"), "bob", address)
                .await?;
            for _ in 0..3 {
                let outcome = remote(&bob, &[], "cat", b"through").await?;
                ensure!(outcome.stdout == b"through", "{cut:?}: {}", outcome.said());
            }
            ensure!(tunnels.load(Ordering::Relaxed) == 3, "{cut:?}: ssh went another way");
        }
        Ok(())
    })
}

#[test]
fn fifty_quick_connects_all_succeed() -> Result<()> {
    on(|_, At { bob, .. }| async move {
        let connects = (0..50).map(|number| async move {
            let outcome = remote(bob, &[], &format!("echo {number}"), b"").await?;
            ensure!(
                outcome.stdout == format!("{number}\n").as_bytes(),
                "connect {number}: {}",
                outcome.said()
            );
            Ok(())
        });
        futures_util::stream::iter(connects)
            .buffer_unordered(6)
            .try_collect::<()>()
            .await
    })
}

#[test]
fn clients_that_stall_are_cut_at_their_deadline_and_hurt_nobody() -> Result<()> {
    on(|_, At { second, bob, .. }| async move {
        let door = &second.door()?;
        let hello = &door.client_hello()?;
        let stalled = |say: &'static str| async move {
            let started = Instant::now();
            let (us, reply) = match say {
                "TLS" => {
                    let mut stream = door.tls().await?;
                    stream
                        .write_all(b"GET /v1/connect/devenv-0 HTTP/1.1\r\nHost: localhost\r\nAuthoriz")
                        .await?;
                    stream.flush().await?;
                    let us = stream.get_ref().0.local_addr()?;
                    (us, Reply::read(&mut stream).await?)
                }
                said => {
                    let mut stream = door.tcp().await?;
                    let said = match said {
                        "nothing" => &[],
                        "half" => &hello[..hello.len() / 2],
                        _ => &hello[..],
                    };
                    stream.write_all(said).await?;
                    (stream.local_addr()?, Reply::read(&mut stream).await?)
                }
            };
            let (after, status) = (started.elapsed(), reply.status());
            ensure!(status == 0 || status == 408, "{say}: {}", reply.text());
            ensure!(
                after < DEADLINE + Duration::from_secs(4),
                "{say} was cut after {after:?}"
            );
            ensure!(
                after > DEADLINE - Duration::from_millis(200),
                "{say} was cut after {after:?} already"
            );
            Ok((say, us))
        };
        let probes = (0..50)
            .flat_map(|_| ["nothing", "half", "no Finished", "TLS"])
            .map(stalled);
        // Held open until the others have been cut: sessions of alice that never say a word.
        let alice = second.issuer.access_token("alice")?;
        let silent = (0..50).map(|_| async {
            let mut stream = door.tls().await?;
            stream.write_all(tunnel("devenv-0", &alice).as_bytes()).await?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await?;
            ensure!(&answer == b"HTTP/1.1 101", "{}", String::from_utf8_lossy(&answer));
            anyhow::Ok(stream)
        });
        let silent: Vec<_> = futures_util::stream::iter(silent)
            .buffer_unordered(8)
            .try_collect()
            .await?;
        let beside = async {
            for _ in 0..3 {
                let started = Instant::now();
                let outcome = remote(bob, &[], "true", b"").await?;
                ensure!(outcome.code == Some(0), "beside: {}", outcome.said());
                ensure!(started.elapsed() < DEADLINE, "beside: {:?}", started.elapsed());
            }
            Ok(())
        };
        let (cut, ()) = tokio::try_join!(try_join_all(probes), beside)?;
        // What strangers do is put on record at a bounded rate: each kind, and not each of them.
        let on_record = journal(&second.state())?;
        for (kind, code) in [
            ("nothing", "tls-handshake"),
            ("half", "tls-handshake"),
            ("TLS", "request-timeout"),
        ] {
            let of_kind: HashSet<_> = cut
                .iter()
                .filter(|(say, _)| *say == kind)
                .map(|(_, us)| us.to_string())
                .collect();
            let told = on_record.iter().any(
                |event| matches!(event, Event::Denied(it) if it.code == code && of_kind.contains(&it.client_address)),
            );
            ensure!(told, "none of those who said {kind} is on record");
        }
        drop(silent);
        let sessions = journal(&second.state())?;
        ensure!(
            sessions
                .iter()
                .filter(|event| matches!(event, Event::SessionOpened(it) if it.user == "alice"))
                .count()
                >= 50
        );
        Ok(())
    })
}
