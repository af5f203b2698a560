//! The program `doorward` on the laptop: login, the ssh configuration, the `ProxyCommand` of `ssh`, and recordings.
//!
//! It decides nothing about who may do what; it shows a token to the gateway and believes what certificates prove.
//! It keeps tokens in a file for its owner alone and never passes them on a command line, to a log or to another host.

mod admin;
mod cli;
mod clock;
mod connect;
mod error;
mod gateway;
mod home;
mod http;
mod keep;
mod list;
mod login;
mod name;
mod oidc;
mod open;
mod pass;
mod program;
mod recording;
mod replay;
mod say;
mod secret;
mod signals;
mod ssh;
mod tokens;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use cli::{Cli, Command, SessionsCommand};
use error::EXIT_USAGE;
pub use error::Error;
use home::Home;

/// The whole program: `args` with the program's name first. Errors are printed here; the exit code says which kind.
pub fn main_with(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A standard output or error that is gone is no reason for another exit code.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_USAGE),
            };
        }
    };
    // Another program of ours may have installed it in this process already.
    let _ = doorward_wire::tls_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say::note(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(Box::pin(run(cli)));
    // A thread that still waits for standard input must not keep the program.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| {
        say::failure(&error);
        ExitCode::from(error.exit())
    })
}

async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let home = Home::find(cli.home.as_deref())?;
    match &cli.command {
        // These hear signals themselves.
        Command::Connect(args) => connect::connect(&home, args).await.map(ExitCode::from),
        Command::Replay(args) => replay::replay(&home, args).await.map(|()| ExitCode::SUCCESS),
        command => signals::interruptible(Box::pin(short(&home, command))).await,
    }
}

/// The commands that ask, say and end.
async fn short(home: &Home, command: &Command) -> Result<ExitCode, Error> {
    match command {
        Command::Ssh(args) => return ssh::ssh(home, args).await,
        Command::Status(args) => {
            let logged_in = login::status::status(home, args).await?;
            return Ok(if logged_in {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(error::EXIT_DENIED)
            });
        }
        Command::Login(args) => login::login(home, args).await?,
        Command::Logout => login::logout::logout(home).await?,
        Command::Ls(args) => list::list(home, args).await?,
        Command::Keep(args) => keep::keep(home, args).await?,
        Command::Open(args) => open::open(home, args).await?,
        Command::Config(args) => ssh::config(home, args).await?,
        Command::Sessions(args) => match &args.command {
            None => recording::sessions::list(home, &args.list).await?,
            Some(SessionsCommand::Ls(list)) => recording::sessions::list(home, list).await?,
            Some(SessionsCommand::Show { id, json }) => recording::show::show(home, *id, *json).await?,
        },
        Command::Kill(args) => admin::kill(home, args).await?,
        Command::Lock(args) => admin::lock(home, args).await?,
        Command::Unlock(args) => admin::unlock(home, args).await?,
        Command::Locks(args) => admin::list(home, args).await?,
        Command::Hold(args) => admin::hold(home, args).await?,
        Command::Release(args) => admin::release(home, args).await?,
        Command::Holds(args) => admin::holds(home, args).await?,
        Command::Explain(args) => admin::explain(home, args).await?,
        Command::Verify(args) => recording::verify::verify(home, args).await?,
        Command::Export(args) => recording::export::export(home, args).await?,
        Command::Connect(_) | Command::Replay(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}
