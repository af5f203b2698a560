//! Whether somebody may enter a workspace: one decision, of everybody who has a say in it.
//!
//! The policy decides, on the workspace as it is after everybody else was heard; no [`Grant`] is made without [`Heard`], so that no
//! authoriser can be forgotten on one of the ways in. Nothing is decided of an open session by silence: what was said last
//! stands until somebody says something else. A refusal costs one question, whatever it is for, so that it tells nothing.

mod heard;
mod rbac;

use std::time::Instant;

use doorward_certs::WorkspaceName;
use futures_util::{FutureExt as _, StreamExt as _, stream};

pub use heard::Heard;
pub use rbac::Rbac;

use crate::{
    Gateway,
    kube::{KubeError, access},
    oidc::{Identity, Person},
    policy::{Explanation, Grant},
    refusal::{Refusal, RefusalCode},
    workspace::Workspace,
};
use heard::Said;

/// Decides whether the person may enter the workspace of this name now, and on which terms. A workspace that does not exist
/// takes the same way, and as long, as one that may not be entered.
///
/// # Errors
/// [`Refusal::denied`], the same for both; that no login can be made of who may enter; or that somebody who has a say cannot be
/// asked, the same for all.
pub(crate) async fn authorize(gateway: &Gateway, who: &Identity, name: &WorkspaceName) -> Result<Grant, Refusal> {
    let (decided, asked) = decide(gateway, who, name).await?;
    if decided.as_ref().is_err_and(is_denial) {
        known(gateway)?;
    }
    if !asked && decided.as_ref().is_err_and(is_denial) {
        as_if(gateway, who.person()).await?;
    }
    decided
}

/// Decides again what a session began with, by what was heard since.
///
/// # Errors
/// As [`authorize`].
pub(crate) fn again(gateway: &Gateway, who: &Identity, began: &Grant, heard: &Heard) -> Result<Grant, Refusal> {
    let workspace = gateway.workspaces.find(&began.workspace().name);
    // What objects say is known here: it is always what they say now, unless they are not known any more.
    let access = objects(gateway, who.person(), workspace.as_deref());
    let heard = Heard {
        rbac: heard.rbac.clone(),
        access: access.unwrap_or_else(|_| began.heard().access.clone()),
    };
    gateway
        .policy
        .decide(who, workspace.as_ref(), began.needs_store(), &heard)
}

/// Hears everybody besides the policy again; what they said since `oldest` will do.
///
/// # Errors
/// Why somebody cannot be asked.
pub(crate) async fn hear_again(
    gateway: &Gateway,
    who: &Identity,
    began: &Grant,
    oldest: Instant,
) -> Result<Heard, KubeError> {
    let workspace = gateway.workspaces.find(&began.workspace().name);
    let (heard, _) = hear(gateway, who.person(), workspace.as_deref(), oldest).await?;
    Ok(heard)
}

/// Every workspace that the person may enter, in the order of their names.
///
/// # Errors
/// Somebody who has a say cannot be asked.
pub(crate) async fn list(gateway: &Gateway, who: &Identity) -> Result<Vec<Grant>, Refusal> {
    let all = gateway.workspaces.list();
    let each = all
        .iter()
        .map(|workspace| decide(gateway, who, &workspace.name).boxed());
    let mut decided = stream::iter(each.collect::<Vec<_>>()).buffered(AT_ONCE);
    let mut granted = Vec::new();
    while let Some(one) = decided.next().await {
        match one?.0 {
            Ok(grant) => granted.push(grant),
            Err(refusal) if is_denial(&refusal) => known(gateway)?,
            Err(refusal) if refusal.code() == RefusalCode::LoginRefused => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(granted)
}

/// Explains the decision on a day when the record store works; with `all` to somebody who may see everybody's.
///
/// # Errors
/// Somebody who has a say cannot be asked.
pub(crate) async fn explain(
    gateway: &Gateway,
    person: Person<'_>,
    name: &WorkspaceName,
    all: bool,
) -> Result<Explanation, Refusal> {
    let workspace = gateway.workspaces.find(name);
    let oldest = oldest(gateway);
    let (heard, asked) = hear(gateway, person, workspace.as_deref(), oldest)
        .await
        .map_err(away)?;
    known(gateway)?;
    let explanation = gateway.policy.explain(person, name, workspace.as_ref(), all, &heard);
    if !asked && !explanation.is_granted() {
        as_if(gateway, person).await?;
    }
    Ok(explanation.with_lock(gateway.locks.against(person.user, Some(name.as_str())).as_ref()))
}

/// The decision, and whether anybody was asked for it just now.
async fn decide(
    gateway: &Gateway,
    who: &Identity,
    name: &WorkspaceName,
) -> Result<(Result<Grant, Refusal>, bool), Refusal> {
    let mut asked_once = false;
    for _ in 0..MOST_TRIES {
        let workspace = gateway.workspaces.find(name);
        let heard = hear(gateway, who.person(), workspace.as_deref(), oldest(gateway)).await;
        let (heard, asked) = heard.map_err(away)?;
        asked_once |= asked;
        // As it is now: what it was before everybody was heard may be over, and then another question is to be asked.
        let now = gateway.workspaces.find(name);
        if question(gateway, now.as_deref()) == question(gateway, workspace.as_deref()) {
            let store = gateway.record_store();
            let decided = gateway.policy.decide(who, now.as_ref(), store, &heard);
            return Ok((decided, asked_once));
        }
    }
    let refusal = Refusal::denied("the workspace changed each time while the API server was asked about it");
    Ok((Err(refusal), asked_once))
}

/// Hears everybody besides the policy, and tells whether anybody was asked just now.
async fn hear(
    gateway: &Gateway,
    who: Person<'_>,
    workspace: Option<&Workspace>,
    oldest: Instant,
) -> Result<(Heard, bool), KubeError> {
    // Objects that are not known say nothing: whoever is denied then is told so.
    let access = || objects(gateway, who, workspace).unwrap_or_default();
    let (Some(rbac), Some((require, act))) = (&gateway.rbac, question(gateway, workspace)) else {
        let heard = Heard {
            access: access(),
            ..Heard::nothing()
        };
        return Ok((heard, false));
    };
    let told = rbac.may(who, &act, oldest).await?;
    let answer = told.answer;
    let rbac = Some(Said { require, act, answer });
    let access = access();
    Ok((Heard { rbac, access }, told.asked))
}

/// What the objects of the workspace's namespace say now.
fn objects(
    gateway: &Gateway,
    who: Person<'_>,
    workspace: Option<&Workspace>,
) -> Result<Option<access::Said>, KubeError> {
    match (&gateway.access, workspace) {
        (Some(access), Some(workspace)) => access.hear(who, workspace),
        _ => Ok(None),
    }
}

/// Whether the objects are known that could have let in somebody who is denied: the same for every workspace, so that it tells of
/// none that it is there.
fn known(gateway: &Gateway) -> Result<(), Refusal> {
    match &gateway.access {
        Some(access) => access.known().map_err(away),
        None => Ok(()),
    }
}

fn question(
    gateway: &Gateway,
    workspace: Option<&Workspace>,
) -> Option<(crate::config::Require, crate::kube::rights::Act)> {
    gateway.rbac.as_ref()?.question(workspace?)
}

fn oldest(gateway: &Gateway) -> Instant {
    gateway.rbac.as_ref().map_or_else(Instant::now, Rbac::oldest)
}

async fn as_if(gateway: &Gateway, who: Person<'_>) -> Result<(), Refusal> {
    match &gateway.rbac {
        Some(rbac) => rbac.as_if(who).await.map_err(away),
        None => Ok(()),
    }
}

fn is_denial(refusal: &Refusal) -> bool {
    refusal.code() == RefusalCode::Denied
}

/// The refusal where the API server cannot be asked: for everybody, so that it tells nothing of any workspace.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn away(error: KubeError) -> Refusal {
    Refusal::by_kubernetes(&error)
}

/// How many workspaces of one list are decided at once.
const AT_ONCE: usize = 16;
/// How often a decision is made anew because its workspace has become another.
const MOST_TRIES: usize = 3;

#[cfg(test)]
mod tests;
