//! `cargo run`: the stack in the foreground, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use doorward_dev::issuer::everybody;
use doorward_dev::stack::{Options, Stack, WORKSPACES};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::RealArgs;
use crate::land::Land;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Who is logged in in the stack's client folder.
    #[arg(long = "as", value_name = "PERSON", default_value = "bob", value_parser = person)]
    login: String,
    /// Where the stack lives [default: target/dev]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A variable of the agent, as a pod's secrets are; may be given several times
    #[arg(long = "agent-env", value_name = "NAME=VALUE", value_parser = variable)]
    agent_env: Vec<(String, String)>,
    #[command(flatten)]
    real: RealArgs,
    /// Have the workspaces be pods of a real Kubernetes, asleep until somebody enters them.
    #[arg(long)]
    kubernetes: bool,
    /// How many seconds a pod takes to start
    #[arg(long, value_name = "SECONDS", default_value_t = 5, requires = "kubernetes")]
    start_after: u32,
}

#[tokio::main]
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut stop = Stop::new()?;
    let begun = Instant::now();
    let dir = args.dir.unwrap_or_else(crate::default_dir);
    eprintln!("bringing Doorward up in {} …", shown(&dir));
    let options = Options {
        dir,
        program: None,
        login: Some(args.login.clone()),
        real: args.real.into(),
        agent_env: args.agent_env,
        ..Options::default()
    };
    let mut stack = tokio::select! {
        started = Box::pin(Stack::start(options)) => started?,
        () = stop.wanted() => return Ok(ExitCode::SUCCESS),
    };
    let mut land = match args.kubernetes {
        false => None,
        true => tokio::select! {
            started = Land::start(&mut stack, args.start_after) => Some(started?),
            () = stop.wanted() => return Ok(ExitCode::SUCCESS),
        },
    };
    print!("{}", welcome(&stack, land.as_ref(), &args.login, begun.elapsed()));
    let fell = tokio::select! {
        error = stack.fallen() => Some(error.into()),
        error = Land::fell(&mut land) => Some(error),
        () = stop.wanted() => None,
    };
    eprintln!("\nstopping …");
    if let Some(land) = land {
        land.stop().await;
    }
    stack.stop().await;
    match fell {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// What listens where, and the lines to type.
fn welcome(stack: &Stack, land: Option<&Land>, person: &str, took: Duration) -> String {
    let dir = stack.wrapper().parent().map(shown).unwrap_or_default();
    let (wrapper, ssh_config) = (typed(&shown(stack.wrapper())), typed(&shown(&stack.ssh_config())));
    let lines = [
        (
            format!("ssh -F {ssh_config} devenv-0"),
            match land {
                None => "enter a workspace; you are recorded",
                Some(_) => "wake a workspace and enter it; you are recorded",
            },
        ),
        (format!("{wrapper} sessions"), "what was recorded"),
        (format!("{wrapper} replay ID"), "see it again"),
        (format!("{wrapper} verify ID"), "prove that nothing of it was changed"),
    ];
    let keep = (
        format!("{wrapper} keep 4h devenv-0"),
        "have it left awake for a long job",
    );
    let lines: Vec<_> = lines.into_iter().chain(land.map(|_| keep)).collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or_default();
    let lines: String = lines
        .iter()
        .map(|(line, why)| format!("  {line:width$}   {why}\n"))
        .collect();
    let agents = WORKSPACES.iter().zip(stack.agent_addresses());
    let agents: Vec<String> = agents.map(|(name, address)| format!("{name} at {address}")).collect();
    let agents = match land {
        None => agents.join(", "),
        Some(land) => format!("one in each pod\n  cluster  {}", land.describe()),
    };
    let people = everybody();
    let people: Vec<String> = people
        .iter()
        .map(|person| match person.groups.as_slice() {
            [] => format!("{} (in no group)", person.name),
            groups => format!("{} ({})", person.name, groups.join(", ")),
        })
        .collect();
    format!(
        "\n\
         Doorward is up after {seconds:.1} s. Everything is on loopback and below {dir}; Ctrl-C ends it.\n\
         \n  \
           issuer   {issuer}{vault}\n  \
           gateway  {gateway}   admin http://{admin}\n  \
           agent    {agents}\n  \
           logs     {dir}/logs\n\
         \n\
         {person} is logged in. In another terminal:\n\
         \n\
         {lines}\
         \n\
         People, each with the password NAME-pw: {people}.\n\
         To be another one: {wrapper} login, or start the stack with --as alice\n",
        seconds = took.as_secs_f64(),
        issuer = stack.issuer_url(),
        vault = stack
            .vault()
            .map(|vault| format!("\n  vault    {}", vault.url()))
            .unwrap_or_default(),
        gateway = stack.gateway_url(),
        admin = stack.admin_address(),
        people = people.join(", "),
    )
}

/// The path as it is typed from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok().and_then(|here| here.canonicalize().ok());
    let path = here
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned))
        .unwrap_or_else(|| path.to_owned());
    path.display().to_string()
}

fn person(name: &str) -> Result<String, String> {
    let people = everybody();
    if people.iter().any(|person| person.name == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
    Err(format!("the issuer knows {}", names.join(", ")))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    if name.is_empty() || value.contains('\0') {
        return Err("no variable can have that name or value".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The signals that end a stack: Ctrl-C, SIGTERM, a closed terminal.
pub(crate) struct Stop([Signal; 3]);

impl Stop {
    pub(crate) fn new() -> Result<Self> {
        let on = |kind| signal(kind);
        Ok(Self([
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
        ]))
    }

    /// Can be dropped and called again.
    pub(crate) async fn wanted(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A word of a shell's line: quoted where the shell would take it apart.
fn typed(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_to_type_keeps_its_words_together() {
        for word in ["target/dev/ssh_config", "/tmp/a b/äö", "it's", "$HOME;x", ""] {
            let line = format!("printf %s {}", typed(word));
            let printed = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(printed.stdout).unwrap(), word, "{line}");
        }
        assert_eq!(typed("target/dev/doorward"), "target/dev/doorward");
    }
}
