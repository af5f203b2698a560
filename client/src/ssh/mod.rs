//! What `ssh` reads: the configuration, the known hosts, and the one line in `~/.ssh/config`.

mod blocks;
mod include;
mod quote;
mod run;
pub(crate) mod trust;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub(crate) use blocks::SUFFIX;
pub(crate) use run::{known, ssh};

use crate::cli::ConfigArgs;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::home::settings::Settings;
use crate::home::{Home, private};
use crate::{login, say};
use blocks::Blocks;

/// The system whose `ssh` reads the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Unix,
    Windows,
}

impl System {
    /// The one that this program was built for.
    const HERE: Self = if cfg!(windows) { Self::Windows } else { Self::Unix };
}

/// `doorward config`.
pub(crate) async fn config(home: &Home, args: &ConfigArgs) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let text = refresh(home, &settings, &args.trust_host_ca).await?;
    if !args.write || args.print {
        say::print(&text)?;
    }
    if !args.write {
        return Ok(());
    }
    private::write_changed(&home.ssh_config(), text.as_bytes())?;
    say::note(&format!("wrote {}", home.ssh_config().display()));
    if !args.no_include {
        let file = user_config()?;
        let ours = home.ssh_config();
        let said = if include::ensure(&file, &ours)? {
            "includes it now"
        } else {
            "includes it already"
        };
        say::note(&format!("{} {said}", file.display()));
    }
    Ok(())
}

/// Asks the gateway for workspaces and CA keys, remembers the keys, and says what the configuration should be.
async fn refresh(home: &Home, settings: &Settings, accepted: &[String]) -> Result<String, Error> {
    let gateway = Gateway::configured(home, settings)?;
    let pass = login::pass(home, settings).await?;
    let found = gateway.workspaces(&pass).await?;
    trust::remember(home, &gateway.trust().await?, accepted, false)?;
    let program = settings.program()?;
    if found.workspaces.is_empty() {
        say::note("no workspace is in it: there is none that you may enter");
    }
    Blocks {
        system: System::HERE,
        program: &program,
        home,
        workspaces: &found.workspaces,
        names: &found.names,
    }
    .write()
}

/// Whether plain `ssh` finds the workspaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Missing,
    NotIncluded,
    Included,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no configuration written (doorward config --write)",
            Self::NotIncluded => "configuration written, ~/.ssh/config does not include it",
            Self::Included => "configuration written and included",
        })
    }
}

/// What this computer has.
pub(crate) fn state(home: &Home) -> State {
    let ours = home.ssh_config();
    if !ours.exists() {
        return State::Missing;
    }
    let included = user_config().ok().and_then(|file| include::has(&file, &ours).ok());
    if included == Some(true) {
        State::Included
    } else {
        State::NotIncluded
    }
}

/// Whether an editor, which reads `~/.ssh/config`, will find what we write.
pub(crate) fn ready(home: &Home) -> Result<(), Error> {
    match state(home) {
        State::Included => Ok(()),
        State::NotIncluded => Err(Error::NoSshConfig(
            "~/.ssh/config does not include the ssh configuration at its top",
        )),
        State::Missing => Err(Error::NoSshConfig("the ssh configuration is not written")),
    }
}

/// `~/.ssh/config`.
fn user_config() -> Result<PathBuf, Error> {
    let dirs = directories::BaseDirs::new();
    let dirs = dirs.ok_or_else(|| Error::Configuration("this account has no home folder".to_owned()))?;
    Ok(dirs.home_dir().join(Path::new(".ssh")).join("config"))
}
