//! `[oidc]`, once or several times: whose tokens are believed, and what they must say.
//!
//! Of several issuers the first speaks for people and groups by their plain names; what another one says carries its
//! name in front, unless the file says that the two mean the same people: so that a second issuer cannot name itself
//! into the roles of the first.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use jsonwebtoken::Algorithm;
use toml::de::DeValue;
use url::Url;

use super::{
    LoginRule,
    document::{Fault, Section, duration, list, text},
    login_rule,
    read::{DAY, HOUR, MOMENT, existing, secret},
};

/// `[oidc]`: one issuer.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// What people call it.
    pub name: String,
    /// The issuer, exactly as its tokens and its discovery document spell it.
    pub issuer: String,
    /// The client id that the laptop's program logs in with.
    pub client_id: String,
    /// The audience that a token must name.
    pub audience: String,
    /// The scopes that the laptop's program asks for.
    pub scopes: Vec<String>,
    /// The signature algorithms that are accepted; never symmetric ones.
    pub algorithms: Vec<Algorithm>,
    /// Where the person's name stands.
    pub user_claim: ClaimPath,
    /// What stands before the person's name here, so that it is nobody's of another issuer.
    pub user_prefix: String,
    /// Where the groups stand.
    pub groups_claim: ClaimPath,
    /// What stands before each group's name here.
    pub groups_prefix: String,
    /// What form the groups have; never guessed.
    pub groups_form: GroupsForm,
    /// Where the names of the workspaces stand that are the person's own, if the issuer assigns them.
    pub workspaces_claim: Option<ClaimPath>,
    /// Where the e-mail address stands. It counts only where `email_verified` is true.
    pub email_claim: ClaimPath,
    /// The domains for whose addresses this issuer's word is taken, in lower case; every one if none are named.
    pub email_domains: Option<BTreeSet<String>>,
    /// The clients for which a token may have been made (`azp`, or `client_id` of RFC 9068).
    pub authorized_parties: Vec<String>,
    /// Which kind of token is taken.
    pub token_kind: TokenKind,
    /// Whether tokens are bound to a key of their holder (RFC 9449).
    pub dpop: Dpop,
    /// How the issuer is asked about a token (RFC 7662), if it is.
    pub introspection: Option<Introspection>,
    /// How a login is made of who somebody is, if it is.
    pub login: Option<LoginRule>,
    /// The only CA certificates believed when the issuer is asked, PEM; the system's if none is given.
    pub ca: Option<PathBuf>,
    /// After the keys were asked for, how long an unknown key id asks no more.
    pub keys_cool_down: Duration,
    /// How often the keys are fetched again.
    pub keys_refresh: Duration,
    /// How long keys go on being believed when the issuer cannot be asked.
    pub keys_max_age: Duration,
}

/// The way to a claim: names of nested objects, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads `a.b.c`; a dot or backslash that belongs to a name is written `\.` or `\\`.
    ///
    /// # Errors
    /// A name is empty or the backslash stands before something else.
    pub fn parse(text: &str) -> Result<Self, ClaimPathError> {
        let mut names = vec![String::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let next = match character {
                '.' => {
                    names.push(String::new());
                    continue;
                }
                '\\' => match characters.next() {
                    Some(escaped @ ('.' | '\\')) => escaped,
                    _ => return Err(ClaimPathError),
                },
                other => other,
            };
            if let Some(name) = names.last_mut() {
                name.push(next);
            }
        }
        if names.iter().any(String::is_empty) {
            return Err(ClaimPathError);
        }
        Ok(Self(names))
    }

    /// The names, outermost first; at least one.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// A claim path with an empty name or a stray backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a claim path is names with dots between them; a dot inside a name is written \\.")]
pub struct ClaimPathError;

/// What form the groups claim has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupsForm {
    /// An array of strings.
    Array,
    /// One string that is one group.
    String,
}

/// Which kind of token is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token made for this gateway.
    Access,
    /// An ID token, for providers whose access tokens are opaque.
    Id,
    /// An access token that only its issuer can read; it is asked each time.
    Opaque,
}

impl TokenKind {
    /// As the configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Id => "id",
            Self::Opaque => "opaque",
        }
    }
}

/// Whether tokens are bound to a key of their holder (RFC 9449).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dpop {
    /// They are not; one that is bound is refused, because nobody would check the binding.
    Off,
    /// One that is bound needs its proof; one that is not is a bearer token.
    Optional,
    /// Every token must be bound, and needs its proof.
    Required,
}

impl Dpop {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// `[oidc.introspection]`: how the issuer is asked about a token (RFC 7662).
#[derive(Debug, Clone)]
pub struct Introspection {
    /// The gateway's own confidential client.
    pub client_id: String,
    /// The file with its secret; read each time, so that it can be exchanged.
    pub client_secret_file: PathBuf,
    /// Where to ask; where the discovery document says if none is given.
    pub endpoint: Option<Url>,
    /// How long an answer is believed.
    pub cache: Duration,
}

/// Reads all issuers; there has to be one, unless somebody else knows people.
pub(super) fn read_all(top: &Section<'_>, base: &Path, others: &mut Vec<Fault>) -> Option<Vec<Oidc>> {
    if !top.has("oidc") && top.has("token-review") {
        return Some(Vec::new());
    }
    let all = top.one_or_more("oidc", |section, place| read(section, base, place, others));
    let mut seen = (BTreeSet::new(), BTreeSet::new());
    for one in &all {
        if !seen.0.insert(&one.issuer) {
            top.fault_at("oidc", format!("the issuer `{}` is there more than once", one.issuer));
        }
        if !seen.1.insert(&one.name) {
            top.fault_at(
                "oidc",
                format!("two issuers are called `{}`; give each a `name` of its own", one.name),
            );
        }
    }
    if all.iter().filter(|one| one.token_kind == TokenKind::Opaque).count() > 1 {
        top.fault_at(
            "oidc",
            "only one issuer may have opaque tokens: nobody could say whom to ask about one",
        );
    }
    if top.has("token-review") && all.iter().any(|one| one.token_kind == TokenKind::Opaque) {
        top.fault_at(
            "token-review",
            "there is an issuer with opaque tokens as well: nobody could say whom to ask about one",
        );
    }
    (!all.is_empty()).then_some(all)
}

fn read(section: &Section<'_>, base: &Path, place: usize, others: &mut Vec<Fault>) -> Option<Oidc> {
    let issuer = section.required("issuer", issuer);
    let client_id = section.required("client-id", text);
    let audience = section.required("audience", text);
    let host = issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok());
    let host = host.as_ref().and_then(Url::host_str).unwrap_or("issuer").to_owned();
    let name = section.or("name", host, label);
    let scopes = section.or("scopes", vec!["openid".to_owned()], list(text));
    if !scopes.iter().any(|scope| scope == "openid") {
        section.fault_at("scopes", "`scopes` must contain \"openid\"");
    }
    let algorithms = section.or(
        "algorithms",
        vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        list(algorithm),
    );
    if algorithms.is_empty() {
        section.fault_at("algorithms", "`algorithms` must name at least one");
    }
    let user_claim = section.optional("user-claim", claim_path);
    let groups_claim = section.optional("groups-claim", claim_path);
    let workspaces_claim = section.optional("workspaces-claim", claim_path);
    let email_claim = section.optional("email-claim", claim_path);
    let usual_prefix = if place == 0 { String::new() } else { format!("{name}:") };
    let user_prefix = section.or("user-prefix", usual_prefix.clone(), prefix);
    let groups_prefix = section.or("groups-prefix", usual_prefix, prefix);
    let email_domains = section.optional("email-domains", list(domain));
    let groups_form = section.or("groups-form", GroupsForm::Array, |value| match text(value)?.as_str() {
        "array" => Ok(GroupsForm::Array),
        "string" => Ok(GroupsForm::String),
        _ => Err("must be \"array\" or \"string\"".to_owned()),
    });
    let token_kind = section.or("token", TokenKind::Access, |value| match text(value)?.as_str() {
        "access" => Ok(TokenKind::Access),
        "id" => Ok(TokenKind::Id),
        "opaque" => Ok(TokenKind::Opaque),
        _ => Err("must be \"access\", \"id\" or \"opaque\"".to_owned()),
    });
    let dpop = section.or("dpop", Dpop::Off, |value| match text(value)?.as_str() {
        "off" => Ok(Dpop::Off),
        "optional" => Ok(Dpop::Optional),
        "required" => Ok(Dpop::Required),
        _ => Err("must be \"off\", \"optional\" or \"required\"".to_owned()),
    });
    let introspection = section.section("introspection", |section| read_introspection(section, base));
    if token_kind == TokenKind::Opaque && !section.has("introspection") {
        section.fault("opaque tokens need [oidc.introspection]: only their issuer can read them");
    }
    let login = section.section("login", |section| login_rule::read(section, base, others));
    let authorized_parties = section.optional("authorized-parties", list(text));
    if authorized_parties.as_ref().is_some_and(Vec::is_empty) {
        section.fault_at("authorized-parties", "`authorized-parties` must name at least one");
    }
    let ca = section.optional("ca", existing(base));
    let keys_cool_down = section.or("keys-cool-down", Duration::from_secs(10), duration(MOMENT, HOUR));
    let keys_refresh = section.or("keys-refresh", Duration::from_secs(300), duration(MOMENT, DAY));
    let keys_max_age = section.or("keys-max-age", DAY, duration(MOMENT, 7 * DAY));
    if keys_max_age < keys_refresh {
        section.fault_at("keys-max-age", "`keys-max-age` must not be shorter than `keys-refresh`");
    }
    let client_id = client_id?;
    Some(Oidc {
        name,
        issuer: issuer?,
        authorized_parties: authorized_parties.unwrap_or_else(|| vec![client_id.clone()]),
        client_id,
        audience: audience?,
        scopes,
        algorithms,
        user_claim: claim_or(section, "user-claim", user_claim, "preferred_username")?,
        user_prefix,
        groups_claim: claim_or(section, "groups-claim", groups_claim, "groups")?,
        groups_prefix,
        groups_form,
        workspaces_claim: if section.has("workspaces-claim") {
            Some(workspaces_claim?)
        } else {
            None
        },
        email_claim: claim_or(section, "email-claim", email_claim, "email")?,
        email_domains: match section.has("email-domains") {
            true => Some(email_domains?.into_iter().collect()),
            false => (place > 0).then(BTreeSet::new),
        },
        token_kind,
        dpop,
        introspection: if section.has("introspection") {
            Some(introspection?)
        } else {
            None
        },
        login: if section.has("login") { Some(login?) } else { None },
        ca: if section.has("ca") { Some(ca?) } else { None },
        keys_cool_down,
        keys_refresh,
        keys_max_age,
    })
}

fn read_introspection(section: &Section<'_>, base: &Path) -> Option<Introspection> {
    let client_id = section.required("client-id", text);
    let client_secret_file = section.required("client-secret-file", secret(base));
    let endpoint = section.optional("endpoint", |value| {
        let text = text(value)?;
        let url = Url::parse(&text).map_err(|error| format!("`{}` is no URL: {error}", text.escape_debug()))?;
        match super::trustworthy(&url) {
            true => Ok(url),
            false => Err("must be https (http only on loopback)".to_owned()),
        }
    });
    let cache = section.or("cache", Duration::from_secs(5), duration(Duration::ZERO, LONGEST_CACHE));
    Some(Introspection {
        client_id: client_id?,
        client_secret_file: client_secret_file?,
        endpoint: if section.has("endpoint") { Some(endpoint?) } else { None },
        cache,
    })
}

fn claim_or(section: &Section<'_>, key: &'static str, read: Option<ClaimPath>, otherwise: &str) -> Option<ClaimPath> {
    if section.has(key) {
        read
    } else {
        ClaimPath::parse(otherwise).ok()
    }
}

pub(super) fn claim_path(value: &DeValue<'_>) -> Result<ClaimPath, String> {
    ClaimPath::parse(&text(value)?).map_err(|error| error.to_string())
}

/// A short name that needs no quotes anywhere.
fn label(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match text.len() <= 64 && text.bytes().all(plain) {
        true => Ok(text),
        false => Err("must be at most 64 letters, digits, `.`, `-` and `_`".to_owned()),
    }
}

/// What stands before names; the one text that may be empty.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if text.is_empty() => Ok(String::new()),
        value => match text(value)? {
            text if text.len() <= 65 && text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text),
            _ => Err("must be at most 65 printable ASCII characters without a space".to_owned()),
        },
    }
}

/// A domain, which comes out in lower case: RFC 4343 knows no other difference. Others than ASCII are written as they
/// travel (`xn--…`).
pub(crate) fn domain(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match doorward_certs::WorkspaceName::try_from(text.to_ascii_lowercase().as_str()) {
        Ok(name) if name.as_str().contains('.') => Ok(name.into()),
        _ => Err(format!("`{}` is no domain", text.escape_debug())),
    }
}

fn algorithm(value: &DeValue<'_>) -> Result<Algorithm, String> {
    match text(value)?.as_str() {
        "RS256" => Ok(Algorithm::RS256),
        "RS384" => Ok(Algorithm::RS384),
        "RS512" => Ok(Algorithm::RS512),
        "PS256" => Ok(Algorithm::PS256),
        "PS384" => Ok(Algorithm::PS384),
        "PS512" => Ok(Algorithm::PS512),
        "ES256" => Ok(Algorithm::ES256),
        "ES384" => Ok(Algorithm::ES384),
        "EdDSA" => Ok(Algorithm::EdDSA),
        "HS256" | "HS384" | "HS512" | "none" => Err("a symmetric algorithm, or none, is never accepted".to_owned()),
        other => Err(format!(
            "`{}` is no signature algorithm that is known",
            other.escape_debug()
        )),
    }
}

/// An issuer's URL: https, or http on loopback; without query, fragment or user.
fn issuer(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let url = Url::parse(&text).map_err(|error| format!("`{}` is no URL: {error}", text.escape_debug()))?;
    if !super::trustworthy(&url) {
        return Err("must be https (http only on loopback)".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("must have no query, no fragment and no user (OpenID Connect Discovery 1.0, section 3)".to_owned());
    }
    Ok(text)
}

/// Longer, and somebody who was disabled would be let in for long.
const LONGEST_CACHE: Duration = Duration::from_secs(60);
