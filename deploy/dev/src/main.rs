//! The whole of Doorward on loopback with one command: `cargo run` brings it up, `cargo run -- try` proves it.
//!
//! The same executable acts as each of the programs, so that nothing else must be built.

mod land;
mod list;
mod tour;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use doorward_dev::stack::Real;

/// Doorward on loopback: issuer, gateway, one agent with two workspaces, and a client that is logged in.
///
/// `gateway`, `agent`, `issuer` and `doorward` as first argument act as those programs.
#[derive(Parser)]
#[command(name = "doorward-dev", version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: up::Args,
}

/// Which real servers to run on; see `parts`.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
struct RealArgs {
    /// Sign with a real Vault; with --keycloak, as the person.
    #[arg(long)]
    vault: bool,
    /// Log people in at a real Keycloak.
    #[arg(long)]
    keycloak: bool,
}

impl From<RealArgs> for Real {
    fn from(args: RealArgs) -> Self {
        Self {
            vault: args.vault,
            keycloak: args.keycloak,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Bring a stack up in a temporary folder, use it as people do, check what it recorded, and say whether all held.
    Try(RealArgs),
    /// List the real servers that tests and the stack can use, one a line; fails if one is not there.
    Parts(list::Args),
}

fn main() -> ExitCode {
    if let Some(code) = doorward_dev::act_as_program() {
        return code;
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let done = match args.command {
        None => up::run(args.up),
        Some(Command::Try(real)) => tour::run(real.into()),
        Some(Command::Parts(args)) => list::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("doorward-dev: {error:#}");
        ExitCode::FAILURE
    })
}

/// The folder of the stack when nobody names one: below `target` of the workspace that cargo runs, or of this folder.
fn default_dir() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = root
        .and_then(|package| Some(package.parent()?.parent()?.to_owned()))
        .unwrap_or_default();
    root.join("target/dev")
}

/// The exit code of every program of ours for a command line that makes no sense (sysexits.h).
const USAGE: u8 = 64;
