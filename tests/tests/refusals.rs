//! What the gateway refuses, as a stranger on the network sees it, as the journal tells it, and as everybody else does
//! not notice it.

use std::future::Future;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::issuer::{Issuer, Settings};
use doorward_wire::Frame;
use jsonwebtoken::Header;
use serde_json::{Value, json};
use tests::echo::Echo;
use tests::front::{At, Front, header, remote, ssh, token};
use tests::journal::{denial, journal};
use tests::raw::{Reply, UPGRADE, get, tunnel};
use tests::{Stand, sessions_of, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn on<F: Future<Output = Result<()>>>(test: impl FnOnce(&'static Stand, &'static At) -> F) -> Result<()> {
    static FRONT: OnceLock<Front> = OnceLock::new();
    let start = || {
        Front::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "refusals",
        )
    };
    FRONT.get_or_init(start).run(test)
}

fn in_seconds(by: i64) -> Result<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(json!(now.saturating_add_signed(by)))
}

/// One answer, which is no tunnel, and the end of the connection.
fn is_refusal(reply: &Reply, status: u16, code: &str) -> Result<()> {
    let text = reply.text();
    ensure!(
        reply.status() == status && reply.problem("code") == code,
        "not {status} {code}: {text}"
    );
    ensure!(text.matches("HTTP/1.1 ").count() == 1, "more than one answer: {text}");
    ensure!(
        reply.header("content-type").as_deref() == Some("application/problem+json"),
        "no problem body: {text}"
    );
    ensure!(!reply.problem("detail").is_empty(), "no sentence: {text}");
    let asks_for_a_token = reply.header("www-authenticate").is_some();
    ensure!(asks_for_a_token == (status == 401), "www-authenticate: {text}");
    Ok(())
}

#[test]
fn a_token_that_is_no_good_is_refused_with_its_reason_and_put_on_record() -> Result<()> {
    on(|_, At { second, .. }| async move {
        // Another issuer that claims to be ours, down to the id of the key.
        let stranger = Issuer::start(Settings::default()).await?;
        let kid = jsonwebtoken::decode_header(second.issuer.access_token("bob")?)?.kid;
        let forged = stranger.sign(&Header { kid, ..header() }, &second.issuer.access_claims("bob")?)?;
        let hour_ago = in_seconds(-3600)?;
        let bearer = |token: String| format!("Authorization: Bearer {token}\r\n");
        let cases = [
            (String::new(), 401, "token-missing", None),
            (
                "Authorization: Basic Ym9iOmJvYg==\r\n".to_owned(),
                401,
                "token-missing",
                None,
            ),
            (bearer("one.two.three".to_owned()), 401, "token-malformed", None),
            (
                bearer(token(second, "bob", |claims| claims["exp"] = hour_ago)?),
                401,
                "token-expired",
                None,
            ),
            (
                bearer(token(second, "bob", |claims| claims["aud"] = json!("another"))?),
                401,
                "token-foreign",
                None,
            ),
            (bearer(forged), 401, "token-untrusted", None),
            (
                bearer(token(second, "mallory", |_| {})?),
                403,
                "denied",
                Some("mallory"),
            ),
        ];
        let door = second.door()?;
        for (line, status, code, user) in cases {
            let request = get("/v1/connect/devenv-0", &format!("{UPGRADE}{line}"));
            let (us, reply) = door.ask(request).await?;
            is_refusal(&reply, status, code)?;
            let denied = denial(&second.state(), us).await?;
            ensure!(denied.code == code, "{code} is on record as {denied:?}");
            let where_to = code == "token-missing" || denied.workspace == "devenv-0";
            ensure!(where_to, "{code}: where to? {denied:?}");
            ensure!(denied.user.as_deref() == user, "{code}: who was it? {denied:?}");
        }
        Ok(())
    })
}

/// What may differ between two answers: the time and the request's id.
fn without_instance(reply: &Reply) -> Result<String> {
    let text = reply.text();
    let date = reply.header("date").context("no date")?;
    let instance = reply.problem("instance");
    ensure!(instance.starts_with("urn:uuid:"), "no request id: {text}");
    Ok(text.replace(&date, "DATE").replace(&instance, "INSTANCE"))
}

#[test]
fn what_is_not_there_and_what_is_not_for_you_look_the_same() -> Result<()> {
    on(|_, At { second, bob, .. }| async move {
        ensure!(remote(bob, &[], "true", b"").await?.code == Some(0));
        let his = sessions_of(bob).await?;
        let his = his
            .first()
            .and_then(|entry| entry["session"].as_str())
            .context("bob has no session")?
            .to_owned();
        let nobodys = uuid::Uuid::now_v7().to_string();
        let carol = token(second, "carol", |_| {})?;
        let ours = format!("Authorization: Bearer {carol}\r\n");
        let files = |id: &str| get(&format!("/v1/sessions/{id}/files/segment-000000.dwr"), &ours);
        let door = second.door()?;
        for (there, not_there, status) in [
            (tunnel("devenv-0", &carol), tunnel("devenv-9", &carol), 403),
            (
                get(&format!("/v1/sessions/{his}"), &ours),
                get(&format!("/v1/sessions/{nobodys}"), &ours),
                404,
            ),
            (files(&his), files(&nobodys), 404),
        ] {
            let ((one, there), (two, not_there)) = tokio::try_join!(door.ask(there), door.ask(not_there))?;
            ensure!(there.status() == status, "carol sees {}", there.text());
            ensure!(
                without_instance(&there)? == without_instance(&not_there)?,
                "{there:?} {not_there:?}"
            );
            if status == 403 {
                let (one, two) = (denial(&second.state(), one).await?, denial(&second.state(), two).await?);
                ensure!(one.code == "denied" && two.code == "denied" && one.user.as_deref() == Some("carol"));
                ensure!(
                    one.workspace == "devenv-0" && two.workspace == "devenv-9",
                    "the operator cannot tell them apart"
                );
            }
        }
        Ok(())
    })
}

#[test]
fn a_request_that_two_readers_could_read_differently_never_becomes_a_tunnel() -> Result<()> {
    on(|_, At { second, .. }| async move {
        let good = second.issuer.access_token("bob")?;
        let sound = tunnel("devenv-0", &good);
        let line = format!("Authorization: Bearer {good}\r\n");
        let with = |more: &str| sound.replacen("\r\n", &format!("\r\n{more}\r\n"), 1);
        let cases = [
            (
                "no upgrade",
                get("/v1/connect/devenv-0", &line),
                426,
                "upgrade-required",
            ),
            (
                "another version",
                sound.replace("Version: 13", "Version: 12"),
                426,
                "upgrade-required",
            ),
            (
                "a page's origin",
                with("Origin: https://evil.example"),
                403,
                "cross-origin",
            ),
            ("two tokens", with(line.trim_end()), 400, "bad-request"),
            ("two hosts", with("Host: elsewhere"), 400, "bad-request"),
            ("a length", with("Content-Length: 0"), 400, "bad-request"),
            (
                "chunks",
                with("Transfer-Encoding: chunked") + "0\r\n\r\n",
                400,
                "bad-request",
            ),
            (
                "a token in the address",
                sound.replace("devenv-0 ", &format!("devenv-0?t={good} ")),
                400,
                "bad-request",
            ),
            (
                "another method",
                sound.replacen("GET", "POST", 1),
                405,
                "method-not-allowed",
            ),
            (
                "no workspace name",
                sound.replace("devenv-0", "..%2fetc"),
                400,
                "bad-request",
            ),
        ];
        let door = second.door()?;
        for (what, request, status, code) in cases {
            let (us, reply) = door.ask(request).await?;
            is_refusal(&reply, status, code).context(what)?;
            let denied = denial(&second.state(), us).await.context(what)?;
            ensure!(
                denied.code == code && denied.user.is_none(),
                "{what} is on record as {denied:?}"
            );
        }
        let unreadable = [
            (
                "a header of a mebibyte",
                with(&format!("X: {}", "x".repeat(1 << 20))),
                "header-too-large",
            ),
            (
                "ten thousand fields",
                with(&"X: x\r\n".repeat(10_000)),
                "header-too-large",
            ),
            ("a space before the colon", with("Content-Length : 0"), "bad-request"),
            ("a NUL", with("X: \0"), "bad-request"),
        ];
        for (what, request, code) in unreadable {
            let (us, reply) = door.ask(request).await?;
            ensure!([400, 431].contains(&reply.status()), "{what}: {}", reply.text());
            let denied = denial(&second.state(), us).await.context(what)?;
            ensure!(denied.code == code, "{what} is on record as {denied:?}");
        }
        Ok(())
    })
}

/// One WebSocket message, masked, as a client sends it (RFC 6455, section 5.2).
fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => bytes.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;

fn ssh_bytes(offset: u64, bytes: &'static [u8]) -> Frame {
    Frame::Data {
        offset,
        bytes: bytes.into(),
    }
}

#[test]
fn what_follows_a_refused_request_is_dropped() -> Result<()> {
    on(|_, At { second, .. }| async move {
        let banner = message(BINARY, &ssh_bytes(0, b"SSH-2.0-early\r\n").to_bytes());
        let good = second.issuer.access_token("bob")?;
        let next = get("/v1/workspaces", &format!("Authorization: Bearer {good}\r\n"));
        let expired = token(second, "bob", |claims| claims["exp"] = json!(1_000_000_000))?;
        let request = [tunnel("devenv-0", &expired).as_bytes(), &banner, next.as_bytes()].concat();
        let (us, reply) = second.door()?.ask(request).await?;
        is_refusal(&reply, 401, "token-expired")?;
        denial(&second.state(), us).await?;
        let opened = journal(&second.state())?;
        let us = us.to_string();
        ensure!(
            !opened
                .iter()
                .any(|event| matches!(event, Event::SessionOpened(it) if it.client_address == us))
        );
        Ok(())
    })
}

/// How a session that came from this address ended, as the journal tells it.
async fn end_of(state: &Path, peer: std::net::SocketAddr) -> Result<String> {
    let peer = peer.to_string();
    until("the session's end in the journal", async || {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let events = journal(state)?;
        let session = events.iter().find_map(|event| match event {
            Event::SessionOpened(opened) if opened.client_address == peer => Some(opened.session),
            _ => None,
        });
        Ok(events.iter().find_map(|event| match event {
            Event::SessionEnded(ended) if Some(ended.session) == session => Some(ended.code.clone()),
            _ => None,
        }))
    })
    .await
}

#[test]
fn a_connect_that_fails_touches_no_other_session_of_the_same_person() -> Result<()> {
    on(|_, At { second, bob, .. }| async move {
        let (door, state) = (second.door()?, second.state());
        let mut open = Echo::start(ssh(bob, &[])).await?;
        let good = second.issuer.access_token("bob")?;
        for (request, status) in [
            (tunnel("devenv-9", &good), 403),
            (
                tunnel("devenv-0", &token(second, "bob", |claims| claims["exp"] = json!(1))?),
                401,
            ),
            (tunnel("devenv-0", &good).replace("Version: 13", "Version: 8"), 426),
        ] {
            let (_, reply) = door.ask(request).await?;
            ensure!(reply.status() == status, "{}", reply.text());
            open.answers().await?;
        }
        let record = Frame::Record {
            offset: 0,
            bytes: (&b"forged"[..]).into(),
        };
        let frames = |frames: &[&[u8]]| message(BINARY, &frames.concat());
        let begun = ssh_bytes(0, b"SSH-2.0-x\r\n").to_bytes();
        let cases = [
            (
                "an unknown frame",
                frames(&[&begun, &[99, 0, 0, 1, 0]]),
                "client-protocol",
            ),
            (
                "a giant frame",
                frames(&[&begun, &[1, 0xff, 0xff, 0xff]]),
                "client-protocol",
            ),
            (
                "a frame that is too short",
                frames(&[&begun, &[1, 0, 0, 3, 0, 0, 0]]),
                "client-protocol",
            ),
            (
                "a record from a client",
                frames(&[&begun, &record.to_bytes()]),
                "client-protocol",
            ),
            ("text", message(TEXT, b"hello"), "client-gone"),
            ("a giant message", message(BINARY, &vec![0; 300 * 1024]), "client-gone"),
            ("a reserved opcode", message(3, b""), "client-gone"),
        ];
        for (what, said, code) in cases {
            let request = [tunnel("devenv-0", &good).as_bytes(), &said].concat();
            let (us, reply) = door.ask(request).await.context(what)?;
            ensure!(reply.status() == 101, "{what}: {}", reply.text());
            let ended = end_of(&state, us).await.context(what)?;
            ensure!(ended == code, "{what} is on record as {ended}");
            open.answers().await.context(what)?;
        }
        // And one that vanishes in the middle of a frame.
        let mut stream = door.tls().await?;
        let us = stream.get_ref().0.local_addr()?;
        let half = frames(&[&begun, &[1, 0, 1, 0, 0]]);
        stream
            .write_all(&[tunnel("devenv-0", &good).as_bytes(), &half].concat())
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        drop(stream);
        ensure!(end_of(&state, us).await? == "client-gone");
        open.ends_well().await
    })
}
