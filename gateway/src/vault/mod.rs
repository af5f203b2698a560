//! `doorward-gateway vault`: sets Vault up for this gateway, and shows first what that means.
//!
//! The token of the administrator comes from a file, never from an argument or the environment, and is used for these
//! requests alone.

pub(crate) mod needs;
mod show;

use std::{
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use doorward_certs::{
    Secret,
    vault::{
        Transport,
        setup::{Admin, Live, Plan, SetupError, Step, Verdict, steps},
    },
};
use zeroize::Zeroizing;

pub use needs::Details;

use crate::config::{Config, Faults, secret_file};

/// What to do about Vault.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what Vault has to hold and what would change; change nothing.
    ///
    /// Each line begins with + (to make), ~ (to change), = (as it has to be) or ! (something of others is in the way).
    /// Exit codes: 0 nothing to do, 2 something would change, 1 Vault cannot be asked or something is in the way,
    /// 64 usage, 78 configuration.
    Plan {
        /// What to plan for.
        #[command(flatten)]
        about: About,
        /// A file with a token that may read what there is. Without one the plan shows what has to be there, compared with
        /// nothing.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what would change, ask, and do it. A second time changes nothing.
    ///
    /// Removes nothing, never touches a CA's key that is there, and leaves alone what others have set up.
    /// Exit codes: 0 done, or nothing to do; 1 not done; 3 declined; 64 usage, 78 configuration.
    Apply {
        /// What to set up.
        #[command(flatten)]
        about: About,
        /// A file, closed to others, with the token of an administrator of Vault.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// What a set-up is for.
#[derive(Debug, Args)]
pub struct About {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What the configuration does not say.
    #[command(flatten)]
    pub details: Details,
}

/// Why a set-up is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error("{0}")]
    Config(#[from] Faults),
    /// It has no Vault.
    #[error("{0} names no Vault: [authority.vault] is missing")]
    NoVault(PathBuf),
    /// It, or the arguments, cannot be what is wanted.
    #[error("{0}")]
    Needs(String),
    /// The token's file.
    #[error("the token file {0} {1}")]
    TokenFile(PathBuf, String),
    /// Vault.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// There is nobody to ask.
    #[error("nothing was changed: there is no terminal to ask on; say --yes to do it without asking")]
    NobodyToAsk,
    /// Somebody said no.
    #[error("nothing was changed")]
    Declined,
    /// Something of others is in the way.
    #[error("nothing was changed: something that is not Doorward's is in the way at {0}")]
    InTheWay(String),
    /// The terminal.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] io::Error),
}

impl Error {
    /// The exit code of the program.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NoVault(_) => 78,
            Self::Needs(_) => 64,
            Self::Declined | Self::NobodyToAsk => 3,
            _ => 1,
        }
    }
}

/// Does what is asked, and says with which code the program ends. `terminal` says whether there is somebody to ask.
///
/// # Errors
/// [`Error`]: it was not done.
pub async fn run(command: &Command, terminal: bool) -> Result<u8, Error> {
    match command {
        Command::Plan {
            about,
            token_file,
            json,
        } => plan(about, token_file.as_deref(), *json).await,
        Command::Apply { about, token_file, yes } => apply(about, token_file, *yes, terminal).await,
    }
}

async fn plan(about: &About, token_file: Option<&Path>, json: bool) -> Result<u8, Error> {
    let (transport, steps) = prepare(about)?;
    let plan = match token_file {
        Some(file) => Admin::new(&transport, &token(file)?).plan(steps).await?,
        None => Plan::of(steps, &Live::new()),
    };
    if json {
        println!("{:#}", show::json(&plan));
    } else {
        print!("{}", show::text(&plan));
        if token_file.is_none() {
            println!("(not compared with what there is: --token-file is missing)");
        }
    }
    Ok(match (show::conflicts(&plan).is_empty(), plan.is_done()) {
        (false, _) => 1,
        (true, false) => 2,
        (true, true) => 0,
    })
}

async fn apply(about: &About, token_file: &Path, yes: bool, terminal: bool) -> Result<u8, Error> {
    let (transport, steps) = prepare(about)?;
    let token = token(token_file)?;
    let admin = Admin::new(&transport, &token);
    let plan = admin.plan(steps).await?;
    print!("{}", show::text(&plan));
    if let Some(first) = show::conflicts(&plan).first() {
        return Err(Error::InTheWay(first.path.clone()));
    }
    if plan.is_done() {
        return Ok(0);
    }
    if !yes {
        ask(&transport.address(), terminal)?;
    }
    let (made, changed) = (plan.count(Verdict::Create), plan.count(Verdict::Change));
    admin.apply(&plan).await?;
    println!("done: {made} made, {changed} changed");
    Ok(0)
}

fn prepare(about: &About) -> Result<(Transport, Vec<Step>), Error> {
    let config = Config::load(&about.config)?;
    let settings = needs::settings(&config).ok_or_else(|| Error::NoVault(about.config.clone()))?;
    let needs = needs::needs(&config, settings, &about.details).map_err(Error::Needs)?;
    let transport = Transport::new(settings).map_err(SetupError::from)?;
    Ok((transport, steps(&needs)))
}

/// Asks on the terminal whether to go on. Anything but `yes` is a no.
fn ask(address: &str, terminal: bool) -> Result<(), Error> {
    if !terminal {
        return Err(Error::NobodyToAsk);
    }
    print!("Do this at {address}? Only `yes` is a yes: ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().take(LONGEST_ANSWER).read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Error::Declined),
    }
}

/// The token in a file that nobody else may read.
fn token(file: &Path) -> Result<Secret, Error> {
    let unusable = |text: String| Error::TokenFile(file.to_owned(), text);
    secret_file::check(file).map_err(&unusable)?;
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_TOKEN));
    let opened = fs::File::open(file).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    let most = u64::try_from(LONGEST_TOKEN).unwrap_or(u64::MAX);
    opened
        .take(most)
        .read_to_string(&mut text)
        .map_err(|error| unusable(format!("cannot be read: {error}")))?;
    let token = text.trim();
    if token.is_empty() || token.len() == LONGEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("holds no token".to_owned()));
    }
    Ok(Secret::new(token.to_owned()))
}

const LONGEST_TOKEN: usize = 16 * 1024;
const LONGEST_ANSWER: u64 = 64;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod tests;
