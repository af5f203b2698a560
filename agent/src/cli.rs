//! The command line of `doorward-agent`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use doorward_audit::{LogForm, LogLines};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::init::{self, Own};
use crate::process;
use crate::{Config, Ended, run_announced};

/// The SSH server in the workspace: it runs what the certificate allows, and records it.
#[derive(Debug, Parser)]
#[command(name = "doorward-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; with a command, run it and serve until it has ended.
    #[command(
        after_help = "With a command the agent stands in for a container's first process: it starts the command with its own \
        standard streams, environment and folder, passes signals on to it, reaps, and ends as it does: with its exit code, \
        128 and the number of the signal that ended it, 127 where it is not found and 126 where it cannot be run. At SIGTERM sessions \
        end at once; when the command has ended, with a sentence.\n\n\
        A configuration that is wrong, or an address that is taken, is said on standard error and leaves the command alone, \
        unless --required.\n\n\
        Example:\n  doorward-agent run -- /docker-entrypoint.sh nginx -g 'daemon off;'"
    )]
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Write the bound addresses to this file, as JSON, once all are bound.
        #[arg(long, value_name = "FILE")]
        announce: Option<PathBuf>,
        /// Start the command only once the agent listens, and not at all where it cannot.
        #[arg(long, requires = "command")]
        required: bool,
        /// How long sessions may go on after the command has ended; the container stays for as long.
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration, requires = "command")]
        linger: Duration,
        /// The container's own command.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Judge the configuration, say everything that is wrong with it, and exit.
    CheckConfig {
        #[command(flatten)]
        file: ConfigFile,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(
        long,
        value_name = "FILE",
        env = "DOORWARD_AGENT_CONFIG",
        default_value = "/etc/doorward/agent.toml"
    )]
    config: PathBuf,
}

/// Runs the program with these arguments, the first being its name.
///
/// Exit codes: 0 served and drained, 1 could not start or drain, 64 usage, 78 configuration; those of the container's command
/// where it ran one.
pub fn main_with(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let file = match &cli.command {
        Command::Run { file, .. } | Command::CheckConfig { file } => &file.config,
    };
    let config = Config::load(file).inspect_err(|faults| eprintln!("{faults}"));
    match (cli.command, config) {
        (Command::CheckConfig { file }, Ok(_)) => {
            println!("{}: good", file.config.display());
            ExitCode::SUCCESS
        }
        (
            Command::Run {
                announce,
                required,
                linger,
                command,
                ..
            },
            config,
        ) if !command.is_empty() && (config.is_ok() || !required) => {
            if config.is_err() {
                eprintln!("doorward-agent: nobody can enter this workspace; its command is started all the same");
            }
            let own = Own {
                command,
                required,
                linger,
            };
            beside(config.ok(), announce.as_deref(), &own)
        }
        (Command::Run { announce, .. }, Ok(config)) => serve(config, announce),
        (_, Err(_)) => ExitCode::from(CONFIG),
    }
}

/// Runs the container's own command, and serves beside it.
fn beside(config: Option<Config>, announce: Option<&Path>, own: &Own) -> ExitCode {
    let Some(runtime) = prepared(config.as_ref().map_or(1, |config| config.limits.threads)) else {
        return ExitCode::FAILURE;
    };
    let work = init::reaping(init::run(config, announce, own));
    ExitCode::from(runtime.block_on(work))
}

/// What a process that serves needs: a log, the orphans below it, and threads.
fn prepared(threads: usize) -> Option<Runtime> {
    log();
    process::adopt_orphans();
    // Another provider may be in place where several programs are one.
    let _ = doorward_wire::tls_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    runtime
        .inspect_err(|error| tracing::error!(%error, "cannot start"))
        .ok()
}

fn serve(config: Config, announce: Option<PathBuf>) -> ExitCode {
    let Some(runtime) = prepared(config.limits.threads) else {
        return ExitCode::FAILURE;
    };
    let ended = runtime.block_on(init::reaping(async {
        let stop = CancellationToken::new();
        // Before anything is announced: whoever reads the announcement may already want the agent to stop.
        let told_to_stop = told_to_stop();
        let serving = run_announced(config, announce.as_deref(), stop.clone());
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended,
            () = told_to_stop => stop.cancel(),
        }
        serving.await
    }));
    match ended {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Late) => {
            tracing::warn!("some sessions did not end in time");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(code = error.code(), error = crate::link::chain(&error), "cannot serve");
            ExitCode::FAILURE
        }
    }
}

/// Listens for SIGTERM and SIGINT from now on, not only once it is polled.
fn told_to_stop() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut term), Ok(mut int)) = signals else {
            tracing::error!("cannot listen for signals; SIGKILL is left");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,russh=warn"));
    let terminal = std::io::stderr().is_terminal();
    let form = if terminal { LogForm::Coloured } else { LogForm::Json };
    let line = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || LogLines::new(std::io::stderr(), form));
    // Where several programs are one, the first to log sets how.
    let _ = if terminal {
        line.try_init()
    } else {
        line.json().try_init()
    };
}

const USAGE: u8 = 64;
const CONFIG: u8 = 78;
