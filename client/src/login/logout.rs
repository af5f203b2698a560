//! `doorward logout`: the tokens go from this computer, and the issuer is told.

use std::path::PathBuf;

use crate::error::Error;
use crate::home::Home;
use crate::home::private::Lock;
use crate::home::settings::Settings;
use crate::http::{Web, name};
use crate::oidc;
use crate::say;
use crate::tokens::{LOCK, Tokens, keys};

/// `doorward logout`.
///
/// # Errors
/// [`Error::NotRevoked`] where the issuer could not be told; the tokens are gone from this computer all the same.
pub(crate) async fn logout(home: &Home) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let _lock = Lock::take(&home.tokens_lock(), LOCK).await?;
    let tokens = match Tokens::read(home) {
        Ok(Some(tokens)) => tokens,
        Ok(None) => {
            match &settings.token_command {
                None => say::note("nobody is logged in"),
                Some(command) => say::note(&format!(
                    "there are no tokens here: they come from `{}`, which has a way of its own to log out",
                    command.join(" ")
                )),
            }
            return Ok(());
        }
        Err(error) => {
            // What cannot be read cannot be revoked, and must not stay either.
            forget(home)?;
            return Err(error);
        }
    };
    // First the file: whatever the issuer says, this computer has no token any more.
    forget(home)?;
    let revoked = revoke(&tokens, settings.ca(home)).await;
    say::note(&format!("logged out {} at {}", tokens.user, name(&tokens.gateway)));
    revoked.map_err(Error::NotRevoked)
}

fn forget(home: &Home) -> Result<(), Error> {
    Tokens::remove(home)?;
    keys::remove_all_but(home, None);
    Ok(())
}

/// Revokes the login at the issuer (RFC 7009); where it has no way for that, or refuses, its session is ended. In this order,
/// because the session may be one that other programs of this person live in.
async fn revoke(tokens: &Tokens, ca: Option<PathBuf>) -> Result<(), String> {
    let web = Web::issuer(ca);
    let (token, hint) = match &tokens.refresh_token {
        Some(refresh) => (refresh, "refresh_token"),
        None => (&tokens.access_token, "access_token"),
    };
    let revoked = match &tokens.revocation_endpoint {
        Some(endpoint) => oidc::revoke(&web, endpoint, &tokens.client_id, token, hint)
            .await
            .map_err(|error| error.to_string()),
        None => Err("it has no revocation endpoint".to_owned()),
    };
    let Err(why) = revoked else {
        if tokens.refresh_token.is_some()
            && let Some(endpoint) = &tokens.revocation_endpoint
        {
            // RFC 7009 section 2.1: an issuer may leave access tokens alone; they are short-lived.
            let _ = oidc::revoke(&web, endpoint, &tokens.client_id, &tokens.access_token, "access_token").await;
        }
        return Ok(());
    };
    match (&tokens.end_session_endpoint, &tokens.refresh_token) {
        (Some(endpoint), Some(refresh)) => {
            let ended = oidc::end_session(&web, endpoint, &tokens.client_id, refresh).await;
            ended.map_err(|_| why)
        }
        _ => Err(why),
    }
}
