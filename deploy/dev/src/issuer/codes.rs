//! Authorization codes between the login page and the token endpoint (RFC 6749 section 4.1).

use std::collections::HashMap;
use std::time::Duration;

use super::families::FamilyId;
use super::pkce::Challenge;

/// What a code was issued for.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub person: String,
    pub redirect_uri: String,
    pub challenge: Challenge,
    pub nonce: Option<String>,
    pub scope: String,
    pub at: Duration,
}

/// The answer to a code at the token endpoint.
#[derive(Debug)]
pub(super) enum Redeemed {
    /// The first use.
    Granted(Authorization),
    /// A second use: whatever the first one gave must end (RFC 6749 section 4.1.2).
    Replayed(Option<FamilyId>),
    /// Unknown or expired.
    Unknown,
}

/// The codes that are not expired yet, used ones included.
#[derive(Debug, Default)]
pub(super) struct Codes(HashMap<String, Code>);

#[derive(Debug)]
struct Code {
    expires: Duration,
    state: CodeState,
}

#[derive(Debug)]
enum CodeState {
    Fresh(Box<Authorization>),
    Used(Option<FamilyId>),
}

impl Codes {
    /// A new code, or `None` when too many are waiting.
    pub(super) fn issue(&mut self, authorization: Authorization, life: Duration) -> Option<String> {
        let now = authorization.at;
        self.0.retain(|_, code| code.expires > now);
        if self.0.len() >= MOST {
            return None;
        }
        let code = super::random_token();
        let state = CodeState::Fresh(Box::new(authorization));
        self.0.insert(
            code.clone(),
            Code {
                expires: now + life,
                state,
            },
        );
        Some(code)
    }

    /// Takes the code's one use, whatever the caller then finds wrong with the request.
    pub(super) fn redeem(&mut self, code: &str, now: Duration) -> Redeemed {
        match self.0.get_mut(code) {
            Some(found) if found.expires > now => match std::mem::replace(&mut found.state, CodeState::Used(None)) {
                CodeState::Fresh(authorization) => Redeemed::Granted(*authorization),
                CodeState::Used(family) => Redeemed::Replayed(family),
            },
            _ => Redeemed::Unknown,
        }
    }

    /// Remembers what the code's use gave, so that a replay can end it.
    pub(super) fn gave(&mut self, code: &str, family: FamilyId) {
        if let Some(found) = self.0.get_mut(code) {
            found.state = CodeState::Used(Some(family));
        }
    }
}

const MOST: usize = 500;
