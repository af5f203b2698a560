//! Why something was refused, with the text for the outside and the detail for the operator.
//!
//! Every refusal of the gateway has a code from one closed set, which is the metric label, the journal's field and
//! the `code` of the problem body. The table from code to HTTP status is here and nowhere else.

use std::{borrow::Cow, fmt, time::Duration};

use doorward_certs::{AuthorityError, vault::VaultError};
use http::StatusCode;

use crate::kube::KubeError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $title:literal;)+) => {
        /// The closed set of reasons. The code is stable; texts may change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RefusalCode { $($(#[$doc])* $name,)+ }

        impl RefusalCode {
            /// Every code, for tests and documents.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable code: metric label, journal field, `code` in the problem body.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status that carries this refusal.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// The `title` of the problem body: the same for every occurrence (RFC 9457, section 3.1.3).
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    /// The request is not one that HTTP or this gateway allows.
    BadRequest = "bad-request", BAD_REQUEST, "bad request";
    /// The request's header did not come in time. The connection is closed without an answer.
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "request too slow";
    /// There was no TLS handshake, or not in time. Never an answer: there is nobody to answer to.
    TlsHandshake = "tls-handshake", BAD_REQUEST, "no TLS handshake";
    /// A page of another origin asked for a tunnel or for data.
    CrossOrigin = "cross-origin", FORBIDDEN, "cross-origin request refused";
    /// The body is too large.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "request body too large";
    /// The header, or one of its fields, is too large.
    HeaderTooLarge = "header-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "request header too large";
    /// No such resource, or one that the caller may not see.
    NotFound = "not-found", NOT_FOUND, "not found";
    /// The resource does not take this method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "method not allowed";
    /// The resource is a WebSocket and the request is none, or of another version.
    UpgradeRequired = "upgrade-required", UPGRADE_REQUIRED, "upgrade required";
    /// No bearer token.
    TokenMissing = "token-missing", UNAUTHORIZED, "no token";
    /// The token is not a well-formed JWT.
    TokenMalformed = "token-malformed", UNAUTHORIZED, "malformed token";
    /// The algorithm, key or signature is not one to be trusted.
    TokenUntrusted = "token-untrusted", UNAUTHORIZED, "untrusted token";
    /// The token has expired.
    TokenExpired = "token-expired", UNAUTHORIZED, "expired token";
    /// The token is not valid yet, or says that it was issued in the future.
    TokenEarly = "token-early", UNAUTHORIZED, "token not valid yet";
    /// The token was made by another issuer, for another audience or for another client.
    TokenForeign = "token-foreign", UNAUTHORIZED, "token not for this gateway";
    /// The token is of another kind: refresh, logout, ID token, proof of possession.
    TokenKind = "token-kind", UNAUTHORIZED, "wrong kind of token";
    /// A claim is missing or of the wrong type.
    TokenClaims = "token-claims", UNAUTHORIZED, "unusable claims";
    /// The identity provider has logged the person out since the token was issued.
    TokenRevoked = "token-revoked", UNAUTHORIZED, "login is over";
    /// The token is bound to a key, or has to be, and the proof of the key is missing.
    ProofMissing = "proof-missing", UNAUTHORIZED, "proof of possession missing";
    /// The proof of the key that the token is bound to does not hold.
    ProofInvalid = "proof-invalid", UNAUTHORIZED, "proof of possession refused";
    /// The person may enter, and no login can be made of who they are.
    LoginRefused = "login-refused", FORBIDDEN, "no login";
    /// The person or the workspace is locked.
    Locked = "locked", FORBIDDEN, "locked";
    /// None of the person's roles gives the right to do this to others.
    NoRight = "no-right", FORBIDDEN, "no right";
    /// Recordings cannot be stored, and the role that lets the person in all the same wants a reason.
    ReasonRequired = "reason-required", FORBIDDEN, "reason required";
    /// The session has just been ended, because what it was opened for is no longer granted.
    SessionOver = "session-over", FORBIDDEN, "session ended";
    /// No such workspace, or one that the person may not enter: the two look the same.
    Denied = "denied", FORBIDDEN, "denied";
    /// The person may enter, and the workspace sleeps.
    Asleep = "asleep", CONFLICT, "workspace asleep";
    /// The person may enter, and the workspace is on its way.
    Starting = "starting", CONFLICT, "workspace starting";
    /// The person may enter, and the time is over for which the platform leaves the workspace up.
    UpTimeOver = "up-time-over", FORBIDDEN, "up-time over";
    /// The workspace was to be woken and did not start.
    WakeFailed = "wake-failed", SERVICE_UNAVAILABLE, "workspace not woken";
    /// The person may enter, and may not have the workspace kept awake, or not for so long; or nobody could be told.
    KeepRefused = "keep-refused", FORBIDDEN, "not kept awake";
    /// The workspace was to be kept awake, and that could not be told everywhere.
    KeepFailed = "keep-failed", SERVICE_UNAVAILABLE, "not told everywhere";
    /// Too many sessions of one person, or too many requests.
    TooMany = "too-many", TOO_MANY_REQUESTS, "too many";
    /// The gateway has no room for another session.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "overloaded";
    /// The gateway is stopping.
    Stopping = "stopping", SERVICE_UNAVAILABLE, "stopping";
    /// The identity provider's keys cannot be had.
    IdentityProviderDown = "identity-provider-down", SERVICE_UNAVAILABLE, "identity provider unavailable";
    /// The SSH certificate authority does not sign.
    AuthorityDown = "authority-down", SERVICE_UNAVAILABLE, "certificate authority unavailable";
    /// The workspace's agent cannot be reached.
    AgentDown = "agent-down", SERVICE_UNAVAILABLE, "workspace unreachable";
    /// The workspace's agent refused the session.
    AgentRefused = "agent-refused", BAD_GATEWAY, "refused by the workspace";
    /// The Kubernetes API server cannot be asked who may enter.
    KubernetesDown = "kubernetes-down", SERVICE_UNAVAILABLE, "Kubernetes API server unavailable";
    /// The recording store cannot be written.
    RecordStoreDown = "record-store-down", SERVICE_UNAVAILABLE, "recording store unavailable";
    /// A defect of the gateway.
    Internal = "internal", INTERNAL_SERVER_ERROR, "internal error";
}

/// What a new session needs besides the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// The OIDC issuer.
    IdentityProvider,
    /// The SSH certificate authority.
    Authority,
    /// The workspace's agent.
    Agent,
    /// The store of recordings.
    RecordStore,
    /// The gateway's own journal.
    Journal,
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A refusal: a code, a sentence for the person, a hint for what to do, and a detail that only the operator sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    code: RefusalCode,
    text: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    detail: String,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal with the sentence that the person reads.
    #[must_use]
    pub fn new(code: RefusalCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
            hint: None,
            detail: String::new(),
            retry_after: None,
            allow: None,
        }
    }

    /// Another sentence for the person.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = text.into();
        self
    }

    /// What the person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the operator reads in the log and the journal. Never sent to the person; never a secret.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// When it may be worth asking again (sent as `Retry-After`, in whole seconds).
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The methods that the resource takes (sent as `Allow`).
    #[must_use]
    pub fn with_allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// The one body for a workspace that does not exist and for one that the person may not enter.
    #[must_use]
    pub fn denied(detail: impl Into<String>) -> Self {
        Self::new(
            RefusalCode::Denied,
            "there is no such workspace, or you may not enter it",
        )
        .with_hint(
            "`doorward ls` shows the workspaces that you may enter; ask your platform team for access to another",
        )
        .with_detail(detail)
    }

    /// Something that a new session needs is down. Open sessions go on.
    #[must_use]
    pub fn unavailable(what: Dependency, detail: impl Into<String>) -> Self {
        let (code, text) = match what {
            Dependency::IdentityProvider => (
                RefusalCode::IdentityProviderDown,
                "the identity provider does not answer, or not as it should, so that nobody's login can be checked",
            ),
            Dependency::Authority => (
                RefusalCode::AuthorityDown,
                "the SSH certificate authority does not answer at the moment",
            ),
            Dependency::Agent => (
                RefusalCode::AgentDown,
                "the workspace's agent cannot be reached at the moment",
            ),
            Dependency::RecordStore => (
                RefusalCode::RecordStoreDown,
                "the recording store cannot be written at the moment",
            ),
            Dependency::Journal => (
                RefusalCode::RecordStoreDown,
                "the journal cannot be written at the moment",
            ),
        };
        let hint = match what {
            Dependency::Agent => "the workspace may be stopped or starting; `doorward ls` shows its state",
            _ => "nothing is wrong on your side; try again in a moment, and tell your platform team if it stays",
        };
        Self::new(code, text)
            .with_hint(hint)
            .with_detail(detail)
            .with_retry_after(Duration::from_secs(5))
    }

    /// The authority gave no certificate: the person reads what of it is broken and whom to tell, the operator why.
    #[must_use]
    pub fn by_authority(error: &AuthorityError) -> Self {
        let detail = format!("{}: {}", error.code(), chain(error));
        let AuthorityError::Vault(vault) = error else {
            return Self::unavailable(Dependency::Authority, detail);
        };
        let code = match vault {
            VaultError::UserTooFast => RefusalCode::TooMany,
            _ => RefusalCode::AuthorityDown,
        };
        Self::new(code, vault.public())
            .with_hint(vault.hint())
            .with_detail(detail)
            .with_retry_after(Duration::from_secs(5))
    }

    /// The API server was to say something of the person, and does not: the person reads what kind of failure it is, the operator
    /// all of it.
    #[must_use]
    pub fn by_kubernetes(error: &KubeError) -> Self {
        let text = format!(
            "the Kubernetes API server has a say in who may enter, and cannot be asked at the moment ({})",
            error.code()
        );
        let hint = match error.is_outage() {
            true => "nothing is wrong on your side; try again in a moment, and tell your platform team if it stays",
            false => "nothing is wrong on your side; tell your platform team",
        };
        Self::new(RefusalCode::KubernetesDown, text)
            .with_hint(hint)
            .with_detail(format!("{}: {error}", error.code()))
            .with_retry_after(Duration::from_secs(5))
    }

    /// A bound of the person, or of the gateway, was reached.
    #[must_use]
    pub fn too_many(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalCode::TooMany, text)
            .with_hint("end a session that you no longer need, or try again in a moment")
            .with_retry_after(Duration::from_secs(5))
    }

    /// The methods that the resource takes, where others were tried.
    #[must_use]
    pub fn allow(&self) -> Option<&'static str> {
        self.allow
    }

    /// Why, as a code.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        self.code
    }

    /// The sentence for the person.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The hint for the person.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The detail for the operator; empty if there is none.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// When it may be worth asking again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Refusal {
    /// The code, the text and the operator's detail, on one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.text)?;
        if !self.detail.is_empty() {
            write!(formatter, " ({})", self.detail.escape_debug())?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// An error with its causes, in one line: the operator's face of it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += ": ";
        text += &cause.to_string();
        next = cause.source();
    }
    text
}
