//! The token and revocation endpoints for the one public client (RFC 6749 section 3.2, RFC 8628 section 3.4, RFC 7009).

use http::StatusCode;
use serde_json::json;

use super::codes::{Authorization, Redeemed};
use super::devices::Polled;
use super::families::{Login, RefreshRefused};
use super::form::Params;
use super::realm::{Asked, Realm, State};
use super::reply::{self, Reply};

impl Realm {
    pub(super) fn token(&self, asked: &Asked) -> Reply {
        let Ok(form) = asked.form() else {
            return reply::error("invalid_request", "the form is malformed");
        };
        if form.text("client_id") != self.client_id {
            return reply::error("invalid_client", "this client is not known here");
        }
        match form.text("grant_type") {
            "authorization_code" => self.by_code(&form),
            "refresh_token" => self.by_refresh(&form),
            DEVICE_GRANT => self.by_device(&form),
            "" => reply::error("invalid_request", "grant_type is missing"),
            _ => reply::error("unsupported_grant_type", "this grant type is not offered"),
        }
    }

    /// RFC 7009. Access tokens are not kept here, so they cannot be taken back.
    pub(super) fn revoke(&self, asked: &Asked) -> Reply {
        let Ok(form) = asked.form() else {
            return reply::error("invalid_request", "the form is malformed");
        };
        if form.text("client_id") != self.client_id {
            return reply::error("invalid_client", "this client is not known here");
        }
        let Some(token) = form.find("token") else {
            return reply::error("invalid_request", "token is missing");
        };
        if form.find("token_type_hint") == Some("access_token") {
            return reply::error("unsupported_token_type", "only refresh tokens can be revoked");
        }
        self.state().families.revoke(token);
        reply::empty(StatusCode::OK)
    }

    fn by_code(&self, form: &Params) -> Reply {
        let code = form.text("code");
        let mut state = self.state();
        let granted = match state.codes.redeem(code, self.now()) {
            Redeemed::Granted(granted) => granted,
            Redeemed::Replayed(family) => {
                tracing::warn!("an authorization code was used twice");
                if let Some(family) = family {
                    state.families.end(family);
                }
                return reply::error("invalid_grant", "the code was used before");
            }
            Redeemed::Unknown => {
                return reply::error("invalid_grant", "the code is unknown or expired");
            }
        };
        let Authorization {
            person,
            redirect_uri,
            challenge,
            nonce,
            scope,
            at,
        } = granted;
        if form.text("redirect_uri") != redirect_uri {
            return reply::error("invalid_grant", "redirect_uri is not that of the request");
        }
        if !challenge.met_by(form.text("code_verifier")) {
            return reply::error("invalid_grant", "code_verifier does not match");
        }
        let login = Login { person, scope, at };
        let (family, refresh) = state.families.begin(login.clone(), self.lifetimes.refresh);
        state.codes.gave(code, family);
        self.give(&state, &login, family, &refresh, nonce.as_deref())
    }

    fn by_refresh(&self, form: &Params) -> Reply {
        let mut state = self.state();
        let rotated = state
            .families
            .rotate(form.text("refresh_token"), self.now(), self.lifetimes.refresh);
        match rotated {
            Ok((family, login, refresh)) => self.give(&state, &login, family, &refresh, None),
            Err(RefreshRefused::Reused) => {
                tracing::warn!("a refresh token was used twice; its login is ended");
                reply::error("invalid_grant", "the refresh token was used before; log in again")
            }
            Err(RefreshRefused::Unknown) => reply::error("invalid_grant", "the refresh token is not active"),
        }
    }

    fn by_device(&self, form: &Params) -> Reply {
        let mut state = self.state();
        let (person, request, at) = match state.devices.poll(form.text("device_code"), self.now()) {
            Polled::Granted {
                person,
                request,
                answered,
            } => (person, request, answered),
            Polled::Pending => return reply::error("authorization_pending", "nobody has answered"),
            Polled::SlowDown => return reply::error("slow_down", "ask less often"),
            Polled::Denied => return reply::error("access_denied", "the request was denied"),
            Polled::Expired => return reply::error("expired_token", "the code has expired"),
            Polled::Unknown => {
                return reply::error("invalid_grant", "the device code is unknown or used");
            }
        };
        if let Some(challenge) = &request.challenge
            && !challenge.met_by(form.text("code_verifier"))
        {
            return reply::error("invalid_grant", "code_verifier does not match");
        }
        let login = Login {
            person,
            scope: request.scope,
            at,
        };
        let (family, refresh) = state.families.begin(login.clone(), self.lifetimes.refresh);
        self.give(&state, &login, family, &refresh, None)
    }

    /// RFC 6749 section 5.1.
    fn give(&self, state: &State, login: &Login, family: uuid::Uuid, refresh: &str, nonce: Option<&str>) -> Reply {
        let tokens = match self.mint(state, login, family, nonce) {
            Ok(tokens) => tokens,
            Err(why) => return reply::error("invalid_grant", why),
        };
        tracing::info!(person = login.person, session = %family, "gave tokens");
        let body = json!({
            "access_token": tokens.access,
            "token_type": "Bearer",
            "expires_in": self.lifetimes.access.as_secs(),
            "refresh_token": refresh,
            "refresh_expires_in": self.lifetimes.refresh.as_secs(),
            "id_token": tokens.id,
            "scope": login.scope,
        });
        reply::json(StatusCode::OK, &body)
    }
}

/// RFC 8628 section 3.4.
pub(super) const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
