//! Names that stand in certificates: the login, the workspace's name, its UID.
//!
//! Each is checked when it is made and cannot be changed afterwards, so code that holds one need not check again.
//! Comparison is byte for byte; nothing is folded, trimmed or normalised, and no character is a pattern.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::GATEWAY_PRINCIPAL;

/// Why a name was refused. The text shows no byte of the input, which may be hostile or huge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a login of the allowed form.
    #[error("a login must be 1 to 32 characters of a-z, 0-9, '_', '.', '-' and begin with a letter or '_'")]
    Login,
    /// The login is the principal of link certificates.
    #[error("the login 'doorward-gateway' is reserved for the gateway's own certificates")]
    ReservedLogin,
    /// Not a workspace name of the allowed form.
    #[error(
        "a workspace name must be 1 to 253 characters of a-z, 0-9, '-' and '.', each part between dots beginning and ending with a letter or digit"
    )]
    WorkspaceName,
    /// Not a workspace UID of the allowed form.
    #[error("a workspace uid must be 1 to 64 characters of A-Z, a-z, 0-9 and '-'")]
    WorkspaceUid,
}

impl NameError {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Login => "login-malformed",
            Self::ReservedLogin => "login-reserved",
            Self::WorkspaceName => "workspace-name-malformed",
            Self::WorkspaceUid => "workspace-uid-malformed",
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The account that a session runs as: `[a-z_][a-z0-9_.-]{0,31}`, and not `doorward-gateway`.
    ///
    /// It is the one principal of a session certificate.
    Login, check_login
}

name! {
    /// A workspace's name: a DNS subdomain in lower case (RFC 1123), at most 253 characters.
    WorkspaceName, check_workspace_name
}

name! {
    /// What tells a workspace from a later one of the same name: `[A-Za-z0-9-]{1,64}`, for example a pod's UID.
    WorkspaceUid, check_workspace_uid
}

/// The name under which the wildcard block of our `ssh_config` asks for a workspace: another principal of its host certificate.
#[must_use]
pub fn wildcard_name(workspace: &WorkspaceName) -> String {
    format!("{workspace}.doorward")
}

/// Whether this is a pattern of workspaces' names as it may stand in an `ssh_config`: the beginning of a name of at least two
/// characters, without a dot, and `*`. What is wider would take a person's other hosts along.
#[must_use]
pub fn is_name_pattern(text: &str) -> bool {
    text.strip_suffix('*').is_some_and(|start| {
        let bytes = start.as_bytes();
        (2..=63).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    })
}

fn check_login(text: &str) -> Result<(), NameError> {
    let bytes = text.as_bytes();
    let first = bytes.first().ok_or(NameError::Login)?;
    let tail_ok = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    if bytes.len() > 32 || !matches!(first, b'a'..=b'z' | b'_') || !bytes.iter().all(tail_ok) {
        return Err(NameError::Login);
    }
    if text == GATEWAY_PRINCIPAL {
        return Err(NameError::ReservedLogin);
    }
    Ok(())
}

fn check_workspace_name(text: &str) -> Result<(), NameError> {
    let edge = |b: Option<&u8>| matches!(b, Some(b'a'..=b'z' | b'0'..=b'9'));
    let inner = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let label_ok = |label: &[u8]| edge(label.first()) && edge(label.last()) && label.iter().all(inner);
    if text.len() <= 253 && text.as_bytes().split(|b| *b == b'.').all(label_ok) {
        Ok(())
    } else {
        Err(NameError::WorkspaceName)
    }
}

fn check_workspace_uid(text: &str) -> Result<(), NameError> {
    let ok = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
    if (1..=64).contains(&text.len()) && text.as_bytes().iter().all(ok) {
        Ok(())
    } else {
        Err(NameError::WorkspaceUid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Vec<String> {
        let mut all: Vec<String> = [
            "",
            " ",
            "a b",
            "a,b",
            "*",
            "dev*",
            "?",
            "a?",
            "!root",
            "!",
            "a\0",
            "\0",
            "a\n",
            "\n",
            "a\r",
            "a\t",
            "../x",
            "a/b",
            "a\\b",
            "a:b",
            "a@b",
            "a=b",
            "a%b",
            "a;b",
            "$(id)",
            "`id`",
            "-a",
            ".a",
            "\u{430}lice",
            "аdmin",
            "ro\u{200b}ot",
            "ＲＯＯＴ",
            "é",
            "e\u{301}",
            "\u{202e}toor",
            "\u{7f}",
            "\u{80}",
        ]
        .map(str::to_owned)
        .to_vec();
        all.push("a".repeat(64 * 1024));
        all.push("a".repeat(254));
        all
    }

    #[test]
    fn hostile_logins_are_refused() {
        for text in hostile() {
            assert_eq!(Login::try_from(text.as_str()), Err(NameError::Login), "{text:?}");
        }
        for text in ["Root", "0a", "a".repeat(33).as_str()] {
            assert_eq!(Login::try_from(text), Err(NameError::Login), "{text:?}");
        }
        assert_eq!(Login::try_from("doorward-gateway"), Err(NameError::ReservedLogin));
    }

    #[test]
    fn plain_logins_are_taken() {
        for text in ["a", "_", "node", "dev.ops-1_x", "root", "a".repeat(32).as_str()] {
            assert_eq!(Login::try_from(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn hostile_workspace_names_are_refused() {
        for text in hostile() {
            assert_eq!(
                WorkspaceName::try_from(text.as_str()),
                Err(NameError::WorkspaceName),
                "{text:?}"
            );
        }
        for text in [
            "a..b", "a.", ".", "a-", "a.-b", "a-.b", "Devenv", "a_b", "..", "../../x",
        ] {
            assert_eq!(WorkspaceName::try_from(text), Err(NameError::WorkspaceName), "{text:?}");
        }
    }

    #[test]
    fn plain_workspace_names_are_taken() {
        for text in [
            "0",
            "devenv-0",
            "devenv-0.team.example",
            "a--b",
            "a".repeat(253).as_str(),
        ] {
            assert_eq!(WorkspaceName::try_from(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn patterns_are_narrow() {
        for text in ["devenv-*", "ws*", "a0-*"] {
            assert!(is_name_pattern(text), "{text}");
        }
        for text in [
            "",
            "*",
            "d*",
            "-a*",
            "devenv-",
            "devenv-**",
            "*-devenv",
            "dev*env*",
            "github.com*",
            "git.*",
            "DEV-*",
            "dev nv*",
            "dev'*",
            "dev\n*",
            "dev?*",
            "dev*\n",
            "!dev*",
        ] {
            assert!(!is_name_pattern(text), "{text:?}");
        }
        assert!(!is_name_pattern(&format!("{}*", "a".repeat(64))));
    }

    #[test]
    fn hostile_uids_are_refused() {
        for text in hostile().iter().map(String::as_str).filter(|t| *t != "-a") {
            assert_eq!(WorkspaceUid::try_from(text), Err(NameError::WorkspaceUid), "{text:?}");
        }
        assert!(WorkspaceUid::try_from("0f9a-AB").is_ok());
        assert!(WorkspaceUid::try_from("a".repeat(65)).is_err());
    }
}
