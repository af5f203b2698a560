//! The check of one token against keys: signature first, then every claim.
//!
//! Accepted is a compact JWS with a signature of an algorithm from the configured list by a published key of the issuer. Keys that
//! the token brings along (`jwk`, `jku`, `x5u`, `x5c`) are never used, `crit` is refused, types are exact, no name stands twice.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_certs::WorkspaceName;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{
    Identity, email, json,
    key_set::{Found, KeySet},
    login,
};
use crate::{
    config::{ClaimPath, Dpop, GroupsForm, Oidc, TokenKind},
    refusal::{Refusal, RefusalCode},
};

/// A token whose form and header were checked; nothing in it is believed yet.
pub(super) struct Parsed<'a> {
    signed: &'a str,
    claims: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// Which kind of JWT is expected, by its header's `typ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One that says who somebody is.
    Token(TokenKind),
    /// One that says that somebody was logged out.
    Logout,
}

/// What the signature's check found.
pub(super) enum Checked {
    /// The claims were signed by the issuer.
    Signed(Map<String, Value>),
    /// No such key: the issuer may have a new one.
    UnknownKey,
}

impl<'a> Parsed<'a> {
    /// Takes the token apart and checks its header.
    pub(super) fn new(token: &'a str, algorithms: &[Algorithm], wanted: Wanted) -> Result<Self, Refusal> {
        let malformed = |detail: &str| {
            refusal(RefusalCode::TokenMalformed, "the token is not a signed JWT").with_detail(detail.to_owned())
        };
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("not three parts"));
        };
        let signed = &token[..header.len() + 1 + claims.len()];
        let header = URL_SAFE_NO_PAD
            .decode(header)
            .map_err(|_| malformed("the header is not base64url"))?;
        let header = json::object(&header).map_err(|error| malformed(&format!("the header: {error}")))?;
        for brought in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"] {
            if header.contains_key(brought) {
                return Err(untrusted("the token's header brings its own keys or rules").with_detail(brought));
            }
        }
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => algorithms.iter().copied().find(|one| format!("{one:?}") == *name),
            _ => return Err(malformed("the header has no alg")),
        };
        let algorithm = algorithm.ok_or_else(|| untrusted("the token is signed in a way that is not accepted here"))?;
        kind_by_header(&header, wanted)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if !id.is_empty() && id.len() <= LONGEST_KEY_ID => Some(id.clone()),
            Some(_) => return Err(untrusted("the token's key id is not one")),
        };
        Ok(Self {
            signed,
            claims,
            signature,
            algorithm,
            key_id,
        })
    }

    /// Checks the signature, and only then reads the claims.
    pub(super) fn check(&self, keys: &KeySet) -> Result<Checked, Refusal> {
        let keys = match keys.find(self.key_id.as_deref(), self.algorithm) {
            Found::Keys(keys) => keys,
            Found::Unknown => return Ok(Checked::UnknownKey),
            Found::Unfit => return Err(untrusted("the token's key is not one for its algorithm")),
        };
        let signed = |key: &&jsonwebtoken::DecodingKey| {
            jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, self.algorithm) == Ok(true)
        };
        if !keys.iter().any(signed) {
            return Err(untrusted("the token's signature is wrong"));
        }
        let claims = URL_SAFE_NO_PAD
            .decode(self.claims)
            .ok()
            .and_then(|claims| json::object(&claims).ok());
        match claims {
            Some(claims) => Ok(Checked::Signed(claims)),
            None => Err(refusal(
                RefusalCode::TokenMalformed,
                "the token's claims are not an object without repetition",
            )),
        }
    }
}

/// The issuer that a token names: believed for nothing but the choice of who checks it. Nothing if the token is no JWT.
pub(super) fn named_issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = json::object(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// Checks the claims of a token whose signature was right, or which its issuer itself read for us.
pub(super) fn identity(claims: &Map<String, Value>, settings: &Oidc, now: SystemTime) -> Result<Claimed, Refusal> {
    let issuer = string(claims, "iss")?;
    if issuer != settings.issuer {
        return Err(foreign("the token was made by another issuer"));
    }
    for_us(claims, settings)?;
    kind_by_claims(claims, settings)?;
    let (issued, expires) = times(claims, now)?;
    let email = email::verified(claims, settings)?;
    let name = user(claims, &settings.user_claim)?;
    Ok(Claimed {
        login: login::wish(claims, settings, &name, email.as_ref()),
        identity: Identity {
            user: printable(&format!("{}{name}", settings.user_prefix), "user-claim")?,
            issuer: issuer.to_owned(),
            subject: printable(string(claims, "sub")?, "sub")?,
            login_session: match claims.get("sid") {
                None => None,
                Some(Value::String(sid)) => Some(printable(sid, "sid")?),
                Some(_) => return Err(claim("sid")),
            },
            groups: groups(claims, settings)?,
            workspaces: workspaces(claims, settings)?,
            email,
            login: None,
            cluster: None,
            issued,
            expires,
        },
    })
}

/// Who somebody is, and the login that they wish for; a table may still have to be looked into.
pub(super) struct Claimed {
    pub(super) identity: Identity,
    pub(super) login: Option<login::Wish>,
}

/// The kind by the header's `typ` (RFC 9068, section 2.1; OpenID Connect Back-Channel Logout, section 2.4).
fn kind_by_header(header: &Map<String, Value>, wanted: Wanted) -> Result<(), Refusal> {
    let typ = match header.get("typ") {
        None if wanted != Wanted::Logout => return Ok(()),
        None => return Err(wrong_kind("typ is missing")),
        Some(Value::String(typ)) => typ.to_ascii_lowercase(),
        Some(_) => return Err(wrong_kind("typ is no string")),
    };
    match (typ.strip_prefix("application/").unwrap_or(&typ), wanted) {
        ("jwt", Wanted::Token(_)) | ("at+jwt", Wanted::Token(TokenKind::Access)) | ("logout+jwt", Wanted::Logout) => {
            Ok(())
        }
        (other, _) => Err(wrong_kind(format!("the header's typ is {}", other.escape_debug()))),
    }
}

/// The kind by the claims: Keycloak's `typ`, and what only other kinds carry.
fn kind_by_claims(claims: &Map<String, Value>, settings: &Oidc) -> Result<(), Refusal> {
    let wanted = settings.token_kind;
    match (claims.get("typ"), wanted) {
        (None, _) => {}
        (Some(Value::String(typ)), TokenKind::Access | TokenKind::Opaque) if typ == "Bearer" => {}
        (Some(Value::String(typ)), TokenKind::Access | TokenKind::Opaque)
            if typ == "DPoP" && settings.dpop != Dpop::Off => {}
        (Some(Value::String(typ)), TokenKind::Id) if typ == "ID" => {}
        (Some(_), _) => return Err(wrong_kind("the claim typ names another kind")),
    }
    let foreign: &[&str] = match wanted {
        // An ID token's hashes of what was issued beside it.
        TokenKind::Access | TokenKind::Opaque => &["at_hash", "c_hash", "s_hash", "events"],
        TokenKind::Id => &["events", "scope"],
    };
    match foreign.iter().find(|name| claims.contains_key(**name)) {
        Some(name) => Err(wrong_kind(format!("it carries {name}"))),
        None => Ok(()),
    }
}

/// Audience and authorized party. Other audiences beside ours are allowed: who the token was made for says `azp` (or `client_id`
/// of RFC 9068), which must be there and be a client that is allowed.
fn for_us(claims: &Map<String, Value>, settings: &Oidc) -> Result<(), Refusal> {
    let named = match claims.get("aud") {
        Some(Value::String(one)) => *one == settings.audience,
        Some(Value::Array(all)) => {
            if all.len() > MOST_AUDIENCES || !all.iter().all(Value::is_string) {
                return Err(claim("aud"));
            }
            all.iter().any(|one| one.as_str() == Some(&settings.audience))
        }
        None => false,
        Some(_) => return Err(claim("aud")),
    };
    if !named {
        return Err(foreign("the token was made for another service"));
    }
    let mut parties = 0;
    for name in ["azp", "client_id"] {
        match claims.get(name) {
            None => {}
            Some(Value::String(party)) if settings.authorized_parties.contains(party) => parties += 1,
            Some(Value::String(_)) => return Err(foreign("the token was made for another program")),
            Some(_) => return Err(claim(name)),
        }
    }
    match parties {
        0 => Err(foreign("the token does not say for which program it was made")),
        _ => Ok(()),
    }
}

/// `exp` and `iat` must be there, `nbf` may; integers alone; [`LEEWAY`] for clocks that differ. Returns begin and end.
fn times(claims: &Map<String, Value>, now: SystemTime) -> Result<(SystemTime, SystemTime), Refusal> {
    let (Some(expires), Some(issued)) = (moment(claims, "exp")?, moment(claims, "iat")?) else {
        return Err(claim("exp or iat"));
    };
    if now >= expires + LEEWAY {
        return Err(Refusal::new(RefusalCode::TokenExpired, "the token has expired").with_hint(
            "`doorward login` gets a new token; if that one has expired too, the clock of the identity provider or of \
             the gateway is wrong",
        ));
    }
    let begins = moment(claims, "nbf")?.unwrap_or(issued).max(issued);
    if begins > now + LEEWAY {
        return Err(refusal(RefusalCode::TokenEarly, "the token is not valid yet")
            .with_hint("is the clock of the identity provider or of the gateway wrong?"));
    }
    Ok((issued, expires))
}

/// A moment in whole seconds (`NumericDate` of RFC 7519, of which only integers are taken).
pub(super) fn moment(claims: &Map<String, Value>, name: &'static str) -> Result<Option<SystemTime>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64().filter(|seconds| *seconds <= LAST_SECOND) {
            Some(seconds) => Ok(Some(UNIX_EPOCH + Duration::from_secs(seconds))),
            None => Err(claim(name)),
        },
    }
}

fn user(claims: &Map<String, Value>, path: &ClaimPath) -> Result<String, Refusal> {
    match at(claims, path)? {
        Some(Value::String(user)) => printable(user, "user-claim"),
        _ => Err(claim("user-claim")),
    }
}

fn groups(claims: &Map<String, Value>, settings: &Oidc) -> Result<BTreeSet<String>, Refusal> {
    let wrong = || claim("groups-claim");
    let group = |value: &Value| match value {
        Value::String(group) if !group.is_empty() => {
            printable(&format!("{}{group}", settings.groups_prefix), "groups-claim")
        }
        _ => Err(wrong()),
    };
    match (at(claims, &settings.groups_claim)?, settings.groups_form) {
        // Whoever is in no group has no such claim at some providers.
        (None, _) => Ok(BTreeSet::new()),
        (Some(Value::Array(all)), GroupsForm::Array) if all.len() <= MOST_GROUPS => all.iter().map(group).collect(),
        (Some(one @ Value::String(_)), GroupsForm::String) => Ok(BTreeSet::from([group(one)?])),
        (Some(_), _) => Err(wrong()),
    }
}

/// The workspaces that the issuer assigns to the person: one name or a list of names, or nothing.
fn workspaces(claims: &Map<String, Value>, settings: &Oidc) -> Result<BTreeSet<WorkspaceName>, Refusal> {
    let Some(path) = &settings.workspaces_claim else {
        return Ok(BTreeSet::new());
    };
    let wrong = || claim("workspaces-claim");
    let name = |value: &Value| {
        let name = value.as_str().ok_or_else(wrong)?;
        WorkspaceName::try_from(name).map_err(|_| wrong())
    };
    match at(claims, path)? {
        None => Ok(BTreeSet::new()),
        Some(Value::Array(all)) if all.len() <= MOST_WORKSPACES => all.iter().map(name).collect(),
        Some(one) => Ok(BTreeSet::from([name(one)?])),
    }
}

/// The claim at a path. On the way there must be objects, or nothing.
pub(super) fn at<'c>(claims: &'c Map<String, Value>, path: &ClaimPath) -> Result<Option<&'c Value>, Refusal> {
    let Some((last, outer)) = path.names().split_last() else {
        return Ok(None);
    };
    let mut object = claims;
    for name in outer {
        match object.get(name) {
            Some(Value::Object(inner)) => object = inner,
            None => return Ok(None),
            Some(_) => return Err(claim("a configured claim path")),
        }
    }
    Ok(object.get(last))
}

pub(super) fn string<'c>(claims: &'c Map<String, Value>, name: &'static str) -> Result<&'c str, Refusal> {
    claims.get(name).and_then(Value::as_str).ok_or_else(|| claim(name))
}

/// 1 to [`LONGEST_NAME`] bytes without control characters and without characters that show nothing or turn the
/// direction of what is shown.
pub(super) fn printable(text: &str, name: &'static str) -> Result<String, Refusal> {
    let hidden = |character: char| character.is_control() || is_hidden(character);
    let good = !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(hidden);
    if good { Ok(text.to_owned()) } else { Err(claim(name)) }
}

/// Characters that show nothing, or turn the direction of what is shown.
pub(crate) fn is_hidden(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || doorward_audit::reorders(character)
}

pub(super) fn refusal(code: RefusalCode, text: &'static str) -> Refusal {
    Refusal::new(code, text).with_hint("`doorward login` gets a new token")
}

pub(super) fn untrusted(text: &'static str) -> Refusal {
    refusal(RefusalCode::TokenUntrusted, text)
}

pub(super) fn foreign(text: &'static str) -> Refusal {
    refusal(RefusalCode::TokenForeign, text)
}

pub(super) fn wrong_kind(detail: impl Into<String>) -> Refusal {
    refusal(
        RefusalCode::TokenKind,
        "the token is of another kind than the gateway takes",
    )
    .with_detail(detail)
}

pub(super) fn claim(name: &'static str) -> Refusal {
    Refusal::new(
        RefusalCode::TokenClaims,
        "a claim of the token is missing or not what it should be",
    )
    .with_hint("your platform team can compare the token's claims with the gateway's configuration")
    .with_detail(name)
}

/// How far clocks may differ.
pub(super) const LEEWAY: Duration = Duration::from_secs(60);
/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;
/// The longest key id, in bytes.
const LONGEST_KEY_ID: usize = 256;
/// The longest name of a person, a group or a subject, in bytes.
pub(super) const LONGEST_NAME: usize = 256;
/// The most groups of one person.
pub(super) const MOST_GROUPS: usize = 1000;
/// The most workspaces that a token assigns.
const MOST_WORKSPACES: usize = 100;
/// The most audiences of one token.
const MOST_AUDIENCES: usize = 100;
