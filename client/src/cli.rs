//! The command line.

mod recordings;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use recordings::{ExportArgs, Format, ListArgs, ReplayArgs, SessionsArgs, SessionsCommand, VerifyArgs};

/// SSH into your workspaces, and see what was recorded.
#[derive(Debug, Parser)]
#[command(
    name = "doorward",
    version,
    max_term_width = 100,
    propagate_version = true,
    after_help = "Examples:\n  \
        doorward login https://gateway.example.com    log in with the browser\n  \
        doorward config --write                       let plain ssh, scp and editors find your workspaces\n  \
        ssh devenv-0                                  a recorded session\n  \
        doorward sessions                             what was recorded\n  \
        doorward replay ID                            see it again\n\n\
        Exit codes: 64 usage, 77 denied or not logged in, 78 configuration, 254 recording required but \
        unavailable, 255 transport."
)]
pub(crate) struct Cli {
    /// The folder for settings, tokens and the ssh configuration
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DOORWARD_HOME",
        hide_env_values = true
    )]
    pub(crate) home: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in at a gateway's issuer
    #[command(after_help = "Examples:\n  \
        doorward login https://gateway.example.com\n  \
        doorward login gateway.example.com:8443 --ca company-ca.pem\n  \
        doorward login --device                       where this computer has no browser\n  \
        doorward login --issuer contractors           where the gateway trusts several issuers\n  \
        doorward login --offline                      stay logged in longer than the issuer's session")]
    Login(LoginArgs),
    /// Log out: revoke the tokens and forget them
    #[command(
        after_help = "The tokens of this computer go in any case. Where the issuer could not be told to revoke them, \
        that is said, and the exit code is 255."
    )]
    Logout,
    /// Say which gateway, who is logged in and what ssh knows
    #[command(after_help = "Examples:\n  \
        doorward status\n  \
        doorward status --json | jq -r .user\n  \
        doorward status --local        ask nobody, say only what this computer knows\n\n\
        Exit code 77 when nobody is logged in.")]
    Status(StatusArgs),
    /// List the workspaces that you may enter
    Ls(JsonArgs),
    /// Keep a workspace awake for some time, as far as your role lets you
    #[command(
        override_usage = "doorward keep [--json] TIME WORKSPACE\n       \
        doorward keep [--json] --until WHEN WORKSPACE\n       \
        doorward keep [--json] --off WORKSPACE\n       \
        doorward keep [--json] [WORKSPACE]",
        after_help = "Examples:\n  \
        doorward keep 4h devenv-0                a long job runs: do not put it to sleep for four hours\n  \
        doorward keep --until 18:00 devenv-0     by this computer's clock; a date and RFC 3339 are taken as well\n  \
        doorward keep --off devenv-0             no longer\n  \
        doorward keep                            what is kept, and for how long at most you may\n\n\
        A later wish takes the place of an earlier one. What is kept is put on record with your name. The platform is told, \
        and may stop the workspace all the same. A workspace that sleeps cannot be kept. Inside a workspace there is no login, \
        so ask from your own computer.\n\n\
        Exit codes: 77 where your role does not let you (or there is no such workspace), 255 where it sleeps or somebody \
        could not be told."
    )]
    Keep(KeepArgs),
    /// Print or write the ssh configuration
    #[command(after_help = "Examples:\n  \
        doorward config                    print it\n  \
        doorward config --write            write it, and include it at the top of ~/.ssh/config\n  \
        doorward config --write --no-include    write it, and use it with: ssh -F FILE devenv-0")]
    Config(ConfigArgs),
    /// Carry one SSH connection (what the ssh configuration names as ProxyCommand)
    #[command(
        after_help = "Standard input and output are the SSH connection; everything else goes to standard error.\n\n\
        Who is not logged in is asked: by the browser where somebody sits at a screen, else by an address and a code. \
        Setting login = \"browser\", \"device\" or \"never\" in config.toml chooses; --no-login and DOORWARD_NO_LOGIN=1 \
        mean never.\n\n\
        Example:\n  ssh -o 'ProxyCommand doorward connect devenv-0' devenv-0"
    )]
    Connect(ConnectArgs),
    /// Run the system's ssh with our configuration
    #[command(after_help = "Examples:\n  \
        doorward ssh devenv-0\n  \
        doorward ssh devenv-0 -- make test\n  \
        doorward ssh devenv-0 -- -L 8080:localhost:80")]
    Ssh(SshArgs),
    /// Start an editor in a workspace
    #[command(after_help = "Examples:\n  \
        doorward open devenv-0                        VS Code, or the first known editor on the PATH\n  \
        doorward open devenv-0 /workspace/app         in this folder\n  \
        doorward open devenv-0 --editor jetbrains     JetBrains Gateway\n  \
        doorward open devenv-0 --print                say the address, start and wake nothing\n\n\
        Editors: code, code-insiders, codium, cursor, windsurf, jetbrains; any other name or path is a program that takes \
        VS Code's arguments. Settings in config.toml: editor = \"cursor\", folder = \"/workspace\".\n\
        A workspace that sleeps is woken first. Exit code 78 where the ssh configuration is missing or no editor is found.")]
    Open(OpenArgs),
    /// List recorded sessions, or show one
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  \
        doorward sessions\n  \
        doorward sessions --workspace devenv-0 --limit 5 --json\n  \
        doorward sessions --csv > sessions.csv\n  \
        doorward sessions show 01900000-0000-7000-8000-000000000000"
    )]
    Sessions(SessionsArgs),
    /// End an open session: your own, or with the right kill anybody's
    #[command(after_help = "Examples:\n  \
        doorward kill 01900000-0000-7000-8000-000000000000\n  \
        doorward kill ID --reason 'the laptop was stolen'\n\n\
        The person is told the reason on the terminal, and it is on record with your name.")]
    Kill(KillArgs),
    /// Lock a person out, or a workspace (needs the right lock)
    #[command(after_help = "Examples:\n  \
        doorward lock user bob --reason 'left the company'\n  \
        doorward lock workspace devenv-0\n\n\
        Open sessions end within a second, new ones are refused until doorward unlock.")]
    Lock(LockArgs),
    /// Take a lock away (needs the right lock)
    #[command(after_help = "Example:\n  doorward unlock user bob")]
    Unlock(UnlockArgs),
    /// List what is locked (needs the right lock)
    Locks(JsonArgs),
    /// Have a recording held, so that nobody deletes it (needs the right hold)
    #[command(after_help = "Example:\n  \
        doorward hold 01932c07-209c-7a7b-9f5c-0123456789ab --reason 'case 4711'")]
    Hold(HoldArgs),
    /// Let a recording go that was held (needs the right hold)
    Release(ReleaseArgs),
    /// List the recordings that are held (needs the right hold)
    Holds(JsonArgs),
    /// Say who may enter a workspace, and which rule says so
    #[command(after_help = "Examples:\n  \
        doorward explain devenv-0                                for yourself\n  \
        doorward explain --user bob --groups developers devenv-0    for somebody else (needs the right explain)\n  \
        doorward explain --user c@x.org --email c@x.org devenv-0 --json\n\n\
        The verdict is no failure: the exit code is 0 whatever it is.")]
    Explain(ExplainArgs),
    /// Play a recorded session
    #[command(after_help = "Examples:\n  \
        doorward replay ID                       in this terminal, with pauses cut to 2 seconds\n  \
        doorward replay ID --speed 4 --at 1m30s  faster, from a minute and a half on\n  \
        doorward replay ID | less                as plain text\n  \
        doorward replay --raw ID | sha256sum     exactly what the terminal was sent\n\n\
        Keys: q or Ctrl-C ends, space pauses.\n\
        What a recording could do to your terminal beyond drawing in it (clipboard, title, questions that it \
        answers) is left out, but with --raw.")]
    Replay(ReplayArgs),
    /// Check that a recording is whole, unaltered and signed
    #[command(
        override_usage = "doorward verify [OPTIONS] <ID|FOLDER|BUNDLE>...\n       doorward verify [OPTIONS] --all",
        after_help = "Examples:\n  \
        doorward verify ID                              fetched from the gateway, against its log\n  \
        doorward verify --all                           every session, and those that are gone\n  \
        doorward verify STATE/log records/              offline: a store against a log\n  \
        doorward verify --bundle evidence.tar ID        one file for whoever has to check it\n  \
        doorward verify evidence.tar                    offline\n  \
        doorward verify --trust ca-keys.json FOLDER…    with CA keys that you got another way\n\n\
        The trusted keys are those that the gateway named at the last login. An auditor who trusts no gateway \
        brings them with --trust: {\"host-ca\": [\"ssh-ed25519 …\"], \"user-ca\": [\"ssh-ed25519 …\"]}.\n\
        The newest checkpoint of each log is remembered (checkpoints.json), so that an older log is noticed.\n\n\
        Exit codes: 0 complete, 10 bad (changed, cut, forged), 11 abnormal end, 12 open or not closed, 13 missing or \
        rolled back, 14 signed by an untrusted key, 15 unreadable; of several the worst. The first bad place is named."
    )]
    Verify(VerifyArgs),
    /// Write a recording in another format
    #[command(after_help = "Examples:\n  \
        doorward export ID --format asciicast -o session.cast\n  \
        doorward export ID --format jsonl | jq 'select(.act == \"command\").command'\n  \
        doorward export FOLDER --format text\n\n\
        An export is no evidence. All formats but raw are safe to show: nothing in them acts on a terminal.")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeepArgs {
    /// For how long (4h, 90m, 1h30m), and the workspace
    #[arg(value_name = "TIME WORKSPACE", num_args = 0..=2)]
    pub(crate) words: Vec<String>,
    /// Until a time: 18:00, 2026-06-01T18:00, or RFC 3339
    #[arg(long, value_name = "WHEN", conflicts_with = "off")]
    pub(crate) until: Option<String>,
    /// Keep it no longer
    #[arg(long)]
    pub(crate) off: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask nobody
    #[arg(long)]
    pub(crate) local: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The gateway: a URL, or a host with or without a port; the last one if left out
    pub(crate) gateway: Option<String>,
    /// Log in on another device: prints an address and a code
    #[arg(long, conflicts_with = "no_browser")]
    pub(crate) device: bool,
    /// Trust only the CA certificates in this PEM file for the gateway
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print the address instead of opening a browser
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Which of the gateway's issuers, by name or address
    #[arg(long, value_name = "NAME")]
    pub(crate) issuer: Option<String>,
    /// Stay logged in until it is revoked, where the issuer allows it (scope offline_access)
    #[arg(long)]
    pub(crate) offline: bool,
    /// Take tokens from this program, with its arguments, in place of a login: --token-command oc whoami -t
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true,
        conflicts_with_all = ["device", "no_browser", "issuer", "offline"])]
    pub(crate) token_command: Option<Vec<String>>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Write ssh_config and known_hosts, and include them at the top of ~/.ssh/config
    #[arg(long)]
    pub(crate) write: bool,
    /// Print the configuration (the default without --write)
    #[arg(long)]
    pub(crate) print: bool,
    /// Leave ~/.ssh/config alone
    #[arg(long, requires = "write")]
    pub(crate) no_include: bool,
    /// Trust this host authority of the gateway's, which is new here: what your platform team says is its fingerprint
    #[arg(long, value_name = "SHA256:…", requires = "write")]
    pub(crate) trust_host_ca: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The workspace: NAME or NAME.doorward
    pub(crate) workspace: String,
    /// The login that ssh will ask for, if it should be checked
    pub(crate) login: Option<String>,
    /// Why you want in, where your role asks for a reason: it is put on record
    #[arg(long, env = "DOORWARD_REASON", value_parser = reason, hide_env_values = true)]
    pub(crate) reason: Option<String>,
    /// Fail where somebody would have to log in
    #[arg(long, env = "DOORWARD_NO_LOGIN", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    pub(crate) no_login: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SshArgs {
    /// The workspace
    pub(crate) workspace: String,
    /// Options and command for ssh
    #[arg(last = true)]
    pub(crate) args: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The workspace
    pub(crate) workspace: String,
    /// The folder in it; the setting folder if left out, and else the editor asks
    pub(crate) folder: Option<String>,
    /// Which editor: a name, or the path of a program
    #[arg(long, value_name = "NAME")]
    pub(crate) editor: Option<String>,
    /// Print the address that opens it, and do nothing else
    #[arg(long)]
    pub(crate) print: bool,
    /// Why you want in, where your role asks for a reason: it is put on record
    #[arg(long, env = "DOORWARD_REASON", value_parser = reason, hide_env_values = true)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The session, as doorward sessions lists it
    pub(crate) session: uuid::Uuid,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// What can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A person
    User,
    /// A workspace
    Workspace,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Workspace => "workspace",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// What to lock
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// The user or workspace
    pub(crate) name: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// The session
    pub(crate) session: uuid::Uuid,
    /// Why, for the journal and whoever asks
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The session
    pub(crate) session: uuid::Uuid,
}

#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    /// What to unlock
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// The user or workspace
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The workspace
    pub(crate) workspace: String,
    /// For this person in place of yourself
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// The groups that the person is taken to be in, apart by commas
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', requires = "user")]
    pub(crate) groups: Vec<String>,
    /// The person's verified e-mail address
    #[arg(long, requires = "user")]
    pub(crate) email: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

/// A sentence that goes on record; empty is none.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() <= 500 && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("must be one line of at most 500 characters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for line in [
            "doorward sessions --json --limit 3",
            "doorward sessions ls --user bob",
            "doorward sessions --csv",
            "doorward export ID --format asciicast-v3",
            "doorward export ID --format jsonl --channel 3",
            "doorward sessions show 01900000-0000-7000-8000-000000000000 --json",
            "doorward replay ID --at 1m30s --max-pause 0.5 --speed 2.5",
            "doorward ssh devenv-0 -- -v ls -l",
            "doorward --home /tmp/x connect devenv-0 node",
            "doorward connect --no-login devenv-0",
            "doorward connect --reason=pager devenv-0",
            "doorward connect --reason= devenv-0",
            "doorward keep",
            "doorward keep 4h devenv-0 --json",
            "doorward keep --until 18:00 devenv-0",
            "doorward keep --off devenv-0",
            "doorward open devenv-0",
            "doorward open devenv-0 /workspace --editor cursor --print",
            "doorward verify --all --json",
            "doorward verify --all records --allow-open",
            "doorward login gw --issuer work --offline",
            "doorward status --local --json",
            "doorward kill 01900000-0000-7000-8000-000000000000 --reason x",
            "doorward lock user bob@x.org --reason x",
            "doorward unlock workspace devenv-0",
            "doorward hold 01932c07-209c-7a7b-9f5c-0123456789ab --reason x",
            "doorward release 01932c07-209c-7a7b-9f5c-0123456789ab",
            "doorward holds --json",
            "doorward explain --user bob --groups a,b --email b@x.org devenv-0 --json",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "doorward",
            "doorward sessions show x",
            "doorward sessions --csv --json",
            "doorward config --no-include",
            "doorward replay ID --speed 0",
            "doorward replay ID --speed NaN",
            "doorward replay ID --at=-1",
            "doorward verify",
            "doorward export ID --format gif",
            "doorward connect",
            "doorward open",
            "doorward open a /b /c",
            "doorward keep 4h devenv-0 devenv-1",
            "doorward keep --off --until 18:00 devenv-0",
            "doorward connect --reason=a\u{1b}b devenv-0",
            "doorward kill bob",
            "doorward lock bob",
            "doorward hold 01932c07-209c-7a7b-9f5c-0123456789ab",
            "doorward hold ../x --reason x",
            "doorward lock group bob",
            "doorward explain --groups a devenv-0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
