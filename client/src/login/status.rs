//! `doorward status`: which gateway, who, which groups, until when.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;
use url::Url;

use crate::cli::StatusArgs;
use crate::clock;
use crate::error::Error;
use crate::gateway::{Gateway, Me};
use crate::home::Home;
use crate::home::settings::Settings;
use crate::oidc::{Glance, Lasts};
use crate::say;
use crate::ssh;
use crate::tokens::{Need, Tokens, Voice, silent};

/// How long the gateway has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What there is to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status<'a> {
    folder: &'a Path,
    gateway: Option<&'a Url>,
    logged_in: bool,
    user: Option<&'a str>,
    issuer: Option<&'a str>,
    /// The program that gives the tokens, with its arguments, where one does.
    token_command: Option<&'a [String]>,
    email: Option<&'a str>,
    groups: Option<&'a [String]>,
    roles: Option<&'a [String]>,
    may: Option<&'a [String]>,
    /// Who says so: the gateway, or only the token as this computer reads it.
    said_by: Option<Source>,
    /// Why the gateway did not say it.
    gateway_failed: Option<String>,
    access_token_seconds: Option<u64>,
    refreshes: bool,
    /// So long the login can be refreshed; missing where the issuer does not say it.
    login_seconds: Option<u64>,
    /// Whether the login lasts until it is revoked.
    offline: bool,
    /// Whether the tokens work on this computer alone.
    bound: bool,
    clock_ahead_seconds: i64,
    ssh_config: ssh::State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    Gateway,
    Token,
}

/// Says it; whether somebody is logged in. The gateway is asked, and the tokens refreshed if need be, unless the command
/// line wants otherwise; a gateway that cannot be reached is no failure.
pub(crate) async fn status(home: &Home, args: &StatusArgs) -> Result<bool, Error> {
    let settings = Settings::read(home)?;
    let by_command = settings.token_command.is_some();
    let read = || match &settings.gateway {
        // What is stored is not used then.
        Some(gateway) if !by_command => Tokens::read_for(home, gateway),
        _ => Ok(None),
    };
    let mut tokens = read()?;
    let mut said = None;
    if settings.gateway.is_some() && (tokens.is_some() || by_command) && !args.local {
        said = match silent(home, &settings, Need::Valid, Voice::Heard).await {
            Ok(None) => None,
            Ok(Some(pass)) => {
                let gateway = Gateway::configured(home, &settings)?;
                Some(timeout(PATIENCE, gateway.me(&pass)).await.unwrap_or_else(|_| {
                    Err(Error::Unreachable {
                        whom: gateway.whom(),
                        why: format!("no answer within {} s", PATIENCE.as_secs()),
                        hint: None,
                    })
                }))
            }
            Err(error) => Some(Err(error)),
        };
        tokens = read()?;
    }
    let seen = tokens.as_ref().map(|tokens| Glance::at(tokens.access_token.expose()));
    let status = Status::of(home, &settings, tokens.as_ref(), said.as_ref(), seen.as_ref());
    if args.json {
        say::print_json(&status)?;
    } else {
        say::print(&status.text(tokens.as_ref()))?;
    }
    Ok(status.logged_in)
}

impl<'a> Status<'a> {
    fn of(
        home: &'a Home,
        settings: &'a Settings,
        tokens: Option<&'a Tokens>,
        said: Option<&'a Result<Me, Error>>,
        seen: Option<&'a Glance>,
    ) -> Self {
        let me = said.and_then(|said| said.as_ref().ok());
        let life = tokens.map(Tokens::life);
        let refreshes = tokens.is_some_and(|tokens| tokens.refresh_token.is_some());
        let groups = match (me, seen) {
            (Some(me), _) => Some(me.groups.as_slice()),
            (None, Some(seen)) => seen.groups.as_deref(),
            (None, None) => None,
        };
        let email = me.map_or_else(|| seen.and_then(|seen| seen.email.as_deref()), |me| me.email.as_deref());
        let lasts = tokens.map(Tokens::lasts).filter(|_| refreshes);
        Self {
            folder: home.path(),
            gateway: settings.gateway.as_ref(),
            logged_in: refreshes
                || life.is_some_and(|life| !life.is_zero())
                || (settings.token_command.is_some() && me.is_some()),
            user: me
                .map(|me| me.user.as_str())
                .or(tokens.map(|tokens| tokens.user.as_str())),
            issuer: tokens.map(|tokens| tokens.issuer.as_str()),
            token_command: settings.token_command.as_deref(),
            email,
            groups,
            roles: me.map(|me| me.roles.as_slice()),
            may: me.map(|me| me.may.as_slice()),
            said_by: me.map(|_| Source::Gateway).or(tokens.map(|_| Source::Token)),
            gateway_failed: said.and_then(|said| said.as_ref().err().map(Error::to_string)),
            access_token_seconds: life.map(|life| life.as_secs()),
            refreshes,
            login_seconds: match lasts {
                Some(Lasts::Seconds(seconds)) => Some(seconds),
                _ => None,
            },
            offline: lasts == Some(Lasts::Revoked),
            bound: tokens.is_some_and(Tokens::are_bound),
            clock_ahead_seconds: tokens.map_or(0, |tokens| tokens.clock_ahead),
            ssh_config: ssh::state(home),
        }
    }

    fn text(&self, tokens: Option<&Tokens>) -> String {
        let none = || "none".to_owned();
        let login = match (&self.user, self.logged_in) {
            (Some(user), true) if self.token_command.is_some() => (*user).to_owned(),
            (Some(user), true) => format!("{user}, by {}", self.issuer.unwrap_or_default()),
            (Some(user), false) => format!("{user}'s login is over (doorward login)"),
            (None, _) if self.token_command.is_some() => "nobody is logged in".to_owned(),
            (None, _) if self.gateway.is_none() => "nobody is logged in (doorward login GATEWAY)".to_owned(),
            (None, _) => "nobody is logged in (doorward login)".to_owned(),
        };
        let mut rows = vec![
            ("gateway", self.gateway.map_or_else(none, Url::to_string)),
            ("login", login),
        ];
        if let Some(groups) = self.groups.filter(|_| self.logged_in) {
            let mut text = if groups.is_empty() { none() } else { groups.join(", ") };
            if self.said_by == Some(Source::Token) {
                text.push_str(" (as the token says, not the gateway)");
            }
            rows.push(("groups", text));
        }
        for (name, list) in [("roles", self.roles), ("may", self.may)] {
            if let Some(list) = list.filter(|list| !list.is_empty()) {
                rows.push((name, list.join(", ")));
            }
        }
        if let Some(why) = &self.gateway_failed {
            rows.push(("problem", why.clone()));
        }
        rows.push((
            "token",
            match self.token_command {
                Some(command) => format!("from `{}`", command.join(" ")),
                None => self.token(tokens),
            },
        ));
        if let Some(lasts) = self.lasts() {
            rows.push(("lasts", lasts));
        }
        if let Some(remark) = clock::remark(self.clock_ahead_seconds) {
            rows.push(("clock", remark));
        }
        rows.push(("ssh", self.ssh_config.to_string()));
        rows.push(("folder", self.folder.display().to_string()));
        let mut text = String::new();
        for (name, value) in rows {
            text.push_str(&format!("{name:<8} {}\n", say::shown(value)));
        }
        text
    }

    fn token(&self, tokens: Option<&Tokens>) -> String {
        let bound = if self.bound { ", bound to this computer" } else { "" };
        match self.access_token_seconds {
            None => "none".to_owned(),
            Some(0) if tokens.is_some_and(Tokens::clock_was_set_back) => {
                format!("unsure, because this computer's clock was set back{bound}")
            }
            Some(0) if self.refreshes => format!("expired; refreshed when it is next needed{bound}"),
            Some(0) => format!("expired{bound}"),
            Some(seconds) => {
                let more = if self.refreshes { ", then refreshed" } else { "" };
                format!("valid for {}{more}{bound}", length(seconds))
            }
        }
    }

    /// Until when the login lasts.
    fn lasts(&self) -> Option<String> {
        if !self.refreshes {
            return None;
        }
        Some(match self.login_seconds {
            _ if self.offline => "until it is revoked (offline login)".to_owned(),
            None => "as long as the issuer's session; it does not say how long".to_owned(),
            Some(0) => "it has run out; log in again".to_owned(),
            Some(seconds) => {
                let until = crate::pass::now().saturating_add(seconds).saturating_mul(1000);
                format!(
                    "until {} ({}), longer while it is used",
                    say::moment(until),
                    length(seconds)
                )
            }
        })
    }
}

fn length(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
