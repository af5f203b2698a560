//! The text of our ssh configuration.
//!
//! One plain `Host` block for each workspace, because editors list only those, and blocks with wildcards for the others: those
//! that were granted after the file was written, and those that the person may not enter, of which the gateway says so.
//! `*.doorward` is always there; the gateway may name patterns (`devenv-*`) of names that are its own. Why each line stands as it does:
//!
//! - `ProxyCommand` names the program absolutely, because editors start `ssh` without a usual `PATH`. A plain block
//!   names its workspace itself: no `%h`, `%n` or `%r` means that nothing typed on a command line, and no submodule URL of
//!   a repository, reaches a shell. The wildcard cannot do without `%n`; it stands between single quotes, and names with
//!   a character that could end them do not match the block. The program checks the name once more. There is no
//!   wildcard on Windows: a name would reach the command line of a program by no quoting that holds for all of them.
//! - `HostKeyAlias` is the workspace's name, which is the principal of its host certificate. Under the wildcard the name is
//!   `NAME.doorward`, which is a principal of that certificate as well.
//! - Our own known hosts, and no others: the certificate authority vouches for workspaces, and nothing else does.
//! - The stream is the credential, so the client shows no key and no password: login by `none` needs one packet, reads
//!   no key file and asks no agent. The agent stays usable for forwarding, which `IdentityAgent none` would end.
//! - `ServerAliveInterval 0`: the program owns liveness, and keepalives of SSH would end what a tunnel may resume.
//! - AES-GCM first: ChaCha20, the usual first choice, takes nearly twice the processor time on both ends.
//! - No `ControlMaster`, but on Windows, which has none, and where a person's own `auto` would break the connection. No
//!   `%C` anywhere: it is refused in a `ProxyCommand`.

use std::fmt::Write as _;
use std::path::Path;

use doorward_certs::{Login, WorkspaceName, is_name_pattern};

use super::{System, quote};
use crate::error::Error;
use crate::gateway::Workspace;
use crate::home::Home;
use crate::say;

/// The ending of names under the wildcard.
pub(crate) const SUFFIX: &str = ".doorward";
/// Keeps names out of a wildcard's block that could end the quotes around `%n`.
const NO_QUOTES: &str = " \"!*'*\" \"!*\\\\*\"";

/// What the configuration is made of.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    pub(super) system: System,
    pub(super) program: &'a Path,
    pub(super) home: &'a Home,
    pub(super) workspaces: &'a [Workspace],
    /// Patterns of names that are the gateway's.
    pub(super) names: &'a [String],
}

impl Blocks<'_> {
    /// The whole text. A workspace whose name or login is not one is left out, with a sentence.
    pub(super) fn write(&self) -> Result<String, Error> {
        let command = self.command()?;
        let known_hosts = quote::path(self.system, &self.home.known_hosts())?;
        let mut text = String::from(
            "# Written by `doorward config --write`, which writes it again: changes belong into ~/.ssh/config,\n\
             # below the line that includes this file.\n",
        );
        let mut logins = Vec::new();
        for workspace in self.workspaces {
            let name = WorkspaceName::try_from(workspace.name.as_str());
            let login = Login::try_from(workspace.login.as_str());
            let (Ok(name), Ok(login)) = (name, login) else {
                say::note(&format!(
                    "left out workspace {}: its name or login is not one",
                    workspace.name
                ));
                continue;
            };
            let _ = write!(
                text,
                "\nHost {name}\n  User {login}\n  HostKeyAlias {name}\n  ProxyCommand {command} connect {name}\n"
            );
            options(&mut text, self.system, &known_hosts);
            logins.push(login);
        }
        if self.system == System::Windows {
            return Ok(text);
        }
        let mut names: Vec<&str> = Vec::new();
        for name in self.names {
            if is_name_pattern(name) {
                names.push(name);
            } else {
                say::note(&format!("left out {name}: it is no pattern of workspaces' names"));
            }
        }
        if !names.is_empty() {
            let _ = writeln!(text, "\nHost {} \"!*.*\"{NO_QUOTES}", names.join(" "));
            self.wildcard(&mut text, &command, &known_hosts, &logins);
        }
        let _ = writeln!(text, "\nHost *{SUFFIX}{NO_QUOTES}");
        self.wildcard(&mut text, &command, &known_hosts, &logins);
        Ok(text)
    }

    /// What stands under a `Host` line that names no workspace.
    fn wildcard(&self, text: &mut String, command: &str, known_hosts: &str, logins: &[Login]) {
        // Where all logins are one, it is the best guess for the next workspace.
        if let Some(login) = logins
            .first()
            .filter(|first| logins.iter().all(|login| login.as_str() == first.as_str()))
        {
            let _ = writeln!(text, "  User {login}");
        }
        let _ = writeln!(text, "  ProxyCommand {command} connect '%n'");
        options(text, self.system, known_hosts);
    }

    fn command(&self) -> Result<String, Error> {
        let program = quote::word(self.system, self.program)?;
        if self.home.is_default() {
            return Ok(program);
        }
        Ok(format!(
            "{program} --home {}",
            quote::word(self.system, self.home.path())?
        ))
    }
}

fn options(text: &mut String, system: System, known_hosts: &str) {
    let nothing = match system {
        System::Unix => "/dev/null",
        System::Windows => known_hosts,
    };
    let _ = write!(
        text,
        "  UserKnownHostsFile {known_hosts}\n  \
           GlobalKnownHostsFile {nothing}\n  \
           StrictHostKeyChecking yes\n  \
           UpdateHostKeys no\n  \
           VerifyHostKeyDNS no\n  \
           CanonicalizeHostname no\n  \
           PubkeyAuthentication no\n  \
           PasswordAuthentication no\n  \
           KbdInteractiveAuthentication no\n  \
           GSSAPIAuthentication no\n  \
           HostbasedAuthentication no\n  \
           IdentityFile none\n  \
           Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com\n  \
           Compression no\n  \
           ServerAliveInterval 0\n"
    );
    if system == System::Windows {
        text.push_str("  ControlMaster no\n");
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::process::Command;

    use super::*;

    fn workspace(name: &str, login: &str) -> Workspace {
        Workspace {
            name: name.into(),
            login: login.into(),
            owner: None,
            state: "running".into(),
            reason: None,
            last_use: None,
            keep_until: None,
            keep_longest: None,
            stops_at: None,
            agent_version: None,
            capabilities: vec![],
        }
    }

    /// What `ssh -G` makes of a configuration for a host.
    fn resolved(config: &str, host: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, config).unwrap();
        let out = Command::new("ssh")
            .arg("-G")
            .arg("-F")
            .arg(&file)
            .arg(host)
            .output()
            .unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn ssh_reads_what_we_mean() {
        let dir = tempfile::Builder::new().prefix("with a space").tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        let hostile = [
            workspace("devenv-0", "node"),
            workspace("x\n  ProxyCommand evil", "node"),
            workspace("d", "a b"),
        ];
        let program = Path::new("/opt/door ward/doorward");
        let text = Blocks {
            system: System::Unix,
            program,
            home: &home,
            workspaces: &hostile,
            names: &["devenv-*".into(), "*".into(), "git*.com".into(), "a*\nHost *".into()],
        }
        .write()
        .unwrap();
        assert!(!text.contains("evil") && !text.contains("a b"), "{text}");
        assert!(
            !text.contains("%h") && !text.contains("%r") && !text.contains("%C"),
            "{text}"
        );

        let has = |lines: &[String], line: &str| lines.iter().any(|found| found == line);
        let plain = resolved(&text, "devenv-0");
        let at = dir.path().display();
        assert!(
            has(
                &plain,
                &format!("proxycommand \"/opt/door ward/doorward\" --home \"{at}\" connect devenv-0")
            ),
            "{plain:#?}"
        );
        for line in [
            "user node",
            "hostkeyalias devenv-0",
            "stricthostkeychecking true",
            "serveraliveinterval 0",
        ] {
            assert!(has(&plain, line), "{line}: {plain:#?}");
        }
        assert!(
            has(&plain, &format!("userknownhostsfile {at}/known_hosts")),
            "{plain:#?}"
        );
        assert!(
            !plain
                .iter()
                .any(|line| line.starts_with("identityagent") || line.starts_with("controlpath"))
        );

        let wild = resolved(&text, "devenv-9.doorward");
        assert!(
            has(
                &wild,
                &format!("proxycommand \"/opt/door ward/doorward\" --home \"{at}\" connect '%n'")
            ),
            "{wild:#?}"
        );
        let pattern = resolved(&text, "devenv-9");
        let command = format!("proxycommand \"/opt/door ward/doorward\" --home \"{at}\" connect '%n'");
        assert!(
            has(&pattern, &command) && has(&pattern, "stricthostkeychecking true"),
            "{pattern:#?}"
        );
        let others = [
            "github.com",
            "devenv",
            "devenv-9.example.com",
            "devenv-'9",
            "devenv-\\9",
            "a'b.doorward",
            "a\\b.doorward",
        ];
        for other in others {
            assert!(
                !resolved(&text, other)
                    .iter()
                    .any(|line| line.starts_with("proxycommand")),
                "{other}"
            );
        }
    }

    /// Read by the same parser, which on Windows is older or newer, but not another.
    #[test]
    fn windows_has_slashes_no_wildcard_and_no_master() {
        let home = Home::find(Some(Path::new("//server/people/Zoë O'Hara"))).unwrap();
        let text = |program: &str| {
            let blocks = Blocks {
                system: System::Windows,
                program: Path::new(program),
                home: &home,
                workspaces: &[workspace("devenv-0", "node")],
                names: &["devenv-*".into()],
            };
            blocks.write().unwrap()
        };
        let quoted = text(r"C:\Program Files\doorward\doorward.exe");
        assert!(
            !quoted.contains('\\') && !quoted.contains('*') && !quoted.contains("/dev/null"),
            "{quoted}"
        );
        let lines = resolved(&quoted, "devenv-0");
        for line in [
            r#"proxycommand "C:/Program Files/doorward/doorward.exe" --home "//server/people/Zoë O'Hara" connect devenv-0"#,
            "userknownhostsfile //server/people/Zoë O'Hara/known_hosts",
            "globalknownhostsfile //server/people/Zoë O'Hara/known_hosts",
            "controlmaster false",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
        }
        let plain = text(r"C:\bin\doorward.exe");
        assert!(
            plain.contains("\n  ProxyCommand C:/bin/doorward.exe --home \"//"),
            "{plain}"
        );
    }

    #[test]
    fn the_login_of_the_wildcard_is_the_one_that_all_have() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        let wild = |workspaces: &[Workspace]| {
            let text = Blocks {
                system: System::Unix,
                program: Path::new("/d"),
                home: &home,
                workspaces,
                names: &[],
            }
            .write()
            .unwrap();
            text.split("Host *").nth(1).unwrap().contains("User ")
        };
        assert!(wild(&[workspace("a", "node"), workspace("b", "node")]));
        assert!(!wild(&[workspace("a", "node"), workspace("b", "coder")]));
        assert!(!wild(&[]));
    }
}
