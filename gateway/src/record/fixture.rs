//! What tests of this crate build on: a gateway's own parts in a temporary folder, and an agent's hand at recordings.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_audit::{Coverage, Event, HEAD_NAMESPACE, Opened, Output, Recorder, Report, Stamped, Trust};
use doorward_certs::{Authority, HostKey, Local};
use ssh_key::HashAlg;
use uuid::Uuid;

use crate::journal::Journal;
use crate::link::Credential;
use crate::record::{Options, Start, Store};

/// The parts of a gateway below a temporary folder.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) credential: Arc<Credential>,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        install_provider();
        let dir = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::Local(Local::generate().unwrap()));
        let credential = Credential::start(HostKey::generate().unwrap(), Arc::clone(&authority))
            .await
            .unwrap();
        let journal = Journal::open(dir.path(), Arc::clone(&credential)).await.unwrap();
        let store = open_store(dir.path(), &credential, &journal).await;
        Self {
            dir,
            authority,
            credential,
            journal,
            store,
        }
    }

    /// Stops the store as a crash would and opens it again.
    pub(crate) async fn restart_store(&mut self) {
        self.store.close().await;
        self.store = open_store(self.dir.path(), &self.credential, &self.journal).await;
    }

    /// Where a session's recording lies.
    pub(crate) fn folder(&self, session: Uuid) -> PathBuf {
        let records = self.dir.path().join("records");
        let days = std::fs::read_dir(records).unwrap().map(|day| day.unwrap().path());
        let mut folders = days
            .map(|day| day.join(session.to_string()))
            .filter(|folder| folder.is_dir());
        folders.next().unwrap_or_else(|| panic!("{session} has no folder"))
    }

    /// The stored stream of a session.
    pub(crate) fn stored(&self, session: Uuid) -> Vec<u8> {
        let folder = self.folder(session);
        let segments = (0..)
            .map(|n| folder.join(doorward_audit::segment_name(n)))
            .take_while(|path| path.exists());
        segments.flat_map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// What an auditor finds.
    pub(crate) fn verify(&self, session: Uuid, agent: &HostKey) -> Report {
        let (agent, gateway) = (agent.public_key().clone(), self.credential.public_key().clone());
        let trust = Trust {
            agent_key: Box::new(move |_: &[u8], _| Ok(agent.clone())),
            gateway_key: Box::new(move |_: &str, _| Ok(gateway.clone())),
        };
        doorward_audit::verify(&self.folder(session), &trust)
    }
}

async fn open_store(dir: &Path, credential: &Arc<Credential>, journal: &Journal) -> Store {
    let options = Options {
        directory: dir.join("records"),
        commit_interval: Duration::from_millis(2),
        s3: None,
        unbegun: Some(dir.join("unbegun")),
        state: Some(dir.to_owned()),
        clock_leap: Duration::from_secs(3 * 24 * 3600),
    };
    Store::open(options, Arc::clone(credential), journal.clone())
        .await
        .unwrap()
}

/// TLS needs its provider once per process.
pub(crate) fn install_provider() {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A session of bob's in devenv-0.
pub(crate) fn start(session: Uuid) -> Start {
    Start {
        session,
        user: "bob".into(),
        workspace: "devenv-0".into(),
        workspace_uid: "uid-0".into(),
        login: "node".into(),
        client_address: "192.0.2.1:4711".into(),
        keep: None,
    }
}

/// Writes a recording as an agent does.
pub(crate) struct Author {
    pub(crate) key: HostKey,
    recorder: Recorder,
    at: u64,
    shown: u64,
}

impl Author {
    pub(crate) fn new(session: Uuid) -> Self {
        Self {
            key: HostKey::generate().unwrap(),
            recorder: Recorder::new(session),
            at: 0,
            shown: 0,
        }
    }

    /// The same with another key.
    pub(crate) fn with_key(self, key: &HostKey) -> Self {
        Self {
            key: key.clone(),
            ..self
        }
    }

    /// The first event.
    pub(crate) fn open(&mut self) -> Bytes {
        let session = self.recorder.stream();
        self.event(Opened {
            session,
            ..Opened::default()
        })
    }

    /// Output of some bytes that compression does not shrink to nothing.
    pub(crate) fn output(&mut self, len: usize) -> Bytes {
        let bytes: Vec<u8> = (0..len).map(|n| (n * n / 7 + self.at as usize) as u8).collect();
        self.shown += len as u64;
        self.event(Output {
            channel: 0,
            stream: 1,
            bytes: bytes.into(),
        })
    }

    pub(crate) fn event(&mut self, event: impl Into<Event>) -> Bytes {
        self.at += 1;
        self.recorder.append(&[Stamped::new(self.at, event)])
    }

    pub(crate) fn head(&mut self, last: bool) -> Bytes {
        let key = self.key.clone();
        self.recorder
            .head(1_700_000_000_000, last, |text| {
                key.private_key().sign(HEAD_NAMESPACE, HashAlg::Sha512, text)
            })
            .unwrap()
    }

    /// A whole small recording of several segments.
    pub(crate) fn whole(&mut self) -> Vec<u8> {
        let mut all = self.open().to_vec();
        for _ in 0..3 {
            all.extend_from_slice(&self.output(5000));
            all.extend_from_slice(&self.output(3));
            all.extend_from_slice(&self.head(false));
        }
        all.extend_from_slice(&self.output(100));
        all.extend_from_slice(&self.end());
        all
    }

    /// What an agent writes last.
    pub(crate) fn end(&mut self) -> Bytes {
        let covered = Coverage {
            bytes_seen: self.shown,
            bytes_recorded: self.shown,
            ..Coverage::default()
        };
        [self.event(covered), self.head(true)].concat().into()
    }
}
