//! Everything the issuer knows, and which endpoint answers what. No socket is seen here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::claims::Tokens;
use super::codes::Codes;
use super::devices::Devices;
use super::families::{Families, FamilyId, Login};
use super::form::{Malformed, Params};
use super::keys::{Keys, access_header, id_header};
use super::people::People;
use super::reply::{self, Reply};
use super::{Clock, Error, Lifetimes, Settings, page};

/// One request, its body read.
#[derive(Debug)]
pub(super) struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    /// The body of a form; `None` when the body has another type.
    pub form: Option<Bytes>,
}

impl Asked {
    pub(super) fn query(&self) -> Result<Params, Malformed> {
        Params::parse(self.query.as_bytes())
    }

    pub(super) fn form(&self) -> Result<Params, Malformed> {
        Params::parse(self.form.as_deref().ok_or(Malformed)?)
    }
}

pub(super) struct Realm {
    pub url: String,
    pub client_id: String,
    pub audience: String,
    pub lifetimes: Lifetimes,
    clock: Clock,
    state: Mutex<State>,
}

/// What changes while the issuer runs.
pub(super) struct State {
    pub people: People,
    pub keys: Keys,
    pub codes: Codes,
    pub devices: Devices,
    pub families: Families,
}

impl Realm {
    pub(super) fn new(url: String, settings: Settings) -> Result<Self, Error> {
        let state = State {
            people: People::new(settings.circle.people),
            keys: Keys::generate()?,
            codes: Codes::default(),
            devices: Devices::default(),
            families: Families::new(),
        };
        Ok(Self {
            url,
            client_id: settings.circle.client_id,
            audience: settings.circle.audience,
            lifetimes: settings.lifetimes,
            clock: settings.clock,
            state: Mutex::new(state),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// The whole surface of the issuer.
    pub(super) fn answer(&self, asked: &Asked) -> Reply {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", DISCOVERY) => reply::json(StatusCode::OK, &self.discovery()),
            ("GET", JWKS) => reply::json(StatusCode::OK, &self.state().keys.jwks()),
            ("GET", AUTHORIZE) => self.authorize_page(asked),
            ("POST", AUTHORIZE) => self.authorize_login(asked),
            ("POST", DEVICE_AUTHORIZATION) => self.device_authorization(asked),
            ("GET", DEVICE) => self.device_page(asked),
            ("POST", DEVICE) => self.device_answer(asked),
            ("POST", TOKEN) => self.token(asked),
            ("POST", REVOKE) => self.revoke(asked),
            (_, DISCOVERY | JWKS | AUTHORIZE | DEVICE_AUTHORIZATION | DEVICE | TOKEN | REVOKE) => {
                reply::empty(StatusCode::METHOD_NOT_ALLOWED)
            }
            _ => reply::html(StatusCode::NOT_FOUND, page::says("Not found", "There is nothing here.")),
        }
    }

    /// OpenID Connect Discovery 1.0 section 3, RFC 8414, RFC 8628 section 4, RFC 9207 section 3.
    fn discovery(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        json!({
            "issuer": self.url,
            "authorization_endpoint": at(AUTHORIZE),
            "token_endpoint": at(TOKEN),
            "jwks_uri": at(JWKS),
            "device_authorization_endpoint": at(DEVICE_AUTHORIZATION),
            "revocation_endpoint": at(REVOKE),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", super::token::DEVICE_GRANT],
            "code_challenge_methods_supported": ["S256"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "azp", "sid", "preferred_username", "groups", "realm_access", "email", "email_verified"],
            "authorization_response_iss_parameter_supported": true,
            "request_uri_parameter_supported": false,
        })
    }

    /// Signs what a login gives now; `Err` names why the person gets nothing any more.
    pub(super) fn mint(
        &self,
        state: &State,
        login: &Login,
        session: FamilyId,
        nonce: Option<&str>,
    ) -> Result<Tokens, &'static str> {
        let person = state
            .people
            .find(&login.person)
            .filter(|person| person.enabled)
            .ok_or("user disabled")?;
        let now = self.now();
        let access = self.access_claims(person, session, &login.scope, now);
        let id = self.id_claims(person, session, login.at, nonce, now);
        let sign = |header, claims| state.keys.sign(&header, claims).map_err(|_| "signing failed");
        Ok(Tokens {
            access: sign(access_header(), &access)?,
            id: sign(id_header(), &id)?,
        })
    }
}

pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(super) const JWKS: &str = "/jwks";
pub(super) const AUTHORIZE: &str = "/authorize";
pub(super) const DEVICE_AUTHORIZATION: &str = "/device-authorization";
pub(super) const DEVICE: &str = "/device";
pub(super) const TOKEN: &str = "/token";
pub(super) const REVOKE: &str = "/revoke";
