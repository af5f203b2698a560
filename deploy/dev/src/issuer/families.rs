//! Refresh tokens: one family per login, one valid token per family.
//!
//! Each refresh gives a new token. The use of an older one ends the whole family, as Keycloak does, because either
//! the thief or the owner holds a token that the other has used (RFC 9700 section 4.14.2).

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Names a login; the claim `sid`.
pub(super) type FamilyId = Uuid;

/// What a login was for.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub person: String,
    pub scope: String,
    pub at: Duration,
}

/// Why a refresh token gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshRefused {
    /// Not ours, expired, revoked, or of a family that was ended.
    Unknown,
    /// An older token of a living family, which is ended now.
    Reused,
}

/// The living families.
pub(super) struct Families {
    key: hmac::Key,
    living: HashMap<FamilyId, Family>,
}

struct Family {
    login: Login,
    counter: u32,
    expires: Duration,
}

impl Families {
    pub(super) fn new() -> Self {
        let key: [u8; 32] = rand::random();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            living: HashMap::new(),
        }
    }

    /// A new family and its first token.
    pub(super) fn begin(&mut self, login: Login, life: Duration) -> (FamilyId, String) {
        let now = login.at;
        self.living.retain(|_, family| family.expires > now);
        if self.living.len() >= MOST
            && let Some(oldest) = self
                .living
                .iter()
                .min_by_key(|(_, family)| family.expires)
                .map(|(&id, _)| id)
        {
            self.living.remove(&oldest);
        }
        let id = Uuid::new_v4();
        self.living.insert(
            id,
            Family {
                login,
                counter: 0,
                expires: now + life,
            },
        );
        (id, self.token(id, 0))
    }

    /// Takes the token's one use: the login and the family's next token.
    pub(super) fn rotate(
        &mut self,
        token: &str,
        now: Duration,
        life: Duration,
    ) -> Result<(FamilyId, Login, String), RefreshRefused> {
        let (id, counter) = self.read(token).ok_or(RefreshRefused::Unknown)?;
        let family = self
            .living
            .get_mut(&id)
            .filter(|family| family.expires > now)
            .ok_or(RefreshRefused::Unknown)?;
        if family.counter != counter {
            self.living.remove(&id);
            return Err(RefreshRefused::Reused);
        }
        family.counter += 1;
        family.expires = now + life;
        let (login, next) = (family.login.clone(), family.counter);
        Ok((id, login, self.token(id, next)))
    }

    /// Ends the family of a genuine token, old or new; anything else changes nothing.
    pub(super) fn revoke(&mut self, token: &str) {
        if let Some((id, _)) = self.read(token) {
            self.living.remove(&id);
        }
    }

    pub(super) fn end(&mut self, id: FamilyId) {
        self.living.remove(&id);
    }

    /// `base64url(family id || counter || HMAC-SHA256 of both)`.
    fn token(&self, id: FamilyId, counter: u32) -> String {
        let mut bytes = id.as_bytes().to_vec();
        bytes.extend(counter.to_be_bytes());
        let tag = hmac::sign(&self.key, &bytes);
        bytes.extend(tag.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read(&self, token: &str) -> Option<(FamilyId, u32)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, tag) = bytes.split_at_checked(20)?;
        hmac::verify(&self.key, signed, tag).ok()?;
        let (id, counter) = signed.split_at(16);
        Some((Uuid::from_slice(id).ok()?, u32::from_be_bytes(counter.try_into().ok()?)))
    }
}

const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(100);

    fn login() -> Login {
        Login {
            person: "bob".to_owned(),
            scope: "openid".to_owned(),
            at: Duration::from_secs(1000),
        }
    }

    #[test]
    fn reuse_ends_the_family_and_no_other() {
        let mut families = Families::new();
        let now = login().at;
        let (_, first) = families.begin(login(), LIFE);
        let (_, other) = families.begin(login(), LIFE);
        let (_, _, second) = families.rotate(&first, now, LIFE).unwrap();
        let (_, _, third) = families.rotate(&second, now, LIFE).unwrap();
        assert_eq!(families.rotate(&first, now, LIFE).unwrap_err(), RefreshRefused::Reused);
        assert_eq!(families.rotate(&third, now, LIFE).unwrap_err(), RefreshRefused::Unknown);
        assert!(families.rotate(&other, now, LIFE).is_ok());
    }

    #[test]
    fn forged_tokens_are_unknown_and_end_nothing() {
        let mut families = Families::new();
        let now = login().at;
        let (_, token) = families.begin(login(), LIFE);
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        bytes[19] ^= 1;
        for forged in [
            URL_SAFE_NO_PAD.encode(bytes),
            token[1..].to_owned(),
            String::new(),
            Families::new().token(Uuid::nil(), 0),
        ] {
            assert_eq!(
                families.rotate(&forged, now, LIFE).unwrap_err(),
                RefreshRefused::Unknown
            );
            families.revoke(&forged);
        }
        assert!(families.rotate(&token, now, LIFE).is_ok());
    }

    #[test]
    fn expiry_and_revocation_end_a_family() {
        let mut families = Families::new();
        let now = login().at;
        let (_, token) = families.begin(login(), LIFE);
        assert_eq!(
            families.rotate(&token, now + LIFE, LIFE).unwrap_err(),
            RefreshRefused::Unknown
        );
        let (_, token) = families.begin(login(), LIFE);
        let (_, _, newer) = families.rotate(&token, now, LIFE).unwrap();
        families.revoke(&token);
        assert_eq!(families.rotate(&newer, now, LIFE).unwrap_err(), RefreshRefused::Unknown);
    }
}
