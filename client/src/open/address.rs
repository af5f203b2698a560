//! What editors call a folder in a workspace.

use std::fmt::Write as _;

use doorward_certs::{Login, WorkspaceName};

/// The longest folder, in bytes (`PATH_MAX`).
const LONGEST: usize = 4096;

/// Where to.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) workspace: &'a WorkspaceName,
    pub(super) login: &'a Login,
    /// Absolute; without one the editor asks.
    pub(super) folder: Option<&'a str>,
}

impl Target<'_> {
    /// The host as VS Code and its family name it: a `Host` block of the ssh configuration, which has the rest.
    pub(super) fn remote(&self) -> String {
        format!("ssh-remote+{}", self.workspace)
    }

    /// The folder, or workspace file, as their command line takes it.
    pub(super) fn folder_uri(&self) -> Option<String> {
        let folder = self.folder?;
        Some(format!("vscode-remote://{}{}", self.remote(), encoded(folder)))
    }

    /// The address that the family's members register with the system, each under its own scheme.
    pub(super) fn link(&self, scheme: &str) -> String {
        let folder = self.folder.map(encoded).unwrap_or_default();
        format!("{scheme}://vscode-remote/{}{folder}", self.remote())
    }

    /// The address of JetBrains Gateway: it fills in its form for an SSH connection. Host and port are those of the
    /// ssh configuration, which it reads; it installs its IDE itself.
    pub(super) fn gateway(&self) -> String {
        let mut link = format!(
            "jetbrains-gateway://connect#type=ssh&deploy=false&host={}&port=22&user={}",
            self.workspace,
            encoded(self.login.as_str()),
        );
        if let Some(folder) = self.folder {
            link.push_str("&projectPath=");
            link.push_str(&encoded(folder));
        }
        link
    }
}

/// A folder as a person names it.
pub(super) fn folder(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} is no folder in a workspace: it must begin with /"));
    }
    if text.len() > LONGEST || text.contains(char::is_control) {
        return Err("a folder is at most 4096 bytes long and holds no control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// Percent-encoded but for what RFC 3986 calls unreserved, and slashes.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(folder: Option<&str>) -> [String; 3] {
        let target = Target {
            workspace: &WorkspaceName::try_from("devenv-0").unwrap(),
            login: &Login::try_from("node").unwrap(),
            folder,
        };
        [
            target.folder_uri().unwrap_or_default(),
            target.link("vscode"),
            target.gateway(),
        ]
    }

    #[test]
    fn a_plain_folder_stays_as_it_is() {
        assert_eq!(
            addresses(Some("/workspace/app")),
            [
                "vscode-remote://ssh-remote+devenv-0/workspace/app",
                "vscode://vscode-remote/ssh-remote+devenv-0/workspace/app",
                "jetbrains-gateway://connect#type=ssh&deploy=false&host=devenv-0&port=22&user=node&projectPath=/workspace/app",
            ]
        );
    }

    #[test]
    fn without_a_folder_none_is_named() {
        assert_eq!(
            addresses(None),
            [
                "",
                "vscode://vscode-remote/ssh-remote+devenv-0",
                "jetbrains-gateway://connect#type=ssh&deploy=false&host=devenv-0&port=22&user=node",
            ]
        );
    }

    #[test]
    fn no_character_of_a_folder_means_anything() {
        let folder = "/a b/#1?&x=%41\"';`$(é)\\";
        let encoded = "/a%20b/%231%3F%26x%3D%2541%22%27%3B%60%24%28%C3%A9%29%5C";
        for address in addresses(Some(folder)) {
            assert!(address.ends_with(encoded), "{address}");
        }
        assert_eq!(super::folder(folder).unwrap(), folder);
        for bad in [
            "",
            "workspace",
            "~/x",
            "C:\\x",
            "-rf",
            "/a\nb",
            "/\u{9b}",
            &format!("/{}", "x".repeat(4096)),
        ] {
            assert!(super::folder(bad).is_err(), "{bad:?}");
        }
    }
}
