//! The device grant (RFC 8628): the person logs in on any device that has a browser.

use std::time::Duration;

use doorward_audit::printable;
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;

use super::discovery::{self, Issuer};
use super::dpop::Key;
use super::pkce::{METHOD, Pkce};
use super::token::{self, Granted};
use crate::error::Error;
use crate::http::Web;
use crate::say;
use crate::secret::Secret;

/// RFC 8628 section 3.2: where the issuer names no interval.
const INTERVAL: u64 = 5;
/// RFC 8628 section 3.5: what `slow_down` adds.
const SLOWER: Duration = Duration::from_secs(5);
/// The longest that we wait, whatever the issuer allows.
const LONGEST: u64 = 30 * 60;
/// How often it is said that we still wait.
const REMIND: Duration = Duration::from_secs(60);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[derive(Debug, Deserialize)]
struct Device {
    device_code: Secret,
    user_code: String,
    verification_uri: Url,
    verification_uri_complete: Option<Url>,
    expires_in: u64,
    interval: Option<u64>,
}

/// Logs in with a code that the person confirms elsewhere. Address and code go to standard error.
pub(crate) async fn by_device(web: &Web, issuer: &Issuer, key: Option<&Key>) -> Result<Granted, Error> {
    let none = || Error::Answer {
        whom: issuer.whom(),
        what: "it has no device login".to_owned(),
    };
    let endpoint = issuer.device_endpoint.as_ref().ok_or_else(none)?;
    // RFC 8628 knows no PKCE, but some issuers demand it here as well, and the others pass over it.
    let pkce = Pkce::new();
    let form = [
        ("client_id", issuer.client_id.as_str()),
        ("scope", issuer.scope.as_str()),
        ("code_challenge", pkce.challenge.as_str()),
        ("code_challenge_method", METHOD),
    ];
    let answer = web.post(endpoint, &form, None).await?;
    if answer.status != http::StatusCode::OK {
        return Err(token::refusal(&answer));
    }
    let wrong = |what: &str| Error::Answer {
        whom: issuer.whom(),
        what: what.to_owned(),
    };
    let device: Device = serde_json::from_slice(&answer.body).map_err(|_| wrong("its device answer is malformed"))?;
    tell(&device).map_err(wrong)?;
    poll(web, issuer, key, &device, &pkce).await
}

fn tell(device: &Device) -> Result<(), &'static str> {
    let address = device
        .verification_uri_complete
        .as_ref()
        .unwrap_or(&device.verification_uri);
    if !discovery::is_safe(address) {
        return Err("its login page is without TLS");
    }
    say::note("to log in, open this address on any device and check that it shows the same code");
    say::line(&format!("  address: {address}"));
    say::line(&format!("  code:    {}", printable(device.user_code.as_bytes())));
    Ok(())
}

async fn poll(web: &Web, issuer: &Issuer, key: Option<&Key>, device: &Device, pkce: &Pkce) -> Result<Granted, Error> {
    let patience = device.expires_in.min(LONGEST);
    let expired = || Error::LoginExpired(patience.div_ceil(60));
    let end = Instant::now() + Duration::from_secs(patience);
    let mut tell = Instant::now() + REMIND;
    let mut interval = Duration::from_secs(device.interval.unwrap_or(INTERVAL).clamp(1, 60));
    let form = [
        ("grant_type", GRANT),
        ("device_code", device.device_code.expose()),
        ("client_id", issuer.client_id.as_str()),
        ("code_verifier", pkce.verifier.expose()),
    ];
    loop {
        if Instant::now() + interval > end {
            return Err(expired());
        }
        sleep(interval).await;
        if Instant::now() >= tell {
            tell = Instant::now() + REMIND;
            let left = end.saturating_duration_since(Instant::now()).as_secs().div_ceil(60);
            say::note(&format!(
                "still waiting for the login; the code is good for {left} min more"
            ));
        }
        let asked = token::ask(web, issuer, key, &form, None).await;
        match asked.as_ref().err().map(|error| slower(error, interval)) {
            Some(Some(next)) => interval = next,
            _ => {
                return asked.map_err(|error| match error {
                    Error::Issuer { code, .. } if code == "expired_token" => expired(),
                    error => error,
                });
            }
        }
    }
}

/// After how long to ask again, if this answer is none yet (RFC 8628 section 3.5).
fn slower(error: &Error, interval: Duration) -> Option<Duration> {
    match error {
        Error::Issuer { code, .. } if code == "authorization_pending" => Some(interval),
        Error::Issuer { code, .. } if code == "slow_down" => Some(interval + SLOWER),
        // A connection that failed is a reason to ask less often.
        Error::Unreachable { .. } => Some((interval * 2).min(Duration::from_secs(60)).max(interval)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_goes_on_as_the_issuer_wants_it() {
        let issuer = |code: &str| Error::Issuer {
            code: code.to_owned(),
            text: String::new(),
        };
        let seconds = Duration::from_secs;
        assert_eq!(slower(&issuer("authorization_pending"), seconds(5)), Some(seconds(5)));
        assert_eq!(slower(&issuer("slow_down"), seconds(5)), Some(seconds(10)));
        let broken = Error::Unreachable {
            whom: String::new(),
            why: String::new(),
            hint: None,
        };
        assert_eq!(slower(&broken, seconds(5)), Some(seconds(10)));
        assert_eq!(slower(&broken, seconds(65)), Some(seconds(65)));
        for code in ["access_denied", "expired_token", "invalid_grant", ""] {
            assert_eq!(slower(&issuer(code), seconds(5)), None, "{code}");
        }
    }
}
