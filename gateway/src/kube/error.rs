//! What an API server may answer instead of what was asked, in classes that callers branch on, with a sentence each.

use std::time::Duration;

use ::kube::{Error, error::Status};

use super::bounds::{Late, TooLong};
use crate::{refusal::chain, workspace::line};

/// Why the API server gave no good answer. The texts are for operators; none holds a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeError {
    /// The configuration, or a file that it names.
    #[error("{0}")]
    Configuration(String),
    /// No connection, or one that broke.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// The connection stands and nothing comes.
    #[error("the API server gave no answer within {}", humantime::format_duration(*.0))]
    Hanging(Duration),
    /// It does not know us.
    #[error("the API server does not take the gateway's credentials: {0}")]
    Unauthorised(String),
    /// A permission is missing, and the server says which.
    #[error("a permission is missing: {0}")]
    Forbidden(String),
    /// It has too much to do.
    #[error("the API server throttles us")]
    Throttled {
        /// How long it asks to be left alone.
        after: Option<Duration>,
    },
    /// There is no such object.
    #[error("there is no such object: {0}")]
    NotFound(String),
    /// The object has changed meanwhile, or is there already.
    #[error("the object has changed meanwhile: {0}")]
    Conflict(String),
    /// What a watch would go on from is forgotten: it begins anew.
    #[error("the watch has to begin anew")]
    Gone,
    /// Any other refusal.
    #[error("the API server refused ({code}): {text}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// Its message.
        text: String,
    },
    /// An answer that is none, or longer than any may be.
    #[error("the API server's answer cannot be used: {0}")]
    Garbage(String),
}

impl KubeError {
    /// A word from a closed set: metric label, field of logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "kube-configuration",
            Self::Unreachable(_) => "kube-unreachable",
            Self::Hanging(_) => "kube-hanging",
            Self::Unauthorised(_) => "kube-unauthorised",
            Self::Forbidden(_) => "kube-forbidden",
            Self::Throttled { .. } => "kube-throttled",
            Self::NotFound(_) => "kube-not-found",
            Self::Conflict(_) => "kube-conflict",
            Self::Gone => "kube-gone",
            Self::Refused { .. } => "kube-refused",
            Self::Garbage(_) => "kube-garbage",
        }
    }

    /// Whether the server itself is away: what is asked later may well be answered.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Hanging(_) | Self::Throttled { .. } => true,
            Self::Refused { code, .. } => *code >= 500,
            _ => false,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "correct the section [kubernetes], or the file that it names",
            Self::Unreachable(_) => {
                "see whether the API server runs, and whether network policies let the gateway there"
            }
            Self::Hanging(_) | Self::Throttled { .. } => "see how the API server is doing",
            Self::Unauthorised(_) => "see whether the service account exists and its token is mounted and not expired",
            Self::Forbidden(_) => {
                "give the gateway's service account that permission (Role or ClusterRole, and its binding)"
            }
            Self::NotFound(_) => {
                "see whether it is there; a kind of objects is, once its CustomResourceDefinition is applied"
            }
            Self::Conflict(_) | Self::Gone | Self::Refused { .. } => "see the API server's log",
            Self::Garbage(_) => "see whether an API server answers at that address, and not something before it",
        }
    }

    fn of_status(status: &Status) -> Self {
        let text = line(&status.message);
        match status.code {
            401 => Self::Unauthorised(text),
            403 => Self::Forbidden(text),
            404 => Self::NotFound(text),
            409 => Self::Conflict(text),
            410 => Self::Gone,
            429 => Self::Throttled {
                after: status
                    .details
                    .as_ref()
                    .map(|details| details.retry_after_seconds)
                    .filter(|seconds| *seconds > 0)
                    .map(|seconds| Duration::from_secs(seconds.into())),
            },
            code => Self::Refused { code, text },
        }
    }
}

impl From<Error> for KubeError {
    fn from(error: Error) -> Self {
        if let Error::Api(status) = &error {
            return Self::of_status(status);
        }
        if let Some(Late(after)) = find(&error) {
            return Self::Hanging(*after);
        }
        if let Some(too_long) = find::<TooLong>(&error) {
            return Self::Garbage(too_long.to_string());
        }
        match error {
            Error::SerdeError(error) => Self::Garbage(line(&error.to_string())),
            Error::FromUtf8(error) => Self::Garbage(error.to_string()),
            Error::BuildRequest(error) => Self::Configuration(line(&chain(&error))),
            Error::Auth(error) => Self::Unauthorised(line(&chain(&error))),
            other => Self::Unreachable(line(&chain(&other))),
        }
    }
}

/// A cause of this type.
fn find<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = next {
        if let Some(found) = one.downcast_ref::<E>() {
            return Some(found);
        }
        // An `io::Error` hides what it was made of from `source`.
        let inner = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<E>()) {
            return Some(found);
        }
        next = one.source();
    }
    None
}
