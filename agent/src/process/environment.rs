//! The environment of a session's processes: as sshd makes it, on top of the pod's own.
//!
//! What a client sends is taken by an allow-list. Names that make a loader or a shell run other code are never taken,
//! whatever the configuration lists.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::Account;

/// Where a session comes from, for `SSH_CONNECTION` and `SSH_CLIENT`.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The client, as the gateway says.
    pub(crate) client: Option<SocketAddr>,
    /// The address on which the agent was reached.
    pub(crate) agent: SocketAddr,
}

/// Builds the environment of a process.
///
/// From weakest to strongest: `/etc/environment` and `/etc/default/locale`, the environment of the container (the agent's own, or that of the
/// container that is entered), what the session sets, what the client sent and was allowed to.
pub(crate) fn environment(
    account: &Account,
    origin: &Origin,
    terminal: Option<(&Path, &OsStr)>,
    client: &[(String, Vec<u8>)],
) -> Vec<(OsString, OsString)> {
    let etc = ETC.map(|file| std::fs::read(file).unwrap_or_default()).join(&b'\n');
    match &account.root {
        Some(root) => {
            let theirs = root.environment.iter().cloned();
            assemble(&etc, theirs, account, origin, terminal, client)
        }
        None => assemble(&etc, std::env::vars_os(), account, origin, terminal, client),
    }
}

fn assemble(
    etc: &[u8],
    own: impl Iterator<Item = (OsString, OsString)>,
    account: &Account,
    origin: &Origin,
    terminal: Option<(&Path, &OsStr)>,
    client: &[(String, Vec<u8>)],
) -> Vec<(OsString, OsString)> {
    let mut all = Variables::default();
    for line in etc.split(|byte| *byte == b'\n') {
        if let Some((name, value)) = etc_line(line) {
            all.set(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
    }
    for (name, value) in own {
        if is_inherited(name.as_bytes()) {
            all.set(&name, &value);
        }
    }
    if !all.has(OsStr::new("PATH")) {
        let path = if account.uid.is_root() { ROOT_PATH } else { USER_PATH };
        all.set("PATH", path);
    }
    all.set("USER", &account.name);
    all.set("LOGNAME", &account.name);
    all.set("HOME", &account.home);
    all.set("SHELL", &account.shell);
    all.set("MAIL", Path::new("/var/mail").join(&account.name));
    let (address, port) = match origin.client {
        Some(client) => (client.ip().to_canonical().to_string(), client.port()),
        None => ("UNKNOWN".to_owned(), 65_535),
    };
    let agent = origin.agent;
    all.set("SSH_CLIENT", format!("{address} {port} {}", agent.port()));
    all.set(
        "SSH_CONNECTION",
        format!("{address} {port} {} {}", agent.ip().to_canonical(), agent.port()),
    );
    if let Some((path, term)) = terminal {
        all.set("SSH_TTY", path);
        if !term.is_empty() {
            all.set("TERM", term);
        }
    }
    for (name, value) in client {
        all.set(name, OsString::from_vec(value.clone()));
    }
    all.0
}

/// Whether a variable that a client sends is taken. `listed` is what the configuration adds; a `*` at the end of an
/// entry stands for any rest.
pub(crate) fn accepts(name: &str, listed: &[String]) -> bool {
    let plain = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if !plain || NEVER.iter().any(|pattern| matches(pattern, name)) {
        return false;
    }
    ALWAYS.iter().any(|pattern| matches(pattern, name)) || listed.iter().any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// Variables in the order in which they were first set, each once.
#[derive(Default)]
struct Variables(Vec<(OsString, OsString)>);

impl Variables {
    fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn has(&self, name: &OsStr) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

fn is_inherited(name: &[u8]) -> bool {
    !(name.starts_with(b"DOORWARD_") || name.starts_with(b"SSH_") || name.starts_with(b"SUDO_") || name == b"TERM")
}

/// One line of `/etc/environment` (pam_env(8)): `NAME=value`, perhaps with `export` before and quotes around.
pub(crate) fn etc_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii();
    let line = line.strip_prefix(b"export ").unwrap_or(line).trim_ascii_start();
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (line.get(..equals)?, line.get(equals + 1..)?);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.is_empty() || !name.iter().all(is_name) || value.contains(&0) {
        return None;
    }
    let quoted = |quote: u8| value.strip_prefix(&[quote])?.strip_suffix(&[quote]);
    Some((name, quoted(b'"').or_else(|| quoted(b'\'')).unwrap_or(value)))
}

/// Where a system keeps variables for everybody (pam_env(8)); the second is Debian's.
const ETC: [&str; 2] = ["/etc/environment", "/etc/default/locale"];
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/games";
const LONGEST_NAME: usize = 256;
const ALWAYS: [&str; 9] = [
    "LANG",
    "LANGUAGE",
    "LC_*",
    "COLORTERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "NO_COLOR",
    "GIT_PROTOCOL",
    "TZ",
];
/// What would run other code, or move what the session itself sets.
const NEVER: [&str; 26] = [
    "LD_*",
    "DYLD_*",
    "BASH_ENV",
    "BASH_FUNC_*",
    "BASHOPTS",
    "SHELLOPTS",
    "ENV",
    "IFS",
    "PS4",
    "PROMPT_COMMAND",
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "MAIL",
    "SSH_*",
    "DOORWARD_*",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "NODE_OPTIONS",
    "GIT_SSH*",
    "GCONV_PATH",
    "TMPDIR",
];

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    fn account() -> Account {
        Account {
            name: "node".into(),
            uid: Uid::from_raw(1000),
            gid: Gid::from_raw(1000),
            groups: Vec::new(),
            home: "/home/node".into(),
            shell: "/bin/bash".into(),
            switch: false,
            root: None,
        }
    }

    fn built(etc: &str, own: &[(&str, &str)], client: &[(&str, &str)]) -> Vec<(String, String)> {
        let origin = Origin {
            client: Some("[::ffff:10.0.0.9]:50000".parse().unwrap()),
            agent: "10.1.2.3:7001".parse().unwrap(),
        };
        let own = own.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let client: Vec<_> = client
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec()))
            .collect();
        let tty = (Path::new("/dev/pts/7"), OsStr::new("xterm"));
        assemble(etc.as_bytes(), own, &account(), &origin, Some(tty), &client)
            .into_iter()
            .map(|(n, v)| (n.into_string().unwrap(), v.into_string().unwrap()))
            .collect()
    }

    fn value<'a>(all: &'a [(String, String)], name: &str) -> Option<&'a str> {
        all.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn a_session_gets_what_sshd_would_set() {
        let all = built("", &[], &[]);
        for (name, expected) in [
            ("USER", "node"),
            ("LOGNAME", "node"),
            ("HOME", "/home/node"),
            ("SHELL", "/bin/bash"),
            ("MAIL", "/var/mail/node"),
            ("PATH", USER_PATH),
            ("SSH_CLIENT", "10.0.0.9 50000 7001"),
            ("SSH_CONNECTION", "10.0.0.9 50000 10.1.2.3 7001"),
            ("SSH_TTY", "/dev/pts/7"),
            ("TERM", "xterm"),
        ] {
            assert_eq!(value(&all, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn the_stronger_source_wins_and_our_own_names_stay_inside() {
        let own = [
            ("PATH", "/pod/bin"),
            ("HOME", "/root"),
            ("DOORWARD_X", "1"),
            ("SSH_AUTH_SOCK", "/s"),
            ("K", "pod"),
        ];
        let all = built(
            "PATH=/etc/bin\nexport LANG=\"C.UTF-8\"\n# x\nK=etc\nbad name=1\n",
            &own,
            &[("LANG", "de_DE")],
        );
        assert_eq!(value(&all, "PATH"), Some("/pod/bin"));
        assert_eq!(value(&all, "K"), Some("pod"));
        assert_eq!(value(&all, "HOME"), Some("/home/node"));
        assert_eq!(value(&all, "LANG"), Some("de_DE"));
        assert_eq!(value(&all, "DOORWARD_X"), None);
        assert_eq!(value(&all, "SSH_AUTH_SOCK"), None);
        assert_eq!(value(&all, "bad name"), None);
    }

    #[test]
    fn what_a_client_may_send_is_a_list() {
        let listed = [
            "FOO".to_owned(),
            "MY_*".to_owned(),
            "LD_PRELOAD".to_owned(),
            "*".to_owned(),
        ];
        for name in ["LANG", "LC_ALL", "LC_", "COLORTERM", "GIT_PROTOCOL"] {
            assert!(accepts(name, &[]), "{name}");
        }
        for name in ["FOO", "MY_X", "ANYTHING"] {
            assert!(!accepts(name, &[]), "{name}");
            assert!(accepts(name, &listed), "{name}");
        }
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "DYLD_INSERT_LIBRARIES",
            "BASH_FUNC_ls%%",
            "ENV",
            "PATH",
            "SSH_AUTH_SOCK",
            "",
            "A=B",
            "A B",
            "1A",
            "A\0",
            "É",
        ] {
            assert!(!accepts(name, &listed), "{name:?}");
        }
    }
}
