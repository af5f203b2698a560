//! Listening in the workspace for the user (RFC 4254, 7.1; OpenSSH's for sockets, the agent and X11): each connection
//! that comes in is a channel that the client is asked to take.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorward_audit::{ListenerClosed, ListenerOpened};
use doorward_certs::RemoteForward;
use nix::unistd::Uid;
use russh::server::Handle;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::bind::{self, Placed};
use super::direct::Stream;
use super::incoming::{Purpose, incoming};
use super::{Place, dial, shown, socket};
use crate::process::with_rights_of;
use crate::session::{Session, Tally};
use crate::ssh::NOT_GRANTED;

/// Why the workspace does not listen: a sentence for the record and the user.
pub(crate) type Reason = Cow<'static, str>;

/// What a client names a listener by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// An address as it was asked for, and the port that is listened on.
    Port(String, u16),
    /// A path.
    Path(PathBuf),
}

/// The listeners of one connection.
#[derive(Debug)]
pub(super) struct Listeners {
    open: Mutex<HashMap<Key, Held>>,
    places: Arc<Semaphore>,
    next: AtomicU32,
}

#[derive(Debug, Clone, Default)]
struct Held {
    /// Ends it.
    cancel: CancellationToken,
    /// It is gone.
    gone: CancellationToken,
}

/// What is listened on.
pub(super) enum Door {
    Ports(TcpListener, Option<TcpListener>),
    Socket(UnixListener, Placed),
}

/// A listener that is bound.
pub(super) struct Bound {
    pub(super) purpose: Purpose,
    pub(super) door: Door,
    /// What the client asked for.
    pub(super) asked: String,
    /// Where it listens.
    pub(super) addresses: Vec<String>,
    pub(super) place: OwnedSemaphorePermit,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            places: Arc::new(Semaphore::new(LISTENERS)),
            next: AtomicU32::new(0),
        }
    }
}

impl Listeners {
    /// A place for one more listener.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Reason> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| "the workspace listens in as many places as it may".into())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Key, Held>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Listens on a port; gives the port that was bound.
pub(crate) async fn listen_port(
    session: &Arc<Session>,
    handle: Handle,
    address: &str,
    port: u32,
) -> Result<u16, Reason> {
    let addresses = bind::addresses(address, session.terms().capabilities.remote_forward)?;
    let port = u16::try_from(port).map_err(|_| "the port is none")?;
    let place = session.forwards().listeners.place()?;
    let bound = bounded(with_rights_of(session.account(), move || bind::port(&addresses, port))).await?;
    let mut listeners = bound.into_iter().map(TcpListener::from_std);
    let broken = |error: io::Error| Reason::from(dial::plain(&error));
    let first = listeners.next().ok_or("nothing was bound")?.map_err(broken)?;
    let second = listeners.next().transpose().map_err(broken)?;
    let port = first.local_addr().map_err(broken)?.port();
    let addresses = [Some(&first), second.as_ref()].into_iter().flatten();
    let addresses = addresses
        .filter_map(|one| Some(one.local_addr().ok()?.to_string()))
        .collect();
    let bound = Bound {
        purpose: Purpose::Port(address.to_owned(), port),
        door: Door::Ports(first, second),
        asked: format!("{}:{port}", shown(address)),
        addresses,
        place,
    };
    keep(
        session,
        handle,
        Some(Key::Port(address.to_owned(), port)),
        bound,
        CancellationToken::new(),
    );
    Ok(port)
}

/// Listens on a socket of mode 0600.
pub(crate) async fn listen_path(session: &Arc<Session>, handle: Handle, path: &str) -> Result<(), Reason> {
    if session.terms().capabilities.remote_forward == RemoteForward::None {
        return Err(NOT_GRANTED.into());
    }
    let place = session.forwards().listeners.place()?;
    let at = socket::path(path)?;
    let to = at.clone();
    let (listener, placed) = bounded(with_rights_of(session.account(), move || bind::path(&to))).await?;
    let listener = UnixListener::from_std(listener).map_err(|error| dial::plain(&error))?;
    let bound = Bound {
        purpose: Purpose::Socket(path.to_owned()),
        door: Door::Socket(listener, placed),
        asked: shown(path).to_owned(),
        addresses: vec![shown(path).to_owned()],
        place,
    };
    keep(session, handle, Some(Key::Path(at)), bound, CancellationToken::new());
    Ok(())
}

/// Ends a listener; connections that it took in go on. False if there is none of that name.
pub(crate) async fn cancel(session: &Session, key: &Key) -> bool {
    let Some(held) = session.forwards().listeners.with(|open| open.get(key).cloned()) else {
        return false;
    };
    held.cancel.cancel();
    // So that the port is free again when the client hears of it.
    let _ = timeout(WITHIN, held.gone.cancelled()).await;
    true
}

/// Has a task of the session take in what comes, until `cancel`.
pub(super) fn keep(session: &Arc<Session>, handle: Handle, key: Option<Key>, bound: Bound, cancel: CancellationToken) {
    let held = Held {
        cancel,
        gone: CancellationToken::new(),
    };
    if let Some(key) = &key {
        session
            .forwards()
            .listeners
            .with(|open| open.insert(key.clone(), held.clone()));
    }
    session
        .tasks()
        .spawn(serve(Arc::clone(session), handle, key, bound, held));
}

async fn serve(session: Arc<Session>, handle: Handle, key: Option<Key>, bound: Bound, held: Held) {
    let listeners = &session.forwards().listeners;
    let listener = listeners.next.fetch_add(1, Ordering::Relaxed);
    let Bound {
        purpose,
        door,
        asked,
        addresses,
        place: _place,
    } = bound;
    let opened = ListenerOpened {
        listener,
        kind: purpose.kind().to_owned(),
        asked,
        addresses,
    };
    let connections = AtomicU64::new(0);
    let work = async {
        // A recording that is lost ends the session by itself.
        if session.recording().record(opened, Tally::default()).await.is_ok() {
            take_in(&session, &handle, listener, Arc::new(purpose), &door, &connections).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = held.cancel.cancelled() => {}
        () = session.stopping().cancelled() => {}
    }
    if let Door::Socket(listener, placed) = door {
        drop(listener);
        let removed = with_rights_of(session.account(), move || placed.remove()).await;
        if let Err(error) = removed {
            tracing::debug!(%error, "a socket was not taken away");
        }
    } else {
        drop(door);
    }
    if let Some(key) = key {
        listeners.with(|open| open.remove(&key));
    }
    held.gone.cancel();
    let closed = ListenerClosed {
        listener,
        connections: connections.into_inner(),
    };
    let _ = session.recording().record(closed, Tally::default()).await;
}

async fn take_in(
    session: &Arc<Session>,
    handle: &Handle,
    listener: u32,
    purpose: Arc<Purpose>,
    door: &Door,
    connections: &AtomicU64,
) {
    loop {
        // A place first: who comes beyond the bound waits in the kernel's queue, not in our memory.
        let Ok(place) = Arc::clone(&session.forwards().places).acquire_owned().await else {
            return;
        };
        let (stream, from) = match door.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::debug!(%error, "cannot accept a connection to forward");
                sleep(AGAIN).await;
                continue;
            }
        };
        if let Some(stranger) = door.stranger(&stream, session.account().uid) {
            let why = "another account may not connect to it";
            session
                .recording()
                .refused(None, format!("{} from uid {stranger}", purpose.kind()), why);
            continue;
        }
        connections.fetch_add(1, Ordering::Relaxed);
        let last = purpose.is_single();
        let task = incoming(
            Arc::clone(session),
            handle.clone(),
            listener,
            Arc::clone(&purpose),
            stream,
            from,
            Place(place),
        );
        session.tasks().spawn(task);
        if last {
            return;
        }
    }
}

impl Door {
    async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Ports(first, second) => {
                let second = async {
                    match second {
                        Some(second) => second.accept().await,
                        None => std::future::pending().await,
                    }
                };
                let (stream, from) = tokio::select! {
                    accepted = first.accept() => accepted?,
                    accepted = second => accepted?,
                };
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), from.to_string()))
            }
            Self::Socket(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let from = match stream.peer_cred()?.pid() {
                    Some(pid) => format!("process {pid}"),
                    None => "a process".to_owned(),
                };
                Ok((Stream::Unix(stream), from))
            }
        }
    }

    /// The account of a peer that got through the modes of socket and folder although it is neither ours nor root.
    fn stranger(&self, stream: &Stream, account: Uid) -> Option<u32> {
        let Stream::Unix(stream) = stream else { return None };
        let uid = stream.peer_cred().ok()?.uid();
        (uid != account.as_raw() && uid != 0).then_some(uid)
    }
}

/// Waits for something that is done at once unless a file system hangs; says why it was not done.
pub(super) async fn bounded<T>(act: impl Future<Output = io::Result<T>>) -> Result<T, Reason> {
    match timeout(WITHIN, act).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(dial::plain(&error).into()),
        Err(_) => Err("the file system does not answer".into()),
    }
}

/// Listeners of one connection at once.
const LISTENERS: usize = 32;
/// A client waits for the answer to its request, and the requests behind it wait as well.
const WITHIN: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(200);
