//! What one person does to the sessions of others: kill and lock. Who may is a role's right; each use and each refusal of
//! it is on record.

use std::net::SocketAddr;

use ::http::Response;
use doorward_audit::{Locked, SessionKilled, Unlocked};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Gateway,
    http::not_found,
    locks::{Lock, LockKind},
    oidc::{Identity, json},
    policy::Right,
    problem::{self, Body},
    refusal::{Refusal, RefusalCode},
    session::Dismissal,
};

/// The body of a kill.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Kill {
    #[serde(default)]
    reason: String,
}

/// The body of a lock.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLock {
    kind: LockKind,
    name: String,
    #[serde(default)]
    reason: String,
}

/// Ends a session: one's own, or with the right to.
pub(super) fn kill(
    gateway: &Gateway,
    who: &Identity,
    id: Uuid,
    body: &[u8],
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let Kill { reason } = match body.is_empty() {
        true => Kill::default(),
        false => read(body)?,
    };
    let reason = sentence(reason)?;
    // What one may not end looks like what is not there.
    let open = gateway.sessions.find(id).ok_or_else(not_found)?;
    let own = gateway
        .sessions
        .standing(id)
        .is_some_and(|standing| standing.is_of(who));
    if !own {
        let owner = super::owner_of(gateway, &open.workspace);
        if !gateway
            .policy
            .may(who.person(), Right::Kill, Some((&open.workspace, owner.as_deref())))
        {
            let refusal = not_found().with_detail(format!("no right to end the session {id}"));
            gateway.denied(who.user(), &open.workspace, &refusal, peer);
            return Err(refusal);
        }
        unlocked(gateway, who, &open.workspace, peer)?;
    }
    let by = if own { "you" } else { who.user() };
    let said = match reason.is_empty() {
        true => format!("by {by}"),
        false => format!("by {by}: {reason}"),
    };
    if !gateway.sessions.dismiss(id, &Dismissal::Killed(said)) {
        return Err(not_found());
    }
    gateway.journal.append(SessionKilled {
        session: id,
        by: who.user().to_owned(),
        reason,
    });
    Ok(problem::done())
}

/// All locks.
pub(super) fn locks(gateway: &Gateway, who: &Identity, peer: SocketAddr) -> Result<Response<Body>, Refusal> {
    let has = gateway.policy.rights_of(who.person()).contains(&Right::Lock);
    right(gateway, who, has, "", peer)?;
    Ok(problem::json(&gateway.locks.list()))
}

/// Locks a person or a workspace, and ends their open sessions.
pub(super) async fn lock(
    gateway: &Gateway,
    who: &Identity,
    body: &[u8],
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let NewLock { kind, name, reason } = read(body)?;
    let (name, reason) = (sentence(name)?, sentence(reason)?);
    if name.is_empty() || name.len() > 256 {
        return Err(Refusal::new(RefusalCode::BadRequest, "that is no name"));
    }
    may_lock(gateway, who, kind, &name, peer)?;
    let lock = Lock::now(kind, &name, who.user(), &reason);
    let sentence = lock.sentence();
    gateway.locks.add(lock).await.map_err(|error| kept(&error))?;
    gateway.journal.append(Locked {
        kind: kind.as_str().to_owned(),
        name: name.clone(),
        by: who.user().to_owned(),
        reason,
    });
    // Whoever took a seat before the lock stood is ended here; whoever takes one later sees the lock.
    for open in gateway.sessions.live() {
        let meets = match kind {
            LockKind::User => open.user == name,
            LockKind::Workspace => open.workspace == name,
        };
        if meets {
            gateway
                .sessions
                .dismiss(open.session, &Dismissal::Locked(sentence.clone()));
        }
    }
    Ok(problem::done())
}

/// Takes a lock away.
pub(super) async fn unlock(
    gateway: &Gateway,
    who: &Identity,
    kind: LockKind,
    name: &str,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    may_lock(gateway, who, kind, name, peer)?;
    if !gateway.locks.remove(kind, name).await.map_err(|error| kept(&error))? {
        return Err(not_found());
    }
    gateway.journal.append(Unlocked {
        kind: kind.as_str().to_owned(),
        name: name.to_owned(),
        by: who.user().to_owned(),
    });
    Ok(problem::done())
}

fn may_lock(gateway: &Gateway, who: &Identity, kind: LockKind, name: &str, peer: SocketAddr) -> Result<(), Refusal> {
    let owner = super::owner_of(gateway, name);
    let over = match kind {
        LockKind::User => None,
        LockKind::Workspace => Some((name, owner.as_deref())),
    };
    let has = gateway.policy.may(who.person(), Right::Lock, over);
    right(gateway, who, has, "", peer)
}

/// Refuses who has no right, or is locked: a lock takes rights away as well, or one could take away one's own.
pub(super) fn right(
    gateway: &Gateway,
    who: &Identity,
    has: bool,
    workspace: &str,
    peer: SocketAddr,
) -> Result<(), Refusal> {
    if !has {
        let refusal = Refusal::new(
            RefusalCode::NoRight,
            "none of your roles gives you the right to do this",
        )
        .with_hint(
            "your platform team gives rights in the policy: `may = [\"kill\", \"lock\", \"explain\", \"hold\"]`",
        );
        gateway.denied(who.user(), workspace, &refusal, peer);
        return Err(refusal);
    }
    unlocked(gateway, who, workspace, peer)
}

fn unlocked(gateway: &Gateway, who: &Identity, workspace: &str, peer: SocketAddr) -> Result<(), Refusal> {
    gateway.locks.check(who.user(), None).inspect_err(|refusal| {
        gateway.denied(who.user(), workspace, refusal, peer);
    })
}

/// A text for terminals and records: short, and without what could disturb them.
pub(super) fn sentence(text: String) -> Result<String, Refusal> {
    let plain = |character: char| !character.is_control() && !crate::oidc::is_hidden(character);
    match text.len() <= LONGEST_SENTENCE && text.chars().all(plain) {
        true => Ok(text),
        false => Err(Refusal::new(
            RefusalCode::BadRequest,
            "a name or a reason is at most 500 bytes without control characters",
        )),
    }
}

/// Reads a body: an object without repetition, with the members that there may be.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let object = json::object(body).and_then(|object| serde_json::from_value(Value::Object(object)));
    object.map_err(|error| {
        Refusal::new(RefusalCode::BadRequest, "the body is not what it should be").with_detail(error.to_string())
    })
}

fn kept(error: &std::io::Error) -> Refusal {
    Refusal::new(RefusalCode::Internal, "the lock cannot be kept, so nothing was changed")
        .with_detail(error.to_string())
}

const LONGEST_SENTENCE: usize = 500;
