//! The command line of the gateway, and its exit codes: 0 stopped, 1 failed, 64 usage, 78 configuration.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use doorward_audit::{LogForm, LogLines};
use doorward_certs::WorkspaceName;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    Error,
    config::Config,
    doctor, explain,
    oidc::Email,
    policy::{Roles, Verdict},
    tasks::Drained,
    vault,
};

/// The gateway of Doorward: people enter their workspaces through it.
#[derive(Debug, Parser)]
#[command(name = "doorward-gateway", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

#[cfg(test)]
impl Cli {
    pub(crate) fn parsed(args: impl Iterator<Item = OsString>) -> Self {
        Self::try_parse_from(args).unwrap()
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT; a second signal ends open sessions at once.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Write the bound addresses to this file as JSON, once they are bound.
        #[arg(long, value_name = "FILE")]
        announce: Option<PathBuf>,
        /// The form of the log on stderr. RUST_LOG chooses what is logged.
        #[arg(long, value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// Look live at everything that a session needs, one line for each thing, with a remedy; change nothing.
    ///
    /// Exit codes: 0 all is well, 1 something should be looked at, 2 something is broken, 64 usage.
    Doctor {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The name under which people dial the gateway: its certificate must be for it.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Set Vault up for this gateway, or show what that would mean.
    Vault {
        /// What to do.
        #[command(subcommand)]
        command: Box<vault::Command>,
    },
    /// Check a configuration file and every file that it names; print all faults and exit with 78 if there are any.
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say that this host's clock is right, so that recordings are deleted by it again. A gateway that runs takes it within seconds, another when it starts.
    ConfirmClock {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Today's date, from a calendar and not from this host.
        #[arg(value_name = "YYYY-MM-DD")]
        today: String,
    },
    /// Say who may enter a workspace and why, rule by rule, from the configuration alone; exit with 1 if the person may not.
    Explain {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The person, as their identity provider names them.
        #[arg(long, value_name = "NAME")]
        user: String,
        /// Their groups, with commas between them.
        #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
        groups: Vec<String>,
        /// Their e-mail address, as if it was verified.
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// The name of their issuer, if there are several.
        #[arg(long, value_name = "NAME")]
        issuer: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The workspace.
        workspace: String,
    },
}

/// The form of the log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Acts as `doorward-gateway` with these arguments, the program's name first. The process's TLS provider must be installed.
pub fn main_with(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // clap exits with 2 for usage; ours is 64. Help and version are no errors.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::CheckConfig { config } => check(&config),
        Command::ConfirmClock { config, today } => confirm_clock(&config, &today),
        Command::Explain {
            config,
            user,
            groups,
            email,
            issuer,
            json,
            workspace,
        } => {
            let email = match email.map(|email| Email::parse(&email).ok_or(email)).transpose() {
                Ok(email) => email,
                Err(email) => return usage(&format!("`{}` is no e-mail address", email.escape_debug())),
            };
            let who = explain::Supposed {
                user,
                groups: groups.into_iter().collect(),
                email,
                issuer,
            };
            match WorkspaceName::try_from(workspace) {
                Ok(workspace) => explain(&config, &who, &workspace, json),
                Err(error) => usage(&error.to_string()),
            }
        }
        Command::Doctor { config, name, json } => examine(&config, doctor::About { name }, json),
        Command::Vault { command } => set_up(&command),
        Command::Run {
            config,
            announce,
            log_format,
        } => {
            log(log_format);
            serve(&config, announce.as_deref())
        }
    }
}

fn check(file: &Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            println!("{}: no fault", file.display());
            let roles = Roles::load(&config.policy.file);
            if let Some((text, remedy)) = roles.ok().and_then(|roles| doctor::lends_nothing(&config, &roles)) {
                println!("warning: {text}\nhint: {remedy}");
            }
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(CONFIG)
        }
    }
}

fn confirm_clock(file: &Path, today: &str) -> ExitCode {
    let Ok(today) = today.parse::<jiff::civil::Date>() else {
        return usage(&format!("`{}` is no date (YYYY-MM-DD)", today.escape_debug()));
    };
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(faults) => return told(&faults.to_string(), CONFIG),
    };
    let now = jiff::Timestamp::now();
    let here = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    // The day changes at another hour where the operator is.
    let near = [Ok(here), here.yesterday(), here.tomorrow()];
    if !near.into_iter().flatten().any(|day| day == today) {
        return told(
            &format!("this host's clock says {here}, and you say {today}: set the clock first"),
            FAILED,
        );
    }
    match crate::record::confirm(&config.state_directory, now.as_millisecond().unsigned_abs()) {
        Ok(()) => {
            println!("confirmed: it is {here}");
            ExitCode::SUCCESS
        }
        Err(error) => told(&format!("{}: {error}", config.state_directory.display()), FAILED),
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(USAGE)
}

fn explain(file: &Path, who: &explain::Supposed, workspace: &WorkspaceName, json: bool) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(CONFIG);
        }
    };
    let explanation = match explain::offline(&config, who, workspace) {
        Ok(explanation) => explanation,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(CONFIG);
        }
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&explanation).unwrap_or_default()),
        false => print!("{}", explain::text(&explanation)),
    }
    match explanation.verdict {
        Verdict::Granted => ExitCode::SUCCESS,
        Verdict::Denied | Verdict::Locked => ExitCode::from(FAILED),
    }
}

fn examine(file: &Path, about: doctor::About, json: bool) -> ExitCode {
    let findings = match wait_for(doctor::examine(file, &about)) {
        Ok(findings) => findings,
        Err(error) => return told(&error.to_string(), FAILED),
    };
    match doctor::json(&findings) {
        Ok(text) if json => println!("{text}"),
        Err(error) if json => return told(&error.to_string(), FAILED),
        _ => print!("{}", doctor::text(&findings)),
    }
    ExitCode::from(doctor::exit_code(&findings))
}

fn set_up(command: &vault::Command) -> ExitCode {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    match wait_for(vault::run(command, terminal)) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => told(&error.to_string(), error.exit_code()),
        Err(error) => told(&error.to_string(), FAILED),
    }
}

/// Runs a command that ends by itself.
fn wait_for<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(work);
    // A name that is still being looked up must not keep the process.
    runtime.shutdown_background();
    Ok(ended)
}

fn told(text: &str, code: u8) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

/// The life of the process: read, build, serve, drain, say how it ended.
fn serve(file: &Path, announce: Option<&Path>) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(CONFIG);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}"), FAILED),
    };
    let ended = runtime.block_on(async {
        let (stop, hurry) = signals()?;
        Ok::<_, std::io::Error>(crate::run(config, announce, stop, hurry).await)
    });
    // What was abandoned must not keep the process.
    runtime.shutdown_background();
    match ended {
        Err(error) => failed(&format!("signals cannot be received: {error}"), FAILED),
        Ok(Err(error)) => failed(&error.to_string(), exit_code(&error)),
        Ok(Ok(drained)) => {
            match drained {
                Drained::Quietly => tracing::info!("stopped: every session had ended"),
                Drained::Told => tracing::info!("stopped: the sessions that were left were told to end"),
                Drained::Abandoned => tracing::warn!("stopped: something did not end in time and was abandoned"),
            }
            ExitCode::SUCCESS
        }
    }
}

fn failed(text: &str, code: u8) -> ExitCode {
    tracing::error!("{text}");
    ExitCode::from(code)
}

fn exit_code(error: &Error) -> u8 {
    if error.is_config() { CONFIG } else { FAILED }
}

/// The first SIGTERM or SIGINT cancels the first token, the second the other.
fn signals() -> std::io::Result<(CancellationToken, CancellationToken)> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let tokens = [stop.clone(), hurry.clone()];
    let listen = async move {
        for token in tokens {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        }
    };
    // Owned by the process: it ends with the runtime.
    tokio_util::task::TaskTracker::new().spawn(listen);
    Ok((stop, hurry))
}

/// Logs to stderr, each event one line in which nothing acts on whoever reads it ([`LogLines`]).
fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // It prints answers that it cannot read, whole, and tokens may be in them. We tell what there is to tell.
    let quiet = "kube_client=off".parse().ok();
    let filter = quiet.into_iter().fold(filter, EnvFilter::add_directive);
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let form = match format {
        LogFormat::Json => LogForm::Json,
        LogFormat::Text if coloured => LogForm::Coloured,
        LogFormat::Text => LogForm::Text,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || LogLines::new(std::io::stderr(), form));
    // Fails only if the process logs already, as in tests.
    let _ = match format {
        LogFormat::Text => log.with_ansi(coloured).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}

const FAILED: u8 = 1;
const USAGE: u8 = 64;
const CONFIG: u8 = 78;
