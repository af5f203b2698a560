//! The container's own command as a child of the agent: started, signalled and waited for as the container's first process
//! would be, so that the container ends when the command does, and as it does.
//!
//! The command matters more than we do: what is wrong with the agent is said loudly and leaves the command alone, unless
//! [`Own::required`] says that nobody should work in a container that nobody can enter.

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::{pending, poll_fn};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, ExitStatus};
use std::task::Poll;
use std::time::Duration;

use nix::libc;
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::process;
use crate::serve::{Life, serve_for};

/// The container's own command.
#[derive(Debug)]
pub(crate) struct Own {
    /// The program and its arguments; at least one.
    pub(crate) command: Vec<OsString>,
    /// Whether it may only run while the agent serves.
    pub(crate) required: bool,
    /// How long sessions may go on after its end.
    pub(crate) linger: Duration,
}

/// Runs the command, and serves beside it until it has ended; gives its exit code as a shell would say it.
pub(crate) async fn run(config: Option<Config>, announce: Option<&Path>, own: &Own) -> u8 {
    // Before the command is there to need them.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot listen for signals");
            return FAILED;
        }
    };
    let life = Life::default();
    let mut serving = pin!(async {
        match config {
            Some(config) => match serve_for(config, announce, &life).await {
                Ok(_) => true,
                Err(error) => {
                    let error = crate::link::chain(&error);
                    tracing::error!(error, "nobody can enter this workspace: cannot serve");
                    false
                }
            },
            None => false,
        }
    });
    if own.required {
        tokio::select! {
            () = life.bound.cancelled() => {}
            _ = &mut serving => return FAILED,
            () = signals.stop() => {
                life.stop.cancel();
                serving.await;
                return 128 + SIGTERM;
            }
        }
    }
    let mut child = match start(&own.command) {
        Ok(child) => child,
        Err(error) => {
            let program = own.command.first().map(|program| program.display().to_string());
            tracing::error!(%error, program, "cannot start the container's command");
            life.end("the container's command could not be started");
            serving.await;
            return match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_RUN,
            };
        }
    };
    // Until it is awaited here no other part of this program takes its end away.
    let _awaited = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw)
        .map(process::Awaited::mark);
    let mut served = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            number = signals.next() => {
                pass_on(&child, number);
                if number == libc::SIGTERM {
                    // The pod goes. Sessions take their time to end in order, and have no more of it than the command.
                    life.stop.cancel();
                }
            }
            _ = &mut serving, if !served => served = true,
        }
    };
    let (code, how) = described(status);
    tracing::info!(code, "the container's command {how}");
    if !served {
        tokio::select! {
            () = tokio::time::sleep(own.linger) => {}
            () = signals.stop() => {}
            _ = &mut serving => served = true,
        }
    }
    if !served {
        life.end(format!("the container's command {how}"));
        serving.await;
    }
    code
}

/// Reaps orphans for as long as the work goes on.
pub(crate) async fn reaping<T>(work: impl Future<Output = T>) -> T {
    let reap = async {
        process::reap().await;
        // There is nothing to reap.
        pending::<Infallible>().await
    };
    tokio::select! {
        done = work => done,
        never = reap => match never {},
    }
}

/// With our standard streams, environment and folder, in a process group of its own; on a terminal in its foreground.
fn start(command: &[OsString]) -> io::Result<Child> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut command = Command::new(program);
    command.args(arguments);
    process::to_foreground(&mut command);
    tokio::process::Command::from(command).spawn()
}

fn pass_on(child: &Child, number: i32) {
    // Who has ended and was waited for has no id.
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        process::send(Pid::from_raw(pid), number);
    }
}

/// The exit code as shells give it, and a few words.
fn described(status: io::Result<ExitStatus>) -> (u8, String) {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => (u8::try_from(code).unwrap_or(FAILED), format!("has ended with {code}")),
            (None, Some(signal)) => (
                u8::try_from(signal).map_or(FAILED, |signal| signal.saturating_add(128)),
                format!("was ended by signal {signal}"),
            ),
            (None, None) => (FAILED, "has ended".to_owned()),
        },
        Err(error) => (FAILED, format!("cannot be waited for: {error}")),
    }
}

/// The signals that the command hears of.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn listen() -> io::Result<Self> {
        let numbers = PASSED_ON.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
        let listen = |number| Ok((number, signal(SignalKind::from_raw(number))?));
        numbers.map(listen).collect::<io::Result<_>>().map(Self)
    }

    /// The next one.
    async fn next(&mut self) -> i32 {
        poll_fn(|cx| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next that wants everything to end.
    async fn stop(&mut self) {
        while ![libc::SIGTERM, libc::SIGINT].contains(&self.next().await) {}
    }
}

/// Beside these, all real-time signals. Not those that stop a process or tell of a fault, and not SIGCHLD, which is ours.
const PASSED_ON: [i32; 12] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGALRM,
    libc::SIGURG,
    libc::SIGIO,
    libc::SIGPWR,
];
const SIGTERM: u8 = 15;
/// Exit codes as shells have them.
const FAILED: u8 = 1;
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
