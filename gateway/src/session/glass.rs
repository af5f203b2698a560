//! Breaking the glass: a session that is let in because recordings cannot be stored, and only for a stated reason.

use doorward_audit::BreakGlass;
use uuid::Uuid;

use crate::Gateway;
use crate::http::Reason;
use crate::metrics;
use crate::policy::Grant;
use crate::refusal::{Refusal, RefusalCode};

/// Puts on record that the glass is broken, before anything is signed for it; the sentence that its user is told. Nothing for
/// a grant that needs no such thing.
///
/// # Errors
/// There is no reason.
pub(super) fn broken(
    gateway: &Gateway,
    session: Uuid,
    grant: &Grant,
    reason: Option<&Reason>,
) -> Result<Option<String>, Refusal> {
    if !grant.is_break_glass() {
        return Ok(None);
    }
    let Some(reason) = reason else {
        return Err(unreasoned(grant));
    };
    metrics::glass_broken();
    let (user, workspace) = (grant.user().to_owned(), grant.workspace().name.to_string());
    tracing::warn!(%session, user, workspace, reason = reason.as_str(), "break-glass: let in while recordings cannot be stored");
    gateway.journal.append(BreakGlass {
        session,
        user,
        workspace,
        reason: reason.as_str().to_owned(),
    });
    Ok(Some(
        "BREAK-GLASS: recordings cannot be stored at the moment, and you were let in all the same. This and your reason are \
         on record; what you do is recorded as soon as that is possible, and what is missing is said"
            .to_owned(),
    ))
}

/// The refusal of a grant that breaks the glass without a reason.
pub(super) fn unreasoned(grant: &Grant) -> Refusal {
    Refusal::new(
        RefusalCode::ReasonRequired,
        "recordings cannot be stored at the moment, and your role lets you in without only for a stated reason",
    )
    .with_hint(format!(
        "say why: DOORWARD_REASON='the reason' ssh {0}, or `doorward connect --reason 'the reason' {0}`",
        grant.workspace().name
    ))
}
