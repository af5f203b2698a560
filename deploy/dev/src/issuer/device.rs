//! The device authorization endpoint and its verification page (RFC 8628 sections 3.1 to 3.3).

use http::StatusCode;
use serde_json::json;

use super::authorize::login_trouble;
use super::devices::{DeviceRequest, UserCodeRefused};
use super::page;
use super::pkce::Challenge;
use super::realm::{Asked, DEVICE, Realm};
use super::reply::{self, Reply};

impl Realm {
    pub(super) fn device_authorization(&self, asked: &Asked) -> Reply {
        let Ok(form) = asked.form() else {
            return reply::error("invalid_request", "the form is malformed");
        };
        if form.text("client_id") != self.client_id {
            return reply::error("invalid_client", "this client is not known here");
        }
        let scope = form.text("scope").to_owned();
        if !scope.split(' ').any(|scope| scope == "openid") {
            return reply::error("invalid_scope", "the scope openid is missing");
        }
        let challenge = match Challenge::from_params(&form) {
            Ok(challenge) => challenge,
            Err(text) => return reply::error("invalid_request", text),
        };
        let request = DeviceRequest {
            scope,
            challenge,
            at: self.now(),
        };
        let (life, interval) = (self.lifetimes.device, self.lifetimes.device_interval);
        let Some(codes) = self.state().devices.begin(request, life, interval) else {
            return reply::error("temporarily_unavailable", "too many devices are waiting");
        };
        let page = format!("{}{DEVICE}", self.url);
        let body = json!({
            "device_code": codes.device_code,
            "user_code": codes.user_code,
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={}", codes.user_code),
            "expires_in": life.as_secs(),
            "interval": interval.as_secs(),
        });
        reply::json(StatusCode::OK, &body)
    }

    pub(super) fn device_page(&self, asked: &Asked) -> Reply {
        match asked.query() {
            Ok(query) => reply::html(StatusCode::OK, page::device(query.text("user_code"), None, "")),
            Err(_) => malformed(),
        }
    }

    /// The code is looked up before the password is, so that a wrong code costs no login attempt.
    pub(super) fn device_answer(&self, asked: &Asked) -> Reply {
        let Ok(form) = asked.form() else {
            return malformed();
        };
        let (user_code, name, now) = (form.text("user_code"), form.text("username"), self.now());
        let again = |(status, text): (StatusCode, &str)| reply::html(status, page::device(user_code, Some(text), name));
        let mut state = self.state();
        if form.text("answer") == "deny" {
            return match state.devices.deny(user_code, now) {
                Ok(()) => reply::html(StatusCode::OK, page::says("Denied", "The device was turned away.")),
                Err(refused) => again(code_trouble(refused)),
            };
        }
        if let Err(refused) = state.devices.look_up(user_code, now) {
            return again(code_trouble(refused));
        }
        let person = match state.people.log_in(name, form.text("password"), now) {
            Ok(person) => person,
            Err(refused) => return again(login_trouble(refused)),
        };
        tracing::info!(person, "logged in for a device");
        match state.devices.approve(user_code, person, now) {
            Ok(()) => reply::html(StatusCode::OK, page::says("Connected", "You may close this page.")),
            Err(refused) => again(code_trouble(refused)),
        }
    }
}

fn code_trouble(refused: UserCodeRefused) -> (StatusCode, &'static str) {
    match refused {
        UserCodeRefused::Unknown => (StatusCode::BAD_REQUEST, "That code is wrong, used or expired."),
        UserCodeRefused::TooMany => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many wrong codes. Try again in a minute.",
        ),
    }
}

fn malformed() -> Reply {
    reply::html(
        StatusCode::BAD_REQUEST,
        page::says("This request cannot be answered", "Its parameters are malformed."),
    )
}
