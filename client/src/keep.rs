//! `doorward keep`: has a workspace left awake for some time, takes that back, or says what is kept.
//!
//! For how long somebody may is the gateway's to say, and a length of time is counted by its clock; a time of day is this
//! computer's.

use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp, Zoned, civil};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    cli::KeepArgs,
    error::Error,
    gateway::{Gateway, Workspace, Workspaces},
    home::{Home, settings::Settings},
    list::roughly,
    login, name, say,
};

/// What is asked of the gateway.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// What is kept: everywhere, or in one workspace.
    Show(Option<String>),
    /// A workspace is to be kept, as the body says.
    Keep(String, Value),
    /// It is no longer to be kept.
    Release(String),
}

/// The gateway's answer, and ours to a program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kept {
    workspace: String,
    /// RFC 3339; nothing where it is not kept.
    #[serde(default)]
    keep_until: Option<String>,
    /// When the platform stops it all the same, where that comes first, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stops_at: Option<String>,
}

/// Does what the command line says.
pub(crate) async fn keep(home: &Home, args: &KeepArgs) -> Result<(), Error> {
    let wish = wish(args, &Zoned::now())?;
    let settings = Settings::read(home)?;
    let gateway = Gateway::configured(home, &settings)?;
    let pass = login::pass(home, &settings).await?;
    let (method, workspace, body) = match wish {
        Wish::Show(wanted) => return show(gateway.workspaces(&pass).await?, wanted, args.json),
        Wish::Keep(workspace, body) => (Method::PUT, workspace, Some(body)),
        Wish::Release(workspace) => (Method::DELETE, workspace, None),
    };
    let url = gateway.at(&["v1", "workspaces", &workspace, "keep"]);
    let answer = gateway.web.change_for(method, &url, &pass, body.as_ref()).await?;
    let kept: Kept = answer.json()?;
    if args.json {
        return say::print_json(&kept);
    }
    match kept.keep_until.as_deref() {
        Some(until) => say::note(&format!("{workspace} is kept awake until {}", local(until))),
        None => say::note(&format!("{workspace} is no longer kept awake")),
    }
    if let Some(stops) = kept.stops_at.as_deref() {
        say::note(&format!("but its platform stops it at {} all the same", local(stops)));
    }
    Ok(())
}

/// What the command line means.
fn wish(args: &KeepArgs, now: &Zoned) -> Result<Wish, Error> {
    let usage = |text: &str| Err(Error::Usage(text.to_owned()));
    let workspace = |text: &str| name::workspace(text).map(|name| name.to_string());
    match (&args.until, args.off, args.words.as_slice()) {
        (Some(until), _, [one]) => Ok(Wish::Keep(
            workspace(one)?,
            json!({ "until": moment(until, now)?.to_string() }),
        )),
        (None, true, [one]) => Ok(Wish::Release(workspace(one)?)),
        (Some(_), ..) | (None, true, _) => usage("with --until or --off there is one workspace, and nothing else"),
        (None, false, []) => Ok(Wish::Show(None)),
        (None, false, [one]) if length(one).is_some() => usage("which workspace is to be kept?"),
        (None, false, [one]) => Ok(Wish::Show(Some(workspace(one)?))),
        (None, false, [time, one]) => match length(time) {
            Some(time) => Ok(Wish::Keep(workspace(one)?, json!({ "for": time.as_secs() }))),
            None => usage(&format!("{time:?} is no length of time, such as 4h or 90m")),
        },
        (None, false, _) => usage("a time and one workspace, as in: doorward keep 4h devenv-0"),
    }
}

/// A length of time of at least a second.
fn length(text: &str) -> Option<Duration> {
    let length = humantime::parse_duration(text).ok()?;
    (length.as_secs() > 0).then_some(length)
}

/// A time of day of today or, where that is over, of tomorrow; a date and a time; or a time in RFC 3339.
fn moment(text: &str, now: &Zoned) -> Result<Timestamp, Error> {
    let bad = || Error::Usage(format!("{text:?} is no time, such as 18:00 or 2026-06-01T18:00"));
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let zone = |at: civil::DateTime| at.to_zoned(now.time_zone().clone()).map_err(|_| bad());
    // A date and a time would do for a time alone.
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return Ok(zone(at)?.timestamp());
    }
    let time = text.parse::<civil::Time>().map_err(|_| bad())?;
    let today = zone(now.date().to_datetime(time))?;
    let at = match today > *now {
        true => today,
        false => zone(now.date().tomorrow().map_err(|_| bad())?.to_datetime(time))?,
    };
    Ok(at.timestamp())
}

fn show(found: Workspaces, wanted: Option<String>, as_json: bool) -> Result<(), Error> {
    let mut all = found.workspaces;
    if let Some(wanted) = wanted {
        all.retain(|one| one.name == wanted);
        if all.is_empty() {
            return Err(Error::NoWorkspace(wanted));
        }
    }
    if as_json {
        let row = |one: &Workspace| json!({ "workspace": one.name, "keep-until": one.keep_until, "keep-longest": one.keep_longest });
        return say::print_json(&all.iter().map(row).collect::<Vec<_>>());
    }
    if all.is_empty() {
        say::note("there is no workspace that you may enter");
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = all.iter().map(|one| row(one, now)).collect();
    say::print(&say::table(&["NAME", "STATE", "KEPT UNTIL", "AT MOST"], &rows))
}

fn row(one: &Workspace, now: Timestamp) -> Vec<String> {
    let kept = one.keep_until.as_deref().and_then(|text| {
        let at: Timestamp = text.parse().ok()?;
        let left = at.duration_since(now);
        (left > SignedDuration::ZERO).then(|| format!("{} (for {})", local(text), roughly(left.as_secs())))
    });
    let longest = one.keep_longest.and_then(|seconds| i64::try_from(seconds).ok());
    vec![
        one.name.clone(),
        one.state.clone(),
        kept.unwrap_or_default(),
        longest.map_or_else(|| "ask your platform team".to_owned(), roughly),
    ]
}

/// A time of the gateway's in the person's time zone; as it came, where it is none.
fn local(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => say::moment(u64::try_from(at.as_millisecond()).unwrap_or_default()),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-06-01T12:30:00+02:00[Europe/Berlin]".parse().unwrap()
    }

    fn args(until: Option<&str>, off: bool, words: &[&str]) -> KeepArgs {
        KeepArgs {
            words: words.iter().map(|one| (*one).to_owned()).collect(),
            until: until.map(str::to_owned),
            off,
            json: false,
        }
    }

    fn asked(until: Option<&str>, off: bool, words: &[&str]) -> Wish {
        wish(&args(until, off, words), &now()).unwrap()
    }

    #[test]
    fn each_line_means_one_thing() {
        let one = || "devenv-0".to_owned();
        assert_eq!(
            asked(None, false, &["4h", "devenv-0"]),
            Wish::Keep(one(), json!({ "for": 14_400 }))
        );
        assert_eq!(
            asked(Some("18:00"), false, &["devenv-0.doorward"]),
            Wish::Keep(one(), json!({ "until": "2026-06-01T16:00:00Z" }))
        );
        assert_eq!(asked(None, true, &["devenv-0"]), Wish::Release(one()));
        assert_eq!(asked(None, false, &[]), Wish::Show(None));
        assert_eq!(asked(None, false, &["devenv-0"]), Wish::Show(Some(one())));
        for (until, off, words) in [
            (None, false, &["4h"][..]),
            (None, false, &["0s", "devenv-0"]),
            (None, false, &["devenv-0", "4h"]),
            (None, false, &["4h", "a/b"]),
            (None, false, &["4h", "a", "b"]),
            (None, true, &[]),
            (None, true, &["4h", "devenv-0"]),
            (Some("18:00"), false, &["4h", "devenv-0"]),
            (Some("later"), false, &["devenv-0"]),
        ] {
            let error = wish(&args(until, off, words), &now()).unwrap_err();
            assert_eq!(error.exit(), crate::error::EXIT_USAGE, "{words:?}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_next_there_is() {
        let at = |text: &str| moment(text, &now()).unwrap().to_string();
        assert_eq!(at("12:31"), "2026-06-01T10:31:00Z");
        assert_eq!(at("12:30"), "2026-06-02T10:30:00Z");
        assert_eq!(at("09:00"), "2026-06-02T07:00:00Z");
        assert_eq!(at("2026-06-03T09:00"), "2026-06-03T07:00:00Z");
        assert_eq!(at("2026-06-03 09:00"), "2026-06-03T07:00:00Z");
        assert_eq!(at("2026-06-03T09:00:00Z"), "2026-06-03T09:00:00Z");
    }

    #[test]
    fn what_is_kept_is_shown_with_what_may_be() {
        let one: Workspace = serde_json::from_value(json!({
            "name": "devenv-0", "login": "node", "state": "running",
            "keep-until": "2026-06-01T14:00:00Z", "keep-longest": 28_800,
        }))
        .unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let cells = row(&one, at("2026-06-01T12:00:00Z"));
        assert!(cells[2].ends_with("(for 2 h)") && cells[3] == "8 h", "{cells:?}");
        let cells = row(&one, at("2026-06-01T14:00:00Z"));
        assert_eq!(cells[2], "", "what is over is not shown as kept");
    }
}
