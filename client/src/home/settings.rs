//! `config.toml`: which gateway, which CA, which program.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Home, private};
use crate::error::Error;

/// The settings of this folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// The gateway's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<Url>,
    /// A PEM file. With it, the gateway must show a certificate from one of these CAs, whatever the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// Which of the gateway's issuers, by name or address; the first one when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// The program that prints a token, with its arguments; used in place of a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_command: Option<Vec<String>>,
    /// Whether logins are for long: a refresh token that outlives the session at the issuer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) offline: bool,
    /// How `connect` asks somebody who is not logged in.
    #[serde(default, skip_serializing_if = "Asking::is_auto")]
    pub(crate) login: Asking,
    /// The editor of `open`, by name or path; the first known one on the `PATH` when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) editor: Option<String>,
    /// The folder that `open` opens where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<String>,
    /// What the ssh configuration names as `ProxyCommand`; this program when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<PathBuf>,
}

/// How `connect` asks for a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Asking {
    /// With a browser where somebody sits at a screen, else with a code.
    #[default]
    Auto,
    Browser,
    Device,
    /// Not at all.
    Never,
}

impl Asking {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Settings {
    /// Reads the settings; a folder without the file has none.
    pub(crate) fn read(home: &Home) -> Result<Self, Error> {
        let path = home.settings();
        let Some(text) = private::read(&path)? else {
            return Ok(Self::default());
        };
        let settings: Self = toml::from_str(&text)
            .map_err(|error| Error::Configuration(format!("{}: {}", path.display(), one_line(&error, &text))))?;
        if let Some(gateway) = &settings.gateway {
            check_gateway(gateway)
                .map_err(|what| Error::Configuration(format!("{}: gateway: {what}", path.display())))?;
        }
        if let Some(command) = &settings.token_command {
            let fault = |what: &str| Error::Configuration(format!("{}: token-command {what}", path.display()));
            check_command(command).map_err(fault)?;
            // Whoever can write it says what runs here.
            match private::read_secret(&path) {
                Err(Error::Exposed { what, .. }) => {
                    return Err(fault(&format!(
                        "names a program to run, and the file {what}: make it your own alone"
                    )));
                }
                other => other.map(drop)?,
            }
        }
        Ok(settings)
    }

    /// Writes them, if they changed.
    pub(crate) fn write(&self, home: &Home) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|error| Error::Configuration(error.to_string()))?;
        if Self::read(home).is_ok_and(|old| old == *self) {
            return Ok(());
        }
        private::write(&home.settings(), text.as_bytes())
    }

    /// The gateway, or [`Error::NoGateway`].
    pub(crate) fn gateway(&self) -> Result<&Url, Error> {
        self.gateway.as_ref().ok_or(Error::NoGateway)
    }

    /// The CA file as an absolute path; relative ones are relative to the folder.
    pub(crate) fn ca(&self, home: &Home) -> Option<PathBuf> {
        self.ca.as_deref().map(|ca| home.path().join(ca))
    }

    /// The program that ssh starts.
    pub(crate) fn program(&self) -> Result<PathBuf, Error> {
        match &self.program {
            Some(program) if program.is_absolute() => Ok(program.clone()),
            Some(program) => Err(Error::Configuration(format!(
                "program must be an absolute path, and {} is not",
                program.display()
            ))),
            None => std::env::current_exe().map_err(Error::file("find", Path::new("this program"))),
        }
    }
}

/// A gateway as a person names it: a URL, or a host with or without a port.
pub(crate) fn parse_gateway(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let mut url = Url::parse(&whole).map_err(|error| format!("{text} is no address: {error}"))?;
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    check_gateway(&url)?;
    Ok(url)
}

fn check_gateway(url: &Url) -> Result<(), String> {
    if url.scheme() != "https" {
        return Err(format!("a gateway speaks https, not {}", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the address names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address must not hold a name or a password".to_owned());
    }
    Ok(())
}

/// Whether this can be a command: a program by its name or its absolute path, then its arguments.
pub(crate) fn check_command(command: &[String]) -> Result<(), &'static str> {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        return Err("is a list: the program, then each of its arguments");
    };
    if program.contains(std::path::is_separator) && !Path::new(program).is_absolute() {
        return Err("names its program by a path that is not absolute");
    }
    match command.iter().any(|word| word.contains('\0')) {
        true => Err("has a NUL in it"),
        false => Ok(()),
    }
}

fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .map_or(1, |span| text.get(..span.start).unwrap_or("").matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_may_be_named_shortly() {
        for text in [
            "gw.example.com:8443",
            "https://gw.example.com:8443",
            " https://gw.example.com:8443/x?y#z ",
        ] {
            assert_eq!(parse_gateway(text).unwrap().as_str(), "https://gw.example.com:8443/");
        }
        assert_eq!(parse_gateway("[::1]:1").unwrap().as_str(), "https://[::1]:1/");
        for text in [
            "http://gw.example.com",
            "https://a:b@gw.example.com",
            "https://",
            "",
            "a b",
        ] {
            assert!(parse_gateway(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_come_back_and_faults_name_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        assert_eq!(Settings::read(&home).unwrap(), Settings::default());
        let settings = Settings {
            gateway: Some(parse_gateway("gw").unwrap()),
            ca: Some("ca.pem".into()),
            issuer: Some("work".into()),
            token_command: Some(vec!["oc".into(), "whoami".into(), "-t".into()]),
            offline: true,
            login: Asking::Never,
            editor: Some("cursor".into()),
            folder: Some("/work space".into()),
            program: Some("/opt/door ward/doorward".into()),
        };
        settings.write(&home).unwrap();
        assert_eq!(Settings::read(&home).unwrap(), settings);
        assert_eq!(settings.ca(&home).unwrap(), home.path().join("ca.pem"));
        std::fs::write(home.settings(), "\n\ngatewya = \"https://gw\"\n").unwrap();
        let error = Settings::read(&home).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
        assert_eq!(error.exit(), 78);
        std::fs::write(home.settings(), "gateway = \"http://gw\"\n").unwrap();
        assert!(Settings::read(&home).is_err());
    }

    #[test]
    fn a_command_is_a_list_in_a_file_that_nobody_else_writes() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        for (text, expected) in [
            ("token-command = []", "is a list"),
            ("token-command = [\"\"]", "is a list"),
            ("token-command = \"oc whoami -t\"", "expected a sequence"),
            ("token-command = [\"./oc\"]", "not absolute"),
            ("token-command = [\"oc\", \"a\\u0000b\"]", "NUL"),
        ] {
            private::write(&home.settings(), text.as_bytes()).unwrap();
            let error = Settings::read(&home).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
            assert_eq!(error.exit(), 78);
        }
        private::write(&home.settings(), b"token-command = [\"oc\"]").unwrap();
        assert!(Settings::read(&home).is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(home.settings(), std::fs::Permissions::from_mode(0o620)).unwrap();
            let error = Settings::read(&home).unwrap_err();
            assert!(error.to_string().contains("0620"), "{error}");
        }
    }
}
