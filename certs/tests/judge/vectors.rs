//! The certificates in `tests/vectors`: what is refused there once is refused for ever, what is accepted is accepted.
//!
//! Each vector is two files: `NAME-cert.pub`, one line as OpenSSH writes it, and `NAME.json`, which says who judges it,
//! against what, and with which outcome. `DOORWARD_WRITE_VECTORS=1` writes those that are missing; a vector that
//! exists is never written again, because it is a promise.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_certs::{
    CaKeys, Refusal, SerialsSeen, SessionCheck, VerifiedSession, WorkspaceName, WorkspaceUid, judge_host_at,
    judge_link_at, verify_host, verify_link, verify_session,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{cases, keygen};

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    Session,
    Link,
    Host,
}

/// A certificate, what it is held against, and the outcome.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) says: String,
    pub(crate) judge: Judge,
    /// `accepted`, or the refusal's code.
    pub(crate) expect: String,
    pub(crate) blob: Vec<u8>,
    /// Authorities, one line each.
    pub(crate) trusted: String,
    pub(crate) key: [u8; 32],
    pub(crate) session: Uuid,
    pub(crate) workspace: String,
    pub(crate) workspace_uid: String,
    /// Seconds since 1970.
    pub(crate) now: u64,
}

impl Vector {
    /// The outcome.
    pub(crate) fn judged(&self) -> Result<(), Refusal> {
        let trusted = CaKeys::parse(&self.trusted).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(self.now);
        let uid = WorkspaceUid::try_from(self.workspace_uid.as_str()).unwrap();
        let workspace = WorkspaceName::try_from(self.workspace.as_str()).unwrap();
        match self.judge {
            Judge::Session => {
                let verified = self.session()?;
                assert_eq!(verified.session(), self.session);
                assert!(verified.valid_before() > now);
            }
            Judge::Link => {
                let verified = verify_link(&self.blob, &trusted, &self.key, now);
                // The judge of receipts knows no TLS key, and is otherwise the same.
                let later = judge_link_at(&self.line(), &trusted, now);
                if !matches!(verified, Err(Refusal::WrongSubject)) {
                    assert_eq!(later.as_ref().err(), verified.as_ref().err(), "{}", self.name);
                }
                assert_eq!(verified?.key().key_data(), later?.key_data());
            }
            Judge::Host => {
                let verified = verify_host(&self.blob, &trusted, &self.key, &workspace, &uid, now);
                let later = judge_host_at(&self.blob, &trusted, now);
                assert!(
                    later.is_ok() || later.as_ref().err() == verified.as_ref().err(),
                    "{}",
                    self.name
                );
                assert_eq!(verified?.key().key_data(), later?.key_data());
            }
        }
        Ok(())
    }

    /// The session that it opens.
    pub(crate) fn session(&self) -> Result<VerifiedSession, Refusal> {
        let check = SessionCheck {
            trusted: &CaKeys::parse(&self.trusted).unwrap(),
            link_key: &self.key,
            session: self.session,
            workspace_uid: &WorkspaceUid::try_from(self.workspace_uid.as_str()).unwrap(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(self.now),
        };
        verify_session(&self.blob, &check, &mut SerialsSeen::new(1))
    }

    /// One line as OpenSSH writes it, whatever the blob is.
    pub(crate) fn line(&self) -> String {
        // The type that the blob says, where it says one: OpenSSH compares the two.
        let length = self
            .blob
            .get(..4)
            .map_or(0, |b| b.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)));
        let kind = self
            .blob
            .get(4..4 + length.min(64))
            .and_then(|name| std::str::from_utf8(name).ok());
        let kind = kind.filter(|name| name.bytes().all(|b| b.is_ascii_graphic()) && !name.is_empty());
        let kind = kind.unwrap_or("ssh-ed25519-cert-v01@openssh.com");
        format!("{kind} {} {}\n", STANDARD.encode(&self.blob), self.name)
    }

    fn to_json(&self) -> Value {
        let hex: String = self.key.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "says": self.says,
            "judge": match self.judge { Judge::Session => "session", Judge::Link => "link", Judge::Host => "host" },
            "expect": self.expect,
            "trusted": self.trusted.lines().collect::<Vec<_>>(),
            "proved-key": hex,
            "session": self.session.to_string(),
            "workspace": self.workspace,
            "workspace-uid": self.workspace_uid,
            "now": self.now,
        })
    }

    fn read(folder: &Path, name: &str) -> Self {
        let line = fs::read_to_string(folder.join(format!("{name}-cert.pub"))).unwrap();
        let value: Value = serde_json::from_slice(&fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let text = |field: &str| {
            value[field]
                .as_str()
                .unwrap_or_else(|| panic!("{name}: no {field}"))
                .to_owned()
        };
        let hex = text("proved-key");
        let mut key = [0; 32];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2).unwrap(), 16).unwrap();
        }
        Self {
            name: name.to_owned(),
            says: text("says"),
            judge: match text("judge").as_str() {
                "session" => Judge::Session,
                "link" => Judge::Link,
                "host" => Judge::Host,
                other => panic!("{name}: judge {other}"),
            },
            expect: text("expect"),
            blob: STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap(),
            trusted: value["trusted"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line.as_str().unwrap().to_owned() + "\n")
                .collect(),
            key,
            session: text("session").parse().unwrap(),
            workspace: text("workspace"),
            workspace_uid: text("workspace-uid"),
            now: value["now"].as_u64().unwrap(),
        }
    }
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub(crate) fn all() -> Vec<Vector> {
    write_missing();
    let folder = folder();
    let names: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()?
                .strip_suffix(".json")
                .map(str::to_owned)
        })
        .collect();
    names.iter().map(|name| Vector::read(&folder, name)).collect()
}

fn write_missing() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("DOORWARD_WRITE_VECTORS").is_none() {
        return;
    }
    ONCE.call_once(|| {
        let folder = folder();
        for vector in cases::made().into_iter().chain(keygen::made()) {
            let json = folder.join(format!("{}.json", vector.name));
            if json.exists() {
                continue;
            }
            fs::write(folder.join(format!("{}-cert.pub", vector.name)), vector.line()).unwrap();
            fs::write(json, format!("{:#}\n", vector.to_json())).unwrap();
            println!("written: {}", vector.name);
        }
    });
}

fn outcome(result: &Result<(), Refusal>) -> &str {
    match result {
        Ok(()) => "accepted",
        Err(refusal) => refusal.code(),
    }
}

#[test]
fn every_vector_is_judged_as_it_says() {
    let vectors = all();
    let wrong: Vec<String> = vectors
        .iter()
        .map(|vector| (vector, vector.judged()))
        .filter(|(vector, judged)| outcome(judged) != vector.expect)
        .map(|(vector, judged)| format!("{}: {} instead of {}", vector.name, outcome(&judged), vector.expect))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(vectors.len() >= 100, "only {} vectors", vectors.len());
    assert!(vectors.iter().filter(|vector| vector.expect == "accepted").count() >= 12);
}

/// Every reason for refusing a certificate, but the two that the memory of serial numbers has, is in some vector.
#[test]
fn every_refusal_has_a_vector() {
    let seen: BTreeSet<String> = all().into_iter().map(|vector| vector.expect).collect();
    let missing: Vec<_> = cases::CODES.iter().filter(|code| !seen.contains(**code)).collect();
    assert!(missing.is_empty(), "no vector for {missing:?}");
}

/// The vectors that need no ssh-keygen are made again, byte for byte.
#[test]
fn the_generator_still_makes_the_same_vectors() {
    let kept = all();
    for made in cases::made() {
        let Some(kept) = kept.iter().find(|kept| kept.name == made.name) else {
            panic!(
                "{} is not in tests/vectors; run with DOORWARD_WRITE_VECTORS=1",
                made.name
            );
        };
        assert_eq!(kept.to_json(), made.to_json(), "{}", made.name);
        assert_eq!(kept.blob, made.blob, "{}", made.name);
    }
}

/// No blob is accepted that OpenSSH refuses to read.
#[test]
fn what_ssh_keygen_refuses_is_refused() {
    let mut refused = 0;
    for vector in all() {
        let path = folder().join(format!("{}-cert.pub", vector.name));
        let Ok(shown) = Command::new("ssh-keygen").args(["-L", "-f"]).arg(&path).output() else {
            println!("skip: what_ssh_keygen_refuses_is_refused: no ssh-keygen");
            return;
        };
        if shown.status.success() {
            continue;
        }
        refused += 1;
        assert_ne!(
            vector.expect,
            "accepted",
            "{}: {}",
            vector.name,
            String::from_utf8_lossy(&shown.stderr)
        );
        assert!(vector.judged().is_err(), "{}", vector.name);
    }
    assert!(
        refused >= 20,
        "ssh-keygen refused only {refused} vectors: it was not asked rightly"
    );
}
