//! A session from its opening to its end: certificate → stream → recording → SSH server → the last word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_audit::Opened;
use doorward_certs::{Terms, VerifiedSession};
use doorward_wire::link::write_message;
use doorward_wire::message::{self, Message, OpenSession, Refused, StreamAnswer};
use doorward_wire::{Carrier, Closed, DriverError, Limits, SessionHandle, SshStream, agent_end};
use ssh_key::Certificate;
use tokio::io::AsyncWrite;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::aside::Aside;
use super::ide;
use super::reason::Reason;
use super::recording::Recording;
use super::strictness::Strictness;
use super::{Parts, Session};
use crate::container;
use crate::forward::Never;
use crate::process::{self, Account, Ending, Mark, Root};
use crate::ssh::{Handler, Unhurried};
use crate::workspace::Workspace;

type Driver = JoinHandle<Result<Closed, DriverError>>;

/// The link that brought a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// The gateway's key, as it was proved.
    pub(crate) key: [u8; 32],
    /// Our end.
    pub(crate) agent: SocketAddr,
    /// The gateway's end.
    pub(crate) gateway: SocketAddr,
}

/// What a session needs before a byte of SSH is read.
struct Admitted {
    verified: VerifiedSession,
    account: Account,
    certificate: Bytes,
    notice: Option<String>,
    _place: OwnedSemaphorePermit,
}

/// Serves a session stream to its end.
pub(crate) async fn serve<S>(workspace: Arc<Workspace>, mut stream: S, open: OpenSession, link: Link)
where
    S: Carrier + AsyncWrite,
{
    let session_id = open.session;
    let admitted = match admit(&workspace, &open, &link.key).await {
        Ok(admitted) => admitted,
        Err(refused) => {
            tracing::info!(session = %session_id, code = refused.code, text = refused.text, "session refused");
            let answer = Message::StreamAnswer(StreamAnswer::Refused(refused));
            // Whether the gateway still hears it matters to nobody.
            let _ = write_message(&mut stream, &answer, ANSWER_WITHIN).await;
            return;
        }
    };
    let answer = Message::StreamAnswer(StreamAnswer::Opened(message::Opened {}));
    if let Err(error) = write_message(&mut stream, &answer, ANSWER_WITHIN).await {
        tracing::info!(session = %session_id, %error, "session stream broke before it began");
        return;
    }
    let strictness = Strictness::of(&admitted.verified.terms().recording, &workspace.shared.limits);
    let limits = Limits {
        record_unacked: strictness.unacked,
        record_stall: strictness.stall,
        ..Limits::default()
    };
    let linger = limits.linger;
    let (ssh, sink, handle, driver) = agent_end(stream, limits);
    let mut driver: Driver = workspace.shared.tasks.spawn(driver);
    let opened = |now| opened(&workspace, &open, &admitted, now);
    let key = workspace.identity.key().clone();
    let masks = Arc::clone(&workspace.shared.masks);
    let recording = match Recording::begin(sink, key, strictness, masks, session_id, opened) {
        Ok(recording) => recording,
        Err(lost) => {
            tracing::warn!(session = %session_id, %lost, "session cannot be recorded");
            handle.end(Reason::RecordLost(lost.to_string()).end());
            return;
        }
    };
    let session = Arc::new(Session::new(Parts {
        id: session_id,
        terms: admitted.verified.terms().clone(),
        account: admitted.account,
        notice: admitted.notice,
        aside: Aside::new(handle.clone(), workspace.config.name.to_string()),
        client: open.client_address.parse().ok(),
        agent: link.agent,
        accept_env: workspace.config.accept_env.clone(),
        program: workspace.shared.program.clone(),
        never: never(&workspace, &link),
        recording,
        last_use: Arc::clone(&workspace.last_use),
        usual_ending: workspace.config.at_end,
        grace: workspace.shared.limits.grace,
        most_channels: workspace.shared.limits.channels,
    }));
    tracing::info!(session = %session_id, user = admitted.verified.user(), login = %session.terms.login, "session opened");
    let reason = run(&workspace, &session, ssh, &handle, &mut driver).await;
    workspace.last_use.session_ended();
    finish(&session, session_id, &handle, &reason).await;
    // The stream may have ended long ago; then this is at once.
    if !driver.is_finished() && timeout(linger + DRIVER_WITHIN, &mut driver).await.is_err() {
        driver.abort();
        let _ = driver.await;
    }
    if let Some(leftover) = session.recording.leftover() {
        let bytes = leftover.end() - leftover.offset;
        tracing::warn!(session = %session_id, bytes, "records left over; held for the next link");
        workspace.leftovers.keep(session_id, leftover);
    }
    tracing::info!(session = %session_id, code = reason.code(), reason = reason.text(), "session ended");
}

/// Everything that must be true before the stream is one.
async fn admit(workspace: &Arc<Workspace>, open: &OpenSession, link_key: &[u8; 32]) -> Result<Admitted, Refused> {
    let refused = |code: &str, text: String| Refused {
        code: code.to_owned(),
        text,
    };
    let shared = &workspace.shared;
    if shared.life.stop.is_cancelled() {
        return Err(refused("agent-stopping", shared.life.why()));
    }
    let place = Arc::clone(&shared.places).try_acquire_owned().map_err(|_| {
        refused(
            "too-many-sessions",
            "the workspace's agent serves as many sessions as it may".into(),
        )
    })?;
    let shown = workspace.identity.current();
    let shown = shown.certificate.as_ref().filter(|shown| shown.is_good());
    let shown = shown.ok_or_else(|| {
        refused(
            "not-enrolled",
            "the agent has no host certificate that is good now (clock skew?)".into(),
        )
    })?;
    let certificate = Bytes::copy_from_slice(&shown.blob);
    let verified = workspace
        .admit(open, link_key)
        .map_err(|refusal| refused(refusal.code(), refusal.to_string()))?;
    let login = verified.terms().login.as_str().to_owned();
    if let Some(only) = workspace.config.login.as_ref().filter(|only| only.as_str() != login) {
        let text = format!("sessions in this workspace are for the login '{only}', not '{login}'");
        return Err(refused("login-unavailable", text));
    }
    let overrides = workspace.config.overrides();
    let entered = enter(workspace).await;
    let (root, notice) = entered.map_err(|text| refused("container-unavailable", text))?;
    let named = login.clone();
    let look = move || Ok(Account::find(&named, &overrides));
    let mut account = process::inside(root.clone(), look)
        .await
        .map_err(|error| refused("login-unavailable", error.to_string()))?
        .map_err(|error| refused("login-unavailable", error.to_string()))?;
    if let Some(root) = root.as_ref().filter(|_| account.uid.is_root()) {
        let why = match login.as_str() {
            "root" => root
                .bounds
                .root_refused()
                .unwrap_or(Some("how strong it is cannot be seen")),
            // Whoever writes that container's passwd could make any login root.
            _ => Some("its passwd has the uid 0 for a login that is not root"),
        };
        if let Some(why) = why {
            let text = format!("no session is root in the main container: {why}");
            return Err(refused("login-unavailable", text));
        }
    }
    account.root = root;
    Ok(Admitted {
        verified,
        account,
        certificate,
        notice,
        _place: place,
    })
}

/// The container that a session is in, if it is another than the agent's, and what the person must know of that.
async fn enter(workspace: &Workspace) -> Result<(Option<Arc<Root>>, Option<String>), String> {
    let shared = &workspace.shared;
    let Some(container) = shared.container.clone() else {
        return Ok((None, None));
    };
    let otherwise_own = container.otherwise_own;
    let found = tokio::task::spawn_blocking(move || container::find(&container)).await;
    let found = match found {
        Ok(Ok(root)) => match process::inside(Some(Arc::clone(&root)), || Ok(())).await {
            Ok(()) => {
                shared.masks.learn(&root.environment);
                return Ok((Some(root), None));
            }
            Err(error) => error.to_string(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the container could not be looked for".to_owned(),
    };
    match otherwise_own {
        true => Ok((
            None,
            Some(format!("this is the agent's own container, not the main one: {found}")),
        )),
        false => Err(found),
    }
}

/// Where no forward of a session goes.
fn never(workspace: &Workspace, link: &Link) -> Never {
    Never {
        ports: workspace.shared.ports.get().cloned().unwrap_or_default(),
        own: Vec::new(),
        gateway: Some(link.gateway.ip()),
        denied: workspace.config.never_forward_to.clone(),
    }
}

fn opened(workspace: &Workspace, open: &OpenSession, admitted: &Admitted, now: u64) -> Opened {
    let terms: &Terms = admitted.verified.terms();
    // Terms that came out of a certificate can be written into one.
    let extensions = terms.extensions().unwrap_or_default();
    let key_id = Certificate::from_bytes(&open.certificate).map(|certificate| certificate.key_id().to_owned());
    Opened {
        session: open.session,
        started_unix_ms: now,
        workspace: workspace.config.name.to_string(),
        workspace_uid: workspace.config.uid.to_string(),
        login: terms.login.to_string(),
        user: key_id.unwrap_or_else(|_| admitted.verified.user().to_owned()),
        serial: admitted.verified.serial(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        host_certificate: admitted.certificate.clone(),
        terms: extensions.into_iter().collect(),
        client_address: open.client_address.chars().take(LONGEST_ADDRESS).collect(),
    }
}

/// Runs the SSH server until something ends the session, then has the channels end.
///
/// A client that is still there hears nothing of that yet: were its channels closed it would leave at once, and it would
/// look as if it had left by itself. It hears the end of the stream, with the reason. Only where the recording is lost its channels
/// are closed, with the exit status that says so, and it is given a moment to leave.
async fn run(
    workspace: &Arc<Workspace>,
    session: &Arc<Session>,
    ssh: SshStream,
    stream: &SessionHandle,
    driver: &mut Driver,
) -> Reason {
    let shared = &workspace.shared;
    let config = Arc::clone(&workspace.identity.current().ssh);
    let ssh = Unhurried::new(ssh, Arc::clone(&session.inflow));
    let start = russh::server::run_stream(config, ssh, Handler::new(Arc::clone(session)));
    let login_by = tokio::time::Instant::now() + shared.limits.login_time;
    let mut running = tokio::select! {
        started = tokio::time::timeout_at(login_by, start) => match started {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return of_ssh(Err(error), stream),
            Err(_) => return Reason::LoginDeadline,
        },
        ended = &mut *driver => return of_driver(ended),
        () = shared.life.stop.cancelled() => return Reason::Stopping(shared.life.why()),
    };
    let late = async {
        if tokio::time::timeout_at(login_by, session.logged_in.cancelled())
            .await
            .is_ok()
        {
            std::future::pending::<()>().await;
        }
    };
    let mut left = false;
    let reason = tokio::select! {
        biased;
        () = session.refused.cancelled() => {
            let asked = session.other_login.get().cloned().unwrap_or_default();
            Reason::OtherLogin(asked, session.terms.login.to_string())
        }
        lost = session.recording.broken() => Reason::RecordLost(lost),
        lost = session.recording.watch() => Reason::RecordLost(lost),
        end = stream.asked_to_end() => {
            session.recording.refuse();
            Reason::Gateway(end)
        }
        never = ide::watch(session) => match never {},
        never = session.recording.give_back() => match never {},
        ended = &mut running => {
            left = true;
            of_ssh(ended, stream)
        }
        ended = &mut *driver => of_driver(ended),
        () = late => Reason::LoginDeadline,
        () = tokio::time::sleep(session.terms.longest) => Reason::Longest,
        () = shared.life.stop.cancelled() => Reason::Stopping(shared.life.why()),
    };
    // Whoever records next finds the stream gone as well, and may be first.
    let reason = match reason {
        Reason::RecordLost(_) if session.recording.went_with_its_stream() => {
            let ended = timeout(DRIVER_WITHIN, &mut *driver).await;
            ended.map_or(reason, of_driver)
        }
        other => other,
    };
    // The first ending that is set counts, and channels that end by themselves take the usual one.
    let _ = session.ending.set(reason.ending(session.usual_ending));
    session.stop.cancel();
    session.tasks.close();
    let patience = CHANNELS_WITHIN + 2 * session.grace;
    if timeout(patience, session.tasks.wait()).await.is_err() {
        tracing::warn!("channels did not end in time");
    }
    if session.ending().0 == Ending::Kill {
        // Also what channels left behind that ended in order.
        process::end_all(Mark::session(session.id()), session.grace).await;
    }
    if session.recording.is_broken() && !left {
        // It has been told in its channels; one that has none stays.
        let _ = timeout(LEAVES_WITHIN, &mut running).await;
    }
    reason
}

/// Records the end and says it.
async fn finish(session: &Session, id: uuid::Uuid, handle: &SessionHandle, reason: &Reason) {
    // A short command starts no IDE, and should not wait for the look.
    if session.recording.age() >= LOOKED_AT {
        ide::look(session).await;
    }
    let patience = if session.recording.is_broken() {
        Duration::ZERO
    } else {
        session.recording.stall()
    };
    let finished = session
        .recording
        .finish(&reason.text(), reason.code(), handle.counters(), patience)
        .await;
    if let Err(lost) = finished {
        tracing::warn!(session = %id, %lost, "the end of the recording is not acknowledged");
    }
    handle.end(reason.end());
}

fn of_driver(ended: Result<Result<Closed, DriverError>, tokio::task::JoinError>) -> Reason {
    match ended {
        Ok(ended) => Reason::of_stream(&ended),
        Err(error) => Reason::LinkLost(error.to_string()),
    }
}

/// So the stream says, to its reader and to its writer, that it broke off.
fn is_over(kind: std::io::ErrorKind) -> bool {
    matches!(
        kind,
        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::BrokenPipe
    )
}

/// The SSH server ends when its stream does: then what the gateway said is the reason.
fn of_ssh(ended: Result<(), russh::Error>, stream: &SessionHandle) -> Reason {
    match ended {
        _ if let Some(end) = stream.heard_end().filter(|end| end.exit != 0) => Reason::Gateway(end),
        Ok(()) | Err(russh::Error::Disconnect | russh::Error::HUP) => Reason::ClientLeft,
        Err(russh::Error::IO(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Reason::ClientLeft,
        Err(russh::Error::IO(error)) if is_over(error.kind()) => Reason::LinkLost(error.to_string()),
        Err(error) => Reason::Protocol(error.to_string()),
    }
}

/// A session that lasted so long is looked at for servers of IDEs once more at its end.
const LOOKED_AT: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// For channels to record their end and to say their last words.
const CHANNELS_WITHIN: Duration = Duration::from_secs(5);
/// For a client to hear that its channels are closed.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);
const DRIVER_WITHIN: Duration = Duration::from_secs(2);
/// A client's address in the record, in characters.
const LONGEST_ADDRESS: usize = 128;
