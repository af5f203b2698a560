//! One session, from the request for a tunnel to its end, in one straight line:
//!
//! `TunnelRequest → Identity → Grant → SessionCert → OpenSession → Ended`.
//!
//! Each value is made in one place and consumed by the next. Everything that the session owns ends
//! inside [`run`]: its seat, its recording, its stream to the agent, its tunnel. A session that is
//! refused is on record before its person reads why.

mod glass;
mod keeping;
#[cfg(test)]
mod no_authority;
mod registry;
mod standing;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_audit::{AccessLent, SessionEnded, SessionOpened, Signed};
use doorward_certs::{RecordingMode, SessionCert, SessionRequest, WorkspaceName};
use doorward_wire::message::OpenSession;
use uuid::Uuid;

pub use keeping::Keeping;
pub use registry::{Dismissal, Limits, Live, Sessions};
pub(crate) use standing::Standing;

use crate::Gateway;
use crate::authorize::authorize;
use crate::http::{Reason, TunnelRequest};
use crate::link::{AGENT_COMES, AgentStream, OpenError};
use crate::metrics;
use crate::oidc::{BearerToken, Identity};
use crate::policy::Grant;
use crate::record::{Closing, Counted, Failure, Start};
use crate::refusal::{Dependency, Refusal, RefusalCode};
use crate::relay::{self, Bounds, Ending, Herald, Nobody, Passage};
use crate::workspace::{Life, State, Workspace, starting};
use registry::Seat;

/// How a session ended, or why there was none.
#[derive(Debug)]
pub enum Ended {
    /// It was refused.
    Refused(RefusalCode),
    /// It took place.
    Passed {
        /// The session.
        session: Uuid,
        /// What ended it.
        ending: Ending,
    },
}

/// A session to which its agent has agreed. Nothing was answered to the client yet.
struct Opened {
    session: Uuid,
    grant: Grant,
    seat: Seat,
    agent: AgentStream,
    recording: Keeping,
    /// What the user is told first.
    notice: Option<String>,
}

/// Runs one session to its end.
pub async fn run(gateway: Arc<Gateway>, mut request: TunnelRequest) -> Ended {
    let opened = match open(&gateway, &mut request).await {
        Ok(opened) => opened,
        Err(refused) => return deny(&gateway, request, refused),
    };
    let Opened {
        session,
        grant,
        seat,
        agent,
        mut recording,
        notice,
    } = opened;
    let bounds = Bounds {
        longest: grant.terms().longest,
        ending: gateway.tasks.ending().clone(),
        killed: seat.killed(),
        silence: relay::SILENCE,
        notice,
        stops: seat.stops(),
        herald: Herald::new(session, &gateway.journal),
    };
    let passage = match request.accept(session).await {
        Ok(tunnel) => Box::pin(relay::pass(tunnel, agent.stream, &mut recording, bounds)).await,
        Err(_gone) => Box::pin(relay::pass(Nobody, agent.stream, &mut recording, bounds)).await,
    };
    close(&gateway, session, seat, recording, passage).await
}

/// Everything that must be true before the client gets its tunnel.
async fn open(gateway: &Gateway, request: &mut TunnelRequest) -> Result<Opened, Refused> {
    if gateway.tasks.stopping().is_cancelled() {
        return Err(Refusal::new(RefusalCode::Stopping, "the gateway is stopping").into());
    }
    let identity = gateway.identities.identify(&request.token).await?;
    request.authenticated();
    let by = |refusal| Refused {
        refusal,
        user: Some(identity.user().to_owned()),
    };
    let grant = authorize(gateway, &identity, &request.workspace).await.map_err(by)?;
    let session = Uuid::now_v7();
    let seat = gateway
        .sessions
        .enter(session, grant.user(), grant.workspace().name.as_str())
        .map_err(by)?;
    // Only now: a lock or a logout ends who has a seat already, and refuses who takes one later.
    seat.stands_on(Standing::new(gateway, &identity, &grant, &request.token));
    gateway.sessions.follow_stop(session, &gateway.workspaces);
    unhindered(gateway, &identity, &grant).map_err(by)?;
    let life = enter(gateway, &grant).map_err(by)?;
    let mode = grant.terms().recording.mode;
    ready(gateway, mode).map_err(by)?;
    let broken = glass::broken(gateway, session, &grant, request.reason.as_ref()).map_err(by)?;
    let certificate = sign(gateway, session, &grant, &life, request.token.token())
        .await
        .map_err(by)?;
    let (agent, mut recording) = connect(gateway, session, (&grant, &life), certificate, request)
        .await
        .map_err(by)?;
    recording.expect_key(agent.key.clone());
    let waiting = || recording.is_waiting().then(|| NOT_STORED.to_owned());
    let notice = broken.or_else(waiting);
    gateway.journal.append(SessionOpened {
        session,
        user: grant.user().to_owned(),
        workspace: grant.workspace().name.to_string(),
        workspace_uid: life.uid.to_string(),
        login: grant.terms().login.to_string(),
        client_address: request.peer.to_string(),
        client_version: request.user_agent.clone(),
        issuer: Some(identity.issuer().to_owned()),
    });
    for (object, role) in grant.lent() {
        gateway.journal.append(AccessLent {
            session,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            generation: object.generation.try_into().unwrap_or_default(),
            role: role.clone(),
        });
    }
    Ok(Opened {
        session,
        grant,
        seat,
        agent,
        recording,
        notice,
    })
}

/// The grant of somebody who may enter a workspace now, and so may wake it: decided as for a session, which it is not yet.
///
/// # Errors
/// The same refusals as for a session that was asked for in its place.
pub(crate) async fn may_wake(
    gateway: &Gateway,
    who: &Identity,
    name: &WorkspaceName,
    reason: Option<&Reason>,
) -> Result<Grant, Refusal> {
    if gateway.tasks.stopping().is_cancelled() {
        return Err(Refusal::new(RefusalCode::Stopping, "the gateway is stopping"));
    }
    let grant = authorize(gateway, who, name).await?;
    unhindered(gateway, who, &grant)?;
    // Nothing is started for a session that could not be.
    ready(gateway, grant.terms().recording.mode)?;
    if grant.is_break_glass() && reason.is_none() {
        return Err(glass::unreasoned(&grant));
    }
    Ok(grant)
}

/// The grant of somebody who may enter a workspace now, and so may have it kept awake, if their roles say so.
///
/// # Errors
/// The same refusals as for a session that was asked for in its place; or that it could not be put on record.
pub(crate) async fn may_keep(gateway: &Gateway, who: &Identity, name: &WorkspaceName) -> Result<Grant, Refusal> {
    if gateway.tasks.stopping().is_cancelled() {
        return Err(Refusal::new(RefusalCode::Stopping, "the gateway is stopping"));
    }
    let grant = authorize(gateway, who, name).await?;
    unhindered(gateway, who, &grant)?;
    on_record(gateway)?;
    Ok(grant)
}

/// Whether what is done is on record.
fn on_record(gateway: &Gateway) -> Result<(), Refusal> {
    let ready = gateway.journal.ready();
    ready.map_err(|why| Refusal::unavailable(Dependency::Journal, why))
}

/// Whether nothing stands in the way of somebody who may enter: no lock, and no logout since the token was checked.
fn unhindered(gateway: &Gateway, who: &Identity, grant: &Grant) -> Result<(), Refusal> {
    let place = grant.workspace().name.as_str();
    gateway.locks.check(grant.user(), Some(place))?;
    gateway.identities.not_logged_out(who)
}

/// A session that could not be put on record, or for which no link could be made, is refused before anything is signed for it.
/// A best-effort one can do without the store, but never without the journal.
fn ready(gateway: &Gateway, mode: RecordingMode) -> Result<(), Refusal> {
    gateway.credential_ready()?;
    on_record(gateway)?;
    match (mode, gateway.store.ready()) {
        (RecordingMode::Strict, Err(why)) => Err(Refusal::unavailable(Dependency::RecordStore, why)),
        _ => Ok(()),
    }
}

/// The life that the grant is for, if it can be entered and is still the one that the directory knows: a change before the
/// seat was taken reached nobody.
fn enter(gateway: &Gateway, grant: &Grant) -> Result<Life, Refusal> {
    let workspace = grant.workspace();
    let life = workspace.enter()?;
    workspace.is_up()?;
    match workspace.over(gateway.workspaces.find(&workspace.name).as_deref()) {
        Some(sentence) => Err(starting(&sentence)),
        None => Ok(life.clone()),
    }
}

async fn sign(
    gateway: &Gateway,
    session: Uuid,
    grant: &Grant,
    life: &Life,
    token: &BearerToken,
) -> Result<SessionCert, Refusal> {
    let request = SessionRequest {
        subject: gateway.credential.public_key().clone(),
        session,
        workspace: grant.workspace().name.clone(),
        workspace_uid: life.uid.clone(),
        user: grant.user().to_owned(),
        terms: grant.terms().clone(),
        valid_for: gateway.config.authority.certificate_life,
    };
    let signing = gateway
        .authority
        .sign_session(&request, token.for_signing(), SystemTime::now());
    let within = gateway.config.authority.sign_within();
    let signed = tokio::time::timeout(within, signing)
        .await
        .map_err(|_| late(Dependency::Authority, within))?
        .map_err(|error| Refusal::by_authority(&error))?;
    let valid_before = signed.valid_before().duration_since(UNIX_EPOCH).unwrap_or_default();
    gateway.journal.append(Signed {
        session,
        user: grant.user().to_owned(),
        workspace: grant.workspace().name.to_string(),
        serial: signed.serial(),
        key_id: signed.key_id().to_owned(),
        valid_before: valid_before.as_secs(),
    });
    Ok(signed)
}

/// Has the agent open the session and the store make its folder, both at once.
async fn connect(
    gateway: &Gateway,
    session: Uuid,
    (grant, life): (&Grant, &Life),
    certificate: SessionCert,
    request: &TunnelRequest,
) -> Result<(AgentStream, Keeping), Refusal> {
    let message = OpenSession {
        session,
        certificate: certificate.blob().to_vec(),
        client_address: request.peer.to_string(),
        client_version: request.user_agent.clone(),
    };
    let start = Start {
        session,
        user: grant.user().to_owned(),
        workspace: grant.workspace().name.to_string(),
        workspace_uid: life.uid.to_string(),
        login: grant.terms().login.to_string(),
        client_address: request.peer.to_string(),
        keep: grant.keep(),
    };
    let noted = start.clone();
    let begin = tokio::time::timeout(BEGIN_WITHIN, gateway.store.begin(start.clone()));
    let (agent, begun) = tokio::join!(gateway.links.open(&grant.workspace().name, &life.uid, message), begin);
    let begun = match begun {
        Ok(begun) => begun.map_err(|failure| Refusal::unavailable(Dependency::RecordStore, failure.to_string())),
        Err(_) => Err(late(Dependency::RecordStore, BEGIN_WITHIN)),
    };
    let terms = &grant.terms().recording;
    if terms.unacked == 0
        && let Ok(begun) = &begun
    {
        begun.await_each();
    }
    let recording = match terms.mode {
        RecordingMode::Strict => Keeping::strict(begun?),
        RecordingMode::BestEffort => Keeping::best_effort(gateway.store.clone(), start, begun.ok()),
    };
    match agent {
        Ok(agent) => {
            if recording.is_waiting() {
                gateway.store.note_unbegun(noted).await;
            }
            Ok((agent, recording))
        }
        Err(error) => {
            recording.forget(&gateway.store).await;
            Err(unreachable(gateway, grant.workspace(), &error))
        }
    }
}

/// Puts the refusal on record, then answers it.
fn deny(gateway: &Gateway, request: TunnelRequest, refused: Refused) -> Ended {
    let Refused { refusal, user } = refused;
    let code = refusal.code();
    let Some(user) = user else {
        gateway.turn_away(&refusal, request.workspace.as_str(), request.peer);
        request.refuse(&refusal);
        return Ended::Refused(code);
    };
    gateway.denied(&user, request.workspace.as_str(), &refusal, request.peer);
    metrics::refused(code);
    request.refuse(&refusal);
    Ended::Refused(code)
}

/// Closes the recording and puts the end on record. A recording whose store is away is waited for after that.
async fn close(gateway: &Gateway, session: Uuid, seat: Seat, recording: Keeping, passage: Passage) -> Ended {
    let Passage { ending, counters } = passage;
    let counted = Counted {
        client_bytes: counters.client_to_agent,
        agent_bytes: counters.agent_to_client,
    };
    let closing = Closing {
        reason: ending.reason(),
        counted: Some(counted),
    };
    let stored = recording.durable();
    let ended = |record_bytes| {
        gateway.journal.append(SessionEnded {
            session,
            reason: ending.reason(),
            code: ending.code().to_owned(),
            client_bytes: counted.client_bytes,
            agent_bytes: counted.agent_bytes,
            record_bytes,
        });
        tracing::info!(%session, code = ending.code(), record_bytes, "session ended");
    };
    if recording.is_waiting() {
        gateway.store.note_end(session, ending.reason()).await;
        ended(stored);
        drop(seat);
        late_record(gateway, session, recording, closing).await;
    } else {
        let record_bytes = match recording.finish(closing, CLOSE_WITHIN).await {
            Ok(index) => index.record_bytes,
            Err(failure) => {
                tracing::error!(%session, %failure, "the recording is not closed yet");
                stored
            }
        };
        ended(record_bytes);
    }
    Ended::Passed { session, ending }
}

/// Waits for the store with what it does not have of a session that is over, until the gateway stops. The agent holds it too.
async fn late_record(gateway: &Gateway, session: Uuid, recording: Keeping, closing: Closing) {
    let Ok(_place) = gateway.late_records.try_acquire() else {
        tracing::error!(%session, "too many recordings wait for the store; what it lacks of this one is let go of");
        return;
    };
    let finished = tokio::select! {
        finished = recording.finish(closing, LATE_WITHIN) => finished,
        () = gateway.tasks.stopping().cancelled() => Err(Failure::Storage("take a recording before the gateway stopped".into())),
    };
    match finished {
        Ok(index) => tracing::info!(%session, record_bytes = index.record_bytes, "a late recording is stored"),
        Err(failure) => tracing::error!(%session, %failure, "a recording that waited is not stored"),
    }
}

/// A refusal and the person whom it meets, once they are known.
struct Refused {
    refusal: Refusal,
    user: Option<String>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, user: None }
    }
}

fn late(what: Dependency, after: Duration) -> Refusal {
    Refusal::unavailable(what, format!("no answer within {after:?}"))
}

fn unreachable(gateway: &Gateway, workspace: &Workspace, error: &OpenError) -> Refusal {
    // A pod may be ready before its agent is, and an agent may be started again in it: that is waited for.
    let comes = || {
        let unheard = gateway.links.unheard(&workspace.name);
        workspace.place.is_some() && unheard.is_some_and(|since| since < AGENT_COMES)
    };
    match (error, &workspace.state) {
        (OpenError::Unreachable(_), State::Running) if comes() => {
            starting("its agent does not answer yet").with_detail(error.to_string())
        }
        (OpenError::OtherLife, _) => starting(&error.to_string()),
        (OpenError::NoLink | OpenError::Unreachable(_), State::Starting(text)) => {
            starting(text).with_detail(error.to_string())
        }
        (OpenError::Refused { code, .. }, _) => {
            Refusal::new(RefusalCode::AgentRefused, "the workspace's agent refused the session")
                .with_hint("tell your platform team; they find the reason in the gateway's journal")
                .with_detail(format!("{error} ({code})"))
        }
        _ => Refusal::unavailable(Dependency::Agent, error.to_string()),
    }
}

const BEGIN_WITHIN: Duration = Duration::from_secs(5);
const CLOSE_WITHIN: Duration = Duration::from_secs(15);
/// How long what is held of an ended session waits for the store.
const LATE_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// How many ended sessions may wait for the store at once, each with at most 16 MiB.
pub(crate) const MOST_LATE: usize = 16;
const NOT_STORED: &str = "recordings cannot be stored at the moment; this session is recorded as soon as that is possible, and \
    what is missing is said";
