//! How a pod proves which one it is: the section `[enrol]`, to a gateway, or `[enrol.vault]`, to Vault itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward_certs::LONGEST_HOST_LIFE;
use doorward_certs::vault::{self, HostSettings, PodLogin};

use super::table::Section;

/// The proof of a pod. A token of its service account is projected for the audience of whoever reviews it; the kubelet writes a
/// newer one there before it ends, so that it is read again each time.
#[derive(Debug, Clone)]
pub enum Enrol {
    /// Over a link: the gateway has the token reviewed, and the certificate signed.
    Gateway {
        /// The token for the gateway's audience.
        token_file: PathBuf,
    },
    /// At Vault, by the agent itself; no gateway sees the token, and none can have a certificate signed.
    Vault(Box<AtVault>),
}

/// How a host certificate is had from Vault.
#[derive(Debug, Clone)]
pub struct AtVault {
    /// Where and with what.
    pub settings: HostSettings,
    /// How long a certificate is asked for. At about half of it the next one is.
    pub life: Duration,
}

impl Enrol {
    /// The file with the token, whoever it is for.
    #[must_use]
    pub fn token_file(&self) -> &Path {
        match self {
            Self::Gateway { token_file } => token_file,
            Self::Vault(at) => &at.settings.token_file,
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> Option<Enrol> {
    if let Some(vault) = section.table("vault") {
        let at = at_vault(vault);
        if section
            .optional("service-account-token-file", |text, _| Ok(text.to_owned()))
            .is_some()
        {
            section.fault("a token for the gateway, and [enrol.vault]: one or the other");
        }
        section.finish();
        return at.map(|at| Enrol::Vault(Box::new(at)));
    }
    let token_file = token_file(&mut section);
    section.finish();
    Some(Enrol::Gateway {
        token_file: token_file?,
    })
}

fn token_file(section: &mut Section<'_>) -> Option<PathBuf> {
    section.required("service-account-token-file", |text, section| Ok(section.path(text)))
}

fn at_vault(mut section: Section<'_>) -> Option<AtVault> {
    let address = section.required("address", |text, _| vault::address(text));
    let ca = section.optional("ca", |text, section| {
        let path = section.path(text);
        // Read again at each signing; a file that is not there now is a mistake.
        std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    });
    let namespace = section.optional("namespace", |text, _| match vault::is_mount(text.trim_matches('/')) {
        true => Ok(text.to_owned()),
        false => Err(MOUNT.to_owned()),
    });
    let method = section.required("method", |text, _| match text {
        "jwt" => Ok(PodLogin::Jwt),
        "kubernetes" => Ok(PodLogin::Kubernetes),
        _ => Err(format!("'{}' is none of 'jwt' and 'kubernetes'", text.escape_debug())),
    });
    let mut name = |key: &str, usual: &str, good: fn(&str) -> bool, bad: &str| {
        let read = section.optional(key, |text, _| match good(text) {
            true => Ok(text.to_owned()),
            false => Err(bad.to_owned()),
        });
        read.unwrap_or_else(|| usual.to_owned())
    };
    let mount = name("mount", "doorward-agents", vault::is_mount, MOUNT);
    let role = name("role", "doorward-agent", vault::is_role, ROLE);
    let host_mount = name("host-mount", "ssh-host", vault::is_mount, MOUNT);
    let host_role = name("host-role", "doorward-host", vault::is_role, ROLE);
    let token_file = token_file(&mut section);
    let mut within = |key: &str, usual: Duration, least: Duration, most: Duration| {
        let read = section.optional(key, |text, _| {
            let time = humantime::parse_duration(text).map_err(|error| format!("is no duration: {error}"))?;
            match (least..=most).contains(&time) {
                true => Ok(time),
                false => Err(format!(
                    "must be from {} to {}",
                    humantime::format_duration(least),
                    humantime::format_duration(most)
                )),
            }
        });
        read.unwrap_or(usual)
    };
    let life = within("certificate-life", USUAL_LIFE, SHORTEST_LIFE, LONGEST_HOST_LIFE);
    let timeout = within("timeout", USUAL_TIMEOUT, SHORTEST_TIMEOUT, LONGEST_TIMEOUT);
    section.finish();
    Some(AtVault {
        settings: HostSettings {
            address: address?,
            ca,
            namespace,
            method: method?,
            mount,
            role,
            token_file: token_file?,
            host_mount,
            host_role,
            timeout,
        },
        life,
    })
}

const MOUNT: &str = "must be names of letters, digits, '-', '_' and '.' with '/' between them";
const ROLE: &str = "must be a name of letters, digits, '-', '_' and '.'";
/// As long as the gateway has a pod's certificate signed for: one that is gone can soon not be played by whoever has its key.
const USUAL_LIFE: Duration = Duration::from_secs(24 * 3600);
const SHORTEST_LIFE: Duration = Duration::from_secs(10);
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
