//! A small world with an authority, an agent and a gateway, all from fixed seeds, and an author
//! who writes recordings in it.

use std::{fs, path::Path};

use bytes::Bytes;
use doorward_audit::{
    BlockSeen, ChainCheck, ChannelClosed, ChannelOpened, Coverage, Ended, Env, Event, Exec, Exit, ForwardConnected,
    ForwardEnded, ForwardFailed, HEAD_NAMESPACE, ListenerClosed, ListenerOpened, Opened, Outcome, Output, Pty,
    Recorder, Resized, Shell, Stamped, Trust,
    receipt::{self, Closing, Durable, RECEIPT_NAMESPACE, RECEIPTS_NAME, Statement},
    segment_name,
};
use ssh_key::{
    Certificate, Fingerprint, HashAlg, PrivateKey, PublicKey, SshSig,
    certificate::{Builder, CertType},
    private::Ed25519Keypair,
};
use uuid::Uuid;

/// 2026-01-01T00:00:00Z, Unix seconds.
pub const BEGIN: u64 = 1_767_225_600;
const DAY: u64 = 86_400;

/// The session of most recordings here.
pub const SESSION: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn certificate(ca: &PrivateKey, subject: &PrivateKey, kind: CertType, name: &str) -> Certificate {
    let nonce = vec![7; 16];
    let mut builder = Builder::new(nonce, subject.public_key().key_data().clone(), BEGIN - DAY, BEGIN + DAY).unwrap();
    builder.cert_type(kind).unwrap();
    builder.key_id(name).unwrap();
    builder.valid_principal(name).unwrap();
    builder.sign(ca).unwrap()
}

/// Everybody's keys.
pub struct World {
    pub host_ca: PrivateKey,
    pub user_ca: PrivateKey,
    pub agent: PrivateKey,
    pub gateway: PrivateKey,
    pub host_certificate: Certificate,
    pub gateway_certificate: Certificate,
    /// Whether each block is packed alone, as all were before there were frames.
    pub alone: bool,
}

impl World {
    /// The world that auditors know.
    pub fn new() -> Self {
        Self::from_seeds([1, 2, 3, 4])
    }

    /// The same, writing as it did before there were frames: what the oldest vectors are made with.
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The same names with other keys: what a forger can make.
    pub fn forged() -> Self {
        Self::from_seeds([11, 12, 13, 14])
    }

    fn from_seeds(seeds: [u8; 4]) -> Self {
        let [host_ca, user_ca, agent, gateway] = seeds.map(key);
        let host_certificate = certificate(&host_ca, &agent, CertType::Host, "devenv-0");
        let gateway_certificate = certificate(&user_ca, &gateway, CertType::User, "doorward-gateway");
        Self {
            host_ca,
            user_ca,
            agent,
            gateway,
            host_certificate,
            gateway_certificate,
            alone: false,
        }
    }

    /// What an auditor holds.
    pub fn trust(&self) -> Trust {
        trust_in(self.host_ca.public_key(), self.user_ca.public_key())
    }

    pub fn opened(&self, session: Uuid) -> Opened {
        Opened {
            session,
            started_unix_ms: BEGIN * 1000,
            workspace: "devenv-0".into(),
            workspace_uid: "8a5e".into(),
            login: "node".into(),
            user: format!("user=bob session={session}"),
            serial: 42,
            agent_version: "0.1.0".into(),
            host_certificate: self.host_certificate.to_bytes().unwrap().into(),
            terms: vec![("permit-pty".into(), String::new())],
            client_address: "192.0.2.7:50000".into(),
        }
    }
}

/// Trust in what these two authorities have signed.
pub fn trust_in(host_ca: &PublicKey, user_ca: &PublicKey) -> Trust {
    fn judge(certificate: ssh_key::Result<Certificate>, ca: &Fingerprint, unix_ms: u64) -> Result<PublicKey, String> {
        let certificate = certificate.map_err(|_| "not a certificate".to_owned())?;
        certificate
            .validate_at(unix_ms / 1000, [ca])
            .map_err(|_| "not signed by a trusted authority".to_owned())?;
        Ok(PublicKey::from(certificate.public_key().clone()))
    }
    let (host_ca, user_ca) = (
        host_ca.fingerprint(HashAlg::Sha256),
        user_ca.fingerprint(HashAlg::Sha256),
    );
    Trust {
        agent_key: Box::new(move |blob, at| judge(Certificate::from_bytes(blob), &host_ca, at)),
        gateway_key: Box::new(move |text, at| judge(Certificate::from_openssh(text), &user_ca, at)),
    }
}

pub fn sign_with<'a>(
    key: &'a PrivateKey,
    namespace: &'a str,
) -> impl FnOnce(&[u8]) -> Result<SshSig, ssh_key::Error> + 'a {
    move |statement| SshSig::sign(key, namespace, HashAlg::Sha512, statement)
}

/// The agent's recorder and the gateway's store in one.
pub struct Author {
    pub world: World,
    pub session: Uuid,
    pub recorder: Recorder,
    pub check: ChainCheck,
    pub segments: Vec<Vec<u8>>,
    pub receipts: Vec<String>,
    pub last: Option<BlockSeen>,
    fresh: bool,
}

impl Author {
    pub fn new(world: World, session: Uuid) -> Self {
        let recorder = if world.alone { Recorder::alone } else { Recorder::new };
        Self {
            world,
            session,
            recorder: recorder(session),
            check: ChainCheck::new(session),
            segments: Vec::new(),
            receipts: Vec::new(),
            last: None,
            fresh: true,
        }
    }

    pub fn append(&mut self, events: &[Stamped]) {
        let bytes = self.recorder.append(events);
        self.store(&bytes);
    }

    pub fn head(&mut self, last: bool) {
        self.head_by(&self.world.agent.clone(), last);
    }

    pub fn head_by(&mut self, key: &PrivateKey, last: bool) {
        self.head_at(key, last, BEGIN * 1000 + 5);
    }

    /// The agent's wall clock says that it is `unix_ms`; the gateway's goes right.
    pub fn head_at(&mut self, key: &PrivateKey, last: bool, unix_ms: u64) {
        let at = BEGIN * 1000 + 5;
        let bytes = self
            .recorder
            .head(unix_ms, last, sign_with(key, HEAD_NAMESPACE))
            .unwrap();
        self.store(&bytes);
        self.fresh = true;
        let statement = Statement::head(self.session, self.durable(), at, &self.certificate());
        self.receipt(statement);
    }

    pub fn closing(&mut self, outcome: Outcome) {
        let closing = Closing {
            outcome,
            reason: "the client went away".into(),
            client_bytes: 1000,
            agent_bytes: 2000,
            reconciled: None,
        };
        let at = BEGIN * 1000 + 9;
        let certificate = self.certificate();
        self.receipt(Statement::closing(
            self.session,
            self.durable(),
            closing,
            at,
            &certificate,
        ));
    }

    fn certificate(&self) -> String {
        self.world.gateway_certificate.to_openssh().unwrap()
    }

    fn durable(&self) -> Durable {
        self.last.as_ref().map_or(Durable::nothing(self.session), Durable::from)
    }

    fn receipt(&mut self, statement: Statement) {
        let sign = sign_with(&self.world.gateway, RECEIPT_NAMESPACE);
        self.receipts
            .push(receipt::sign(statement, sign).unwrap().to_line().unwrap());
    }

    fn store(&mut self, bytes: &[u8]) {
        let last = &mut self.last;
        self.check.push(bytes, &mut |seen| *last = Some(seen)).unwrap();
        if self.fresh {
            self.segments.push(Vec::new());
            self.fresh = false;
        }
        self.segments.last_mut().unwrap().extend_from_slice(bytes);
    }

    pub fn stored(&self) -> Stored {
        Stored {
            segments: self.segments.clone(),
            receipts: self.receipts.concat(),
        }
    }
}

/// What lies in a directory.
#[derive(Clone)]
pub struct Stored {
    pub segments: Vec<Vec<u8>>,
    pub receipts: String,
}

impl Stored {
    pub fn write(&self, dir: &Path) {
        for (index, segment) in (0..).zip(&self.segments) {
            fs::write(dir.join(segment_name(index)), segment).unwrap();
        }
        fs::write(dir.join(RECEIPTS_NAME), &self.receipts).unwrap();
    }
}

pub fn output(at: u64, bytes: impl Into<Bytes>) -> Stamped {
    Stamped::new(
        at,
        Output {
            channel: 0,
            stream: 1,
            bytes: bytes.into(),
        },
    )
}

/// A session with a shell: three segments, compressed and raw blocks.
pub fn shell_session(world: World, session: Uuid) -> Author {
    let mut author = Author::new(world, session);
    let opened = author.world.opened(session);
    author.append(&[
        Stamped::new(0, opened),
        Stamped::new(
            1_000_000,
            ChannelOpened {
                channel: 0,
                kind: "session".into(),
            },
        ),
    ]);
    author.append(&[
        Stamped::new(
            2_000_000,
            Pty {
                channel: 0,
                term: "xterm-256color".into(),
                cols: 80,
                rows: 24,
                modes: vec![(53, 1)],
            },
        ),
        Stamped::new(
            2_500_000,
            Env {
                channel: 0,
                name: "LANG".into(),
                value: "C.UTF-8".into(),
                accepted: true,
            },
        ),
        Stamped::new(3_000_000, Shell { channel: 0 }),
    ]);
    author.append(&[output(4_000_000, "$ ")]);
    author.head(false);
    author.append(&[output(5_000_000, "all work and no play\r\n".repeat(100))]);
    author.append(&[
        Stamped::new(
            6_000_000,
            Resized {
                channel: 0,
                cols: 100,
                rows: 30,
            },
        ),
        output(6_500_000, &b"\x1b[31m\xe2\x82"[..]),
        output(6_600_000, &b"\xac\xff\"\\\x1b[0m"[..]),
    ]);
    author.head(false);
    let recorded = (2 + 2200 + 7 + 8) as u64;
    author.append(&[
        Stamped::new(
            7_000_000,
            Exit {
                channel: 0,
                status: Some(3),
                ..Exit::default()
            },
        ),
        Stamped::new(7_100_000, ChannelClosed { channel: 0 }),
        Stamped::new(
            7_200_000,
            Coverage {
                channels: 1,
                bytes_seen: recorded,
                bytes_recorded: recorded,
                bytes_digested: 0,
                client_to_agent: 900,
                agent_to_client: 1900,
                ..Coverage::default()
            },
        ),
        Stamped::new(
            7_300_000,
            Ended {
                reason: "logout".into(),
                code: "closed".into(),
            },
        ),
    ]);
    author.head(true);
    author.closing(Outcome::Complete);
    author
}

/// A session of forwards alone: one that was asked for, one that came in, one that failed.
pub fn forward_session(world: World, session: Uuid) -> Author {
    let mut author = Author::new(world, session);
    let opened = author.world.opened(session);
    let opened_channel = |channel, kind: &str| ChannelOpened {
        channel,
        kind: kind.into(),
    };
    let connected = |channel, listener, asked: &str, address: &str| ForwardConnected {
        channel,
        listener,
        asked: asked.into(),
        address: address.into(),
    };
    let ended = |channel, bytes: (u64, u64), how: &str| ForwardEnded {
        channel,
        from_client: bytes.0,
        to_client: bytes.1,
        milliseconds: 1500,
        how: how.into(),
    };
    author.append(&[Stamped::new(0, opened)]);
    author.append(&[
        Stamped::new(1, opened_channel(0, "direct-tcpip localhost:8080")),
        Stamped::new(1, connected(0, None, "localhost:8080", "127.0.0.1:8080")),
        Stamped::new(
            2,
            ListenerOpened {
                listener: 0,
                kind: "tcpip-forward".into(),
                asked: "localhost:0".into(),
                addresses: vec!["127.0.0.1:40001".into(), "[::1]:40001".into()],
            },
        ),
        Stamped::new(3, opened_channel(1, "forwarded-tcpip localhost:40001")),
        Stamped::new(3, connected(1, Some(0), "localhost:0", "127.0.0.1:50000")),
        Stamped::new(
            4,
            ForwardFailed {
                asked: "db.internal:5432".into(),
                why: "10.0.0.5:5432: connection refused".into(),
            },
        ),
        Stamped::new(
            5,
            ListenerClosed {
                listener: 0,
                connections: 1,
            },
        ),
        Stamped::new(6, ended(0, (78, 1 << 40), "both sides ended")),
        Stamped::new(6, ChannelClosed { channel: 0 }),
        Stamped::new(7, ended(1, (0, 0), "the connection was reset")),
        Stamped::new(7, ChannelClosed { channel: 1 }),
        Stamped::new(
            8,
            Coverage {
                channels: 2,
                bytes_seen: 78 + (1 << 40),
                ..Coverage::default()
            },
        ),
    ]);
    author.head(true);
    author.closing(Outcome::Complete);
    author
}

/// A session with one command whose agent was killed: no head at all.
pub fn killed_session(world: World, session: Uuid) -> Author {
    let mut author = Author::new(world, session);
    let opened = author.world.opened(session);
    author.append(&[
        Stamped::new(0, opened),
        Stamped::new(
            1,
            ChannelOpened {
                channel: 0,
                kind: "session".into(),
            },
        ),
        Stamped::new(
            2,
            Event::from(Exec {
                channel: 0,
                command: "make".into(),
            }),
        ),
    ]);
    author.append(&[output(3, "cc -c x.c\n")]);
    author.closing(Outcome::Abnormal);
    author
}
