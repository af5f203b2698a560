//! The sub-command `issuer`: the development issuer as a process.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::issuer::{Circle, Issuer, Settings};

/// An OIDC issuer for development, on loopback only.
#[derive(Parser)]
struct Args {
    /// A loopback address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Whom it is for, as JSON: client, audience, people; alice, bob, carol and mallory without it.
    #[arg(long, value_name = "PATH")]
    circle: Option<PathBuf>,
    /// Writes where it listens to this file, as JSON, once it does.
    #[arg(long, value_name = "PATH")]
    announce: Option<PathBuf>,
}

/// What the issuer announces.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Announcement {
    pub issuer: String,
    pub listen: SocketAddr,
}

pub(crate) fn main_with(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(64)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr)
        .init();
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("issuer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(args: Args) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let circle = match &args.circle {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None => Circle::default(),
    };
    let issuer = Issuer::start(Settings {
        listen: args.listen,
        circle,
        ..Settings::default()
    })
    .await?;
    tracing::info!(issuer = issuer.url(), "listening");
    if let Some(path) = &args.announce {
        crate::announce(
            path,
            &Announcement {
                issuer: issuer.url().to_owned(),
                listen: issuer.address(),
            },
        )?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    issuer.stop().await;
    tracing::info!("stopped");
    Ok(())
}
