//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
        doorward login --device                       where this computer has no browser")]
    Login(LoginArgs),
    /// Log out: revoke the tokens and forget them
    Logout,
    /// Say which gateway, who is logged in and what ssh knows
    #[command(after_help = "Asks nobody: it says what this computer knows. Exit code 77 when nobody is logged in.")]
    Status(JsonArgs),
    /// List the workspaces that you may enter
    Ls(JsonArgs),
    /// Print or write the ssh configuration
    #[command(after_help = "Examples:\n  \
        doorward config                    print it\n  \
        doorward config --write            write it, and include it at the top of ~/.ssh/config\n  \
        doorward config --write --no-include    write it, and use it with: ssh -F FILE devenv-0")]
    Config(ConfigArgs),
    /// Carry one SSH connection (what the ssh configuration names as ProxyCommand)
    #[command(
        after_help = "Standard input and output are the SSH connection; everything else goes to standard error.\n\n\
        Example:\n  ssh -o 'ProxyCommand doorward connect devenv-0' devenv-0"
    )]
    Connect(ConnectArgs),
    /// Run the system's ssh with our configuration
    #[command(after_help = "Examples:\n  \
        doorward ssh devenv-0\n  \
        doorward ssh devenv-0 -- make test\n  \
        doorward ssh devenv-0 -- -L 8080:localhost:80")]
    Ssh(SshArgs),
    /// List recorded sessions, or show one
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  \
        doorward sessions\n  \
        doorward sessions --workspace devenv-0 --limit 5 --json\n  \
        doorward sessions show 01900000-0000-7000-8000-000000000000"
    )]
    Sessions(SessionsArgs),
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
    #[command(after_help = "Examples:\n  \
        doorward verify ID                              fetched from the gateway first\n  \
        doorward verify records/01900000-…/             offline, from files\n  \
        doorward verify --trust ca-keys.json FOLDER…    with CA keys that you got another way\n\n\
        The trusted keys are those that the gateway named at the last login. An auditor who trusts no gateway \
        brings them with --trust: {\"host-ca\": [\"ssh-ed25519 …\"], \"user-ca\": [\"ssh-ed25519 …\"]}.\n\
        Exit code 1 when anything is wrong; the first bad place is named.")]
    Verify(VerifyArgs),
    /// Write a recording in another format
    #[command(after_help = "Examples:\n  \
        doorward export ID --format asciicast-v2 -o session.cast\n  \
        doorward export FOLDER --format raw > output")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
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
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The workspace: NAME or NAME.doorward
    pub(crate) workspace: String,
    /// The login that ssh will ask for, if it should be checked
    pub(crate) login: Option<String>,
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
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SessionsCommand>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List recorded sessions, newest first
    Ls(ListArgs),
    /// Show one session
    Show {
        /// The session
        id: uuid::Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only sessions of this person
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only sessions in this workspace
    #[arg(long)]
    pub(crate) workspace: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A session, or the folder of a recording
    #[arg(value_name = "ID|FOLDER")]
    pub(crate) recording: OsString,
    /// How many times as fast
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    pub(crate) speed: f64,
    /// The longest pause
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) max_pause: Duration,
    /// Begin at this time of the recording, with the screen as it was
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, hide_default_value = true)]
    pub(crate) at: Duration,
    /// Write exactly the recorded bytes, whatever they do to a terminal
    #[arg(long)]
    pub(crate) raw: bool,
    /// Which channel, where the session had several
    #[arg(long, value_name = "N")]
    pub(crate) channel: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Sessions, or folders of recordings
    #[arg(value_name = "ID|FOLDER", required = true)]
    pub(crate) recordings: Vec<OsString>,
    /// A file with the CA keys to trust
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// Accept a session that has not ended yet
    #[arg(long)]
    pub(crate) allow_open: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A session, or the folder of a recording
    #[arg(value_name = "ID|FOLDER")]
    pub(crate) recording: OsString,
    /// The format
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// Where to write; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Which channel, where the session had several
    #[arg(long, value_name = "N")]
    pub(crate) channel: Option<u32>,
}

/// What a recording can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// asciinema's format, version 2
    AsciicastV2,
    /// asciinema's format, version 3
    AsciicastV3,
    /// The bytes of the channel's output
    Raw,
}

fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.01 to 1000".to_owned()),
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
            "doorward sessions show 01900000-0000-7000-8000-000000000000 --json",
            "doorward replay ID --at 1m30s --max-pause 0.5 --speed 2.5",
            "doorward ssh devenv-0 -- -v ls -l",
            "doorward --home /tmp/x connect devenv-0 node",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "doorward",
            "doorward sessions show x",
            "doorward config --no-include",
            "doorward replay ID --speed 0",
            "doorward replay ID --speed NaN",
            "doorward replay ID --at=-1",
            "doorward verify",
            "doorward export ID --format gif",
            "doorward connect",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
