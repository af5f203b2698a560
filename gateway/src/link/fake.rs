//! An agent for tests: it speaks the link's protocol as well, or as badly, as it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use doorward_certs::HostKey;
use doorward_wire::link::{LinkKey, MuxLimits, MuxStream, Side, accept, mux, read_message, write_message};
use doorward_wire::message::{
    AgentHello, Enrol, LeftoverSession, Leftovers, Message, OpenSession, Opened, Refused, Renew, StreamAnswer,
    StreamOpen, Token,
};
use doorward_wire::{Frame, FrameStream, LINK_VERSION};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::guarded::Guarded;

const SOON: Duration = Duration::from_secs(20);

/// Where a link's agent stops, and says nothing more while it keeps the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopAt {
    Never,
    Connection,
    Tls,
    Hello,
    Ready,
}

/// How an agent behaves.
pub(crate) struct Manner {
    pub(crate) key: HostKey,
    pub(crate) workspace: String,
    pub(crate) uid: String,
    pub(crate) version: u16,
    pub(crate) token: Option<String>,
    /// What the pod's service account has.
    pub(crate) pod_token: Option<String>,
    pub(crate) certificate: Guarded<Option<Vec<u8>>>,
    pub(crate) stop_at: Guarded<StopAt>,
    pub(crate) renew: bool,
    pub(crate) refuse: Option<&'static str>,
    /// What it still holds of each session's recording: the offset, and the bytes from there.
    pub(crate) leftovers: Guarded<BTreeMap<Uuid, (u64, Bytes)>>,
    /// So often it breaks off in the middle of handing one over.
    pub(crate) stumbles: AtomicUsize,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            key: HostKey::generate().unwrap(),
            workspace: "devenv-0".into(),
            uid: "uid-0".into(),
            version: LINK_VERSION,
            token: None,
            pod_token: None,
            certificate: Guarded::new(None),
            stop_at: Guarded::new(StopAt::Never),
            renew: false,
            refuse: None,
            leftovers: Guarded::default(),
            stumbles: AtomicUsize::new(0),
        }
    }
}

impl Manner {
    fn enrol(&self) -> Option<Enrol> {
        let token = |text: &Option<String>| text.as_deref().map(Token::new);
        match (token(&self.token), token(&self.pod_token)) {
            (None, None) => None,
            (join, pod) => Some(Enrol {
                token: join.unwrap_or_default(),
                service_account_token: pod,
            }),
        }
    }
}

/// An agent that listens.
pub(crate) struct FakeAgent {
    pub(crate) address: String,
    pub(crate) manner: Arc<Manner>,
    /// Sessions that were opened, each answered with `Opened` already.
    pub(crate) sessions: mpsc::Receiver<(OpenSession, MuxStream)>,
    dials: Arc<AtomicUsize>,
    tasks: tokio::task::JoinSet<()>,
}

impl FakeAgent {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Arc::new(manner))
    }

    pub(crate) fn on(listener: TcpListener, manner: Arc<Manner>) -> Self {
        crate::record::fixture::install_provider();
        let address = listener.local_addr().unwrap().to_string();
        let (open, sessions) = mpsc::channel(64);
        let dials = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        let (behave, counted) = (Arc::clone(&manner), Arc::clone(&dials));
        tasks.spawn(async move {
            let mut links = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                links.spawn(serve(tcp, Arc::clone(&behave), open.clone()));
            }
        });
        Self {
            address,
            manner,
            sessions,
            dials,
            tasks,
        }
    }

    /// How often somebody has connected.
    pub(crate) fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    /// The next session that is opened.
    pub(crate) async fn session(&mut self) -> (OpenSession, MuxStream) {
        tokio::time::timeout(SOON, self.sessions.recv()).await.unwrap().unwrap()
    }

    /// Gone, as by kill -9.
    pub(crate) async fn kill(mut self) -> Arc<Manner> {
        self.tasks.shutdown().await;
        self.manner
    }
}

async fn serve(tcp: TcpStream, manner: Arc<Manner>, open: mpsc::Sender<(OpenSession, MuxStream)>) {
    if stops(&manner, StopAt::Connection).await {
        return;
    }
    let key = LinkKey::from_seed(&manner.key.seed()).unwrap();
    let Ok((io, _peer)) = accept(tcp, &key, SOON).await else {
        return;
    };
    let (_mux, mut incoming, driver) = mux(io, Side::Agent, MuxLimits::default());
    let serve = async {
        if stops(&manner, StopAt::Tls).await {
            return;
        }
        let Some(control) = incoming.accept().await else { return };
        let Some(control) = greet(control, &manner).await else {
            return;
        };
        let mut streams = tokio::task::JoinSet::new();
        streams.spawn(answer(control, Arc::clone(&manner)));
        while let Some(stream) = incoming.accept().await {
            streams.spawn(take(stream, Arc::clone(&manner), open.clone()));
        }
    };
    tokio::select! {
        () = serve => {}
        _ = driver => {}
    }
}

/// Keeps the connection and says nothing, if this is the place to stop.
async fn stops(manner: &Manner, here: StopAt) -> bool {
    if manner.stop_at.with(|stop| *stop == here) {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        return true;
    }
    false
}

async fn greet(mut control: MuxStream, manner: &Manner) -> Option<MuxStream> {
    let first = read_message(&mut control, SOON).await.ok()?;
    assert!(matches!(first, Message::StreamOpen(StreamOpen::Control)), "{first:?}");
    let hello = read_message(&mut control, SOON).await.ok()?;
    assert!(matches!(hello, Message::GatewayHello(_)), "{hello:?}");
    if stops(manner, StopAt::Hello).await {
        return None;
    }
    let hello = AgentHello {
        version: manner.version,
        agent_version: "fake\u{1b}[31m-1".into(),
        workspace: manner.workspace.clone(),
        workspace_uid: manner.uid.clone(),
        host_certificate: manner.certificate.with(|own| own.clone()),
        enrol: manner.enrol(),
    };
    write_message(&mut control, &Message::AgentHello(hello), SOON)
        .await
        .ok()?;
    loop {
        match read_message(&mut control, SOON).await.ok()? {
            Message::Enrolled(enrolled) => manner.certificate.with(|own| *own = Some(enrolled.host_certificate)),
            Message::LinkReady(_) => return Some(control),
            _ => return None,
        }
    }
}

async fn answer(mut control: MuxStream, manner: Arc<Manner>) {
    if stops(&manner, StopAt::Ready).await {
        return;
    }
    let sessions = manner.leftovers.with(|held| {
        let one = |(session, (from, bytes)): (&Uuid, &(u64, Bytes))| LeftoverSession {
            session: *session,
            first_unacked: *from,
            end: from + bytes.len() as u64,
        };
        held.iter().map(one).collect()
    });
    let said = write_message(&mut control, &Message::Leftovers(Leftovers { sessions }), SOON).await;
    if said.is_ok() && manner.renew {
        let _ = write_message(&mut control, &Message::Renew(Renew { enrol: manner.enrol() }), SOON).await;
    }
    while let Ok(message) = read_message(&mut control, SOON).await {
        match message {
            Message::Ping(number) => {
                let _ = write_message(&mut control, &Message::Pong(number), SOON).await;
            }
            Message::Enrolled(enrolled) => manner.certificate.with(|own| *own = Some(enrolled.host_certificate)),
            _ => return,
        }
    }
}

async fn take(mut stream: MuxStream, manner: Arc<Manner>, open: mpsc::Sender<(OpenSession, MuxStream)>) {
    let Ok(Message::StreamOpen(asked)) = read_message(&mut stream, SOON).await else {
        return;
    };
    let answer = match manner.refuse {
        Some(code) => StreamAnswer::Refused(Refused {
            code: code.into(),
            text: "no".into(),
        }),
        None => StreamAnswer::Opened(Opened {}),
    };
    let _ = write_message(&mut stream, &Message::StreamAnswer(answer), SOON).await;
    match asked {
        _ if manner.refuse.is_some() => {}
        StreamOpen::Session(session) => {
            let _ = open.send((session, stream)).await;
        }
        StreamOpen::Records(asked) => hand_over(stream, &manner, asked.session, asked.from).await,
        StreamOpen::Control => {}
    }
}

async fn hand_over(stream: MuxStream, manner: &Manner, session: Uuid, from: u64) {
    let Some((offset, bytes)) = manner.leftovers.with(|held| held.get(&session).cloned()) else {
        return;
    };
    let end = offset + bytes.len() as u64;
    let mut frames = FrameStream::new(stream);
    let mut at = from;
    let less = |left: usize| left.checked_sub(1);
    let stumbles = manner
        .stumbles
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok();
    let until = if stumbles { (from + end) / 2 } else { end };
    while at < until {
        let start = usize::try_from(at - offset).unwrap();
        let chunk = bytes.slice(start..bytes.len().min(start + 1000));
        at += chunk.len() as u64;
        frames.queue(&Frame::Record {
            offset: at - chunk.len() as u64,
            bytes: chunk,
        });
    }
    if stumbles {
        let _ = frames.flush().await;
        return;
    }
    frames.queue(&Frame::RecordEnd { offset: end });
    if frames.flush().await.is_err() {
        return;
    }
    while let Ok(Some(frame)) = frames.next().await {
        if matches!(frame, Frame::RecordAck { offset } if offset >= end) {
            manner.leftovers.with(|held| held.remove(&session));
            let _ = frames.close().await;
            return;
        }
    }
}
