//! `login`, `logout`, `status`, and the token that every other command needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use url::Url;

use crate::cli::LoginArgs;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::home::private::Lock;
use crate::home::settings::{self, Settings};
use crate::home::{Home, private};
use crate::http::{Web, tls};
use crate::oidc::{self, Issuer};
use crate::say;
use crate::secret::Secret;
use crate::ssh;
use crate::tokens::{LOCK, Need, Tokens, silent};

/// How long `connect` waits for another `connect` whose person is logging in.
const SOMEBODY_ELSE: Duration = Duration::from_secs(310);

/// How a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Browser { open: bool },
    Device,
}

/// `doorward login`.
pub(crate) async fn login(home: &Home, args: &LoginArgs) -> Result<(), Error> {
    let mut settings = Settings::read(home)?;
    if let Some(gateway) = &args.gateway {
        let gateway = settings::parse_gateway(gateway).map_err(Error::Usage)?;
        if settings.gateway.as_ref() != Some(&gateway) {
            // The CA belongs to the gateway.
            settings.ca = None;
        }
        settings.gateway = Some(gateway);
    }
    if let Some(ca) = &args.ca {
        let ca = std::path::absolute(ca).map_err(Error::file("find", ca.as_path()))?;
        tls::check_file(&ca)?;
        settings.ca = Some(ca);
    }
    let gateway = Gateway::configured(home, &settings)?;
    let way = if args.device {
        Way::Device
    } else {
        Way::Browser { open: !args.no_browser }
    };
    let tokens = ask(home, &settings, &gateway, way).await?;
    let trust = gateway.trust().await?;
    // Nothing is stored before all of it worked.
    settings.write(home)?;
    store(home, &tokens).await?;
    ssh::remember_trust(home, &trust)?;
    say::note(&format!("logged in at {} as {}", gateway.whom(), tokens.user));
    if !home.ssh_config().exists() {
        say::line("hint: doorward config --write, then plain ssh finds your workspaces");
    }
    Ok(())
}

async fn ask(home: &Home, settings: &Settings, gateway: &Gateway, way: Way) -> Result<Tokens, Error> {
    let known = gateway.well_known().await?;
    let web = Web::issuer(settings.ca(home));
    let issuer = Issuer::discover(&web, &known).await?;
    let granted = match way {
        Way::Browser { open } => oidc::by_browser(&web, &issuer, open).await?,
        Way::Device => oidc::by_device(&web, &issuer).await?,
    };
    Ok(Tokens::new(gateway.base(), &issuer, granted))
}

/// A token for the gateway, refreshed if need be, without asking anybody.
pub(crate) async fn token(home: &Home, settings: &Settings) -> Result<Secret, Error> {
    let gateway = settings.gateway()?;
    let tokens = silent(home, gateway, settings.ca(home), Need::Valid).await?;
    tokens
        .map(|tokens| tokens.access_token)
        .ok_or_else(|| not_logged_in(home, gateway))
}

fn not_logged_in(home: &Home, gateway: &Url) -> Error {
    let gateway = crate::http::name(gateway);
    Error::NotLoggedIn(match Tokens::read(home) {
        Ok(Some(tokens)) if crate::http::name(&tokens.gateway) == gateway => {
            format!("the login at {gateway} is over")
        }
        _ => format!("not logged in at {gateway}"),
    })
}

/// A token for `connect`: where there is none, the person is asked, by a browser if there is a screen and by a device
/// code on standard error if not. Of several that start at once, one asks.
pub(crate) async fn token_for_connect(home: &Home, settings: &Settings, need: Need<'_>) -> Result<Secret, Error> {
    let url = settings.gateway()?;
    let ca = settings.ca(home);
    if let Some(tokens) = silent(home, url, ca.clone(), need).await? {
        return Ok(tokens.access_token);
    }
    let _lock = Lock::take(&home.login_lock(), SOMEBODY_ELSE).await?;
    if let Some(tokens) = silent(home, url, ca, need).await? {
        return Ok(tokens.access_token);
    }
    let gateway = Gateway::configured(home, settings)?;
    let way = if oidc::can_open() {
        Way::Browser { open: true }
    } else {
        Way::Device
    };
    let tokens = ask(home, settings, &gateway, way).await?;
    store(home, &tokens).await?;
    say::note(&format!("logged in at {} as {}", gateway.whom(), tokens.user));
    Ok(tokens.access_token)
}

/// Under the lock, or a refresh of the old tokens that is under way could win.
async fn store(home: &Home, tokens: &Tokens) -> Result<(), Error> {
    let _lock = Lock::take(&home.tokens_lock(), LOCK).await?;
    tokens.write(home)
}

/// `doorward logout`.
pub(crate) async fn logout(home: &Home) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let _lock = Lock::take(&home.tokens_lock(), LOCK).await?;
    let tokens = match Tokens::read(home) {
        Ok(Some(tokens)) => tokens,
        Ok(None) => {
            say::note("nobody is logged in");
            return Ok(());
        }
        Err(error) => {
            // What cannot be read cannot be revoked, and must not stay either.
            Tokens::remove(home)?;
            return Err(error);
        }
    };
    // First the file: whatever the issuer says, this computer has no token any more.
    Tokens::remove(home)?;
    let revoked = revoke(&tokens, settings.ca(home)).await;
    say::note(&format!(
        "logged out {} at {}",
        tokens.user,
        crate::http::name(&tokens.gateway)
    ));
    if let Err(why) = revoked {
        say::note(&format!(
            "the issuer did not revoke the tokens ({why}); they end by themselves"
        ));
    }
    Ok(())
}

async fn revoke(tokens: &Tokens, ca: Option<PathBuf>) -> Result<(), String> {
    let Some(endpoint) = &tokens.revocation_endpoint else {
        return Err("it has no revocation endpoint".to_owned());
    };
    let web = Web::issuer(ca);
    if let Some(refresh) = &tokens.refresh_token {
        let revoked = oidc::revoke(&web, endpoint, &tokens.client_id, refresh, "refresh_token").await;
        revoked.map_err(|error| error.to_string())?;
    }
    // RFC 7009 section 2.1: an issuer may leave access tokens alone; they are short-lived.
    let access = oidc::revoke(&web, endpoint, &tokens.client_id, &tokens.access_token, "access_token").await;
    if tokens.refresh_token.is_some() {
        Ok(())
    } else {
        access.map_err(|error| error.to_string())
    }
}

/// What `doorward status` knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status<'a> {
    folder: &'a Path,
    gateway: Option<&'a Url>,
    logged_in: bool,
    user: Option<&'a str>,
    issuer: Option<&'a str>,
    access_token_seconds: Option<u64>,
    refreshes: bool,
    ssh_config: ssh::State,
}

/// `doorward status`; says only what this computer knows, and asks nobody. Whether somebody is logged in.
pub(crate) fn status(home: &Home, json: bool) -> Result<bool, Error> {
    let settings = Settings::read(home)?;
    let tokens = match &settings.gateway {
        Some(gateway) => Tokens::read_for(home, gateway)?,
        None => None,
    };
    let tokens = tokens.as_ref();
    let life = tokens.map(Tokens::life);
    let refreshes = tokens.is_some_and(|tokens| tokens.refresh_token.is_some());
    let status = Status {
        folder: home.path(),
        gateway: settings.gateway.as_ref(),
        logged_in: refreshes || life.is_some_and(|life| !life.is_zero()),
        user: tokens.map(|tokens| tokens.user.as_str()),
        issuer: tokens.map(|tokens| tokens.issuer.as_str()),
        access_token_seconds: life.map(|life| life.as_secs()),
        refreshes,
        ssh_config: ssh::state(home),
    };
    if json {
        say::print_json(&status)?;
        return Ok(status.logged_in);
    }
    let none = || "none".to_owned();
    let login = match (&status.user, status.logged_in) {
        (Some(user), true) => format!("{user}, by {}", status.issuer.unwrap_or_default()),
        (Some(user), false) => format!("{user}'s login is over"),
        (None, _) => "nobody is logged in".to_owned(),
    };
    let token = match life {
        None => none(),
        Some(life) if life.is_zero() && refreshes => "expired; refreshed when it is next needed".to_owned(),
        Some(life) if life.is_zero() => "expired".to_owned(),
        Some(life) => {
            let more = if refreshes { ", then refreshed" } else { "" };
            format!(
                "valid for {}{more}",
                humantime::format_duration(Duration::from_secs(life.as_secs()))
            )
        }
    };
    let rows = [
        ("gateway", settings.gateway.as_ref().map_or_else(none, Url::to_string)),
        ("login", login),
        ("token", token),
        ("ssh", status.ssh_config.to_string()),
        ("folder", home.path().display().to_string()),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        text.push_str(&format!("{name:<8} {}\n", doorward_audit::printable(value.as_bytes())));
    }
    say::print(&text)?;
    Ok(status.logged_in)
}

/// The trust of this folder as it was last fetched.
pub(crate) fn stored_trust(path: &Path) -> Result<crate::gateway::CaLines, Error> {
    let text = private::read(path)?;
    let text = text.ok_or_else(|| Error::Configuration(format!("there is no {}", path.display())))?;
    serde_json::from_str(&text).map_err(|error| Error::Configuration(format!("{}: {error}", path.display())))
}
