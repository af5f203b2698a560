//! What a role may let a person do beyond entering: end sessions, lock people and workspaces, have recordings
//! held, and ask why.
//!
//! Whether somebody may is the gateway's to say; here is only how it is asked and shown.

mod explain;
mod holds;
mod locks;

use http::Method;
use serde_json::json;

pub(crate) use explain::explain;
pub(crate) use holds::{hold, list as holds, release};
pub(crate) use locks::{list, lock, unlock};

use crate::cli::KillArgs;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::home::Home;
use crate::home::settings::Settings;
use crate::pass::Pass;
use crate::{login, say};

/// The longest reason, in bytes; a gateway reads bodies of 4 KiB.
const LONGEST_REASON: usize = 1024;

/// `doorward kill`.
pub(crate) async fn kill(home: &Home, args: &KillArgs) -> Result<(), Error> {
    let reason = reason(args.reason.as_deref())?;
    let (gateway, pass) = open(home).await?;
    let url = gateway.at(&["v1", "sessions", &args.session.to_string(), "kill"]);
    let body = json!({ "reason": reason });
    gateway.web.change(Method::POST, &url, &pass, Some(&body)).await?;
    say::note(&format!("session {} is ended", args.session));
    Ok(())
}

async fn open(home: &Home) -> Result<(Gateway, Pass), Error> {
    let settings = Settings::read(home)?;
    let gateway = Gateway::configured(home, &settings)?;
    let pass = login::pass(home, &settings).await?;
    Ok((gateway, pass))
}

/// A reason, none being as good as an empty one.
fn reason(text: Option<&str>) -> Result<&str, Error> {
    let text = text.unwrap_or_default().trim();
    if text.len() > LONGEST_REASON {
        let what = format!(
            "a reason of {} bytes is too long; {LONGEST_REASON} are enough",
            text.len()
        );
        return Err(Error::Usage(what));
    }
    Ok(text)
}
