mod pods;

use std::time::SystemTime;

use doorward_audit::{Event, Outcome, Verdict};
use doorward_certs::{HostRequest, HostSays, verify_host};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::fake::{FakeAgent, Manner, StopAt};
use super::*;
use crate::kube::fake::{Answer, FakeServer};
use crate::kube::review::Reviewer;
use crate::record::Closing;
use crate::record::fixture::{Author, Rig, start};
use crate::workspace::Enrolment;

const SOON: Duration = Duration::from_secs(20);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn name() -> WorkspaceName {
    WorkspaceName::try_from("devenv-0").unwrap()
}

fn links(rig: &Rig, address: &str) -> Links {
    let token = rig.dir.path().join("devenv-0.join");
    std::fs::write(&token, TOKEN).unwrap();
    let target = Target {
        name: name(),
        life: Life {
            uid: uid(),
            address: address.to_owned(),
            enrolment: Enrolment::JoinToken(token),
        },
    };
    let links = Links::new(
        Arc::clone(&rig.authority),
        Arc::clone(&rig.credential),
        Enrolments::open(rig.dir.path()).unwrap(),
        rig.store.clone(),
        rig.journal.clone(),
        Usage::default(),
    );
    links.keep_to([target]);
    links
}

fn uid() -> WorkspaceUid {
    WorkspaceUid::try_from("uid-0").unwrap()
}

/// An agent that the host authority knows.
async fn known(rig: &Rig, life: Duration) -> Manner {
    known_as(rig, life, "uid-0").await
}

/// The same, for another life of its name.
async fn known_as(rig: &Rig, life: Duration, uid: &str) -> Manner {
    let manner = Manner::default();
    let request = HostRequest {
        subject: manner.key.public_key().clone(),
        workspace: name(),
        workspace_uid: WorkspaceUid::try_from(uid).unwrap(),
        names: vec![],
        valid_for: life,
    };
    let signed = rig.authority.sign_host(&request, SystemTime::now()).await.unwrap();
    manner.certificate.with(|own| *own = Some(signed.blob().to_vec()));
    manner
}

fn session() -> OpenSession {
    OpenSession {
        session: Uuid::now_v7(),
        certificate: vec![1, 2, 3],
        client_address: "192.0.2.1:4711".into(),
        client_version: "test".into(),
    }
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let wait = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn is_up(links: &Links) -> bool {
    matches!(links.state(&name()), State::Up { .. })
}

/// What is on record so far.
fn recorded(rig: &Rig) -> Vec<Event> {
    let folder = rig.dir.path().join("journal");
    let stream = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(stream.join(doorward_audit::segment_name(0))).unwrap_or_default();
    // The last block may not be whole yet.
    let blocks = doorward_audit::blocks(&bytes[..]).map_while(Result::ok);
    let stamped = blocks.flat_map(|block| block.events().unwrap());
    stamped.map(|stamped| stamped.event).collect()
}

/// Waits for the link to fail and says why.
async fn down(links: &Links) -> String {
    until(
        "an attempt failed",
        || matches!(links.state(&name()), State::Down { reason } if reason != "not dialled yet"),
    )
    .await;
    match links.state(&name()) {
        State::Down { reason } => reason,
        State::Up { .. } => panic!("the link is up"),
    }
}

#[tokio::test]
async fn an_agent_with_a_token_is_enrolled_and_its_sessions_open() {
    let rig = Rig::new().await;
    let mut agent = FakeAgent::start(Manner {
        token: Some(TOKEN.into()),
        ..Manner::default()
    })
    .await;
    let links = links(&rig, &agent.address);
    until("the link is up", || is_up(&links)).await;
    until("the agent has its certificate", || {
        agent.manner.certificate.with(|own| own.is_some())
    })
    .await;
    let certificate = agent.manner.certificate.with(|own| own.clone()).unwrap();
    let trusted = rig.authority.host_ca().await.unwrap();
    let key = agent.manner.key.public_bytes();
    verify_host(&certificate, &trusted, key, &name(), &uid(), SystemTime::now()).unwrap();
    let asked = session();
    let opened = links.open(&name(), &uid(), asked.clone()).await.unwrap();
    assert_eq!(opened.key.key_data(), agent.manner.key.public_key().key_data());
    assert_eq!(agent.session().await.0, asked);
    links.close().await;
    assert!(!is_up(&links));
}

#[tokio::test]
async fn a_wrong_token_another_workspace_and_no_proof_are_refused() {
    let other = WorkspaceUid::try_from("uid-9").unwrap().to_string();
    let cases: [(Manner, &str); 5] = [
        (
            Manner {
                token: Some("another token, long enough".into()),
                ..Manner::default()
            },
            "not this workspace's",
        ),
        (Manner::default(), "neither a host certificate nor a join token"),
        (
            Manner {
                workspace: "devenv-1".into(),
                ..Manner::default()
            },
            "another workspace answered",
        ),
        (
            Manner {
                uid: other,
                ..Manner::default()
            },
            "another workspace answered",
        ),
        (
            Manner {
                version: 99,
                ..Manner::default()
            },
            "version 99",
        ),
    ];
    for (manner, wanted) in cases {
        let rig = Rig::new().await;
        let agent = FakeAgent::start(manner).await;
        let links = links(&rig, &agent.address);
        let reason = down(&links).await;
        assert!(reason.contains(wanted), "{reason}");
        assert!(agent.manner.certificate.with(|own| own.is_none()));
        links.close().await;
    }
}

#[tokio::test]
async fn a_certificate_over_another_key_is_refused() {
    let rig = Rig::new().await;
    let stolen = known(&rig, Duration::from_secs(3600)).await.certificate;
    let agent = FakeAgent::start(Manner {
        certificate: stolen,
        ..Manner::default()
    })
    .await;
    let links = links(&rig, &agent.address);
    let reason = down(&links).await;
    assert!(reason.contains("host certificate is refused"), "{reason}");
    links.close().await;
}

#[tokio::test]
async fn a_certificate_past_half_its_life_is_renewed_at_the_greeting_and_on_request() {
    for (life, renew) in [(Duration::from_secs(3600), false), (handshake::HOST_LIFE, true)] {
        let rig = Rig::new().await;
        let manner = Manner {
            renew,
            ..known(&rig, life).await
        };
        let old = manner.certificate.with(|own| own.clone());
        let agent = FakeAgent::start(manner).await;
        let links = links(&rig, &agent.address);
        until("the certificate is another", || {
            agent.manner.certificate.with(|own| *own != old)
        })
        .await;
        until("the link is up", || is_up(&links)).await;
        // Each certificate that the agent had while the link stood is on record, and once.
        let fresh = agent.manner.certificate.with(|own| own.clone());
        let shown: Vec<_> = [old.filter(|_| renew), fresh]
            .into_iter()
            .flatten()
            .map(|blob| HostSays::of(&blob).unwrap())
            .collect();
        let seen = || -> Vec<_> {
            let seen = recorded(&rig).into_iter().filter_map(|event| match event {
                Event::HostCertificateSeen(seen) => Some(seen),
                _ => None,
            });
            seen.collect()
        };
        until("the certificates on record", || seen().len() >= shown.len()).await;
        let authority = doorward_certs::fingerprint(rig.authority.host_ca().await.unwrap().iter().next().unwrap());
        assert_eq!(seen().len(), shown.len());
        for (seen, shown) in seen().iter().zip(&shown) {
            assert_eq!((seen.workspace.as_str(), seen.uid.as_str()), ("devenv-0", "uid-0"));
            assert_eq!((seen.serial, &seen.key_id), (shown.serial, &shown.key_id));
            assert_eq!((&seen.authority, seen.valid_before), (&authority, shown.valid_before));
        }
        links.close().await;
    }
}

/// As Vault would sign for the token of a pod that was deleted a moment ago: it is good, and nobody dials that pod any more.
#[tokio::test]
async fn a_certificate_of_a_life_that_is_gone_opens_no_link() {
    let rig = Rig::new().await;
    let agent = FakeAgent::start(known_as(&rig, handshake::HOST_LIFE, "uid-gone").await).await;
    let links = links(&rig, &agent.address);
    let reason = down(&links).await;
    assert!(reason.contains("host certificate is refused"), "{reason}");
    assert!(
        !recorded(&rig)
            .iter()
            .any(|event| matches!(event, Event::LinkUp(_) | Event::HostCertificateSeen(_)))
    );
    links.close().await;
}

/// An agent that stops here is given up in time; once it behaves, the next attempt succeeds.
async fn stopping_at(stop: StopAt) {
    let rig = Rig::new().await;
    let manner = known(&rig, Duration::from_secs(3600)).await;
    manner.stop_at.with(|at| *at = stop);
    let agent = FakeAgent::start(manner).await;
    let links = links(&rig, &agent.address);
    let asked = std::time::Instant::now();
    let refused = links.open(&name(), &uid(), session()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Unreachable(_)), "{refused}");
    assert!(
        asked.elapsed() < Duration::from_secs(7),
        "{stop:?}: {:?}",
        asked.elapsed()
    );
    agent.manner.stop_at.with(|at| *at = StopAt::Never);
    until("the link is up", || is_up(&links)).await;
    links.close().await;
}

#[tokio::test]
async fn an_agent_that_stops_at_any_stage_is_given_up_in_time() {
    tokio::join!(
        stopping_at(StopAt::Connection),
        stopping_at(StopAt::Tls),
        stopping_at(StopAt::Hello)
    );
}

#[tokio::test]
async fn a_refused_connection_is_answered_at_once_and_dialled_with_pauses() {
    let rig = Rig::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let links = links(&rig, &address);
    let asked = std::time::Instant::now();
    for _ in 0..5 {
        let refused = links.open(&name(), &uid(), session()).await.unwrap_err();
        assert!(refused.to_string().contains("workspace unreachable"), "{refused}");
    }
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(matches!(
        links
            .open(&WorkspaceName::try_from("nowhere").unwrap(), &uid(), session())
            .await,
        Err(OpenError::NoLink)
    ));
    // A session finds the agent as soon as it listens, without waiting for the pause to end.
    let listener = TcpListener::bind(&address).await.unwrap();
    let mut agent = FakeAgent::on(listener, Arc::new(known(&rig, Duration::from_secs(3600)).await));
    links.open(&name(), &uid(), session()).await.unwrap();
    agent.session().await;
    links.close().await;
}

#[tokio::test]
async fn a_link_that_breaks_is_made_again_and_says_so_meanwhile() {
    let rig = Rig::new().await;
    let agent = FakeAgent::start(known(&rig, Duration::from_secs(3600)).await).await;
    let address = agent.address.clone();
    let links = links(&rig, &address);
    until("the link is up", || is_up(&links)).await;
    let manner = agent.kill().await;
    until("the link is down", || !is_up(&links)).await;
    let agent = FakeAgent::on(TcpListener::bind(&address).await.unwrap(), manner);
    until("the link is up again", || is_up(&links)).await;
    assert_eq!(agent.dials(), 1);
    links.close().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_dead() {
    assert!(control::SILENCE <= Duration::from_secs(30));
    let (near, _far) = tokio::io::duplex(4096);
    let (news, mut heard) = tokio::sync::mpsc::channel(4);
    let (reader, _writer) = tokio::io::split(near);
    let reason = control::listen(reader, news, Duration::from_millis(20)).await;
    assert!(reason.contains("silent"), "{reason}");
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_refused_session_carries_the_agents_code() {
    let rig = Rig::new().await;
    let manner = Manner {
        refuse: Some("certificate-expired"),
        ..known(&rig, Duration::from_secs(3600)).await
    };
    let agent = FakeAgent::start(manner).await;
    let links = links(&rig, &agent.address);
    match links.open(&name(), &uid(), session()).await {
        Err(OpenError::Refused { code, .. }) => assert_eq!(code, "certificate-expired"),
        other => panic!("{other:?}"),
    }
    links.close().await;
}

#[tokio::test]
async fn leftovers_are_fetched_and_the_rest_is_closed() {
    let mut rig = Rig::new().await;
    let (held, lost) = (Uuid::now_v7(), Uuid::now_v7());
    let manner = known(&rig, Duration::from_secs(3600)).await;
    let mut author = Author::new(held).with_key(&manner.key);
    let whole: bytes::Bytes = author.whole().into();
    for session in [held, lost] {
        let recording = rig.store.begin(start(session)).await.unwrap();
        if session == held {
            recording.append(0, whole.slice(..whole.len() / 2)).unwrap();
            until("a block is durable", || recording.progress().borrow().durable > 0).await;
        }
        std::mem::forget(recording);
    }
    rig.restart_store().await;
    manner
        .leftovers
        .with(|leftovers| leftovers.insert(held, (0, whole.clone())));
    let unknown = Uuid::now_v7();
    manner
        .leftovers
        .with(|leftovers| leftovers.insert(unknown, (0, whole.slice(..9))));
    let agent = FakeAgent::start(manner).await;
    let links = links(&rig, &agent.address);
    let mut ended = None;
    for _ in 0..2000 {
        ended = rig.store.session(held).await.filter(|index| index.ended.is_some());
        if ended.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = ended.expect("the held session is closed");
    let said = "the gateway stopped; the rest of the record came later";
    assert_eq!(
        (ended.outcome, ended.reason.as_deref()),
        (Some(Outcome::Complete), Some(said))
    );
    assert_eq!(rig.stored(held), whole);
    let report = rig.verify(held, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
    let index = rig.store.session(lost).await.unwrap();
    assert_eq!(
        (index.outcome, index.reason.as_deref()),
        (Some(Outcome::Abnormal), Some("the gateway stopped"))
    );
    until("the agent has let go", || {
        agent.manner.leftovers.with(|held| held.len()) == 1
    })
    .await;
    assert!(is_up(&links), "an unknown leftover does not take the link down");
    links.close().await;
}

#[tokio::test]
async fn a_hole_in_the_record_is_said_and_nothing_is_glued_over_it() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    let manner = known(&rig, Duration::from_secs(3600)).await;
    let mut author = Author::new(session).with_key(&manner.key);
    let opened = author.open();
    let recording = rig.store.begin(start(session)).await.unwrap();
    recording.append(0, opened.clone()).unwrap();
    recording
        .finish(
            Closing {
                reason: "the agent is gone".into(),
                counted: None,
            },
            SOON,
        )
        .await
        .unwrap();
    rig.restart_store().await;
    let far = opened.len() as u64 + 100;
    manner
        .leftovers
        .with(|leftovers| leftovers.insert(session, (far, author.output(50))));
    let agent = FakeAgent::start(manner).await;
    let links = links(&rig, &agent.address);
    let mut reason = String::new();
    for _ in 0..2000 {
        reason = rig
            .store
            .session(session)
            .await
            .and_then(|index| index.reason)
            .unwrap_or_default();
        if reason.contains("missing") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let said = "the agent is gone; the rest of the record did not come: bytes ";
    assert!(reason.starts_with(said), "{reason}");
    assert_eq!(rig.stored(session), opened);
    links.close().await;
}

/// The agent said once what it holds, and says nothing more.
#[tokio::test]
async fn a_leftover_that_fails_is_tried_again() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let manner = known(&rig, Duration::from_secs(3600)).await;
    let mut author = Author::new(session).with_key(&manner.key);
    let whole: bytes::Bytes = author.whole().into();
    rig.store.note_unbegun(start(session)).await;
    rig.store.note_end(session, "the client left".to_owned()).await;
    manner
        .leftovers
        .with(|leftovers| leftovers.insert(session, (0, whole.clone())));
    manner.stumbles.store(2, std::sync::atomic::Ordering::SeqCst);
    let agent = FakeAgent::start(manner).await;
    let links = links(&rig, &agent.address);
    until("the agent has let go", || {
        agent.manner.leftovers.with(|held| held.is_empty())
    })
    .await;
    let index = closed_as(&rig, session, Outcome::Complete).await;
    assert_eq!(
        index.reason.as_deref(),
        Some("the client left; the rest of the record came later")
    );
    assert_eq!(rig.stored(session), whole);
    links.close().await;
}

async fn closed_as(rig: &Rig, session: Uuid, outcome: Outcome) -> doorward_audit::SessionIndex {
    for _ in 0..2000 {
        if let Some(index) = rig
            .store
            .session(session)
            .await
            .filter(|index| index.outcome == Some(outcome))
        {
            return index;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{session} is not closed as {outcome:?}")
}

#[tokio::test]
async fn a_complete_recording_is_released() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let manner = known(&rig, Duration::from_secs(3600)).await;
    let mut author = Author::new(session).with_key(&manner.key);
    let whole: bytes::Bytes = author.whole().into();
    let recording = rig.store.begin(start(session)).await.unwrap();
    recording.append(0, whole.clone()).unwrap();
    recording
        .finish(
            Closing {
                reason: "done".into(),
                counted: None,
            },
            SOON,
        )
        .await
        .unwrap();
    manner
        .leftovers
        .with(|leftovers| leftovers.insert(session, (0, whole.clone())));
    let agent = FakeAgent::start(manner).await;
    let links = links(&rig, &agent.address);
    until("the agent has let go", || {
        agent.manner.leftovers.with(|held| held.is_empty())
    })
    .await;
    assert_eq!(rig.stored(session), whole);
    links.close().await;
}

fn target(address: &str, uid: &str) -> Target {
    Target {
        name: name(),
        life: Life {
            uid: WorkspaceUid::try_from(uid).unwrap(),
            address: address.to_owned(),
            enrolment: Enrolment::None,
        },
    }
}

#[tokio::test]
async fn a_link_that_is_still_wanted_is_left_alone_however_often_that_is_said() {
    let rig = Rig::new().await;
    let agent = FakeAgent::start(known(&rig, Duration::from_secs(3600)).await).await;
    let links = links(&rig, "127.0.0.1:1");
    links.keep_to([target(&agent.address, "uid-0")]);
    until("the link is up", || is_up(&links)).await;
    for _ in 0..1000 {
        links.keep_to([target(&agent.address, "uid-0")]);
    }
    assert!(is_up(&links));
    assert_eq!(agent.dials(), 1);
    links.keep_to([]);
    assert!(!is_up(&links));
    until("the agent's side is closed", || rig_is_quiet(&links)).await;
    links.close().await;
}

/// Whether no link is kept any more, not even one on its way down.
fn rig_is_quiet(links: &Links) -> bool {
    links.0.shared.tasks.is_empty()
}

#[tokio::test]
async fn the_link_of_a_life_that_is_over_takes_no_session_and_goes_with_its_last_one() {
    let rig = Rig::new().await;
    let mut agent = FakeAgent::start(known(&rig, Duration::from_secs(3600)).await).await;
    let links = links(&rig, &agent.address);
    let open = links.open(&name(), &uid(), session()).await.unwrap();
    let _held = agent.session().await;
    links.keep_to([target("127.0.0.1:1", "uid-1")]);
    assert!(matches!(
        links.open(&name(), &uid(), session()).await,
        Err(OpenError::OtherLife)
    ));
    links.keep_to([]);
    assert!(matches!(
        links.open(&name(), &uid(), session()).await,
        Err(OpenError::NoLink)
    ));
    // The old one is still there for whoever holds on to it.
    assert!(!rig_is_quiet(&links));
    drop(open);
    until("the old link is down", || rig_is_quiet(&links)).await;
    links.close().await;
}
