//! `doorward lock`, `unlock` and `locks`.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{open, reason};
use crate::cli::{JsonArgs, Kind, LockArgs, UnlockArgs};
use crate::error::Error;
use crate::home::Home;
use crate::{name, say};

/// The longest name, in bytes.
const LONGEST_NAME: usize = 256;

/// A lock as the gateway lists it.
#[derive(Debug, Serialize, Deserialize)]
struct Lock {
    kind: String,
    name: String,
    #[serde(default)]
    by: String,
    #[serde(default)]
    at: String,
    #[serde(default)]
    reason: Option<String>,
}

/// `doorward lock`.
pub(crate) async fn lock(home: &Home, args: &LockArgs) -> Result<(), Error> {
    let name = checked(args.kind, &args.name)?;
    let reason = reason(args.reason.as_deref())?;
    let (gateway, pass) = open(home).await?;
    let body = json!({ "kind": args.kind.as_str(), "name": name, "reason": reason });
    let url = gateway.at(&["v1", "locks"]);
    gateway.web.change(Method::POST, &url, &pass, Some(&body)).await?;
    say::note(&format!(
        "locked {} {name}: open sessions end now, new ones are refused",
        args.kind.as_str()
    ));
    Ok(())
}

/// `doorward unlock`.
pub(crate) async fn unlock(home: &Home, args: &UnlockArgs) -> Result<(), Error> {
    let name = checked(args.kind, &args.name)?;
    let (gateway, pass) = open(home).await?;
    let url = gateway.at(&["v1", "locks", args.kind.as_str(), &name]);
    gateway
        .web
        .change(Method::DELETE, &url, &pass, None)
        .await
        .map_err(|error| match error {
            // The gateway says the same of everything that is not there.
            Error::Refused(mut problem) if problem.code == "not-found" => {
                problem.text = format!("{} {name} is not locked", args.kind.as_str());
                problem.hint = Some("doorward locks lists what is".to_owned());
                Error::Refused(problem)
            }
            other => other,
        })?;
    say::note(&format!("unlocked {} {name}", args.kind.as_str()));
    Ok(())
}

/// `doorward locks`.
pub(crate) async fn list(home: &Home, args: &JsonArgs) -> Result<(), Error> {
    let (gateway, pass) = open(home).await?;
    let url = gateway.at(&["v1", "locks"]);
    let locks: Vec<Lock> = gateway.web.get(&url, Some(&pass)).await?.json()?;
    if args.json {
        return say::print_json(&locks);
    }
    if locks.is_empty() {
        say::note("nothing is locked");
        return Ok(());
    }
    let row = |lock: Lock| vec![lock.kind, lock.name, lock.by, lock.at, lock.reason.unwrap_or_default()];
    let rows: Vec<Vec<String>> = locks.into_iter().map(row).collect();
    say::print(&say::table(&["KIND", "NAME", "BY", "SINCE", "REASON"], &rows))
}

/// The name as the gateway has it. One that is no segment of a path never leaves this computer.
fn checked(kind: Kind, text: &str) -> Result<String, Error> {
    match kind {
        Kind::Workspace => name::workspace(text).map(|name| name.to_string()),
        Kind::User => {
            let odd = text.is_empty() || matches!(text, "." | "..") || text.chars().any(char::is_control);
            if odd || text.len() > LONGEST_NAME {
                return Err(Error::Usage(format!("{text:?} is no user's name")));
            }
            Ok(text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_they_are_sent() {
        for name in ["bob", "bob@x.org", "a/b", "%2e%2e", "o'neil"] {
            assert_eq!(checked(Kind::User, name).unwrap(), name);
        }
        for name in ["", ".", "..", "a\nb", "\u{1b}", &"a".repeat(257)] {
            assert_eq!(checked(Kind::User, name).unwrap_err().exit(), 64, "{name}");
        }
        assert_eq!(checked(Kind::Workspace, "Devenv-0.doorward").unwrap(), "devenv-0");
        assert!(checked(Kind::Workspace, "../x").is_err());
    }
}
