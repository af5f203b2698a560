//! What an agent refuses of those who come to its port, while its real gateway's sessions go on.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_certs::HostKey;
use doorward_wire::Frame;
use doorward_wire::LINK_VERSION;
use doorward_wire::link::{LINK_ALPN, read_message, write_message};
use doorward_wire::message::{GatewayHello, Message, StreamOpen};
use ssh_key::PrivateKey;
use ssh_key::certificate::CertType;
use tests::echo::Echo;
use tests::impostor::{Draft, Link, Talk, ca, dial, dial_with, streams};
use tests::stranger::{Shown, client, heard_over_tls};
use tests::{PATIENCE, Shared, Stand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| Shared::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), "link"))
}

/// Runs a test beside an open session of the real gateway, which must not notice it.
fn beside<F: Future<Output = Result<()>>>(test: impl FnOnce(&'static Stand) -> F) -> Result<()> {
    stand().run(|stand| async move {
        let mut open = Echo::start(stand.ssh(&[], "devenv-0")).await?;
        test(stand).await?;
        open.answers().await?;
        let outcome = stand.run(&[], "devenv-0", "echo new", b"").await?;
        ensure!(outcome.stdout == b"new\n", "a new session: {}", outcome.said());
        open.ends_well().await
    })
}

fn devenv_0(stand: &Stand) -> SocketAddr {
    stand.stack.agent_addresses()[0]
}

fn user_ca(stand: &Stand) -> Result<PrivateKey> {
    ca(&stand.folder().join("stack"), "user-ca")
}

/// The uid of a workspace of the development stack.
fn uid(workspace: &str) -> String {
    format!("dev-{workspace}")
}

async fn linked(stand: &Stand, key: &HostKey) -> Result<Link> {
    let certificate = Draft::link(key).sign(&user_ca(stand)?)?;
    dial(devenv_0(stand), key, certificate)
        .await?
        .map_err(|refused| anyhow::anyhow!("refused: {refused:?}"))
}

fn good(stand: &Stand, key: &HostKey, session: Uuid) -> Draft {
    Draft::session(key, session, &uid("devenv-0"), stand.stack.account())
}

async fn opened(stand: &Stand, link: &Link, key: &HostKey) -> Result<Talk> {
    let session = Uuid::now_v7();
    let certificate = good(stand, key, session).sign(&user_ca(stand)?)?;
    let mut talk = link
        .open(session, certificate)
        .await?
        .map_err(|refused| anyhow::anyhow!("refused: {refused:?}"))?;
    talk.identifies().await?;
    Ok(talk)
}

#[test]
fn a_stranger_hears_nothing() -> Result<()> {
    beside(|stand| async move {
        let address = devenv_0(stand);
        for said in [
            &b"SSH-2.0-OpenSSH_10.0\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            &[0; 4096],
            b"",
        ] {
            let mut tcp = TcpStream::connect(address).await?;
            tcp.write_all(said).await?;
            tcp.shutdown().await?;
            let mut heard = Vec::new();
            // A reset is an end as well.
            let _ = timeout(PATIENCE, tcp.read_to_end(&mut heard))
                .await
                .context("the connection stays open")?;
            // At most an alert (RFC 8446, section 6).
            ensure!(
                heard.len() <= 7 && heard.first().is_none_or(|kind| *kind == 21),
                "{said:?} heard {heard:?}"
            );
        }
        let cases = [
            ("no key", Shown::Nothing, &[LINK_ALPN][..]),
            ("another protocol", Shown::RawKey, &[b"h2"]),
            ("no protocol", Shown::RawKey, &[]),
            ("X.509", Shown::X509, &[LINK_ALPN]),
        ];
        for (what, shown, alpn) in cases {
            let heard = heard_over_tls(address, client(shown, alpn)?, PATIENCE)
                .await
                .context(what)?;
            ensure!(heard.is_empty(), "{what} heard {heard:?}");
        }
        // The same client with the right key and protocol is let wait for its hello: the agent does not speak first.
        let waiting = heard_over_tls(
            address,
            client(Shown::RawKey, &[LINK_ALPN])?,
            Duration::from_millis(500),
        )
        .await;
        let waiting = waiting.err().map(|error| error.to_string());
        ensure!(
            waiting.as_deref() == Some("the agent keeps the connection"),
            "{waiting:?}"
        );
        Ok(())
    })
}

#[test]
fn a_link_without_a_good_certificate_is_refused_before_a_word() -> Result<()> {
    beside(|stand| async move {
        let (key, other) = (HostKey::generate()?, HostKey::generate()?);
        let (ours, hosts) = (user_ca(stand)?, ca(&stand.folder().join("stack"), "host-ca")?);
        let link = Draft::link(&key);
        let session = Uuid::now_v7();
        let cases = [
            (
                "another authority",
                link.sign(HostKey::generate()?.private_key())?,
                "certificate-untrusted-authority",
            ),
            (
                "the hosts' authority",
                link.sign(&hosts)?,
                "certificate-untrusted-authority",
            ),
            (
                "another key",
                Draft::link(&other).sign(&ours)?,
                "certificate-wrong-subject",
            ),
            (
                "expired",
                Draft {
                    after: -700,
                    before: -10,
                    ..link.clone()
                }
                .sign(&ours)?,
                "certificate-expired",
            ),
            (
                "not yet",
                Draft {
                    after: 600,
                    before: 900,
                    ..link.clone()
                }
                .sign(&ours)?,
                "certificate-not-yet-valid",
            ),
            (
                "too long",
                Draft {
                    before: 90 * 86_400,
                    ..link.clone()
                }
                .sign(&ours)?,
                "certificate-life-too-long",
            ),
            (
                "of a host",
                Draft {
                    kind: CertType::Host,
                    ..link.clone()
                }
                .sign(&ours)?,
                "certificate-not-user",
            ),
            (
                "of a session",
                good(stand, &key, session).sign(&ours)?,
                "certificate-wrong-principal",
            ),
            (
                "for anybody",
                Draft {
                    principals: Vec::new(),
                    ..link.clone()
                }
                .sign(&ours)?,
                "certificate-no-principal",
            ),
            ("nonsense", b"nonsense".to_vec(), "certificate-malformed"),
        ];
        for (what, certificate, code) in cases {
            let refused = dial(devenv_0(stand), &key, certificate).await.context(what)?;
            let refused = refused.err().with_context(|| format!("{what} was let in"))?;
            ensure!(refused.code == code, "{what}: {refused:?}");
        }
        let (version, link_certificate) = (LINK_VERSION + 1, link.sign(&ours)?);
        let hello = GatewayHello {
            version,
            gateway_version: "newer".to_owned(),
            link_certificate,
            use_every_s: None,
        };
        let refused = dial_with(devenv_0(stand), &key, hello)
            .await?
            .err()
            .context("another version was let in")?;
        ensure!(refused.code == "version", "{refused:?}");
        let log = std::fs::read_to_string(stand.stack.log_file("agent"))?;
        ensure!(
            log.contains("the gateway is refused: the certificate's subject is not the key"),
            "no word in the log"
        );
        Ok(())
    })
}

#[test]
fn whoever_does_not_say_hello_hears_nothing() -> Result<()> {
    beside(|stand| async move {
        let key = HostKey::generate()?;
        let session = StreamOpen::Records(doorward_wire::message::OpenRecords {
            session: Uuid::now_v7(),
            from: 0,
        });
        let mut giant = u32::MAX.to_be_bytes().to_vec();
        giant.extend([0; 64]);
        let cases = [
            ("another stream first", Message::StreamOpen(session).encode()?.to_vec()),
            ("a ping", Message::Ping(1).encode()?.to_vec()),
            ("nonsense", b"\0\0\0\x08nonsense".to_vec()),
            ("a giant message", giant),
            (
                "a message that breaks off",
                Message::StreamOpen(StreamOpen::Control).encode()?[..5].to_vec(),
            ),
        ];
        for (what, said) in cases {
            let (mux, _incoming, _tasks) = streams(devenv_0(stand), &key).await?;
            let mut stream = mux.open().await?;
            stream.write_all(&said).await?;
            stream.shutdown().await?;
            let answer = read_message(&mut stream, PATIENCE).await;
            ensure!(answer.is_err(), "{what} heard {answer:?}");
            timeout(PATIENCE, mux.closed())
                .await
                .with_context(|| format!("{what}: the link stays"))?;
        }
        Ok(())
    })
}

#[test]
fn a_session_without_a_good_certificate_is_refused_with_its_reason() -> Result<()> {
    beside(|stand| async move {
        let (key, other) = (HostKey::generate()?, HostKey::generate()?);
        let (ours, hosts) = (user_ca(stand)?, ca(&stand.folder().join("stack"), "host-ca")?);
        let link = linked(stand, &key).await?;
        let session = Uuid::now_v7();
        let draft = good(stand, &key, session);
        let login = stand.stack.account();
        let with = |change: &dyn Fn(&mut Draft)| {
            let mut draft = Draft {
                serial: rand::random::<u64>() | 1,
                ..draft.clone()
            };
            change(&mut draft);
            draft.sign(&ours)
        };
        let extra = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let cases = [
            (
                "another workspace",
                with(&|d| *d = Draft::session(&key, session, &uid("devenv-1"), login))?,
                "wrong-workspace",
            ),
            (
                "another key",
                with(&|d| d.subject = other.public_key().clone())?,
                "wrong-subject",
            ),
            (
                "another session",
                good(stand, &key, Uuid::now_v7()).sign(&ours)?,
                "wrong-session",
            ),
            (
                "another authority",
                draft.sign(other.private_key())?,
                "untrusted-authority",
            ),
            ("the hosts' authority", draft.sign(&hosts)?, "untrusted-authority"),
            ("expired", with(&|d| (d.after, d.before) = (-120, -1))?, "expired"),
            ("too long", with(&|d| d.before = 86_400)?, "life-too-long"),
            (
                "an unknown term of ours",
                with(&|d| d.extensions.push(extra("root@doorward", "")))?,
                "unknown-extension",
            ),
            (
                "a forced command",
                with(&|d| d.options.push(extra("force-command", "id")))?,
                "critical-option",
            ),
            (
                "an address",
                with(&|d| d.options.push(extra("source-address", "10.0.0.0/8")))?,
                "critical-option",
            ),
            (
                "two logins",
                with(&|d| d.principals.push("daemon".to_owned()))?,
                "many-principals",
            ),
            ("no login", with(&|d| d.principals.clear())?, "no-principal"),
            ("no number", with(&|d| d.serial = 0)?, "no-serial"),
            ("a host's", with(&|d| d.kind = CertType::Host)?, "not-user"),
            ("a link's", Draft::link(&key).sign(&ours)?, "principal-malformed"),
        ];
        for (what, certificate, code) in cases {
            let refused = link.open(session, certificate).await.context(what)?;
            let refused = refused.err().with_context(|| format!("{what} was let in"))?;
            ensure!(refused.code == format!("certificate-{code}"), "{what}: {refused:?}");
        }
        let refused = link
            .open(session, with(&|d| d.principals = vec!["daemon".to_owned()])?)
            .await?;
        ensure!(refused.err().context("another login was let in")?.code == "login-unavailable");

        // After all that the good one opens; and then never again: not here, not for another gateway, not elsewhere.
        let certificate = draft.sign(&ours)?;
        let mut talk = link
            .open(session, certificate.clone())
            .await?
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        talk.identifies().await?;
        let again = link
            .open(session, certificate.clone())
            .await?
            .err()
            .context("it was let in again")?;
        ensure!(again.code == "certificate-replayed", "{again:?}");
        let second_link = linked(stand, &key).await?;
        let again = second_link
            .open(session, certificate.clone())
            .await?
            .err()
            .context("let in on another link")?;
        ensure!(again.code == "certificate-replayed", "{again:?}");
        let thief = linked(stand, &other).await?;
        let stolen = thief
            .open(session, certificate.clone())
            .await?
            .err()
            .context("let in for a thief")?;
        ensure!(stolen.code == "certificate-wrong-subject", "{stolen:?}");
        let elsewhere = dial(stand.stack.agent_addresses()[1], &key, Draft::link(&key).sign(&ours)?).await?;
        let elsewhere = elsewhere.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let there = elsewhere
            .open(session, certificate)
            .await?
            .err()
            .context("let into another workspace")?;
        ensure!(there.code == "certificate-wrong-workspace", "{there:?}");
        talk.answers().await
    })
}

#[test]
fn a_stream_that_breaks_the_rules_ends_alone() -> Result<()> {
    beside(|stand| async move {
        let key = HostKey::generate()?;
        let link = linked(stand, &key).await?;
        let mut beside = opened(stand, &link, &key).await?;
        let record = Frame::Record {
            offset: 0,
            bytes: (&b"forged"[..]).into(),
        };
        let gap = Frame::Data {
            offset: 1 << 40,
            bytes: (&b"later"[..]).into(),
        };
        let cases: [(&str, Vec<u8>); 7] = [
            ("an unknown frame", vec![99, 0, 0, 1, 0]),
            ("a giant frame", vec![1, 0xff, 0xff, 0xff]),
            ("a short frame", vec![1, 0, 0, 3, 0, 0, 0]),
            ("a record from the gateway", record.to_bytes().to_vec()),
            ("a gap", gap.to_bytes().to_vec()),
            (
                "what was never sent is acknowledged",
                Frame::Ack { offset: 1 << 40 }.to_bytes().to_vec(),
            ),
            (
                "what was never recorded is durable",
                Frame::RecordAck { offset: 1 << 40 }.to_bytes().to_vec(),
            ),
        ];
        for (what, said) in cases {
            opened(stand, &link, &key)
                .await?
                .ends_after(&said)
                .await
                .context(what)?;
            beside.answers().await.context(what)?;
        }
        // Streams that begin with nonsense, or with half a length, end alone as well.
        for said in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x03\xff\xff\xff", b"\0\0"] {
            let mut stream = link.mux.open().await?;
            stream.write_all(said).await?;
            stream.shutdown().await?;
            let answer = read_message(&mut stream, PATIENCE).await;
            ensure!(answer.is_err(), "{said:?} heard {answer:?}");
            beside.answers().await?;
        }
        Ok(())
    })
}

#[test]
fn a_link_whose_control_breaks_the_rules_ends_alone() -> Result<()> {
    beside(|stand| async move {
        let (key, other) = (HostKey::generate()?, HostKey::generate()?);
        let link = linked(stand, &other).await?;
        let mut beside = opened(stand, &link, &other).await?;
        for (what, said) in [
            ("nonsense", b"\0\0\0\x03\xff\xff\xff".to_vec()),
            ("a giant message", u32::MAX.to_be_bytes().to_vec()),
            (
                "a message that is not due",
                Message::StreamOpen(StreamOpen::Control).encode()?.to_vec(),
            ),
        ] {
            let mut link = linked(stand, &key).await?;
            let talk = opened(stand, &link, &key).await?;
            link.control.write_all(&said).await?;
            link.control.flush().await?;
            timeout(PATIENCE, link.mux.closed())
                .await
                .with_context(|| format!("{what}: the link stays"))?;
            // The sessions of that link end with it.
            talk.ends_after(b"").await.err().map_or(Ok(()), |error| {
                if error.to_string().contains("goes on") {
                    Err(error)
                } else {
                    Ok(())
                }
            })?;
            beside.answers().await.context(what)?;
        }
        Ok(())
    })
}

#[test]
fn more_streams_than_a_link_may_have_end_alone() -> Result<()> {
    beside(|stand| async move {
        let key = HostKey::generate()?;
        let link = linked(stand, &key).await?;
        let mut beside = opened(stand, &link, &key).await?;
        let mut held = Vec::new();
        // Each says a part of a message and then nothing.
        while let Ok(mut stream) = link.mux.open().await {
            if stream.write_all(&[0, 0]).await.is_err() {
                break;
            }
            held.push(stream);
            ensure!(held.len() < 10_000, "streams have no end");
        }
        ensure!(held.len() > 500, "only {} streams", held.len());
        beside.answers().await?;
        drop(held);
        opened(stand, &link, &key).await?.answers().await?;
        let mut control = link.control;
        write_message(&mut control, &Message::Ping(9), PATIENCE).await?;
        let pong = async {
            loop {
                if read_message(&mut control, PATIENCE).await? == Message::Pong(9) {
                    return Ok::<_, anyhow::Error>(());
                }
            }
        };
        timeout(PATIENCE, pong)
            .await
            .context("no answer on the control stream")?
    })
}
