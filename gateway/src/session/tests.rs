mod dismissed;
mod glass;
mod kept;
mod rbac;
mod replaced;
mod up_time;
mod woken;

use std::fs;
use std::path::Path;

use doorward_audit::{Event, Outcome, Verdict, segment_name};
use doorward_wire::driver::Said;
use doorward_wire::link::MuxStream;
use doorward_wire::tunnel::{self, TunnelStream};
use doorward_wire::{Frame, FrameStream, Limits as EndLimits, agent_end, client_end};
use jsonwebtoken::Algorithm;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::Running;
use crate::config::Config;
use crate::link::fake::{FakeAgent, Manner};
use crate::oidc::fake::{FakeIssuer, Key};
use crate::record::fixture::Author;
use crate::testing::{self, Bench, UPGRADE, eventually};

const SOON: Duration = Duration::from_secs(20);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

type Tunnel = TunnelStream<TlsStream<TcpStream>>;

/// A gateway with one workspace whose agent enrols and waits for sessions.
async fn with_agent(manner: Manner, policy: &str, more: &str) -> (Bench, FakeAgent) {
    with_config(manner, policy, |issuer| testing::text(issuer, more)).await
}

/// The same with a configuration of this text.
async fn with_config(manner: Manner, policy: &str, text: impl FnOnce(&str) -> String) -> (Bench, FakeAgent) {
    crate::record::fixture::install_provider();
    let agent = FakeAgent::start(Manner {
        token: Some(TOKEN.into()),
        ..manner
    })
    .await;
    let key = Key::new("one", Algorithm::ES256);
    let issuer = FakeIssuer::absent(&[&key]).await;
    let folder = testing::folder();
    let path = folder.path();
    testing::private(&path.join("devenv-0.join"), TOKEN);
    fs::write(path.join("policy.toml"), format!("{}{policy}", testing::POLICY)).unwrap();
    let here = format!("address = \"{}\"\njoin-token-file = \"devenv-0.join\"", agent.address);
    let text = text(&issuer.url).replacen("address = \"127.0.0.1:1\"", &here, 1);
    let file = path.join("gateway.toml");
    fs::write(&file, text).unwrap();
    let stop = CancellationToken::new();
    let running = Running::start(Config::load(&file).unwrap(), stop.clone())
        .await
        .unwrap();
    let bench = Bench {
        folder,
        issuer,
        key,
        running,
        stop,
    };
    bench.issuer.appear().await;
    eventually(|| bench.running.gateway().identities.ready().is_ok()).await;
    (bench, agent)
}

async fn plain() -> (Bench, FakeAgent) {
    with_agent(Manner::default(), "", "").await
}

/// Opens a tunnel as bob.
async fn connect(bench: &Bench) -> Tunnel {
    connect_because(bench, None).await
}

/// The same for a reason.
async fn connect_because(bench: &Bench, reason: Option<&str>) -> Tunnel {
    let mut request = "wss://localhost/v1/connect/devenv-0".into_client_request().unwrap();
    let token = format!("Bearer {}", bench.token(|_| {}));
    request.headers_mut().insert("Authorization", token.parse().unwrap());
    if let Some(reason) = reason {
        request.headers_mut().insert("doorward-reason", reason.parse().unwrap());
    }
    let tls = bench.tls().await;
    let opened = tokio_tungstenite::client_async_with_config(request, tls, Some(tunnel::config()));
    let (socket, _) = tokio::time::timeout(SOON, opened).await.unwrap().unwrap();
    TunnelStream::new(socket)
}

/// Asks for a tunnel and reads the refusal: status and code.
pub(super) async fn refused(bench: &Bench) -> (u16, String) {
    let token = bench.token(|_| {});
    let lines = format!("Authorization: Bearer {token}\r\n{UPGRADE}");
    let reply = bench.get("/v1/connect/devenv-0", &lines).await;
    (
        reply.status(),
        reply.json()["code"].as_str().unwrap_or_default().to_owned(),
    )
}

/// What the agent does in a session: an opening, an echo, an end.
#[expect(clippy::disallowed_methods, reason = "the test awaits it")]
fn echo(author: Author, stream: MuxStream) -> tokio::task::JoinHandle<Author> {
    tokio::spawn(async move {
        let mut author = author;
        let (mut ssh, sink, handle, driver) = agent_end(stream, EndLimits::default());
        let serve = async {
            sink.append(author.open()).await.unwrap();
            let mut line = [0; 4];
            ssh.read_exact(&mut line).await.unwrap();
            sink.append(author.output(4)).await.unwrap();
            ssh.write_all(&line).await.unwrap();
            sink.append(author.end()).await.unwrap();
            handle.end(doorward_wire::End::new(0, "closed", "done"));
        };
        let (driven, ()) = tokio::join!(driver, serve);
        driven.unwrap();
        author
    })
}

/// Everything in the gateway's journal, in order.
pub(crate) fn journal(folder: &Path) -> Vec<Event> {
    let mut streams: Vec<_> = fs::read_dir(folder.join("state/journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    streams.sort();
    let mut events = Vec::new();
    for stream in streams {
        let segments = (0..)
            .map(|n| stream.join(segment_name(n)))
            .take_while(|path| path.exists());
        let bytes: Vec<u8> = segments.flat_map(|path| fs::read(path).unwrap()).collect();
        for block in doorward_audit::blocks(&bytes[..]) {
            let Ok(block) = block else { break };
            events.extend(block.events().unwrap().into_iter().map(|stamped| stamped.event));
        }
    }
    events
}

fn names(events: &[Event]) -> Vec<&'static str> {
    let session = ["Denied", "Signed", "SessionOpened", "HeadCountersigned", "SessionEnded"];
    events
        .iter()
        .map(Event::name)
        .filter(|name| session.contains(name))
        .collect()
}

pub(super) async fn stop(bench: Bench) -> tempfile::TempDir {
    bench.stop.cancel();
    let hurry = CancellationToken::new();
    hurry.cancel();
    bench.running.finish(&hurry).await;
    bench.folder
}

fn verify(bench: &Bench, session: Uuid, agent: &Author) -> doorward_audit::Report {
    let (agent, gateway) = (
        agent.key.public_key().clone(),
        bench.running.gateway().credential.public_key().clone(),
    );
    let trust = doorward_audit::Trust {
        agent_key: Box::new(move |_: &[u8], _| Ok(agent.clone())),
        gateway_key: Box::new(move |_: &str, _| Ok(gateway.clone())),
    };
    let days = fs::read_dir(bench.folder.path().join("records")).unwrap();
    let mut folders = days.map(|day| day.unwrap().path().join(session.to_string()));
    doorward_audit::verify(&folders.find(|folder| folder.is_dir()).unwrap(), &trust)
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test awaits it")]
async fn a_session_goes_the_whole_way_and_is_on_record() {
    let (bench, mut agent) = plain().await;
    let (mut near, mut said, _handle, driver) = client_end(connect(&bench).await, EndLimits::default());
    let driver = tokio::spawn(driver);
    let (opened, stream) = agent.session().await;
    let certificate = ssh_key::Certificate::from_bytes(&opened.certificate).unwrap();
    assert_eq!(certificate.valid_principals(), ["node"]);
    let gateway = Arc::clone(bench.running.gateway());
    assert_eq!(certificate.public_key(), gateway.credential.public_key().key_data());
    assert_eq!(gateway.sessions.live()[0].session, opened.session);
    let author = Author::new(opened.session).with_key(&agent.manner.key);
    let serving = echo(author, stream);
    near.write_all(b"ping").await.unwrap();
    let mut line = [0; 4];
    near.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"ping");
    assert!(matches!(said.next().await, Some(Said::End(end)) if end.text == "done"));
    let author = serving.await.unwrap();
    driver.await.unwrap().unwrap();
    eventually(|| gateway.sessions.live().is_empty()).await;
    let index = gateway.store.session(opened.session).await.unwrap();
    assert_eq!((index.user.as_str(), index.outcome), ("bob", Some(Outcome::Complete)));
    let report = verify(&bench, opened.session, &author);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
    drop(gateway);
    let folder = stop(bench).await;
    let events = journal(folder.path());
    assert_eq!(
        names(&events),
        ["Signed", "SessionOpened", "HeadCountersigned", "SessionEnded"]
    );
    let ended = events.iter().find_map(|event| match event {
        Event::SessionEnded(ended) => Some((ended.code.as_str(), ended.client_bytes, ended.agent_bytes)),
        _ => None,
    });
    assert_eq!(ended, Some(("finished", 4, 4)));
}

#[tokio::test]
async fn a_refusal_is_journalled_and_nothing_is_signed_for_it() {
    let (bench, agent) = plain().await;
    let token = bench.token(|claims| claims["groups"] = serde_json::json!([]));
    let lines = format!("Authorization: Bearer {token}\r\n{UPGRADE}");
    let reply = bench.get("/v1/connect/devenv-0", &lines).await;
    assert_eq!(reply.status(), 403);
    let foreign = bench.token(|claims| claims["aud"] = "another".into());
    let lines = format!("Authorization: Bearer {foreign}\r\n{UPGRADE}");
    assert_eq!(bench.get("/v1/connect/devenv-0", &lines).await.status(), 401);
    let folder = stop(bench).await;
    let events = journal(folder.path());
    assert_eq!(names(&events), ["Denied", "Denied"]);
    let users: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Denied(denied) => Some((denied.user.as_deref(), denied.code.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(users, [(Some("bob"), "denied"), (None, "token-foreign")]);
    drop(agent);
}

#[tokio::test]
async fn what_is_down_is_named_and_leaves_no_recording() {
    let (bench, agent) = plain().await;
    agent.kill().await;
    assert_eq!(refused(&bench).await, (503, "agent-down".into()));
    assert_eq!(
        bench.running.gateway().store.list(&crate::record::Filter {
            limit: 9,
            ..Default::default()
        }),
        []
    );
    // A file where the folder of recordings was.
    let records = bench.folder.path().join("records");
    fs::rename(&records, bench.folder.path().join("away")).unwrap();
    fs::write(&records, "in the way").unwrap();
    assert_eq!(refused(&bench).await, (503, "record-store-down".into()));
    assert!(bench.running.gateway().store.ready().is_err());
    fs::remove_file(&records).unwrap();
    fs::rename(bench.folder.path().join("away"), &records).unwrap();
    eventually(|| bench.running.gateway().store.ready().is_ok()).await;
    assert!(bench.running.gateway().sessions.live().is_empty());
    stop(bench).await;
}

#[tokio::test]
async fn an_agent_that_refuses_is_told_apart_from_one_that_is_down() {
    let manner = Manner {
        refuse: Some("certificate-expired"),
        ..Manner::default()
    };
    let (bench, _agent) = with_agent(manner, "", "").await;
    assert_eq!(refused(&bench).await, (502, "agent-refused".into()));
    let folder = stop(bench).await;
    let events = journal(folder.path());
    let detail = events.iter().find_map(|event| match event {
        Event::Denied(denied) => Some(denied.detail.clone()),
        _ => None,
    });
    assert!(detail.unwrap().contains("certificate-expired"));
}

#[tokio::test]
async fn one_person_may_not_take_all_seats() {
    let (bench, mut agent) = with_agent(Manner::default(), "", "[limits]\nsessions-per-user = 1\n").await;
    let tunnel = connect(&bench).await;
    let (_, stream) = agent.session().await;
    assert_eq!(refused(&bench).await, (429, "too-many".into()));
    drop((tunnel, stream));
    eventually(|| bench.running.gateway().sessions.live().is_empty()).await;
    let tunnel = connect(&bench).await;
    agent.session().await;
    drop(tunnel);
    stop(bench).await;
}

async fn end_of(tunnel: Tunnel) -> doorward_wire::End {
    let mut frames = FrameStream::new(tunnel);
    loop {
        match tokio::time::timeout(SOON, frames.next()).await.unwrap().unwrap() {
            Some(Frame::End(end)) => return end,
            Some(_) => {}
            None => panic!("no end"),
        }
    }
}

#[tokio::test]
async fn a_session_that_is_killed_or_outlives_the_gateway_gets_a_sentence() {
    let (bench, mut agent) = plain().await;
    let (first, second) = (connect(&bench).await, connect(&bench).await);
    let (mut opened, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (open, stream) = agent.session().await;
        opened.push(open.session);
        streams.push(stream);
    }
    let gateway = Arc::clone(bench.running.gateway());
    // The sessions' agents may have heard of them in either order.
    eventually(|| gateway.sessions.live().len() == 2).await;
    let oldest = gateway.sessions.live()[0].session;
    assert!(opened.contains(&oldest));
    assert!(
        gateway
            .sessions
            .dismiss(oldest, &Dismissal::Killed("by an admin".to_owned()))
    );
    let end = end_of(first).await;
    assert_eq!((end.exit, end.code.as_str()), (255, "killed"));
    assert!(end.text.contains("by an admin"));
    assert!(!gateway.tasks.ending().is_cancelled());
    drop(gateway);
    let (end, _) = tokio::join!(end_of(second), stop(bench));
    assert_eq!((end.exit, end.code.as_str()), (255, "gateway-stops"));
    drop(streams);
}

#[tokio::test]
async fn an_agent_killed_in_a_session_ends_it_with_what_was_sent() {
    let (bench, mut agent) = plain().await;
    let tunnel = connect(&bench).await;
    let (opened, stream) = agent.session().await;
    let mut author = Author::new(opened.session).with_key(&agent.manner.key);
    let mut frames = FrameStream::new(stream);
    let first = author.open();
    frames
        .send(&Frame::Record {
            offset: 0,
            bytes: first.clone(),
        })
        .await
        .unwrap();
    let gateway = Arc::clone(bench.running.gateway());
    // Acknowledged is durable; what was sent is at least in the gateway's hand then.
    assert!(matches!(frames.next().await, Ok(Some(Frame::RecordAck { offset })) if offset == first.len() as u64));
    agent.kill().await;
    let end = end_of(tunnel).await;
    assert_eq!((end.exit, end.code.as_str()), (255, "agent-gone"));
    eventually(|| gateway.sessions.live().is_empty()).await;
    let index = gateway.store.session(opened.session).await.unwrap();
    assert_eq!(
        (index.outcome, index.record_bytes),
        (Some(Outcome::Abnormal), first.len() as u64)
    );
    let report = verify(&bench, opened.session, &author);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Abnormal, &vec![]),
        "{report:?}"
    );
    stop(bench).await;
}

#[tokio::test]
async fn a_gateway_that_stops_takes_no_new_session() {
    let (bench, mut agent) = plain().await;
    let tunnel = connect(&bench).await;
    let (_, stream) = agent.session().await;
    let gateway = Arc::clone(bench.running.gateway());
    let (asked, answered) = (bench.tls().await, bench.token(|_| {}));
    bench.stop.cancel();
    // The connection stood before the stop, the request comes after it.
    let mut asked = asked;
    let request = format!(
        "GET /v1/connect/devenv-0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {answered}\r\n{UPGRADE}\r\n"
    );
    let _ = asked.write_all(request.as_bytes()).await;
    let reply = testing::Reply::read(&mut asked).await;
    assert!([503, 0].contains(&reply.status()), "{reply:?}");
    assert_eq!(gateway.sessions.live().len(), 1, "the open session goes on");
    drop((tunnel, stream, gateway));
    stop(bench).await;
}
