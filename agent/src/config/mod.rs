//! The agent's configuration: one TOML file, read whole, judged whole, before a port is bound.

mod container;
mod denied;
mod enrol;
mod table;

use std::borrow::Cow;
use std::env::VarError;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward_certs::{CaKeys, Login, WorkspaceName, WorkspaceUid};

pub use crate::container::Container;
pub use crate::mask::Sources;
use crate::process::{Ending, Overrides};
pub use denied::Denied;
pub use enrol::{AtVault, Enrol};
use table::{Document, Section};

/// A configuration in which nothing is wrong.
#[derive(Debug, Clone)]
pub struct Config {
    /// Keys that may sign link and session certificates.
    pub user_ca: CaKeys,
    /// Keys that may sign host certificates.
    pub host_ca: CaKeys,
    /// The workspaces that this agent serves; at least one.
    pub workspaces: Vec<Workspace>,
    /// Bounds.
    pub limits: Limits,
    /// Where the secrets are that are not recorded.
    pub masks: Sources,
    /// Which other container of the pod sessions are in, if the agent is a sidecar.
    pub container: Option<Container>,
    /// How the pod proves which one it is, if it is in a cluster.
    pub enrol: Option<Enrol>,
    /// The executable that serves files in a process of its own: the running one. No key of the file names it.
    pub program: PathBuf,
}

/// One workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Its name.
    pub name: WorkspaceName,
    /// What tells it from another of the same name.
    pub uid: WorkspaceUid,
    /// Where the gateway's links are accepted.
    pub listen: SocketAddr,
    /// The SSH host key, made where there is none.
    pub host_key: PathBuf,
    /// The host certificate, written by enrolment.
    pub host_certificate: PathBuf,
    /// A one-time token that proves who we are where there is no certificate yet.
    pub join_token_file: Option<PathBuf>,
    /// The only login that sessions may have, if one is named; also what the agent's own uid answers to where it has
    /// no passwd entry.
    pub login: Option<Login>,
    /// Home folder in place of the account's.
    pub home: Option<PathBuf>,
    /// Shell in place of the account's.
    pub shell: Option<PathBuf>,
    /// Environment variables that clients may send beside the usual ones.
    pub accept_env: Vec<String>,
    /// What becomes of running processes when their channel or session ends.
    pub at_end: Ending,
    /// Addresses that no forward reaches, whatever is granted.
    pub never_forward_to: Vec<Denied>,
}

/// Bounds of the agent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Threads that serve. Half of the processors by default, one to four: a keystroke passes several tasks, and
    /// handing it from thread to thread costs more than another thread gains.
    pub threads: usize,
    /// Sessions at once, over all workspaces.
    pub sessions: usize,
    /// Record bytes of ended sessions that are held until a gateway takes them.
    pub leftover_bytes: usize,
    /// How long they are held.
    pub leftover_time: Duration,
    /// How long a client may take to log in.
    pub login_time: Duration,
    /// Between SIGHUP and SIGKILL.
    pub grace: Duration,
    /// Record bytes that may be unacknowledged before output waits. 0 shows nothing that is not durable.
    pub record_unacked: usize,
    /// How long an acknowledgement may take before the session ends.
    pub record_stall: Duration,
    /// Channels of one connection that may end before their client closes them, which is nearly every one: the SSH
    /// library keeps some 3.5 KB of each until the connection ends. OpenSSH's client that is refused a channel of a
    /// shared connection makes a connection of its own.
    pub channels: usize,
    /// When the agent asks for new SSH keys; a client may do so at any time.
    pub rekey: Rekey,
    /// Bytes in one minute from which a channel without a terminal counts as use of the workspace. Less is taken for the
    /// heartbeat of an editor that nobody looks at.
    pub use_floor: u64,
}

/// When the agent asks for new keys (RFC 4253, 9).
///
/// By default later than any client does, and never by time, as with sshd. For while the agent waits for the client's
/// answer, the SSH library takes no more than two windows (4 MiB) of what is under way, over all channels, and ends the
/// connection beyond; whereas a client that asks has nothing under way. With AES-GCM and ChaCha20 as SSH uses them no
/// nonce comes again however long a key lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rekey {
    /// After so many bytes in one direction.
    pub bytes: usize,
    /// After so much time.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            threads: (processors / 2).clamp(1, 4),
            sessions: 512,
            leftover_bytes: 64 * 1024 * 1024,
            leftover_time: Duration::from_secs(24 * 3600),
            login_time: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            record_unacked: 4 * 1024 * 1024,
            record_stall: Duration::from_secs(30),
            channels: 16 * 1024,
            rekey: Rekey {
                bytes: MOST_REKEY,
                time: Duration::from_secs(10 * 365 * 24 * 3600),
            },
            use_floor: 8 * 1024,
        }
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where none is to blame.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.text),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.text),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Config {
    /// Reads and judges a configuration file. Relative paths are relative to its folder.
    ///
    /// # Errors
    /// All [`Faults`] at once.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        let alone = |text| {
            Faults(vec![Fault {
                file: file.to_owned(),
                line: 0,
                text,
            }])
        };
        let text = std::fs::read_to_string(file).map_err(|error| alone(format!("cannot be read: {error}")))?;
        Self::parse(file, &text)
    }

    /// Judges the text of a configuration file.
    ///
    /// # Errors
    /// All [`Faults`] at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Faults> {
        let document = Document::new(file);
        let read = document.read(text).and_then(|mut top| {
            let user_ca = keys(&mut top, "user-ca-file");
            let host_ca = keys(&mut top, "host-ca-file");
            let limits = limits(top.table("limits"));
            let mut masks = masks(top.table("mask"));
            let enrol = top.table("enrol").map(enrol::read);
            // Whoever prints it shows what this pod is believed by.
            masks
                .files
                .extend(enrol.iter().flatten().map(|enrol| enrol.token_file().to_owned()));
            let container = top.table("container").map(container::read);
            let mut workspaces = Vec::new();
            for section in top.tables("workspace") {
                workspaces.push(workspace(section));
            }
            if workspaces.is_empty() {
                top.fault("there is no [[workspace]]");
            }
            for one in workspaces.iter().flatten().filter(|_| enrol.is_some()) {
                if one.join_token_file.is_some() {
                    top.fault(format!(
                        "'{}' has a join token, and there is [enrol]: one or the other",
                        one.name
                    ));
                }
            }
            top.finish();
            distinct(&document, &workspaces);
            Some(Self {
                user_ca: user_ca?,
                host_ca: host_ca?,
                limits,
                masks,
                container: match container {
                    Some(container) => Some(container?),
                    None => None,
                },
                enrol: match enrol {
                    Some(enrol) => Some(enrol?),
                    None => None,
                },
                program: PathBuf::from("/proc/self/exe"),
                workspaces: workspaces.into_iter().collect::<Option<Vec<_>>>()?,
            })
        });
        let faults = document.into_faults();
        match read {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(Faults(faults)),
        }
    }
}

fn keys(top: &mut Section<'_>, key: &str) -> Option<CaKeys> {
    top.required(key, |text, section| {
        let path = section.path(text);
        let lines =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        lines
            .parse::<CaKeys>()
            .map_err(|error| format!("{}: {error}", path.display()))
    })
}

fn limits(section: Option<Section<'_>>) -> Limits {
    let mut limits = Limits::default();
    let Some(mut section) = section else { return limits };
    let count = |text: &str| text.parse::<usize>().map_err(|_| "must be a whole number".to_owned());
    let time = |text: &str| humantime::parse_duration(text).map_err(|error| format!("is no duration: {error}"));
    let threads = |text: &str| match text.parse::<usize>() {
        Ok(threads @ 1..=64) => Ok(threads),
        _ => Err("must be a number from 1 to 64".to_owned()),
    };
    if let Some(threads) = section.number("threads", threads) {
        limits.threads = threads;
    }
    if let Some(sessions) = section.number("sessions", count) {
        limits.sessions = sessions;
    }
    if let Some(bytes) = section.number("leftover-bytes", count) {
        limits.leftover_bytes = bytes;
    }
    if let Some(bytes) = section.number("record-unacked-bytes", count) {
        limits.record_unacked = bytes;
    }
    if let Some(channels) = section.number("channels-per-connection", count) {
        limits.channels = channels;
    }
    if let Some(bytes) = section.number("use-floor-bytes", count) {
        limits.use_floor = bytes as u64;
    }
    let rekey_bytes = |text: &str| match text.parse::<usize>() {
        Ok(bytes @ LEAST_REKEY..=MOST_REKEY) => Ok(bytes),
        _ => Err(format!("must be a number from {LEAST_REKEY} to {MOST_REKEY}")),
    };
    if let Some(bytes) = section.number("rekey-bytes", rekey_bytes) {
        limits.rekey.bytes = bytes;
    }
    for (key, place) in [
        ("leftover-time", &mut limits.leftover_time),
        ("login-time", &mut limits.login_time),
        ("grace", &mut limits.grace),
        ("record-stall", &mut limits.record_stall),
        ("rekey-time", &mut limits.rekey.time),
    ] {
        if let Some(value) = section.optional(key, |text, _| time(text)) {
            *place = value;
        }
    }
    section.finish();
    limits
}

fn masks(section: Option<Section<'_>>) -> Sources {
    let mut sources = Sources::default();
    let Some(mut section) = section else { return sources };
    if let Some(environment) = section.flag("environment") {
        sources.environment = environment;
    }
    sources.except = section.strings("except");
    let files = section.strings("files");
    sources.files.extend(files.iter().map(|text| section.path(text)));
    section.finish();
    sources
}

fn workspace(mut section: Section<'_>) -> Option<Workspace> {
    let name = section.required("name", |text, _| {
        WorkspaceName::try_from(of_pod(text)?.as_ref()).map_err(|error| error.to_string())
    });
    let uid = section.required("uid", |text, _| {
        WorkspaceUid::try_from(of_pod(text)?.as_ref()).map_err(|error| error.to_string())
    });
    let listen = section.required("listen", |text, _| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("'{text}' is no address of the form 127.0.0.1:7001"))
    });
    let host_key = section.required("host-key", |text, section| host_key(section.path(text)));
    let host_certificate = section.required("host-certificate", |text, section| Ok(section.path(text)));
    let join_token_file = section.optional("join-token-file", |text, section| Ok(section.path(text)));
    let login = section.optional("login", |text, _| {
        Login::try_from(of_pod(text)?.as_ref()).map_err(|error| error.to_string())
    });
    let home = section.optional("home", |text, section| Ok(section.path(text)));
    let shell = section.optional("shell", |text, section| Ok(section.path(text)));
    let accept_env = section.strings("accept-env");
    let never_forward_to = section.strings("never-forward-to");
    let never_forward_to: Vec<_> = never_forward_to.iter().map(|text| Denied::parse(text)).collect();
    for fault in never_forward_to.iter().filter_map(|denied| denied.as_ref().err()) {
        section.fault(format!("never-forward-to: {fault}"));
    }
    let at_end = section.optional("at-end", |text, _| match text {
        "hang-up" => Ok(Ending::HangUp),
        "leave" => Ok(Ending::Leave),
        "kill" => Ok(Ending::Kill),
        _ => Err(format!("'{text}' is none of 'hang-up', 'leave' and 'kill'")),
    });
    section.finish();
    Some(Workspace {
        name: name?,
        uid: uid?,
        listen: listen?,
        host_key: host_key?,
        host_certificate: host_certificate?,
        join_token_file,
        login,
        home,
        shell,
        accept_env,
        at_end: at_end.unwrap_or_default(),
        never_forward_to: never_forward_to.into_iter().flatten().collect(),
    })
}

/// `$NAME` stands for that variable of the agent's: pods of one template are told apart by what the kubelet puts there.
fn of_pod(text: &str) -> Result<Cow<'_, str>, String> {
    let Some(name) = text.strip_prefix('$') else {
        return Ok(text.into());
    };
    match std::env::var(name) {
        Ok(value) => Ok(value.into()),
        Err(VarError::NotPresent) => Err(format!(
            "there is no variable '{}' in the environment",
            name.escape_debug()
        )),
        Err(VarError::NotUnicode(_)) => Err(format!("the variable '{}' is not UTF-8", name.escape_debug())),
    }
}

/// Bytes under one key: fewer would be nothing but key exchanges, more than four times OpenSSH's own bound is no use.
const LEAST_REKEY: usize = 64 * 1024;
const MOST_REKEY: usize = 1 << 38;

/// A key that is there must be usable; one that is not there is made at the start.
fn host_key(path: PathBuf) -> Result<PathBuf, String> {
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(path),
        _ => match doorward_certs::key::load(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Two workspaces must not answer to one name, one address or one certificate file.
fn distinct(document: &Document, workspaces: &[Option<Workspace>]) {
    let all: Vec<_> = workspaces.iter().flatten().collect();
    for (index, one) in all.iter().enumerate() {
        for other in all.iter().skip(index + 1) {
            if one.name == other.name {
                document.fault(0, format!("two workspaces are named '{}'", one.name));
            }
            if one.listen == other.listen && one.listen.port() != 0 {
                document.fault(0, format!("two workspaces listen on {}", one.listen));
            }
            if one.host_key == other.host_key || one.host_certificate == other.host_certificate {
                document.fault(
                    0,
                    format!("'{}' and '{}' share a key or certificate file", one.name, other.name),
                );
            }
        }
    }
}

impl Workspace {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            login: self.login.as_ref().map(|login| login.as_str().to_owned()),
            home: self.home.clone(),
            shell: self.shell.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["user-ca", "host-ca"] {
            let key = doorward_certs::HostKey::generate().unwrap();
            std::fs::write(folder.path().join(name), key.public_key().to_openssh().unwrap()).unwrap();
        }
        folder
    }

    pub(super) const GOOD: &str = "user-ca-file = 'user-ca'\nhost-ca-file = 'host-ca'\n[limits]\nsessions = 9\ngrace = '2s'\n\
        [[workspace]]\nname = 'devenv-0'\nuid = 'u-0'\nlisten = '127.0.0.1:0'\nhost-key = 'k0'\n\
        host-certificate = 'c0'\naccept-env = ['FOO', 'BAR_*']\nat-end = 'kill'\n\
        never-forward-to = ['10.0.0.0/8']\n";

    pub(super) fn faults(text: &str) -> Vec<String> {
        let folder = folder();
        let file = folder.path().join("agent.toml");
        let faults = Config::parse(&file, text).unwrap_err();
        let folder = format!("{}/", folder.path().display());
        faults
            .0
            .iter()
            .map(|fault| fault.to_string().replace(&folder, ""))
            .collect()
    }

    #[test]
    fn a_good_file_is_read_with_its_defaults() {
        let folder = folder();
        let config = Config::parse(&folder.path().join("agent.toml"), GOOD).unwrap();
        let workspace = &config.workspaces[0];
        assert_eq!(workspace.host_key, folder.path().join("k0"));
        assert_eq!(workspace.accept_env, ["FOO", "BAR_*"]);
        assert_eq!(workspace.at_end, Ending::Kill);
        assert_eq!(workspace.never_forward_to, [Denied::parse("10.0.0.0/8").unwrap()]);
        assert_eq!(
            (config.limits.sessions, config.limits.grace),
            (9, Duration::from_secs(2))
        );
        assert_eq!(config.limits.login_time, Duration::from_secs(30));
    }

    #[test]
    fn what_differs_from_pod_to_pod_may_come_from_the_environment() {
        let folder = folder();
        let file = folder.path().join("agent.toml");
        // A variable that cargo sets for every test.
        let text = GOOD.replace("'u-0'", "'$CARGO_PKG_NAME'");
        let config = Config::parse(&file, &text).unwrap();
        assert_eq!(config.workspaces[0].uid.as_str(), env!("CARGO_PKG_NAME"));
        let all = faults(&GOOD.replace("'devenv-0'", "'$NO_SUCH_VARIABLE'"));
        assert_eq!(
            all,
            ["agent.toml:7: name: there is no variable 'NO_SUCH_VARIABLE' in the environment"]
        );
        let all = faults(&GOOD.replace("'devenv-0'", "'$CARGO_PKG_LICENSE'"));
        assert!(all[0].contains("a workspace name must"), "{all:?}");
    }

    #[test]
    fn all_faults_come_at_once_with_their_lines() {
        let text = "user-ca-file = 'missing'\nhost-ca-file = 7\nsurprise = 1\n[limits]\nsessions = 'many'\n\
            [[workspace]]\nname = 'Bad Name'\nuid = 'u'\nlisten = 'nowhere'\nhost-key = 'k'\nshel = '/bin/sh'\n\
            never-forward-to = ['everywhere']\n";
        let all = faults(text);
        for expected in [
            "agent.toml:1: user-ca-file: cannot read missing",
            "agent.toml:2: host-ca-file: must be a string",
            "agent.toml:3: unknown key 'surprise'",
            "agent.toml:5: sessions: must be a whole number",
            "agent.toml:7: name: a workspace name must",
            "agent.toml:9: listen: 'nowhere' is no address",
            "agent.toml:11: unknown key 'shel'",
            "agent.toml:6: host-certificate is missing",
            "agent.toml:6: never-forward-to: 'everywhere' is no address",
        ] {
            assert!(
                all.iter().any(|fault| fault.starts_with(expected)),
                "{expected} is not among {all:#?}"
            );
        }
        assert_eq!(all.len(), 9, "{all:#?}");
    }

    #[test]
    fn a_sidecar_names_the_container_that_sessions_are_in() {
        let folder = folder();
        let read = |text: &str| Config::parse(&folder.path().join("agent.toml"), &format!("{GOOD}[container]\n{text}"));
        let only = read("enter = '*'\n").unwrap().container.unwrap();
        assert_eq!((only.program, only.otherwise_own), (None, false));
        let named = read("enter = 'node'\notherwise = 'own'\n").unwrap().container.unwrap();
        assert_eq!((named.program.as_deref(), named.otherwise_own), (Some("node"), true));
        for bad in [
            "",
            "enter = ''",
            "enter = '*'\notherwise = 'x'",
            "enter = '*'\nother = 'x'",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_one_fault_with_a_line() {
        let all = faults("user-ca-file = 'a'\nhost ca = [\n");
        assert!(all[0].starts_with("agent.toml:2: "), "{all:?}");
        assert_eq!(faults("").last().unwrap(), "agent.toml: there is no [[workspace]]");
    }

    #[test]
    fn workspaces_must_be_told_apart() {
        let again = GOOD.split_once("[[workspace]]").unwrap().1;
        let all = faults(&format!("{GOOD}[[workspace]]{again}"));
        assert!(
            all.iter()
                .any(|fault| fault.contains("two workspaces are named 'devenv-0'")),
            "{all:?}"
        );
        assert!(
            all.iter()
                .any(|fault| fault.contains("share a key or certificate file")),
            "{all:?}"
        );
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_before_anything_is_bound() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let key = folder.path().join("k0");
        doorward_certs::key::load_or_create(&key).unwrap();
        let file = folder.path().join("agent.toml");
        assert!(Config::parse(&file, GOOD).is_ok());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let faults = Config::parse(&file, GOOD).unwrap_err();
        assert!(faults.to_string().contains("agent.toml:10: host-key: "), "{faults}");
        assert!(faults.to_string().contains("chmod 600"), "{faults}");
    }
}
