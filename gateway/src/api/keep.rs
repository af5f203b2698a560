//! `PUT` and `DELETE /v1/workspaces/{name}/keep`: who may enter a workspace may have it left awake, for as long as a role of theirs
//! says. Each use and each refusal is on record.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::http::Response;
use doorward_audit::{KeepReleased, WorkspaceKept};
use doorward_certs::WorkspaceName;
use serde::Deserialize;
use serde_json::json;

use super::admin::read;
use crate::{
    Gateway,
    kube::note::Keep,
    locks::rfc3339,
    oidc::Identity,
    policy::Grant,
    problem::{self, Body},
    refusal::{Refusal, RefusalCode},
    session,
    usage::KeepError,
    workspace::{Life, moment},
};

/// The body of a `PUT`: one of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// For so many seconds from now, by the gateway's clock.
    r#for: Option<u64>,
    /// Until then, in RFC 3339.
    until: Option<String>,
}

/// Has a workspace left awake.
pub(super) async fn keep(
    gateway: &Gateway,
    who: &Identity,
    name: &WorkspaceName,
    body: &[u8],
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let denied = denied(gateway, who, name, peer);
    let asked: Asked = read(body)?;
    let (grant, life) = may(gateway, who, name).await.map_err(&denied)?;
    let until = until(&asked, &grant, SystemTime::now()).map_err(&denied)?;
    // Said before it is done: what may have been done is on record in any case.
    gateway.journal.append(WorkspaceKept {
        user: who.user().to_owned(),
        workspace: name.to_string(),
        workspace_uid: life.uid.to_string(),
        until: milliseconds(until),
        client_address: peer.to_string(),
    });
    let told = gateway.usage.keep(gateway, grant.workspace(), Keep::Until(until)).await;
    told.map_err(not_everywhere).map_err(&denied)?;
    let stop = grant.workspace().notes.stop.as_ref();
    let sooner = stop.filter(|stop| !stop.extendable && stop.at < until);
    let mut answer = json!({ "workspace": name.as_str(), "keep-until": rfc3339(until) });
    if let Some(stop) = sooner {
        answer["stops-at"] = rfc3339(stop.at).into();
    }
    Ok(problem::json(&answer))
}

/// Takes it back.
pub(super) async fn release(
    gateway: &Gateway,
    who: &Identity,
    name: &WorkspaceName,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let denied = denied(gateway, who, name, peer);
    let (grant, life) = may(gateway, who, name).await.map_err(&denied)?;
    gateway.journal.append(KeepReleased {
        user: who.user().to_owned(),
        workspace: name.to_string(),
        workspace_uid: life.uid.to_string(),
        client_address: peer.to_string(),
    });
    let told = gateway.usage.keep(gateway, grant.workspace(), Keep::Released).await;
    told.map_err(not_everywhere).map_err(&denied)?;
    Ok(problem::json(&json!({ "workspace": name.as_str() })))
}

/// For how long at once the person of a grant may have its workspace kept; nothing if not at all.
pub(super) fn longest(gateway: &Gateway, grant: &Grant) -> Option<Duration> {
    let longest = Some(grant.keep_awake()).filter(|longest| !longest.is_zero());
    longest.filter(|_| gateway.usage.can_keep(grant.workspace()))
}

fn denied(gateway: &Gateway, who: &Identity, name: &WorkspaceName, peer: SocketAddr) -> impl Fn(Refusal) -> Refusal {
    move |refusal| {
        gateway.denied(who.user(), name.as_str(), &refusal, peer);
        refusal
    }
}

/// Who may enter, and what they would enter: what sleeps cannot be kept awake.
async fn may(gateway: &Gateway, who: &Identity, name: &WorkspaceName) -> Result<(Grant, Life), Refusal> {
    let grant = session::may_keep(gateway, who, name).await?;
    if grant.keep_awake().is_zero() {
        let refusal = Refusal::new(
            RefusalCode::KeepRefused,
            "none of your roles lets you keep this workspace awake",
        );
        return Err(refusal.with_hint("your platform team gives this in the policy: `keep = \"8h\"` of a role"));
    }
    if !gateway.usage.can_keep(grant.workspace()) {
        let refusal = Refusal::new(
            RefusalCode::KeepRefused,
            "nobody can be told to leave this workspace awake: its use is not published on its pod",
        );
        return Err(refusal.with_hint("your platform team configures `[[kubernetes.usage]]` of the gateway"));
    }
    let life = grant.workspace().enter().map_err(|refusal| match refusal.code() {
        RefusalCode::Asleep => {
            refusal.with_hint("there is nothing to keep awake: enter it first, which wakes it, and ask again")
        }
        _ => refusal,
    })?;
    let life = life.clone();
    Ok((grant, life))
}

/// The time that is asked for, if it is to come and no longer away than the grant allows.
fn until(asked: &Asked, grant: &Grant, now: SystemTime) -> Result<SystemTime, Refusal> {
    let bad = |text: &'static str| Refusal::new(RefusalCode::BadRequest, text);
    let longest = grant.keep_awake();
    let until = match (asked.r#for, &asked.until) {
        (Some(seconds), None) => now.checked_add(Duration::from_secs(seconds)),
        (None, Some(text)) => Some(moment(text).ok_or_else(|| bad("`until` is no time in RFC 3339"))?),
        _ => return Err(bad("the body says either `for`, in seconds, or `until`")),
    };
    let away = until.and_then(|until| until.duration_since(now).ok().map(|away| (until, away)));
    match (until, away) {
        (Some(_), None) => Err(bad("that time is over already")),
        (_, Some((_, away))) if away.is_zero() => Err(bad("that time is over already")),
        (_, Some((until, away))) if away <= longest => Ok(until),
        _ => Err(Refusal::new(
            RefusalCode::KeepRefused,
            format!(
                "your roles let you keep this workspace awake for at most {} at once",
                humantime::format_duration(longest)
            ),
        )
        .with_hint("ask for less, and again before that is over; your platform team can allow more")),
    }
}

fn not_everywhere(error: KeepError) -> Refusal {
    match error {
        KeepError::Busy => Refusal::too_many("too many workspaces are being kept at the moment"),
        KeepError::Untold(why) => Refusal::new(
            RefusalCode::KeepFailed,
            "it could not be told everywhere that the workspace is to be left awake; do not rely on it",
        )
        .with_hint("ask again in a moment; `doorward ls` shows what the gateway knows")
        .with_detail(why),
    }
}

fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
