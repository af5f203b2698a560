//! The command line of `doorward-agent`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

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
    /// Serve until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Write the bound addresses to this file, as JSON, once all are bound.
        #[arg(long, value_name = "FILE")]
        announce: Option<PathBuf>,
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
/// Exit codes: 0 served and drained, 1 could not start or drain, 64 usage, 78 configuration.
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
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(CONFIG);
        }
    };
    match cli.command {
        Command::CheckConfig { .. } => {
            println!("{}: good", file.display());
            ExitCode::SUCCESS
        }
        Command::Run { announce, .. } => serve(config, announce),
    }
}

fn serve(config: Config, announce: Option<PathBuf>) -> ExitCode {
    log();
    process::adopt_orphans();
    // Another provider may be in place where several programs are one.
    let _ = doorward_wire::tls_provider().install_default();
    let threads = config.limits.threads;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
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
    });
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
    let stderr = std::io::stderr();
    let line = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Where several programs are one, the first to log sets how.
    let _ = if stderr.is_terminal() {
        line.try_init()
    } else {
        line.json().try_init()
    };
}

const USAGE: u8 = 64;
const CONFIG: u8 = 78;
