//! Whether somebody may enter a workspace: one decision, of everybody who has a say in it.
//!
//! The policy decides, on the workspace as it is after everybody else was heard; no [`Grant`] is made without [`Heard`], so that no
//! authoriser can be forgotten on one of the ways in. Nothing is decided of an open session by silence: what was said last
//! stands until somebody says something else.

use doorward_certs::WorkspaceName;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::{
    Gateway,
    oidc::{Identity, Person},
    policy::{Explanation, Grant},
    refusal::{Refusal, RefusalCode},
};

/// What the authorisers besides the policy have said of one person and one workspace. Only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard(());

/// Decides whether the person may enter the workspace of this name now, and on which terms. A workspace that does not exist
/// takes the same way, and as long, as one that may not be entered.
///
/// # Errors
/// [`Refusal::denied`], the same for both; that no login can be made of who may enter; or that somebody who has a say cannot be
/// asked, the same for all.
pub(crate) async fn authorize(gateway: &Gateway, who: &Identity, name: &WorkspaceName) -> Result<Grant, Refusal> {
    let heard = hear(gateway, who, name).await?;
    // As it is now: what it was before everybody was heard may be over.
    let workspace = gateway.workspaces.find(name);
    gateway
        .policy
        .decide(who, workspace.as_ref(), gateway.record_store(), &heard)
}

/// Decides again what a session began with, by what was heard since.
///
/// # Errors
/// As [`authorize`].
pub(crate) fn again(gateway: &Gateway, who: &Identity, began: &Grant, heard: &Heard) -> Result<Grant, Refusal> {
    let workspace = gateway.workspaces.find(&began.workspace().name);
    gateway
        .policy
        .decide(who, workspace.as_ref(), began.needs_store(), heard)
}

/// Hears everybody besides the policy.
///
/// # Errors
/// Somebody cannot be asked.
pub(crate) async fn hear(_gateway: &Gateway, _who: &Identity, _name: &WorkspaceName) -> Result<Heard, Refusal> {
    Ok(Heard(()))
}

/// Every workspace that the person may enter, in the order of their names.
///
/// # Errors
/// Somebody who has a say cannot be asked.
pub(crate) async fn list(gateway: &Gateway, who: &Identity) -> Result<Vec<Grant>, Refusal> {
    let all = gateway.workspaces.list();
    let each = all
        .iter()
        .map(|workspace| authorize(gateway, who, &workspace.name).boxed());
    let mut decided = stream::iter(each.collect::<Vec<_>>()).buffered(AT_ONCE);
    let mut granted = Vec::new();
    while let Some(one) = decided.next().await {
        match one {
            Ok(grant) => granted.push(grant),
            Err(refusal) if matches!(refusal.code(), RefusalCode::Denied | RefusalCode::LoginRefused) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(granted)
}

/// Explains the decision on a day when the record store works; with `all` to somebody who may see everybody's.
pub(crate) async fn explain(gateway: &Gateway, person: Person<'_>, name: &WorkspaceName, all: bool) -> Explanation {
    let workspace = gateway.workspaces.find(name);
    let explanation = gateway.policy.explain(person, name, workspace.as_ref(), all);
    explanation.with_lock(gateway.locks.against(person.user, Some(name.as_str())).as_ref())
}

#[cfg(test)]
impl Heard {
    /// Nobody but the policy has a say.
    pub(crate) fn nothing() -> Self {
        Self(())
    }
}

/// How many workspaces of one list are decided at once.
const AT_ONCE: usize = 16;
