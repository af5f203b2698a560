//! Legal holds: recordings that nobody deletes until somebody with the right to do so releases them. Each use and each refusal of
//! the right is on record.

use std::{net::SocketAddr, time::SystemTime};

use ::http::Response;
use doorward_audit::{HoldPlaced, HoldReleased, SessionIndex};
use serde::Deserialize;
use uuid::Uuid;

use super::admin::{read, right, sentence};
use crate::{
    Gateway,
    http::not_found,
    locks::rfc3339,
    oidc::Identity,
    policy::Right,
    problem::{self, Body},
    record::{Failure, Hold},
    refusal::{Refusal, RefusalCode},
};

/// The body of a hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewHold {
    session: Uuid,
    reason: String,
}

/// All holds.
pub(super) fn list(gateway: &Gateway, who: &Identity, peer: SocketAddr) -> Result<Response<Body>, Refusal> {
    let has = gateway.policy.rights_of(who.person()).contains(&Right::Hold);
    right(gateway, who, has, "", peer)?;
    Ok(problem::json(&gateway.store.holds()))
}

/// Has a recording held.
pub(super) async fn hold(
    gateway: &Gateway,
    who: &Identity,
    body: &[u8],
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let NewHold { session, reason } = read(body)?;
    let reason = sentence(reason)?;
    if reason.trim().is_empty() {
        return Err(Refusal::new(RefusalCode::BadRequest, "a hold needs a reason"));
    }
    may_hold(gateway, who, session, peer).await?;
    let hold = Hold {
        session,
        by: who.user().to_owned(),
        at: rfc3339(SystemTime::now()),
        reason: reason.clone(),
    };
    // Said before it is done: what may have been done is on record in any case.
    gateway.journal.append(HoldPlaced {
        session,
        by: who.user().to_owned(),
        reason,
    });
    gateway.store.hold(hold).await.map_err(|failure| not_whole(&failure))?;
    Ok(problem::done())
}

/// Takes a hold away.
pub(super) async fn release(
    gateway: &Gateway,
    who: &Identity,
    session: Uuid,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    may_hold(gateway, who, session, peer).await?;
    let released = gateway.store.release(session).await;
    if !released.map_err(|failure| not_whole(&failure))? {
        return Err(not_found());
    }
    gateway.journal.append(HoldReleased {
        session,
        by: who.user().to_owned(),
    });
    Ok(problem::done())
}

/// The recording, for whoever has the right to hold it. Without the right it looks like what is not there.
async fn may_hold(gateway: &Gateway, who: &Identity, id: Uuid, peer: SocketAddr) -> Result<SessionIndex, Refusal> {
    let has = gateway.policy.rights_of(who.person()).contains(&Right::Hold);
    right(gateway, who, has, "", peer)?;
    let one = gateway.store.session(id).await.ok_or_else(not_found)?;
    let owner = super::owner_of(gateway, &one.workspace);
    let over = Some((one.workspace.as_str(), owner.as_deref()));
    if gateway.policy.may(who.person(), Right::Hold, over) {
        return Ok(one);
    }
    let refusal = not_found().with_detail(format!("no right to hold the recording {id}"));
    gateway.denied(who.user(), &one.workspace, &refusal, peer);
    Err(refusal)
}

fn not_whole(failure: &Failure) -> Refusal {
    Refusal::new(
        RefusalCode::RecordStoreDown,
        "the hold was not changed everywhere; the recording counts as held",
    )
    .with_hint("ask again once the record store works")
    .with_detail(failure.to_string())
}
