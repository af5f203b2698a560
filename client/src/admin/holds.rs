//! `doorward hold`, `release` and `holds`.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{open, reason};
use crate::cli::{HoldArgs, JsonArgs, ReleaseArgs};
use crate::error::Error;
use crate::home::Home;
use crate::say;

/// A hold as the gateway lists it.
#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    session: String,
    #[serde(default)]
    by: String,
    #[serde(default)]
    at: String,
    #[serde(default)]
    reason: String,
}

/// `doorward hold`.
pub(crate) async fn hold(home: &Home, args: &HoldArgs) -> Result<(), Error> {
    let reason = reason(Some(&args.reason))?;
    if reason.is_empty() {
        return Err(Error::Usage("a hold needs a reason".to_owned()));
    }
    let (gateway, pass) = open(home).await?;
    let url = gateway.at(&["v1", "holds"]);
    let body = json!({ "session": args.session, "reason": reason });
    gateway.web.change(Method::POST, &url, &pass, Some(&body)).await?;
    say::note(&format!("the recording {} is held: nobody can delete it", args.session));
    Ok(())
}

/// `doorward release`.
pub(crate) async fn release(home: &Home, args: &ReleaseArgs) -> Result<(), Error> {
    let (gateway, pass) = open(home).await?;
    let url = gateway.at(&["v1", "holds", &args.session.to_string()]);
    gateway.web.change(Method::DELETE, &url, &pass, None).await?;
    say::note(&format!("the recording {} is no longer held", args.session));
    Ok(())
}

/// `doorward holds`.
pub(crate) async fn list(home: &Home, args: &JsonArgs) -> Result<(), Error> {
    let (gateway, pass) = open(home).await?;
    let url = gateway.at(&["v1", "holds"]);
    let holds: Vec<Hold> = gateway.web.get(&url, Some(&pass)).await?.json()?;
    if args.json {
        return say::print_json(&holds);
    }
    if holds.is_empty() {
        say::note("nothing is held");
        return Ok(());
    }
    let row = |hold: Hold| vec![hold.session, hold.by, hold.at, hold.reason];
    let rows: Vec<Vec<String>> = holds.into_iter().map(row).collect();
    say::print(&say::table(&["SESSION", "BY", "SINCE", "REASON"], &rows))
}
