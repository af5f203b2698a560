//! What an open session stands on: who was let in, on which grant, by the word of which token.

use std::time::{Duration, Instant};

use crate::{
    Gateway,
    oidc::{BearerToken, Identity, LoggedOut, Presented},
    policy::Grant,
};

/// What an open session stands on. The grant is the one that it began with; the identity is the newest.
#[derive(Debug)]
pub(crate) struct Standing {
    identity: Identity,
    grant: Grant,
    /// The newest token, kept only where its issuer is asked about it again.
    token: Option<BearerToken>,
    since: Instant,
}

impl Standing {
    /// What a new session stands on.
    pub(super) fn new(gateway: &Gateway, identity: &Identity, grant: &Grant, shown: &Presented) -> Self {
        let keep = gateway.identities.introspects(identity.issuer());
        Self {
            identity: identity.clone(),
            grant: grant.clone(),
            token: keep.then(|| shown.token().clone()),
            since: Instant::now(),
        }
    }

    /// The same with newer word of the person, unless what there is was issued later.
    pub(super) fn renewed(&self, identity: Identity, token: Option<BearerToken>) -> Self {
        let newer = identity.issued() >= self.identity.issued();
        let (identity, token) = match newer {
            true => (identity, token),
            false => (self.identity.clone(), self.token.clone()),
        };
        Self {
            identity,
            grant: self.grant.clone(),
            token,
            since: self.since,
        }
    }

    /// The person, by their newest token.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the session began with.
    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The newest token, where it is kept.
    pub(crate) fn token(&self) -> Option<&BearerToken> {
        self.token.as_ref()
    }

    /// How long the session has lasted.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether this is the session's own person: the issuer's name for them, not the one that can be changed.
    pub(crate) fn is_of(&self, who: &Identity) -> bool {
        (self.identity.issuer(), self.identity.subject()) == (who.issuer(), who.subject())
    }

    /// Whether a logout meets the session's person.
    pub(crate) fn was_logged_out(&self, said: &LoggedOut) -> bool {
        said.meets(&self.identity)
    }
}
