//! From a request to what the other side believes: the local authority and the judge, by the public interface alone.

use std::{
    future::Future,
    pin::pin,
    process::Command,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use doorward_certs::{
    Authority, CaKeys, Capabilities, HostKey, HostRequest, LinkRequest, Local, Login, Recording, RecordingMode,
    Refusal, Secret, SerialsSeen, SessionCert, SessionCheck, SessionRequest, Sftp, Terms, UserToken, VerifiedSession,
    WorkspaceName, WorkspaceUid, judge_host_at, judge_link_at, verify_host, verify_link, verify_session,
};
use uuid::Uuid;

/// Runs a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a local authority does not wait"),
    }
}

fn token() -> UserToken {
    UserToken::new(Secret::new("the person's own".to_owned()))
}

/// A gateway, an agent, and the authority that both trust.
struct World {
    authority: Authority,
    users: CaKeys,
    hosts: CaKeys,
    gateway: HostKey,
    agent: HostKey,
    workspace: WorkspaceName,
    uid: WorkspaceUid,
    now: SystemTime,
}

impl World {
    fn new(local: Local) -> Self {
        let authority = Authority::Local(local);
        Self {
            users: at_once(authority.user_ca()).unwrap(),
            hosts: at_once(authority.host_ca()).unwrap(),
            authority,
            gateway: HostKey::generate().unwrap(),
            agent: HostKey::generate().unwrap(),
            workspace: WorkspaceName::try_from("devenv-0").unwrap(),
            uid: WorkspaceUid::try_from("3f1c").unwrap(),
            now: SystemTime::now(),
        }
    }

    fn request(&self, session: Uuid) -> SessionRequest {
        SessionRequest {
            subject: self.gateway.public_key().clone(),
            session,
            workspace: self.workspace.clone(),
            workspace_uid: self.uid.clone(),
            user: "Bøb <bob@example.com>".to_owned(),
            terms: Terms {
                login: Login::try_from("node").unwrap(),
                capabilities: Capabilities {
                    exec: true,
                    sftp: Sftp::ReadOnly,
                    local_forward: vec!["localhost:*".to_owned()],
                    ..Capabilities::default()
                },
                recording: Recording {
                    input: true,
                    bulk_limit: 0,
                    mode: RecordingMode::BestEffort,
                    unacked: 65_536,
                    stall: Duration::from_secs(5),
                },
                longest: Duration::from_secs(12 * 3600),
            },
            valid_for: Duration::from_secs(180),
        }
    }

    fn sign(&self, session: Uuid) -> SessionCert {
        at_once(self.authority.sign_session(&self.request(session), token(), self.now)).unwrap()
    }

    fn verify(
        &self,
        cert: &SessionCert,
        session: Uuid,
        now: SystemTime,
        seen: &mut SerialsSeen,
    ) -> Result<VerifiedSession, Refusal> {
        let link_key = self.gateway.public_bytes();
        let check = SessionCheck {
            trusted: &self.users,
            link_key,
            session,
            workspace_uid: &self.uid,
            now,
        };
        verify_session(cert.blob(), &check, seen)
    }
}

fn world() -> World {
    World::new(Local::generate().unwrap())
}

#[test]
fn what_was_asked_is_what_is_believed() {
    let world = world();
    let session = Uuid::now_v7();
    let cert = world.sign(session);
    let verified = world
        .verify(&cert, session, world.now, &mut SerialsSeen::default())
        .unwrap();
    let request = world.request(session);
    assert_eq!(verified.terms(), &request.terms);
    assert_eq!(verified.user(), request.user);
    assert_eq!(verified.session(), session);
    assert_eq!(verified.serial(), cert.serial());
    assert_eq!(verified.valid_before(), cert.valid_before());
    assert_eq!(
        cert.key_id(),
        format!("user=B%C3%B8b%20%3Cbob@example.com%3E session={session}")
    );
    assert_eq!(
        ssh_key::Certificate::from_openssh(&cert.openssh().unwrap())
            .unwrap()
            .to_bytes()
            .unwrap(),
        cert.blob()
    );
}

#[test]
fn a_certificate_opens_one_session_once() {
    let world = world();
    let session = Uuid::now_v7();
    let cert = world.sign(session);
    let mut seen = SerialsSeen::new(2);
    // What was refused is not used up.
    let other = world.verify(&cert, Uuid::now_v7(), world.now, &mut seen);
    assert_eq!(other.unwrap_err(), Refusal::WrongSession);
    world.verify(&cert, session, world.now, &mut seen).unwrap();
    assert_eq!(
        world.verify(&cert, session, world.now, &mut seen).unwrap_err(),
        Refusal::Replayed
    );
    world
        .verify(&world.sign(session), session, world.now, &mut seen)
        .unwrap();
    let third = world.sign(session);
    assert_eq!(
        world.verify(&third, session, world.now, &mut seen).unwrap_err(),
        Refusal::TooManySerials
    );
    // Everything has expired: there is room again, and nothing comes back.
    let later = world.now + Duration::from_secs(181);
    seen.forget_expired(later);
    assert!(seen.is_empty());
    for cert in [&cert, &third] {
        assert_eq!(
            world.verify(cert, session, later, &mut seen).unwrap_err(),
            Refusal::Expired
        );
        assert_eq!(
            world.verify(cert, session, world.now, &mut seen).unwrap_err(),
            Refusal::Expired,
            "set back"
        );
    }
}

#[test]
fn clocks_may_differ_by_what_was_dated_back_and_no_more() {
    let world = world();
    let session = Uuid::now_v7();
    let cert = world.sign(session);
    let at = |seconds: i64| {
        let shift = Duration::from_secs(seconds.unsigned_abs());
        let now = if seconds < 0 {
            world.now - shift
        } else {
            world.now + shift
        };
        world
            .verify(&cert, session, now, &mut SerialsSeen::default())
            .map(|_| ())
    };
    assert_eq!(at(-600), Err(Refusal::NotYetValid));
    assert_eq!(at(-31), Err(Refusal::NotYetValid));
    assert_eq!(at(-30), Ok(()));
    assert_eq!(at(179), Ok(()));
    assert_eq!(at(180), Err(Refusal::Expired));
    assert_eq!(at(600), Err(Refusal::Expired));
    for refusal in [Refusal::NotYetValid, Refusal::Expired] {
        assert!(refusal.to_string().contains("clock skew?"));
        assert!(refusal.hint().is_some_and(|hint| hint.contains("clock skew?")));
    }
    // Before 1970 there is no certificate.
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let judged = world.verify(&cert, session, before, &mut SerialsSeen::default());
    assert_eq!(judged.unwrap_err(), Refusal::NotYetValid);
}

#[test]
fn a_stolen_certificate_is_useless_on_another_link_and_in_another_workspace() {
    let mut world = world();
    let session = Uuid::now_v7();
    let cert = world.sign(session);
    world.gateway = HostKey::generate().unwrap();
    let judged = world.verify(&cert, session, world.now, &mut SerialsSeen::default());
    assert_eq!(judged.unwrap_err(), Refusal::WrongSubject);
    let cert = world.sign(session);
    world.uid = WorkspaceUid::try_from("3f1d").unwrap();
    let judged = world.verify(&cert, session, world.now, &mut SerialsSeen::default());
    assert_eq!(judged.unwrap_err(), Refusal::WrongWorkspace);
}

#[test]
fn hosts_and_links_are_believed_now_and_later() {
    let world = world();
    let link = LinkRequest {
        subject: world.gateway.public_key().clone(),
        valid_for: Duration::from_secs(3600),
    };
    let link = at_once(world.authority.sign_link(&link, world.now)).unwrap();
    verify_link(link.blob(), &world.users, world.gateway.public_bytes(), world.now).unwrap();
    let text = link.openssh().unwrap();
    assert_eq!(
        judge_link_at(&text, &world.users, world.now).unwrap().key_data(),
        world.gateway.public_key().key_data()
    );
    judge_link_at(&format!("{text} comment\r\n"), &world.users, world.now).unwrap();
    for bad in [
        "",
        "x",
        &format!(" {text}"),
        &format!("{text}\n{text}"),
        &text.replace(' ', "  "),
        &text.replace("-v01@", "-v02@"),
    ] {
        assert!(judge_link_at(bad, &world.users, world.now).is_err(), "{bad}");
    }
    let host = HostRequest {
        subject: world.agent.public_key().clone(),
        workspace: world.workspace.clone(),
        workspace_uid: world.uid.clone(),
        names: vec!["devenv-0".to_owned(), "devenv-0.doorward".to_owned()],
        valid_for: Duration::from_secs(86_400),
    };
    let host = at_once(world.authority.sign_host(&host, world.now)).unwrap();
    assert_eq!(host.certificate().valid_principals(), ["devenv-0", "devenv-0.doorward"]);
    let (name, uid) = (&world.workspace, &world.uid);
    verify_host(
        host.blob(),
        &world.hosts,
        world.agent.public_bytes(),
        name,
        uid,
        world.now,
    )
    .unwrap();
    let later = world.now + Duration::from_secs(86_400);
    assert_eq!(
        judge_host_at(host.blob(), &world.hosts, later).unwrap_err(),
        Refusal::Expired
    );
    assert!(judge_host_at(host.blob(), &world.hosts, world.now).is_ok());
    // Neither authority is taken for the other.
    let crossed = verify_host(
        host.blob(),
        &world.users,
        world.agent.public_bytes(),
        name,
        uid,
        world.now,
    );
    assert_eq!(crossed.unwrap_err(), Refusal::UntrustedAuthority);
    let crossed = verify_link(link.blob(), &world.hosts, world.gateway.public_bytes(), world.now);
    assert_eq!(crossed.unwrap_err(), Refusal::UntrustedAuthority);
}

#[test]
fn authorities_of_every_curve_sign_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let (user, host) = (folder.path().join("user-ca"), folder.path().join("host-ca"));
    for bits in ["256", "384", "521"] {
        for path in [&user, &host] {
            let _ = std::fs::remove_file(path);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-t", "ecdsa", "-b", bits, "-f"])
                .arg(path)
                .status();
            if !made.is_ok_and(|status| status.success()) {
                return println!("skip: authorities_of_every_curve_sign_from_files: no ssh-keygen");
            }
        }
        let world = World::new(Local::from_files(&user, &host).unwrap());
        let session = Uuid::now_v7();
        let cert = world.sign(session);
        world
            .verify(&cert, session, world.now, &mut SerialsSeen::default())
            .unwrap();
    }
}

#[test]
fn a_key_is_rotated_with_overlap() {
    let (old, new) = (world(), world());
    let both = CaKeys::new(old.users.iter().chain(&new.users).cloned()).unwrap();
    for signer in [&old, &new] {
        let session = Uuid::now_v7();
        let check = SessionCheck {
            trusted: &both,
            link_key: signer.gateway.public_bytes(),
            session,
            workspace_uid: &signer.uid,
            now: signer.now,
        };
        verify_session(signer.sign(session).blob(), &check, &mut SerialsSeen::default()).unwrap();
    }
    let session = Uuid::now_v7();
    let foreign = World {
        users: new.users.clone(),
        ..old
    };
    let judged = World {
        authority: Authority::Local(Local::generate().unwrap()),
        ..foreign
    };
    let cert = at_once(
        judged
            .authority
            .sign_session(&judged.request(session), token(), judged.now),
    )
    .unwrap();
    let refused = judged.verify(&cert, session, judged.now, &mut SerialsSeen::default());
    assert_eq!(refused.unwrap_err(), Refusal::UntrustedAuthority);
}
