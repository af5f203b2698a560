//! Whose token this is, by the word of the API server (TokenReview): the pod that it is bound to.
//!
//! The server is asked with our audience, and its answer must name it: a server that was not asked for one, or that ignores
//! it, would vouch for tokens that were meant for itself. Nothing that a token says of itself is believed; it only helps to say
//! why one was refused.

use std::{sync::Arc, time::Duration};

use ::kube::Client;
use doorward_wire::message::Token;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};

use super::{KubeError, ask::Ask, claims};
use crate::workspace::line;

/// The pod to which a token is bound, which the API server has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundPod {
    namespace: String,
    service_account: String,
    pod: String,
    uid: String,
}

/// Why a token proves nothing. The texts hold no part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// It has expired.
    #[error("the token has expired: {0}")]
    Expired(String),
    /// It is for somebody else.
    #[error("the token is not for the audience {audience:?}: {said}")]
    Audience {
        /// Whom it should be for.
        audience: String,
        /// What the server says.
        said: String,
    },
    /// What it was bound to is gone.
    #[error("the token is no longer good, as when its pod was deleted: {0}")]
    Gone(String),
    /// The server does not take it, for another reason.
    #[error("the API server does not take the token: {0}")]
    Refused(String),
    /// It is good, and bound to no pod.
    #[error(
        "the token is bound to no pod: project it with `serviceAccountToken`, or request it with `--bound-object-kind Pod`"
    )]
    Unbound,
    /// It is good, and no service account's.
    #[error("the token is of {0:?}, and that is no service account")]
    NoServiceAccount(String),
    /// Too much is asked at once.
    #[error("too many tokens are being reviewed")]
    Busy,
    /// The server gave no answer.
    #[error(transparent)]
    Server(#[from] KubeError),
}

impl ReviewError {
    /// A word from a closed set.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired(_) => "enrol-token-expired",
            Self::Audience { .. } => "enrol-token-audience",
            Self::Gone(_) => "enrol-token-gone",
            Self::Refused(_) => "enrol-token-refused",
            Self::Unbound => "enrol-token-unbound",
            Self::NoServiceAccount(_) => "enrol-token-no-service-account",
            Self::Busy => "enrol-busy",
            Self::Server(error) => error.code(),
        }
    }
}

impl BoundPod {
    /// Whether it is this very pod, and not another of its name.
    #[must_use]
    pub fn is(&self, namespace: &str, pod: &str, uid: &str) -> bool {
        (self.namespace.as_str(), self.pod.as_str(), self.uid.as_str()) == (namespace, pod, uid)
    }

    /// Makes one of what the server answered, and of nothing else.
    fn of(user: &UserInfo) -> Result<Self, ReviewError> {
        let name = user.username.as_deref().unwrap_or_default();
        let account = name.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
        let Some((namespace, service_account)) = account else {
            return Err(ReviewError::NoServiceAccount(line(name)));
        };
        let extra = |key: &str| match user.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice) {
            Some([one]) if !one.is_empty() => Ok(one.clone()),
            _ => Err(ReviewError::Unbound),
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            pod: extra(POD_NAME)?,
            uid: extra(POD_UID)?,
        })
    }
}

impl std::fmt::Display for BoundPod {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            namespace,
            service_account,
            pod,
            uid,
        } = self;
        write!(
            formatter,
            "{namespace}/{pod}, uid {uid}, service account {service_account}"
        )
    }
}

/// Asks the API server about tokens. Clones share their bounds.
#[derive(Clone)]
pub struct Reviewer {
    ask: Ask<TokenReview>,
    audience: Arc<str>,
}

impl Reviewer {
    /// Asks through this client about tokens for this audience.
    #[must_use]
    pub fn new(client: Client, audience: String) -> Self {
        Self {
            ask: Ask::new(client, ANSWER_WITHIN, AT_ONCE),
            audience: audience.into(),
        }
    }

    /// The pod to which the token is bound. One question, never repeated here.
    ///
    /// # Errors
    /// [`ReviewError`].
    pub async fn pod(&self, token: &Token) -> Result<BoundPod, ReviewError> {
        let question = question(token.reveal(), vec![self.audience.to_string()]);
        let answer = self.ask.at_once(&question).await.ok_or(ReviewError::Busy)?;
        let status = answer?.status.unwrap_or_default();
        judge(&status, &self.audience, token.reveal())
    }
}

/// The question about a token.
pub(super) fn question(token: &str, audiences: Vec<String>) -> TokenReview {
    TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(audiences).filter(|all| !all.is_empty()),
        },
        ..TokenReview::default()
    }
}

fn judge(status: &TokenReviewStatus, audience: &str, token: &str) -> Result<BoundPod, ReviewError> {
    let said = line(status.error.as_deref().unwrap_or("it gives no reason"));
    if status.authenticated != Some(true) {
        return Err(claims::why_refused(token, audience, said));
    }
    // Authenticated without an audience means: for the API server itself.
    let ours = |audiences: &Vec<String>| audiences.iter().any(|one| one == audience);
    if !status.audiences.as_ref().is_some_and(ours) {
        return Err(ReviewError::Audience {
            audience: audience.to_owned(),
            said: "the API server confirms other audiences".to_owned(),
        });
    }
    BoundPod::of(status.user.as_ref().unwrap_or(&UserInfo::default()))
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reviewer({})", self.audience)
    }
}

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Reviews under way. Each is one for a link that is being made; beyond, the link is dialled again later.
const AT_ONCE: usize = 32;
/// Less than an agent waits for its certificate, together with the time for signing.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
