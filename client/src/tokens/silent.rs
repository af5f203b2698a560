//! A token for the gateway without asking anybody: the stored one, or a refreshed one.
//!
//! Issuers that rotate refresh tokens end the whole login when one is used twice. So refreshing is one step for all
//! processes of this person: under a lock, the stored tokens are read again (another process may have refreshed them),
//! the refresh token is used, the answer is written, the lock is given back. What could come between use and writing:
//!
//! - no room or no permission: the new file is made before the refresh token is used ([`private::Reserved`]);
//! - Ctrl-C, or the hang-up that `ssh` sends: waits until the answer is written ([`Whole`]);
//! - a network that loses the answer, `kill -9`, a power cut: the used token stays in the file. The next refresh is then
//!   refused, and the person logs in again. Nothing worse follows, and nobody else profits.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use url::Url;

use super::{LOCK, Tokens, command, keys};
use crate::error::Error;
use crate::home::Home;
use crate::home::private::{Lock, Reserved};
use crate::home::settings::Settings;
use crate::http::Web;
use crate::oidc::{self, Refreshed};
use crate::pass::Pass;
use crate::say;
use crate::secret::Secret;
use crate::signals::Whole;

/// A token that has less than this left is refreshed first.
const FRESH: Duration = Duration::from_secs(30);
/// How long a refresh may take in all; less than others wait for the lock.
const REFRESH: Duration = Duration::from_secs(30);

/// Which token will do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need<'a> {
    /// Any that is valid for a while.
    Valid,
    /// One that is valid for longer than this.
    Longer(Duration),
    /// Another than this one, which the gateway did not take.
    Other(&'a Secret),
}

/// Whether somebody is waiting, who should know for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    Heard,
    Quiet,
}

impl Need<'_> {
    fn met_by(self, tokens: &Tokens) -> bool {
        let least = match self {
            Self::Longer(least) => least.max(FRESH),
            Self::Valid | Self::Other(_) => FRESH,
        };
        let other = !matches!(self, Self::Other(refused) if tokens.access_token == *refused);
        other && tokens.life() >= least
    }

    /// The same of a token that nobody stored.
    pub(crate) fn met_by_pass(self, pass: &Pass) -> bool {
        let least = match self {
            Self::Longer(least) => least.max(FRESH),
            Self::Valid | Self::Other(_) => FRESH,
        };
        !matches!(self, Self::Other(refused) if pass.token() == refused) && pass.life() >= least
    }

    /// Whether one that is about to expire is better than none.
    fn takes_what_is_left(self, tokens: &Tokens) -> bool {
        matches!(self, Self::Valid) && !tokens.life().is_zero()
    }
}

/// A pass without asking anybody: a stored one, refreshed if need be, or the one that the person's own program gives. Nothing when a
/// person must log in.
///
/// # Errors
/// An issuer that cannot be reached is an error only when there is no token that is still valid; what the program failed of.
pub(crate) async fn silent(
    home: &Home,
    settings: &Settings,
    need: Need<'_>,
    voice: Voice,
) -> Result<Option<Pass>, Error> {
    let gateway = settings.gateway()?;
    match &settings.token_command {
        None => stored(home, gateway, settings.ca(home), need, voice).await,
        Some(command) => {
            let asking = command::pass(command, need);
            let program = command.first().map_or("", String::as_str);
            let pass = match voice {
                Voice::Quiet => asking.await,
                Voice::Heard => say::impatiently(program, asking).await,
            };
            pass.map(Some)
        }
    }
}

async fn stored(
    home: &Home,
    gateway: &Url,
    ca: Option<PathBuf>,
    need: Need<'_>,
    voice: Voice,
) -> Result<Option<Pass>, Error> {
    let whom = match Tokens::read_for(home, gateway)? {
        None => return Ok(None),
        Some(tokens) if need.met_by(&tokens) => return tokens.pass(home),
        Some(tokens) => format!("the issuer at {}", crate::http::name(&tokens.token_endpoint)),
    };
    // Whoever has the lock is asking the issuer for all of us.
    let lock_file = home.tokens_lock();
    let locking = Lock::take(&lock_file, LOCK);
    let _lock = match voice {
        Voice::Quiet => locking.await,
        Voice::Heard => say::impatiently(&whom, locking).await,
    }?;
    let Some(tokens) = Tokens::read_for(home, gateway)? else {
        return Ok(None);
    };
    if need.met_by(&tokens) {
        return tokens.pass(home);
    }
    let left = need
        .takes_what_is_left(&tokens)
        .then(|| tokens.pass(home))
        .transpose()?
        .flatten();
    match refresh(home, tokens, ca, voice).await {
        Ok(None) => Ok(left),
        Ok(refreshed) => Ok(refreshed),
        Err(_) if left.is_some() => Ok(left),
        Err(error) => Err(error),
    }
}

/// Uses the refresh token, the lock being held; nothing when the login is over.
async fn refresh(home: &Home, mut tokens: Tokens, ca: Option<PathBuf>, voice: Voice) -> Result<Option<Pass>, Error> {
    let Some(refresh_token) = tokens.refresh_token.clone() else {
        return Ok(None);
    };
    let key = match &tokens.dpop_key {
        None => None,
        Some(thumbprint) => match keys::read(home, thumbprint)? {
            // Without its key the login is of no use.
            None => return Ok(None),
            key => key,
        },
    };
    let of = Refreshed {
        endpoint: &tokens.token_endpoint,
        issuer: &tokens.issuer,
        client_id: &tokens.client_id,
        subject: tokens.subject.as_deref(),
        key: key.as_deref(),
        shows_id: tokens.shows_id,
        ahead: tokens.clock_ahead,
    };
    let file = Reserved::new(&home.tokens())?;
    let _whole = Whole::begin();
    let web = Web::issuer(ca);
    let whom = crate::http::name(&tokens.token_endpoint);
    let slow = |_| Error::Unreachable {
        whom: whom.clone(),
        why: format!("no answer within {} s", REFRESH.as_secs()),
        hint: None,
    };
    let asking = timeout(REFRESH, oidc::refresh(&web, &of, &refresh_token));
    let answered = match voice {
        Voice::Quiet => asking.await,
        Voice::Heard => say::impatiently(&format!("the issuer at {whom}"), asking).await,
    };
    match answered.map_err(slow).flatten() {
        Ok(granted) => {
            tokens.take(granted);
            tokens.write_into(file)?;
            Ok(Some(tokens.pass_with(key)))
        }
        // RFC 6749 section 5.2: revoked, expired, used twice, or the person was disabled. The login is over.
        Err(Error::Issuer { code, .. }) if code == "invalid_grant" => {
            tokens.refresh_token = None;
            tokens.write_into(file)?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
