//! The authorization endpoint with its login page: code flow, PKCE S256 always (RFC 6749, RFC 7636, RFC 9207).
//!
//! A redirect URI is a loopback address with path `/callback` on any port (RFC 8252 section 7.3); nothing is
//! redirected before that and the client id are found right. There is no login session: each request asks again.

use http::StatusCode;
use url::{Host, Url};

use super::codes::Authorization;
use super::form::Params;
use super::page;
use super::people::LoginRefused;
use super::pkce::Challenge;
use super::realm::{AUTHORIZE, Asked, Realm};
use super::reply::{self, Reply};

/// A request that may be answered by a redirect.
struct Request {
    redirect: Url,
    redirect_uri: String,
    state: Option<String>,
    nonce: Option<String>,
    scope: String,
    challenge: Challenge,
}

impl Realm {
    pub(super) fn authorize_page(&self, asked: &Asked) -> Reply {
        match self.authorization_request(asked) {
            Ok(_) => reply::html(StatusCode::OK, page::login(&action(asked), &self.client_id, None, "")),
            Err(refused) => *refused,
        }
    }

    pub(super) fn authorize_login(&self, asked: &Asked) -> Reply {
        let request = match self.authorization_request(asked) {
            Ok(request) => request,
            Err(refused) => return *refused,
        };
        let Ok(form) = asked.form() else {
            return page_error("the form is malformed");
        };
        let (name, now) = (form.text("username"), self.now());
        let mut state = self.state();
        match state.people.log_in(name, form.text("password"), now) {
            Ok(person) => {
                tracing::info!(person, "logged in for an authorization code");
                let authorization = Authorization {
                    person,
                    redirect_uri: request.redirect_uri,
                    challenge: request.challenge,
                    nonce: request.nonce,
                    scope: request.scope,
                    at: now,
                };
                let (key, value) = match state.codes.issue(authorization, self.lifetimes.code) {
                    Some(code) => ("code", code),
                    None => ("error", "temporarily_unavailable".to_owned()),
                };
                self.back(request.redirect, request.state.as_deref(), &[(key, &value)])
            }
            Err(refused) => {
                let (status, text) = login_trouble(refused);
                reply::html(status, page::login(&action(asked), &self.client_id, Some(text), name))
            }
        }
    }

    fn authorization_request(&self, asked: &Asked) -> Result<Request, Box<Reply>> {
        let params = asked
            .query()
            .map_err(|_| Box::new(page_error("the request's parameters are malformed")))?;
        if params.text("client_id") != self.client_id {
            return Err(Box::new(page_error("this client is not known here")));
        }
        let redirect_uri = params.text("redirect_uri");
        let Some(redirect) = loopback_callback(redirect_uri) else {
            return Err(Box::new(page_error(
                "the redirect URI is not http on a loopback address with path /callback",
            )));
        };
        let state = params.find("state");
        let challenge = check_request(&params).map_err(|(code, text)| {
            Box::new(self.back(redirect.clone(), state, &[("error", code), ("error_description", text)]))
        })?;
        Ok(Request {
            redirect,
            redirect_uri: redirect_uri.to_owned(),
            state: state.map(str::to_owned),
            nonce: params.find("nonce").map(str::to_owned),
            scope: params.text("scope").to_owned(),
            challenge,
        })
    }

    /// Back to the client, with `state` and `iss`.
    fn back(&self, mut redirect: Url, state: Option<&str>, answer: &[(&str, &str)]) -> Reply {
        {
            let mut query = redirect.query_pairs_mut();
            query.extend_pairs(answer);
            if let Some(state) = state {
                query.append_pair("state", state);
            }
            query.append_pair("iss", &self.url);
        }
        reply::see_other(&redirect)
    }
}

fn check_request(params: &Params) -> Result<Challenge, (&'static str, &'static str)> {
    if params.find("request").is_some() {
        return Err(("request_not_supported", "request objects are not supported"));
    }
    if params.find("request_uri").is_some() {
        return Err(("request_uri_not_supported", "request objects are not supported"));
    }
    match params.find("response_type") {
        Some("code") => {}
        Some(_) => return Err(("unsupported_response_type", "response_type must be code")),
        None => return Err(("invalid_request", "response_type is missing")),
    }
    if params.find("response_mode").is_some_and(|mode| mode != "query") {
        return Err(("invalid_request", "response_mode must be query"));
    }
    if !params.text("scope").split(' ').any(|scope| scope == "openid") {
        return Err(("invalid_scope", "the scope openid is missing"));
    }
    if params.find("prompt") == Some("none") {
        return Err(("login_required", "nobody is logged in"));
    }
    match Challenge::from_params(params) {
        Ok(Some(challenge)) => Ok(challenge),
        Ok(None) => Err(("invalid_request", "code_challenge is missing")),
        Err(text) => Err(("invalid_request", text)),
    }
}

/// `http://127.0.0.1:any/callback`, `http://[::1]:any/callback` or `http://localhost:any/callback`, and nothing near it.
fn loopback_callback(uri: &str) -> Option<Url> {
    let url = Url::parse(uri).ok()?;
    let loopback = match url.host()? {
        Host::Ipv4(address) => address == std::net::Ipv4Addr::LOCALHOST,
        Host::Ipv6(address) => address == std::net::Ipv6Addr::LOCALHOST,
        Host::Domain(name) => name == "localhost",
    };
    let plain = url.scheme() == "http"
        && url.path() == "/callback"
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    // What the parser had to mend (white space, case, odd forms of the address) is not what was registered.
    let (address, port) = (
        url.host_str()?,
        url.port().map(|port| format!(":{port}")).unwrap_or_default(),
    );
    (loopback && plain && uri == format!("http://{address}{port}/callback")).then_some(url)
}

pub(super) fn login_trouble(refused: LoginRefused) -> (StatusCode, &'static str) {
    match refused {
        LoginRefused::Wrong => (StatusCode::UNAUTHORIZED, "That name and password do not match."),
        LoginRefused::TooMany => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many failures. Try again in a minute.",
        ),
    }
}

fn action(asked: &Asked) -> String {
    format!("{AUTHORIZE}?{}", asked.query)
}

fn page_error(text: &str) -> Reply {
    reply::html(
        StatusCode::BAD_REQUEST,
        page::says("This request cannot be answered", text),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_callbacks_are_redirect_uris() {
        for good in [
            "http://127.0.0.1:1/callback",
            "http://127.0.0.1/callback",
            "http://[::1]:65535/callback",
            "http://localhost:8400/callback",
        ] {
            assert!(loopback_callback(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "/callback",
            "https://127.0.0.1:1/callback",
            "http://127.0.0.1:1/callback/",
            "http://127.0.0.1:1/callback?x=1",
            "http://127.0.0.1:1/callback#x",
            "http://127.0.0.1:1/a/../callback",
            "http://127.0.0.1:1/other",
            "http://127.0.0.1:99999/callback",
            "http://127.0.0.2:1/callback",
            "http://127.1:1/callback",
            "http://2130706433:1/callback",
            "http://user@127.0.0.1:1/callback",
            "http://127.0.0.1:1@evil.example/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://localhost.evil.example/callback",
            "http://evil.example/callback",
            "http://[::ffff:127.0.0.1]:1/callback",
            " http://127.0.0.1:1/callback",
            "HTTP://127.0.0.1:1/callback",
            "http://127.0.0.1:1\\callback",
            "javascript://127.0.0.1/callback",
        ] {
            assert!(loopback_callback(bad).is_none(), "{bad}");
        }
    }
}
