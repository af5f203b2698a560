//! What the issuer's tokens say: access tokens as RFC 9068, id tokens as OpenID Connect Core section 2.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::families::FamilyId;
use super::people::Person;
use super::realm::Realm;

/// The signed tokens of one grant.
pub(super) struct Tokens {
    pub access: String,
    pub id: String,
}

impl Realm {
    pub(super) fn access_claims(&self, person: &Person, session: FamilyId, scope: &str, now: Duration) -> Value {
        let mut claims = json!({
            "iss": self.url,
            "sub": person.subject(),
            "aud": self.audience,
            "client_id": self.client_id,
            "azp": self.client_id,
            "exp": (now + self.lifetimes.access).as_secs(),
            "iat": now.as_secs(),
            "jti": Uuid::new_v4(),
            "sid": session,
            "scope": scope,
            "preferred_username": person.name,
        });
        add_own(&mut claims, person);
        claims
    }

    pub(super) fn id_claims(
        &self,
        person: &Person,
        session: FamilyId,
        logged_in: Duration,
        nonce: Option<&str>,
        now: Duration,
    ) -> Value {
        let mut claims = json!({
            "iss": self.url,
            "sub": person.subject(),
            "aud": self.client_id,
            "azp": self.client_id,
            "exp": (now + self.lifetimes.access).as_secs(),
            "iat": now.as_secs(),
            "auth_time": logged_in.as_secs(),
            "sid": session,
            "preferred_username": person.name,
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        add_own(&mut claims, person);
        claims
    }
}

/// What not everybody has. Absent, not empty, for a person without groups: what Keycloak sends, and what a reader must bear.
fn add_own(claims: &mut Value, person: &Person) {
    if !person.groups.is_empty() {
        claims["groups"] = json!(person.groups);
    }
    if !person.roles.is_empty() {
        claims["realm_access"] = json!({"roles": person.roles});
    }
    if let Some(email) = &person.email {
        claims["email"] = json!(email.address);
        claims["email_verified"] = json!(email.verified);
    }
}
