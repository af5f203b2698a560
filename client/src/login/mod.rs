//! `login`, and the pass that every other command needs.

pub(crate) mod logout;
pub(crate) mod status;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::cli::LoginArgs;
use crate::clock;
use crate::error::Error;
use crate::gateway::{Dpop, Gateway, WellKnown};
use crate::home::private::Lock;
use crate::home::settings::{self, Asking, Settings};
use crate::home::{Home, private};
use crate::http::{Web, tls};
use crate::oidc::{self, Issuer, Key};
use crate::pass::Pass;
use crate::say;
use crate::ssh;
use crate::tokens::{LOCK, Need, Tokens, Voice, keys, silent};

/// How long `connect` waits for another `connect` whose person is logging in.
const SOMEBODY_ELSE: Duration = Duration::from_secs(310);

/// How a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Browser { open: bool },
    Device,
}

/// A login that is done and not yet stored.
#[derive(Debug)]
struct Done {
    tokens: Tokens,
    /// The key to which the tokens are bound.
    key: Option<Key>,
}

/// `doorward login`.
pub(crate) async fn login(home: &Home, args: &LoginArgs) -> Result<(), Error> {
    let mut settings = Settings::read(home)?;
    let before = settings.gateway.clone();
    if let Some(gateway) = &args.gateway {
        let gateway = settings::parse_gateway(gateway).map_err(Error::Usage)?;
        if settings.gateway.as_ref() != Some(&gateway) {
            // They belong to the gateway.
            settings.ca = None;
            settings.issuer = None;
            if before.is_some() {
                settings.token_command = None;
            }
        }
        settings.gateway = Some(gateway);
    }
    if let Some(ca) = &args.ca {
        let ca = std::path::absolute(ca).map_err(Error::file("find", ca.as_path()))?;
        tls::check_file(&ca)?;
        settings.ca = Some(ca);
    }
    if args.issuer.is_some() {
        settings.issuer.clone_from(&args.issuer);
    }
    settings.offline = args.offline;
    if let Some(command) = &args.token_command {
        settings::check_command(command).map_err(|what| Error::Usage(format!("--token-command {what}")))?;
        settings.token_command = Some(command.clone());
    } else if args.issuer.is_some() {
        // Whoever names an issuer wants to log in there.
        settings.token_command = None;
    }
    let gateway = Gateway::configured(home, &settings)?;
    if let Some(command) = &settings.token_command {
        return login_by(home, &settings, &gateway, command, before != settings.gateway).await;
    }
    let way = if args.device {
        Way::Device
    } else {
        Way::Browser { open: !args.no_browser }
    };
    let known = gateway.well_known().await?;
    let names = known.names();
    let done = ask(home, &settings, &gateway, known, way).await?;
    let trust = gateway.trust().await?;
    // Nothing is stored before all of it worked.
    settings.write(home)?;
    store(home, &done).await?;
    ssh::trust::remember(home, &trust, &[], before != settings.gateway)?;
    say::note(&format!("logged in at {} as {}", gateway.whom(), done.tokens.user));
    clock::tell(done.tokens.clock_ahead);
    if settings.issuer.is_none() && !names.is_empty() {
        let names = doorward_audit::printable(names.join(", ").as_bytes());
        say::line(&format!(
            "hint: this gateway trusts several issuers ({names}): doorward login --issuer NAME"
        ));
    }
    if !home.ssh_config().exists() {
        say::line("hint: doorward config --write, then plain ssh finds your workspaces");
    }
    Ok(())
}

/// There is nothing to log in to: a program of the person's gives the tokens. What else a login does is done, and it is looked
/// whether the gateway takes them.
async fn login_by(
    home: &Home,
    settings: &Settings,
    gateway: &Gateway,
    command: &[String],
    new: bool,
) -> Result<(), Error> {
    let pass = pass(home, settings).await?;
    let me = gateway.me(&pass).await?;
    let trust = gateway.trust().await?;
    settings.write(home)?;
    ssh::trust::remember(home, &trust, &[], new)?;
    say::note(&format!(
        "there is nothing to log in to: tokens come from `{}`, and {} takes you for {}",
        command.join(" "),
        gateway.whom(),
        me.user
    ));
    if !home.ssh_config().exists() {
        say::line("hint: doorward config --write, then plain ssh finds your workspaces");
    }
    Ok(())
}

async fn ask(home: &Home, settings: &Settings, gateway: &Gateway, known: WellKnown, way: Way) -> Result<Done, Error> {
    let date = known.date;
    let known = known.choose(settings.issuer.as_deref())?;
    let web = Web::issuer(settings.ca(home));
    let issuer = Issuer::discover(&web, &known, known.scope(settings.offline), date).await?;
    let key = match issuer.dpop {
        Dpop::Off => None,
        Dpop::Optional | Dpop::Required => Some(Key::generate().map_err(|what| Error::Configuration(what.to_owned()))?),
    };
    let granted = match way {
        Way::Browser { open } => oidc::by_browser(&web, &issuer, key.as_ref(), open).await?,
        Way::Device => oidc::by_device(&web, &issuer, key.as_ref()).await?,
    };
    if granted.life == 0 {
        say::note("the issuer's tokens live for 0 seconds, so nothing will come of them; tell whoever runs it");
    }
    let key = key.filter(|_| granted.bound);
    let tokens = Tokens::new(gateway.base(), &issuer, granted, key.as_ref());
    Ok(Done { tokens, key })
}

/// A pass for the gateway, refreshed if need be, without asking anybody.
pub(crate) async fn pass(home: &Home, settings: &Settings) -> Result<Pass, Error> {
    let pass = silent(home, settings, Need::Valid, Voice::Heard).await?;
    let gateway = settings.gateway()?;
    pass.ok_or_else(|| not_logged_in(home, gateway))
}

/// Another pass in place of one that the gateway does not take any more.
///
/// # Errors
/// As [`pass`].
pub(crate) async fn pass_in_place(home: &Home, settings: &Settings, refused: &Pass) -> Result<Pass, Error> {
    let gateway = settings.gateway()?;
    let need = Need::Other(refused.token());
    let pass = silent(home, settings, need, Voice::Heard).await?;
    pass.ok_or_else(|| not_logged_in(home, gateway))
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

/// A pass for `connect`: where there is none, the person is asked, by a browser if there is a screen and by a device
/// code on standard error if not. Of several that start at once, one asks, and `before` is called before any of them waits
/// for a person, with what the gateway says about itself.
pub(crate) async fn pass_for_connect(
    home: &Home,
    settings: &Settings,
    need: Need<'_>,
    before: impl FnOnce(&WellKnown),
) -> Result<Pass, Error> {
    let url = settings.gateway()?;
    if let Some(pass) = silent(home, settings, need, Voice::Heard).await? {
        return Ok(pass);
    }
    let way = match settings.login {
        Asking::Never => return Err(not_logged_in(home, url)),
        Asking::Browser => Way::Browser { open: true },
        Asking::Device => Way::Device,
        Asking::Auto if oidc::can_open() => Way::Browser { open: true },
        Asking::Auto => Way::Device,
    };
    let gateway = Gateway::configured(home, settings)?;
    let known = gateway.well_known().await?;
    before(&known);
    let _lock = match Lock::take(&home.login_lock(), Duration::ZERO).await {
        Ok(lock) => lock,
        Err(_) => {
            say::note("waiting for the login that another doorward has asked for");
            Lock::take(&home.login_lock(), SOMEBODY_ELSE).await?
        }
    };
    if let Some(pass) = silent(home, settings, need, Voice::Heard).await? {
        return Ok(pass);
    }
    let done = ask(home, settings, &gateway, known, way).await?;
    store(home, &done).await?;
    say::note(&format!("logged in at {} as {}", gateway.whom(), done.tokens.user));
    clock::tell(done.tokens.clock_ahead);
    Ok(done.tokens.pass_with(done.key.map(Arc::new)))
}

/// Under the lock, or a refresh of the old tokens that is under way could win.
async fn store(home: &Home, done: &Done) -> Result<(), Error> {
    let _lock = Lock::take(&home.tokens_lock(), LOCK).await?;
    if let Some(key) = &done.key {
        keys::write(home, key)?;
    }
    done.tokens.write(home)?;
    keys::remove_all_but(home, done.tokens.key());
    Ok(())
}

/// The trust of this folder as it was last fetched.
pub(crate) fn stored_trust(path: &Path) -> Result<crate::gateway::CaLines, Error> {
    let text = private::read(path)?;
    let text = text.ok_or_else(|| Error::Configuration(format!("there is no {}", path.display())))?;
    serde_json::from_str(&text).map_err(|error| Error::Configuration(format!("{}: {error}", path.display())))
}
