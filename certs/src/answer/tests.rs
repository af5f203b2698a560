//! A lying authority: everything that it changes is noticed.

use std::{
    fmt,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use ssh_key::certificate::{Builder, CertType};
use uuid::Uuid;

use super::*;
use crate::{
    Authority, AuthorityError, BACKDATED_BY, Capabilities, HostKey, HostRequest, LinkRequest, Local, Login, Recording,
    RequestError, Secret, SessionRequest, Sftp, Terms, TermsError, UserToken, WorkspaceName, WorkspaceUid,
};

type Answer = Box<dyn Fn(&Local, &Wanted, SystemTime) -> Vec<u8> + Send + Sync>;

/// An authority with honest keys that signs whatever a test likes.
pub struct Lying {
    honest: Local,
    answer: Answer,
}

impl Lying {
    pub(crate) fn answer(&self, wanted: &Wanted, now: SystemTime) -> Vec<u8> {
        (self.answer)(&self.honest, wanted, now)
    }

    pub(crate) fn trusted(&self, kind: CertType) -> CaKeys {
        self.honest.trusted(kind).clone()
    }
}

impl fmt::Debug for Lying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lying")
    }
}

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

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn session_request() -> SessionRequest {
    SessionRequest {
        subject: HostKey::generate().unwrap().public_key().clone(),
        session: Uuid::now_v7(),
        workspace: WorkspaceName::try_from("devenv-0").unwrap(),
        workspace_uid: WorkspaceUid::try_from("3f1c").unwrap(),
        user: "alice".to_owned(),
        terms: Terms {
            login: Login::try_from("node").unwrap(),
            capabilities: Capabilities {
                shell: true,
                pty: true,
                sftp: Sftp::ReadOnly,
                ..Capabilities::default()
            },
            recording: Recording::default(),
            longest: Duration::from_secs(3600),
        },
        valid_for: Duration::from_secs(180),
    }
}

fn host_request() -> HostRequest {
    HostRequest {
        subject: HostKey::generate().unwrap().public_key().clone(),
        workspace: WorkspaceName::try_from("devenv-0").unwrap(),
        workspace_uid: WorkspaceUid::try_from("3f1c").unwrap(),
        names: vec!["devenv-0.example.com".to_owned(), "10.0.0.1".to_owned()],
        valid_for: Duration::from_secs(86_400),
    }
}

fn lie(answer: impl Fn(&Local, &Wanted, SystemTime) -> Vec<u8> + Send + Sync + 'static) -> Result<(), Discrepancy> {
    let authority = Authority::Lying(Lying {
        honest: Local::generate().unwrap(),
        answer: Box::new(answer),
    });
    match at_once(authority.sign_session(&session_request(), token(), now())) {
        Ok(_) => Ok(()),
        Err(AuthorityError::Answer(discrepancy)) => Err(discrepancy),
        Err(other) => panic!("{other}"),
    }
}

/// The honest answer to a changed request.
fn lie_about(change: impl Fn(&mut Wanted) + Send + Sync + 'static) -> Result<(), Discrepancy> {
    lie(move |local, wanted, now| {
        let mut wanted = wanted.clone();
        change(&mut wanted);
        local.sign(&wanted, now).unwrap()
    })
}

/// The honest answer to the request at another time.
fn lie_at(shift: impl Fn(SystemTime) -> SystemTime + Send + Sync + 'static) -> Result<(), Discrepancy> {
    lie(move |local, wanted, now| local.sign(wanted, shift(now)).unwrap())
}

/// The honest answer, its blob changed afterwards.
fn lie_in_blob(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Result<(), Discrepancy> {
    lie(move |local, wanted, now| {
        let mut blob = local.sign(wanted, now).unwrap();
        change(&mut blob);
        blob
    })
}

fn refused(refusal: Refusal) -> Result<(), Discrepancy> {
    Err(Discrepancy::Refused(refusal))
}

#[test]
fn an_honest_answer_is_taken() {
    assert_eq!(lie_about(|_| ()), Ok(()));
    assert_eq!(lie_at(|now| now), Ok(()));
}

#[test]
fn another_key_is_noticed() {
    let other = HostKey::generate().unwrap().public_key().key_data().clone();
    assert_eq!(
        lie_about(move |wanted| wanted.subject = other.clone()),
        Err(Discrepancy::Subject)
    );
}

#[test]
fn another_type_is_noticed() {
    // Signed by the host authority, as an honest authority would.
    let lied = lie_about(|wanted| wanted.kind = CertType::Host);
    assert_eq!(lied, refused(Refusal::UntrustedAuthority));
    // Signed by the user authority.
    let lied = lie(|local, wanted, now| {
        rebuilt(local, wanted, now, |builder| {
            builder.cert_type(CertType::Host).unwrap();
        })
    });
    assert_eq!(lied, refused(Refusal::NotUser));
}

#[test]
fn other_principals_are_noticed() {
    assert_eq!(
        lie_about(|wanted| wanted.principals.push("root".to_owned())),
        Err(Discrepancy::Principals)
    );
    assert_eq!(
        lie_about(|wanted| wanted.principals = vec!["root".to_owned()]),
        Err(Discrepancy::Principals)
    );
    assert_eq!(
        lie_about(|wanted| wanted.principals[0].push(',')),
        Err(Discrepancy::Principals)
    );
    let none = lie(|local, wanted, now| {
        let mut wanted = wanted.clone();
        wanted.principals.clear();
        rebuilt(local, &wanted, now, |builder| {
            builder
                .cert_type(CertType::User)
                .unwrap()
                .all_principals_valid()
                .unwrap();
        })
    });
    assert_eq!(none, Err(Discrepancy::Principals));
}

#[test]
fn another_key_id_is_noticed() {
    assert_eq!(lie_about(|wanted| wanted.key_id.push(' ')), Err(Discrepancy::KeyId));
    assert_eq!(lie_about(|wanted| wanted.key_id.clear()), Err(Discrepancy::KeyId));
}

#[test]
fn other_extensions_are_noticed() {
    let add = |name: &'static str, value: &'static str| {
        lie_about(move |wanted| {
            wanted.extensions.insert(name.to_owned(), value.to_owned());
        })
    };
    assert_eq!(add("permit-agent-forwarding", ""), Err(Discrepancy::Extensions));
    assert_eq!(add("permit-user-rc", ""), Err(Discrepancy::Extensions));
    assert_eq!(add("sftp@doorward", "read-write"), Err(Discrepancy::Extensions));
    assert_eq!(add("anything@example.com", "x"), Err(Discrepancy::Extensions));
    let dropped = lie_about(|wanted| {
        wanted.extensions.remove("permit-pty");
    });
    assert_eq!(dropped, Err(Discrepancy::Extensions));
    let emptied = lie_about(|wanted| wanted.extensions.clear());
    assert_eq!(emptied, Err(Discrepancy::Extensions));
}

#[test]
fn a_critical_option_is_noticed() {
    let lied = lie(|local, wanted, now| {
        rebuilt(local, wanted, now, |builder| {
            builder
                .cert_type(CertType::User)
                .unwrap()
                .critical_option("force-command", "/bin/true")
                .unwrap();
        })
    });
    assert_eq!(lied, refused(Refusal::CriticalOption("force-command".to_owned())));
}

#[test]
fn another_validity_is_noticed() {
    let life = |seconds| lie_about(move |wanted| wanted.valid_for = Duration::from_secs(seconds));
    assert_eq!(life(180 + 30), Ok(()), "half a minute of clock skew is allowed");
    assert_eq!(life(180 + 31), Err(Discrepancy::ValidBefore));
    assert_eq!(life(3600), Err(Discrepancy::ValidBefore));
    assert_eq!(life(3631), refused(Refusal::LifeTooLong));
    assert_eq!(life(u64::MAX), refused(Refusal::Everlasting));
    let at = |seconds: i64| {
        lie_at(move |now| {
            let shift = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { now - shift } else { now + shift }
        })
    };
    assert_eq!(at(30), Ok(()));
    assert_eq!(at(31), Err(Discrepancy::ValidAfter), "not valid yet");
    assert_eq!(at(-60), Ok(()));
    assert_eq!(at(-61), Err(Discrepancy::ValidAfter), "dated back too far");
    let expired = lie(|local, wanted, now| {
        let mut wanted = wanted.clone();
        wanted.valid_for = Duration::from_secs(60);
        local.sign(&wanted, now - Duration::from_secs(60)).unwrap()
    });
    assert_eq!(expired, Err(Discrepancy::ValidBefore));
}

#[test]
fn a_missing_serial_is_noticed() {
    let lied = lie(|local, wanted, now| local.sign_built(wanted, now, [0; 32], 0).unwrap());
    assert_eq!(lied, Err(Discrepancy::Serial));
}

#[test]
fn another_authority_is_noticed() {
    let lied = lie(|_, wanted, now| Local::generate().unwrap().sign(wanted, now).unwrap());
    assert_eq!(lied, refused(Refusal::UntrustedAuthority));
}

#[test]
fn a_self_signed_answer_is_noticed() {
    let own = HostKey::generate().unwrap();
    let request = SessionRequest {
        subject: own.public_key().clone(),
        ..session_request()
    };
    let answer: Answer = Box::new(move |_, wanted, now| {
        let builder = crate::local::build(wanted, now, [0; 32], 7).unwrap();
        builder.sign(own.private_key()).unwrap().to_bytes().unwrap()
    });
    let authority = Authority::Lying(Lying {
        honest: Local::generate().unwrap(),
        answer,
    });
    match at_once(authority.sign_session(&request, token(), now())) {
        Err(AuthorityError::Answer(found)) => {
            assert_eq!(Err(found), refused(Refusal::UntrustedAuthority))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_blob_is_noticed() {
    assert_eq!(lie_in_blob(|blob| blob.push(0)), refused(Refusal::Malformed("the end")));
    assert_eq!(lie_in_blob(Vec::clear), refused(Refusal::Malformed("the type")));
    assert_eq!(lie_in_blob(|blob| blob.resize(17 * 1024, 0)), refused(Refusal::TooLong));
    let flipped = lie_in_blob(|blob| {
        if let Some(last) = blob.last_mut() {
            *last ^= 1;
        }
    });
    assert_eq!(flipped, refused(Refusal::BadSignature));
    let nonce = lie_in_blob(|blob| blob[40] ^= 1);
    assert_eq!(nonce, refused(Refusal::BadSignature));
}

/// What [`Local`] would have built, but for the type, which `finish` sets, and whatever else it does.
fn rebuilt(local: &Local, wanted: &Wanted, now: SystemTime, finish: impl Fn(&mut Builder)) -> Vec<u8> {
    let now = unix_seconds(now);
    let after = now - BACKDATED_BY.as_secs();
    let mut builder = Builder::new([0; 32], wanted.subject.clone(), after, now + wanted.valid_for.as_secs()).unwrap();
    builder.serial(7).unwrap().key_id(wanted.key_id.as_str()).unwrap();
    for principal in &wanted.principals {
        builder.valid_principal(principal.as_str()).unwrap();
    }
    for (name, value) in &wanted.extensions {
        builder.extension(name.as_str(), value.as_str()).unwrap();
    }
    finish(&mut builder);
    builder.sign(local.key(CertType::User)).unwrap().to_bytes().unwrap()
}

#[test]
fn a_lie_about_hosts_and_links_is_noticed() {
    let answer = |change: fn(&mut Wanted)| {
        Authority::Lying(Lying {
            honest: Local::generate().unwrap(),
            answer: Box::new(move |local, wanted, now| {
                let mut wanted = wanted.clone();
                change(&mut wanted);
                local.sign(&wanted, now).unwrap()
            }),
        })
    };
    let link = LinkRequest {
        subject: HostKey::generate().unwrap().public_key().clone(),
        valid_for: Duration::from_secs(600),
    };
    let host = |change| match at_once(answer(change).sign_host(&host_request(), now())) {
        Ok(cert) => Ok(cert.certificate().valid_principals().join(" ")),
        Err(error) => Err(error.code()),
    };
    let link = |change| match at_once(answer(change).sign_link(&link, now())) {
        Ok(cert) => Ok(cert.certificate().valid_principals().join(" ")),
        Err(error) => Err(error.code()),
    };
    assert_eq!(host(|_| ()), Ok("devenv-0 devenv-0.example.com 10.0.0.1".to_owned()));
    assert_eq!(host(|w| w.principals.push("*".to_owned())), Err("answer-principals"));
    assert_eq!(host(|w| w.extensions.clear()), Err("answer-extensions"));
    assert_eq!(
        host(|w| w.kind = CertType::User),
        Err("certificate-untrusted-authority")
    );
    assert_eq!(link(|_| ()), Ok("doorward-gateway".to_owned()));
    assert_eq!(
        link(|w| w.principals = vec!["root".to_owned()]),
        Err("answer-principals")
    );
    assert_eq!(
        link(|w| w.kind = CertType::Host),
        Err("certificate-untrusted-authority")
    );
    assert_eq!(
        link(|w| {
            w.extensions.insert("permit-pty".to_owned(), String::new());
        }),
        Err("answer-extensions")
    );
}

#[test]
fn requests_that_cannot_be_signed_are_refused_before_anybody_is_asked() {
    let authority = Authority::Lying(Lying {
        honest: Local::generate().unwrap(),
        answer: Box::new(|_, _, _| panic!("the authority was asked")),
    });
    let session = |change: fn(&mut SessionRequest)| {
        let mut request = session_request();
        change(&mut request);
        match at_once(authority.sign_session(&request, token(), now())) {
            Err(AuthorityError::Request(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for user in ["", "a\0", "a\nb", "\u{1b}[2J", "a\u{85}"] {
        let mut request = session_request();
        request.user = user.to_owned();
        assert!(matches!(
            at_once(authority.sign_session(&request, token(), now())),
            Err(AuthorityError::Request(RequestError::User))
        ));
    }
    assert_eq!(session(|r| r.user = "a".repeat(64 * 1024)), RequestError::User);
    let life = RequestError::Life {
        longest: crate::LONGEST_SESSION_LIFE,
    };
    assert_eq!(session(|r| r.valid_for = Duration::ZERO), life);
    assert_eq!(session(|r| r.valid_for = Duration::from_millis(999)), life);
    assert_eq!(session(|r| r.valid_for = Duration::from_millis(3_600_001)), life);
    assert_eq!(session(|r| r.valid_for = Duration::MAX), life);
    assert_eq!(
        session(|r| r.terms.longest = Duration::ZERO),
        RequestError::Terms(TermsError::Longest)
    );
    let far = |r: &mut SessionRequest| r.terms.capabilities.local_forward = vec!["host:0".to_owned()];
    assert_eq!(session(far), RequestError::Terms(TermsError::ForwardTo));
    for name in ["*", "dev*", "a b", "", "a,b", "!a", "[::1]:0", "[::1", "Upper"] {
        let mut request = host_request();
        request.names = vec![name.to_owned()];
        assert!(
            matches!(
                at_once(authority.sign_host(&request, now())),
                Err(AuthorityError::Request(RequestError::HostNames))
            ),
            "{name:?}"
        );
    }
}
