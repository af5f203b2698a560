//! The folder of the program: where everything of ours on this computer lies.
//!
//! `--home DIR` or `DOORWARD_HOME` names it; otherwise it is `doorward` in the configuration folder of the operating
//! system; on Windows in the one that stays on this computer, for a login does not roam. Nothing of ours is written anywhere else, but for the one line in `~/.ssh/config` (see [`crate::ssh`]).

pub(crate) mod private;
pub(crate) mod settings;

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    path: PathBuf,
    default: bool,
}

impl Home {
    /// The folder that was named, else the default one. It need not exist yet.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, Error> {
        let usual = directories::ProjectDirs::from("", "", "doorward").map(|dirs| dirs.config_local_dir().to_owned());
        let Some(named) = named.filter(|named| !named.as_os_str().is_empty()) else {
            let path =
                usual.ok_or_else(|| Error::Configuration("this account has no home folder: use --home DIR".into()))?;
            return Ok(Self { path, default: true });
        };
        let path = std::path::absolute(named).map_err(Error::file("find", named))?;
        Ok(Self {
            default: usual.as_deref() == Some(path.as_path()),
            path,
        })
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the one that is found without being named.
    pub(crate) fn is_default(&self) -> bool {
        self.default
    }

    /// `config.toml`.
    pub(crate) fn settings(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `tokens.json`: secret.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.path.join("tokens.json")
    }

    /// The file of the key with this thumbprint: secret.
    pub(crate) fn key(&self, thumbprint: &str) -> PathBuf {
        self.path.join(format!("dpop-{thumbprint}.key"))
    }

    /// Whether this is a key's file.
    pub(crate) fn is_key(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("dpop-") && name.ends_with(".key"))
    }

    /// Held while tokens are refreshed.
    pub(crate) fn tokens_lock(&self) -> PathBuf {
        self.path.join("tokens.lock")
    }

    /// Held while somebody logs in on behalf of `connect`.
    pub(crate) fn login_lock(&self) -> PathBuf {
        self.path.join("login.lock")
    }

    /// `trust.json`: the CA keys that the gateway named.
    pub(crate) fn trust(&self) -> PathBuf {
        self.path.join("trust.json")
    }

    /// `checkpoints.json`: the newest checkpoint that was seen of each log.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints.json")
    }

    /// `known_hosts`, for ssh.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.path.join("known_hosts")
    }

    /// `ssh_config`, for ssh.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.path.join("ssh_config")
    }
}
