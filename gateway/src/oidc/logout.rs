//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): the issuer says that somebody was logged out.
//!
//! A logout token is checked like any other (signature, issuer, time), names the gateway's client as its audience, and is
//! taken once. Tokens of that login which were issued before are refused from then on, so that what is still good by its
//! dates opens nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Map, Value};

use super::{
    Identity,
    replay::{NotNew, Seen, digest},
    token::{LEEWAY, moment, printable, refusal, string},
};
use crate::{
    config::Oidc,
    guarded::Guarded,
    refusal::{Refusal, RefusalCode},
};

/// Whom an issuer logged out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOut {
    /// The issuer.
    pub issuer: String,
    /// Its own name for the person (`sub`).
    pub subject: Option<String>,
    /// Its name for the login (`sid`); then only that login is over.
    pub login_session: Option<String>,
}

impl LoggedOut {
    /// Whether a token that says this was one of that login.
    #[must_use]
    pub fn meets(&self, identity: &Identity) -> bool {
        let subject = self.subject.as_deref().is_none_or(|own| own == identity.subject());
        let login = match (&self.login_session, identity.login_session()) {
            (Some(said), Some(own)) => said == own,
            // A token that does not say of which login it is goes with all of the person's.
            (Some(_), None) => self.subject.is_some(),
            (None, _) => true,
        };
        self.issuer == identity.issuer() && subject && login
    }
}

/// The logouts of the last hours.
#[derive(Debug)]
pub(super) struct Logouts {
    seen: Seen,
    known: Guarded<HashMap<[u8; 32], (SystemTime, Instant)>>,
}

impl Default for Logouts {
    fn default() -> Self {
        Self {
            seen: Seen::new(2 * (YOUNG + LEEWAY), MOST, MOST),
            known: Guarded::default(),
        }
    }
}

impl Logouts {
    /// Checks the claims of a logout token whose signature was right, and remembers what it says.
    pub(super) fn take(
        &self,
        claims: &Map<String, Value>,
        settings: &Oidc,
        now: SystemTime,
    ) -> Result<LoggedOut, Refusal> {
        let said = read(claims, settings, now)?;
        let id = string(claims, "jti")?;
        self.seen.take(&said.issuer, id).map_err(|not_new| match not_new {
            NotNew::Again => bad("it was sent before"),
            NotNew::Full => Refusal::new(RefusalCode::Overloaded, "too many logouts at the moment")
                .with_retry_after(Duration::from_secs(60)),
        })?;
        let name = match (&said.login_session, &said.subject) {
            (Some(sid), _) => key(&said.issuer, "sid", sid),
            (None, Some(subject)) => key(&said.issuer, "sub", subject),
            (None, None) => return Err(bad("it names nobody")),
        };
        let until = Instant::now() + KEPT;
        self.known.with(|known| {
            if known.len() >= MOST {
                let now = Instant::now();
                known.retain(|_, (_, until)| *until > now);
            }
            match known.len() < MOST {
                true => drop(known.insert(name, (now, until))),
                // Its sessions end all the same; its tokens go on opening new ones until they end.
                false => tracing::error!("too many logouts are remembered: the tokens of this one are still taken"),
            }
        });
        Ok(said)
    }

    /// Refuses a token of a login that is over.
    pub(super) fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        let names = [("sid", identity.login_session()), ("sub", Some(identity.subject()))];
        let over = self.known.with(|known| {
            names
                .into_iter()
                .filter_map(|(kind, name)| known.get(&key(identity.issuer(), kind, name?)))
                .any(|(at, _)| identity.issued() <= *at)
        });
        match over {
            true => Err(refusal(
                RefusalCode::TokenRevoked,
                "the identity provider has logged you out",
            )),
            false => Ok(()),
        }
    }
}

/// Checks the claims (section 2.6).
fn read(claims: &Map<String, Value>, settings: &Oidc, now: SystemTime) -> Result<LoggedOut, Refusal> {
    let issuer = string(claims, "iss")?;
    if issuer != settings.issuer {
        return Err(bad("it is of another issuer"));
    }
    let ours = |audience: &str| audience == settings.client_id || audience == settings.audience;
    let named = match claims.get("aud") {
        Some(Value::String(one)) => ours(one),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(ours),
        _ => false,
    };
    if !named {
        return Err(bad("it is for somebody else"));
    }
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(bad("its events do not say that it is a logout"));
    }
    if claims.contains_key("nonce") {
        return Err(bad("it has a nonce, as only ID tokens have"));
    }
    let issued = moment(claims, "iat")?.ok_or_else(|| bad("iat is missing"))?;
    let young = now.duration_since(issued).map_or(true, |age| age <= YOUNG + LEEWAY);
    if !young || issued > now + LEEWAY {
        return Err(bad("it was not made just now").with_hint("is a clock wrong?"));
    }
    if moment(claims, "exp")?.is_some_and(|end| now >= end + LEEWAY) {
        return Err(bad("it has expired"));
    }
    let optional = |name: &'static str| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => printable(text, name).map(Some),
        Some(_) => Err(bad("sub or sid is no text")),
    };
    let said = LoggedOut {
        issuer: issuer.to_owned(),
        subject: optional("sub")?,
        login_session: optional("sid")?,
    };
    match (&said.subject, &said.login_session) {
        (None, None) => Err(bad("it names nobody")),
        _ => Ok(said),
    }
}

fn key(issuer: &str, kind: &str, name: &str) -> [u8; 32] {
    // Neither an issuer nor a name has a control character.
    digest(&format!("{issuer}\n{kind}\n{name}"))
}

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, "the logout token is not taken")
        .with_detail(format!("the logout token: {detail}"))
}

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How old a logout token may be.
const YOUNG: Duration = Duration::from_secs(120);
/// How long a logout is remembered: longer than access tokens live.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How many are remembered.
const MOST: usize = 16 * 1024;
