//! The gateway's record store alone, in this process, and an agent's hand at recordings: for tests that spoil what is below it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use doorward_audit::{Coverage, Event, HEAD_NAMESPACE, Opened, Output, Recorder, Report, Stamped, Trust, verify};
use doorward_certs::{Authority, HostKey, Local};
use doorward_dev::parts::S3;
use doorward_gateway::config;
use doorward_gateway::journal::Journal;
use doorward_gateway::link::Credential;
use doorward_gateway::record::{Closing, Options, Recording, Start, Store};
use ssh_key::HashAlg;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

/// What a store needs of its gateway.
pub struct Replica {
    /// Its folder: journal and spool.
    pub dir: PathBuf,
    /// Its key.
    pub credential: Arc<Credential>,
    /// Its journal.
    pub journal: Journal,
    /// The store.
    pub store: Store,
    /// How long recordings are kept.
    pub keep: Option<Duration>,
    options: Options,
}

impl Replica {
    /// Opens a store in `dir`, in front of a bucket if there is one.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(dir: &Path, s3: Option<config::S3>) -> Result<Self> {
        // An error means that a provider stands already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Arc::new(Authority::Local(Local::generate()?));
        let credential = Credential::start(HostKey::generate()?, authority).await?;
        let journal = Journal::open(&dir.join("journal"), Arc::clone(&credential)).await?;
        let options = Options {
            unbegun: None,
            state: None,
            clock_leap: Duration::from_secs(3 * 24 * 3600),
            directory: dir.join("records"),
            commit_interval: Duration::from_millis(2),
            s3,
        };
        let store = Store::open(options.clone(), Arc::clone(&credential), journal.clone()).await?;
        Ok(Self {
            dir: dir.to_owned(),
            credential,
            journal,
            store,
            keep: None,
            options,
        })
    }

    /// Closes the store and opens it again on the same folder.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn reopen(&mut self) -> Result<()> {
        self.store.close().await;
        self.store = Store::open(self.options.clone(), Arc::clone(&self.credential), self.journal.clone()).await?;
        Ok(())
    }

    /// Signs with another's key from now on, as one gateway does after a restart on a new disk.
    ///
    /// # Errors
    /// The store cannot be opened again.
    pub async fn take_over(&mut self, other: &Self) -> Result<()> {
        self.credential = Arc::clone(&other.credential);
        self.reopen().await
    }

    /// Begins a recording of bob's in devenv-0.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn begin(&self, session: Uuid) -> Result<Recording> {
        let start = Start {
            session,
            user: "bob".into(),
            workspace: "devenv-0".into(),
            workspace_uid: "uid-0".into(),
            login: "node".into(),
            client_address: "192.0.2.1:4711".into(),
            keep: self.keep,
        };
        Ok(self.store.begin(start).await?)
    }

    /// A whole small recording, closed.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn record(&self, author: &mut Author) -> Result<Bytes> {
        let recording = self.begin(author.session()).await?;
        let whole = author.whole()?;
        recording.append(0, whole.clone())?;
        recording.finish(closing(), crate::PATIENCE).await?;
        Ok(whole)
    }

    /// Copies all of a session's files from wherever the store has them.
    ///
    /// # Errors
    /// The store does not give them, or not as it said.
    pub async fn download(&self, session: Uuid, to: &Path) -> Result<Vec<String>> {
        std::fs::create_dir_all(to)?;
        let mut names = Vec::new();
        for entry in self.store.files(session).await? {
            let content = self.store.file(session, &entry.name).await?;
            let mut content = content.with_context(|| format!("{} is listed and not there", entry.name))?;
            let mut bytes = Vec::new();
            content.bytes.read_to_end(&mut bytes).await?;
            ensure!(bytes.len() as u64 == content.size, "{} has another size", entry.name);
            std::fs::write(to.join(&entry.name), bytes)?;
            names.push(entry.name);
        }
        Ok(names)
    }

    /// What an auditor finds in a copy of a recording that this gateway signed.
    #[must_use]
    pub fn verify(&self, folder: &Path, author: &Author) -> Report {
        let (agent, gateway) = (author.key.public_key().clone(), self.credential.public_key().clone());
        let trust = Trust {
            agent_key: Box::new(move |_: &[u8], _| Ok(agent.clone())),
            gateway_key: Box::new(move |_: &str, _| Ok(gateway.clone())),
        };
        verify(folder, &trust)
    }
}

/// Settings for a bucket of a real store; `endpoint` may be a proxy's.
#[must_use]
pub fn settings(s3: &S3, endpoint: &str, bucket: &str) -> config::S3 {
    let (access_key, secret_key) = s3.key_files();
    config::S3 {
        endpoint: endpoint.parse().unwrap_or_else(|_| unreachable!("an address")),
        bucket: bucket.to_owned(),
        region: "us-east-1".to_owned(),
        prefix: "records".to_owned(),
        path_style: true,
        ca: s3.ca_file().map(Path::to_owned),
        credentials: config::S3Credentials::Files { access_key, secret_key },
        acknowledge: config::Acknowledge::Spool,
        ship_interval: Duration::from_millis(20),
        spool_limit: 1 << 30,
        spool_keep: Duration::from_secs(3600),
        object_lock: false,
        timeout: Duration::from_secs(5),
    }
}

/// An end without counts.
#[must_use]
pub fn closing() -> Closing {
    Closing {
        reason: "done".into(),
        counted: None,
    }
}

/// The bytes of a stream in a folder of files.
///
/// # Errors
/// A segment cannot be read.
pub fn stream(folder: &Path) -> Result<Vec<u8>> {
    let segments = (0..).map(|n| folder.join(doorward_audit::segment_name(n)));
    let mut all = Vec::new();
    for segment in segments.take_while(|path| path.exists()) {
        all.extend_from_slice(&std::fs::read(segment)?);
    }
    Ok(all)
}

/// Writes a recording as an agent does.
pub struct Author {
    key: HostKey,
    recorder: Recorder,
    at: u64,
    shown: u64,
}

impl Author {
    /// Of a new session.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new() -> Result<Self> {
        Ok(Self {
            key: HostKey::generate()?,
            recorder: Recorder::new(Uuid::now_v7()),
            at: 0,
            shown: 0,
        })
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.recorder.stream()
    }

    /// The first event.
    pub fn open(&mut self) -> Bytes {
        let session = self.recorder.stream();
        self.event(Opened {
            session,
            ..Opened::default()
        })
    }

    /// Output that compression does not shrink.
    pub fn output(&mut self, len: usize) -> Bytes {
        self.shown += len as u64;
        self.event(Output {
            channel: 0,
            stream: 1,
            bytes: crate::noise(len).into(),
        })
    }

    /// What a liar would say behind the opening of the same stream.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn second_story(&self, session: Uuid) -> Result<Bytes> {
        let mut other = Self {
            key: self.key.clone(),
            recorder: Recorder::new(session),
            at: 0,
            shown: 0,
        };
        other.open();
        Ok(other.output(700))
    }

    fn event(&mut self, event: impl Into<Event>) -> Bytes {
        self.at += 1;
        self.recorder.append(&[Stamped::new(self.at, event)])
    }

    /// Ends the segment.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn head(&mut self, last: bool) -> Result<Bytes> {
        let key = self.key.clone();
        let sign = |text: &[u8]| key.private_key().sign(HEAD_NAMESPACE, HashAlg::Sha512, text);
        Ok(self.recorder.head(1_700_000_000_000, last, sign)?)
    }

    /// What an agent writes last.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn end(&mut self) -> Result<Bytes> {
        let covered = Coverage {
            bytes_seen: self.shown,
            bytes_recorded: self.shown,
            ..Coverage::default()
        };
        Ok([self.event(covered), self.head(true)?].concat().into())
    }

    /// A whole small recording of several segments.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn whole(&mut self) -> Result<Bytes> {
        let mut all = self.open().to_vec();
        for _ in 0..3 {
            all.extend_from_slice(&self.output(5000));
            all.extend_from_slice(&self.output(3));
            all.extend_from_slice(&self.head(false)?);
        }
        all.extend_from_slice(&self.output(100));
        all.extend_from_slice(&self.end()?);
        Ok(all.into())
    }
}
