//! A gateway small enough to read: it links to a real agent, opens sessions on it, keeps and acknowledges what is
//! recorded. It knows no users and no policy.

#![expect(dead_code, reason = "each test uses a part of the rig")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the agent under test is a task of the test itself"
)]

pub mod client;
pub mod echoing;
pub mod files;
pub mod packets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use doorward_agent::{Config, Ended, Error, run};
use doorward_audit::{ChainCheck, Event, Stamped, events};
use doorward_certs::{
    Authority, Capabilities, HostKey, HostRequest, LinkRequest, Local, Login, Secret, SessionRequest, Terms, UserToken,
    WorkspaceName, WorkspaceUid,
};
use doorward_wire::link::{LinkKey, Mux, MuxLimits, MuxStream, Side, connect, mux, read_message, write_message};
use doorward_wire::message::{
    Enrolled, GatewayHello, LeftoverSession, LinkReady, Message, OpenRecords, OpenSession, StreamAnswer, StreamOpen,
};
use doorward_wire::relay::{Event as Passed, Relay, RelayLimits};
use doorward_wire::{End, Frame, FrameStream, LINK_VERSION, Limits, Plain, Said, client_end};
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(10);
const ROUNDS: u32 = 12;
pub const UID: &str = "u-0";

/// A gateway and an agent.
pub struct Rig {
    pub folder: tempfile::TempDir,
    pub gateway: Arc<Gateway>,
    pub address: SocketAddr,
    pub tasks: TaskTracker,
    stop: CancellationToken,
    agent: Option<JoinHandle<Result<Ended, Error>>>,
}

/// The gateway's part.
pub struct Gateway {
    pub authority: Authority,
    pub key: HostKey,
    pub mux: Mutex<Option<Mux>>,
    pub ack: AtomicBool,
    /// Has what came while nothing was acknowledged be acknowledged.
    pub catch_up: Notify,
    pub records: Mutex<BTreeMap<Uuid, Vec<u8>>>,
    pub ends: watch::Sender<BTreeMap<Uuid, End>>,
    /// What clients were told beside SSH.
    pub notices: watch::Sender<Vec<String>>,
    pub leftovers: watch::Sender<Vec<LeftoverSession>>,
    /// How often the agent has told that the workspace was used.
    pub used: watch::Sender<u32>,
    pub pongs: watch::Sender<u64>,
    pub ping: Notify,
    /// How often it wants to hear of it, in seconds.
    pub use_every_s: Option<u32>,
    /// Cutting it breaks the streams of all sessions.
    pub cut: CancellationToken,
}

pub fn my_login() -> Login {
    let me = nix::unistd::User::from_uid(nix::unistd::Uid::effective())
        .unwrap()
        .unwrap();
    Login::try_from(me.name.as_str()).unwrap()
}

pub fn everything() -> Terms {
    Terms {
        login: my_login(),
        capabilities: Capabilities {
            shell: true,
            exec: true,
            pty: true,
            ..Capabilities::default()
        },
        recording: doorward_certs::Recording {
            bulk_limit: 1024 * 1024,
            ..doorward_certs::Recording::default()
        },
        longest: Duration::from_secs(3600),
    }
}

impl Rig {
    pub async fn start() -> Self {
        Self::start_with("", "").await
    }

    /// With further lines for the workspace and for the limits.
    pub async fn start_with(workspace: &str, limits: &str) -> Self {
        Self::start_as(Self::without_agent().await, workspace, limits).await
    }

    /// A gateway of the time before there was any word of use.
    pub async fn older() -> Self {
        Self::start_as(Self::telling(None).await, "", "").await
    }

    async fn start_as(mut rig: Self, workspace: &str, limits: &str) -> Self {
        let (folder, address) = (&rig.folder, rig.address);
        let shell = if workspace.contains("shell = ") {
            ""
        } else {
            "shell = '/bin/bash'"
        };
        // What the machine has in its environment would be masked in what the tests look for.
        let mask = if limits.contains("[mask]") {
            ""
        } else {
            "[mask]\nenvironment = false"
        };
        let text = format!(
            "user-ca-file = 'user-ca'\nhost-ca-file = 'host-ca'\n[limits]\n{limits}\n{mask}\n[[workspace]]\nname = 'devenv-0'\n\
             uid = '{UID}'\nlisten = '{address}'\nhost-key = 'key'\nhost-certificate = 'cert'\n\
             join-token-file = 'join'\n{workspace}\n{shell}\n"
        );
        let mut config = Config::parse(&folder.path().join("agent.toml"), &text).unwrap();
        // The agent runs inside of the test, whose executable serves no files.
        config.program = env!("CARGO_BIN_EXE_doorward-agent").into();
        rig.agent = Some(tokio::task::spawn(run(config, rig.stop.clone())));
        rig.link().await;
        rig
    }

    /// A gateway whose agent the test starts by itself, to listen at `address`; [`Rig::link`] then reaches it.
    pub async fn without_agent() -> Self {
        Self::telling(Some(1)).await
    }

    /// The same, with how often it wants to hear of use.
    async fn telling(use_every_s: Option<u32>) -> Self {
        let _ = doorward_wire::tls_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::Local(Local::generate().unwrap());
        for (name, keys) in [
            ("user-ca", authority.user_ca().await.unwrap()),
            ("host-ca", authority.host_ca().await.unwrap()),
        ] {
            let lines: Vec<_> = keys.iter().map(|key| key.to_openssh().unwrap()).collect();
            std::fs::write(folder.path().join(name), lines.join("\n")).unwrap();
        }
        std::fs::write(folder.path().join("join"), "let-me-in\n").unwrap();
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let gateway = Arc::new(Gateway {
            authority,
            key: HostKey::generate().unwrap(),
            mux: Mutex::new(None),
            ack: AtomicBool::new(true),
            catch_up: Notify::new(),
            records: Mutex::default(),
            notices: watch::Sender::default(),
            ends: watch::channel(BTreeMap::new()).0,
            leftovers: watch::channel(Vec::new()).0,
            used: watch::Sender::new(0),
            pongs: watch::Sender::new(0),
            ping: Notify::new(),
            use_every_s,
            cut: CancellationToken::new(),
        });
        Self {
            folder,
            gateway,
            address,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            agent: None,
        }
    }

    /// Makes a link, enrolling the agent where it asks.
    pub async fn link(&self) {
        let tcp = loop {
            match TcpStream::connect(self.address).await {
                Ok(tcp) => break tcp,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        tcp.set_nodelay(true).unwrap();
        let key = LinkKey::from_seed(&self.gateway.key.seed()).unwrap();
        let (io, peer) = connect(tcp, &key, WITHIN).await.unwrap();
        let (mux, _incoming, driver) = mux(io, Side::Gateway, MuxLimits::default());
        self.tasks.spawn(driver);
        let mut control = mux.open().await.unwrap();
        send(&mut control, Message::StreamOpen(StreamOpen::Control)).await;
        let request = LinkRequest {
            subject: self.gateway.key.public_key().clone(),
            valid_for: WITHIN,
        };
        let link = self
            .gateway
            .authority
            .sign_link(&request, SystemTime::now())
            .await
            .unwrap();
        let hello = GatewayHello {
            version: LINK_VERSION,
            gateway_version: "rig".into(),
            link_certificate: link.blob().to_vec(),
            use_every_s: self.gateway.use_every_s,
        };
        send(&mut control, Message::GatewayHello(hello)).await;
        let Message::AgentHello(hello) = read_message(&mut control, WITHIN).await.unwrap() else {
            panic!("no hello")
        };
        if let Some(enrol) = hello.enrol {
            assert_eq!(enrol.token.reveal(), "let-me-in");
            let subject = ssh_key::public::KeyData::Ed25519(ssh_key::public::Ed25519PublicKey(peer.0)).into();
            let request = HostRequest {
                subject,
                workspace: WorkspaceName::try_from("devenv-0").unwrap(),
                workspace_uid: WorkspaceUid::try_from(UID).unwrap(),
                names: Vec::new(),
                valid_for: Duration::from_secs(3600),
            };
            let cert = self
                .gateway
                .authority
                .sign_host(&request, SystemTime::now())
                .await
                .unwrap();
            send(
                &mut control,
                Message::Enrolled(Enrolled {
                    host_certificate: cert.blob().to_vec(),
                }),
            )
            .await;
        }
        send(&mut control, Message::LinkReady(LinkReady {})).await;
        *self.gateway.mux.lock().unwrap() = Some(mux);
        let gateway = Arc::clone(&self.gateway);
        self.tasks.spawn(async move {
            let mut number = 0;
            loop {
                tokio::select! {
                    message = read_message(&mut control, Duration::from_secs(60)) => match message {
                        Ok(Message::Leftovers(list)) => drop(gateway.leftovers.send_replace(list.sessions)),
                        Ok(Message::Used(_)) => gateway.used.send_modify(|count| *count += 1),
                        Ok(Message::Pong(_)) => gateway.pongs.send_modify(|count| *count += 1),
                        Ok(_) => {}
                        Err(_) => return,
                    },
                    () = async {
                        let _ = tokio::time::timeout(Duration::from_secs(5), gateway.ping.notified()).await;
                    } => {
                        number += 1;
                        if write_message(&mut control, &Message::Ping(number), WITHIN).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }

    /// How often the agent has told of use, once it has said everything that it had to say until now.
    pub async fn told_of_use(&self) -> u32 {
        // The agent takes what there is to say in any order: after so many rounds nothing is left.
        for _ in 0..ROUNDS {
            let mut pongs = self.gateway.pongs.subscribe();
            let before = *pongs.borrow_and_update();
            self.gateway.ping.notify_one();
            let answered = pongs.wait_for(|count| *count > before);
            tokio::time::timeout(WITHIN, answered).await.unwrap().unwrap();
        }
        *self.gateway.used.borrow()
    }

    /// Opens a session: SSH bytes both ways.
    pub async fn open(&self, terms: Terms) -> (Uuid, DuplexStream) {
        let (session, opened) = self.try_open(terms).await;
        (session, opened.unwrap())
    }

    /// Opens a session or hears why not: `code: text`.
    pub async fn try_open(&self, terms: Terms) -> (Uuid, Result<DuplexStream, String>) {
        let session = Uuid::now_v7();
        let certificate = self.certificate(session, terms).await;
        (session, self.open_with(session, certificate).await)
    }

    pub async fn certificate(&self, session: Uuid, terms: Terms) -> Vec<u8> {
        let request = SessionRequest {
            subject: self.gateway.key.public_key().clone(),
            session,
            workspace: WorkspaceName::try_from("devenv-0").unwrap(),
            workspace_uid: WorkspaceUid::try_from(UID).unwrap(),
            user: "bob".into(),
            terms,
            valid_for: Duration::from_secs(60),
        };
        self.gateway
            .authority
            .sign_session(&request, UserToken::new(Secret::new(String::new())), SystemTime::now())
            .await
            .unwrap()
            .blob()
            .to_vec()
    }

    pub async fn open_with(&self, session: Uuid, certificate: Vec<u8>) -> Result<DuplexStream, String> {
        let mux = self.gateway.mux.lock().unwrap().clone().unwrap();
        let mut stream = mux.open().await.unwrap();
        let open = OpenSession {
            session,
            certificate,
            client_address: "192.0.2.7:50000".into(),
            client_version: "rig".into(),
        };
        send(&mut stream, Message::StreamOpen(StreamOpen::Session(open))).await;
        match read_message(&mut stream, WITHIN).await.unwrap() {
            Message::StreamAnswer(StreamAnswer::Opened(_)) => {}
            Message::StreamAnswer(StreamAnswer::Refused(refused)) => {
                return Err(format!("{}: {}", refused.code, refused.text));
            }
            other => panic!("{other:?}"),
        }
        let (client_side, gateway_side) = duplex(256 * 1024);
        self.tasks
            .spawn(relay(Arc::clone(&self.gateway), session, gateway_side, stream));
        let (mut ssh, mut incoming, handle, driver) = client_end(Plain::new(client_side), Limits::default());
        self.tasks.spawn(driver);
        let notices = self.gateway.notices.clone();
        self.tasks.spawn(async move {
            while let Some(said) = incoming.next().await {
                if let Said::Notice(text) = said {
                    notices.send_modify(|all| all.push(text));
                }
            }
        });
        let (user, mut ours) = duplex(256 * 1024);
        self.tasks.spawn(async move {
            let _ = copy_bidirectional(&mut ssh, &mut ours).await;
            handle.end(End::new(0, "client-gone", "the client ended"));
        });
        Ok(user)
    }

    /// Listens on loopback; each connection becomes a session with these terms.
    pub async fn listen(self: &Arc<Self>, terms: Terms) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rig = Arc::clone(self);
        self.tasks.spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let _ = tcp.set_nodelay(true);
                let (_, opened) = rig.try_open(terms.clone()).await;
                let mut stream = match opened {
                    Ok(stream) => stream,
                    Err(why) => {
                        eprintln!("no session: {why}");
                        continue;
                    }
                };
                rig.tasks.spawn(async move {
                    let _ = copy_bidirectional(&mut tcp, &mut stream).await;
                });
            }
        });
        address
    }

    /// Acknowledges what is here from now on, and what came before.
    pub fn acknowledge(&self) {
        self.gateway.ack.store(true, Ordering::Relaxed);
        self.gateway.catch_up.notify_waiters();
    }

    /// Acknowledges nothing from now on.
    pub fn acknowledge_nothing(&self) {
        self.gateway.ack.store(false, Ordering::Relaxed);
    }

    /// Waits until an event of the session is here.
    pub async fn until_recorded(&self, session: Uuid, wanted: impl Fn(&Event) -> bool) -> Event {
        let waiting = async {
            loop {
                let found = self
                    .recorded(session)
                    .into_iter()
                    .find(|stamped| wanted(&stamped.event));
                match found {
                    Some(found) => return found.event,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        found.expect("it is not recorded")
    }

    /// Waits until the session has ended and says how.
    pub async fn ended(&self, session: Uuid) -> End {
        let mut ends = self.gateway.ends.subscribe();
        let ended = ends.wait_for(|ends| ends.contains_key(&session));
        let ends = tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .expect("the session does not end")
            .unwrap();
        ends[&session].clone()
    }

    /// The newest session.
    pub fn newest(&self) -> Uuid {
        *self.gateway.records.lock().unwrap().keys().next_back().unwrap()
    }

    /// What was recorded so far, checked for its chain.
    pub fn recorded(&self, session: Uuid) -> Vec<Stamped> {
        let bytes = self.gateway.records.lock().unwrap()[&session].clone();
        ChainCheck::new(session).push(&bytes, &mut |_| {}).unwrap();
        events(bytes.as_slice()).collect::<Result<_, _>>().unwrap()
    }

    /// Output bytes of one stream, joined.
    pub fn output(&self, session: Uuid, stream: u8) -> Vec<u8> {
        let mut all = Vec::new();
        for stamped in self.recorded(session) {
            if let Event::Output(output) = stamped.event
                && output.stream == stream
            {
                all.extend_from_slice(&output.bytes);
            }
        }
        all
    }

    /// Fetches leftover records from this offset.
    pub async fn fetch(&self, session: Uuid, from: u64) -> Result<(), String> {
        let mux = self.gateway.mux.lock().unwrap().clone().unwrap();
        let mut stream = mux.open().await.unwrap();
        send(
            &mut stream,
            Message::StreamOpen(StreamOpen::Records(OpenRecords { session, from })),
        )
        .await;
        match read_message(&mut stream, WITHIN).await.unwrap() {
            Message::StreamAnswer(StreamAnswer::Opened(_)) => {}
            Message::StreamAnswer(StreamAnswer::Refused(refused)) => return Err(refused.code),
            other => panic!("{other:?}"),
        }
        let mut frames = FrameStream::new(stream);
        loop {
            match frames.next().await.unwrap() {
                Some(Frame::Record { offset, bytes }) => {
                    let to = {
                        let mut records = self.gateway.records.lock().unwrap();
                        let have = records.entry(session).or_default();
                        assert_eq!(offset, have.len() as u64);
                        have.extend_from_slice(&bytes);
                        have.len() as u64
                    };
                    frames.send(&Frame::RecordAck { offset: to }).await.unwrap();
                }
                Some(Frame::RecordEnd { .. }) => {}
                Some(other) => panic!("{other:?}"),
                None => return Ok(()),
            }
        }
    }

    pub fn mux(&self) -> Mux {
        self.gateway.mux.lock().unwrap().clone().unwrap()
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Stops the agent in order.
    pub async fn stop(&mut self) -> Ended {
        self.stop.cancel();
        self.agent.take().unwrap().await.unwrap().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(agent) = &self.agent {
            agent.abort();
        }
    }
}

async fn send(stream: &mut MuxStream, message: Message) {
    write_message(stream, &message, WITHIN).await.unwrap();
}

async fn relay(gateway: Arc<Gateway>, session: Uuid, client: DuplexStream, agent: MuxStream) {
    gateway.records.lock().unwrap().entry(session).or_default();
    let mut relay = Relay::new(Plain::new(client), agent, RelayLimits::default());
    loop {
        let event = tokio::select! {
            event = relay.next() => event,
            () = gateway.catch_up.notified() => {
                let have = gateway.records.lock().unwrap()[&session].len() as u64;
                relay.ack_records(have);
                continue;
            }
            () = gateway.cut.cancelled() => return,
        };
        match event {
            Passed::Record { offset, bytes } => {
                let to = {
                    let mut records = gateway.records.lock().unwrap();
                    let have = records.get_mut(&session).unwrap();
                    assert_eq!(offset, have.len() as u64, "records come in order, once");
                    have.extend_from_slice(&bytes);
                    have.len() as u64
                };
                if gateway.ack.load(Ordering::Relaxed) {
                    relay.ack_records(to);
                }
            }
            Passed::RecordEnd { .. } | Passed::Gone { .. } => {}
            Passed::Ended {
                by: doorward_wire::relay::Side::Agent,
                end,
            } => {
                gateway.ends.send_modify(|ends| drop(ends.insert(session, end)));
                relay.close(Duration::from_secs(2)).await;
                return;
            }
            Passed::Ended { .. } => {}
            Passed::Over => return,
        }
    }
}

/// Runs the system's `ssh` against an address.
pub fn ssh(folder: &Path, address: SocketAddr, options: &[&str], command: &str) -> tokio::process::Command {
    let mut ssh = tokio::process::Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "BatchMode=yes",
        "-o",
        "LogLevel=ERROR",
    ]);
    ssh.arg("-o")
        .arg(format!("UserKnownHostsFile={}", folder.join("known_hosts").display()));
    ssh.args([
        "-o",
        "HostKeyAlias=devenv-0",
        "-o",
        "IdentityFile=none",
        "-o",
        "IdentityAgent=none",
    ]);
    ssh.args(["-p", &address.port().to_string(), "-l", my_login().as_str()]);
    ssh.args(options).arg("127.0.0.1");
    if !command.is_empty() {
        ssh.arg(command);
    }
    ssh.kill_on_drop(true);
    let host_ca = std::fs::read_to_string(folder.join("host-ca")).unwrap();
    std::fs::write(
        folder.join("known_hosts"),
        format!("@cert-authority devenv-0 {host_ca}\n"),
    )
    .unwrap();
    ssh
}
