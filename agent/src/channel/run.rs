//! Running one program in a session channel, from its start to its exit status.
//!
//! As sshd does it: the exit status is sent as soon as the process has ended; output that is still to come follows.
//! Without a terminal the channel stays open while anybody holds the pipes; with one it ends when the leader has ended
//! and the terminal is empty.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use bytes::Bytes;
use doorward_audit::{Exit, Resized, Signal as Signalled};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::inlet::Inlet;
use super::pump;
use super::shell::{Act, Setup};
use crate::forward;
use crate::process::{
    self, Ending, LaunchError, Launched, Mark, Program, Size, Terminal, environment, for_terminal, launch, motd,
};
use crate::session::Session;
use crate::tap::{Flow, Keep, Outlet, Stop};

/// A program that runs.
struct Started {
    launched: Launched,
    terminal: Option<Terminal>,
    /// To be shown before what it prints.
    motd: Option<Bytes>,
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot open a terminal: {0}")]
    Terminal(#[source] io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// With what the system says to everybody.
    #[error("logins are closed")]
    Closed(Vec<u8>),
    #[error("mosh needs UDP from your machine straight to the workspace, which no gateway carries; use ssh")]
    Mosh,
    #[error("the start was interrupted: {0}")]
    Interrupted(#[source] io::Error),
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one channel, borrowed apart from each other"
)]
pub(super) async fn run(
    session: &Arc<Session>,
    outlet: &Outlet,
    inlet: &Inlet,
    closed: &CancellationToken,
    acts: &mut mpsc::Receiver<Act>,
    size: &mut watch::Receiver<Size>,
    program: Program,
    mut setup: Setup,
) -> Result<(), Stop> {
    let at_first = *size.borrow_and_update();
    let display = setup.display.take().map(|display| (display, outlet.handle().clone()));
    let (lent, missing) = forward::extras(session, display, closed).await;
    let notice = session.notice().map(|text| format!("doorward: {text}\r\n"));
    for text in notice.into_iter().chain(missing) {
        let mut errors = Flow::new(Flow::ERRORS, Keep::Whole);
        outlet.output(&mut errors, Bytes::from(text)).await?;
    }
    let mark = Mark::channel(session.id(), outlet.tap().channel());
    let Started {
        launched,
        terminal,
        motd,
    } = match start(session, mark, program, setup, lent, at_first).await {
        Ok(started) => started,
        Err(StartError::Closed(text)) => return not_started(outlet, for_terminal(&text)).await,
        Err(error) => return failed(outlet, &error).await,
    };
    let Launched {
        mut child,
        leader,
        awaited,
        stdin,
        stdout,
        stderr,
    } = launched;
    let terminal = terminal.as_ref();
    let terms = session.terms().recording;
    let kept = if terminal.is_some() {
        Keep::Whole
    } else {
        Keep::UpTo(terms.bulk_limit)
    };
    let mut input = Flow::new(
        Flow::INPUT,
        match (terms.input, terminal) {
            (true, _) => kept,
            (false, Some(_)) => Keep::Nothing,
            (false, None) => Keep::UpTo(0),
        },
    );
    let mut output = Flow::new(Flow::OUTPUT, kept);
    let mut errors = Flow::new(Flow::ERRORS, kept);

    let exited = CancellationToken::new();
    let outputs = async {
        if let Some(motd) = motd {
            outlet.output(&mut output, motd).await?;
        }
        let last_call = terminal.map(|_| &exited);
        let out = pump::outward(stdout, outlet, &mut output, last_call);
        match stderr {
            Some(stderr) => drop(tokio::try_join!(out, pump::outward(stderr, outlet, &mut errors, None))?),
            None => out.await?,
        }
        Ok(())
    };
    let exit = async {
        let status = child.wait().await;
        inlet.discard();
        let sent = outlet.exit(described(status)).await;
        exited.cancel();
        sent
    };
    let ended = tokio::select! {
        ended = async {
            tokio::try_join!(exit, outputs)?;
            // Not before the status: a client that has said everything answers this with its close, and the library
            // sends nothing after that.
            outlet.eof().await
        } => ended,
        Err(stop) = pump::inward(inlet, stdin, terminal, outlet.tap(), &mut input) => Err(stop),
        Err(stop) = control(acts, size, terminal, leader, outlet) => Err(stop),
        () = closed.cancelled() => Err(Stop::Gone),
    };
    let (ending, grace) = session.ending();
    if ended.is_err() {
        // The terminal and the pipes are closed by now, or close with this function.
        session
            .tasks()
            .spawn(process::end(child, leader, awaited, mark, ending, grace));
    } else if ending == Ending::Kill {
        session.tasks().spawn(process::end_all(mark, grace));
    }
    for flow in [input, output, errors] {
        outlet.tap().end(flow).await?;
    }
    ended
}

/// Starts the program where blocking is allowed: forking and looking up accounts take their time.
async fn start(
    session: &Arc<Session>,
    mark: Mark,
    program: Program,
    setup: Setup,
    lent: Vec<(OsString, OsString)>,
    size: Size,
) -> Result<Started, StartError> {
    let account = Arc::clone(session.account());
    let origin = session.origin().clone();
    let root = account.root.clone();
    let run = program.clone();
    let there = move || {
        if let Some(text) = process::closed(&account) {
            return Err(StartError::Closed(text));
        }
        if program.is_mosh() {
            return Err(StartError::Mosh);
        }
        let opened = match &setup.terminal {
            Some((_, modes)) => Some(Terminal::open(&account, size, modes).map_err(StartError::Terminal)?),
            None => None,
        };
        let term = setup.terminal.as_ref().map(|(term, _)| OsStr::new(term));
        let on = opened.as_ref().map(|(_, slave)| slave.path()).zip(term);
        let mut environment: Vec<(OsString, OsString)> = environment(&account, &origin, on, &setup.variables);
        environment.extend(lent);
        environment.extend(mark.variables());
        let shown = opened.is_some() && program == Program::Shell;
        let motd = shown.then(|| motd(&account)).flatten();
        Ok((opened, environment, motd))
    };
    let (opened, environment, motd) = process::inside(root, || Ok(there()))
        .await
        .map_err(StartError::Interrupted)??;
    let account = Arc::clone(session.account());
    // A process that is started from within the container would not be ours to wait for: it enters by itself.
    let here = move || {
        let (terminal, slave) = opened.unzip();
        let launched = launch(&account, &run, environment, terminal.as_ref().zip(slave))?;
        Ok(Started {
            launched,
            terminal,
            motd,
        })
    };
    process::inside(None, || Ok(here()))
        .await
        .map_err(StartError::Interrupted)?
}

/// Says on standard error why nothing runs, as a shell would.
pub(super) async fn failed(outlet: &Outlet, error: &(dyn std::error::Error + Sync)) -> Result<(), Stop> {
    not_started(outlet, Bytes::from(format!("doorward: {error}\r\n"))).await
}

/// The same in these words.
pub(super) async fn not_started(outlet: &Outlet, text: Bytes) -> Result<(), Stop> {
    let mut errors = Flow::new(Flow::ERRORS, Keep::Whole);
    outlet.output(&mut errors, text).await?;
    outlet
        .exit(Exit {
            status: Some(NOT_STARTED),
            ..Exit::default()
        })
        .await?;
    outlet.eof().await
}

/// Resizes and signals, until the program ends. Never returns without an error.
async fn control(
    acts: &mut mpsc::Receiver<Act>,
    size: &mut watch::Receiver<Size>,
    terminal: Option<&Terminal>,
    leader: Pid,
    outlet: &Outlet,
) -> Result<(), Stop> {
    loop {
        tokio::select! {
            Ok(()) = size.changed() => {
                let now = *size.borrow_and_update();
                let (cols, rows) = (now.cols.into(), now.rows.into());
                outlet.tap().note(|channel| Resized { channel, cols, rows }).await?;
                if let Some(Err(error)) = terminal.map(|terminal| terminal.resize(now)) {
                    tracing::debug!(%error, "cannot resize a terminal");
                }
            }
            Some(act) = acts.recv() => {
                // Everything else is for before the start, and is refused after it.
                if let Act::Signal(name) = act {
                    outlet.tap().note(|channel| Signalled { channel, name: name.to_owned() }).await?;
                    if let Ok(signal) = format!("SIG{name}").parse::<Signal>() {
                        // The group may have ended in this moment.
                        let _ = signal::killpg(leader, signal);
                    }
                }
            }
            else => std::future::pending::<()>().await,
        }
    }
}

pub(super) fn described(status: io::Result<ExitStatus>) -> Exit {
    let Ok(status) = status else {
        // Somebody else reaped it: how it ended is not known.
        return Exit {
            status: Some(NOT_KNOWN),
            ..Exit::default()
        };
    };
    match status.signal() {
        Some(number) => {
            let name = Signal::try_from(number).map_or_else(
                |_| number.to_string(),
                |signal| signal.as_str().trim_start_matches("SIG").to_owned(),
            );
            Exit {
                signal: Some(name),
                core_dumped: status.core_dumped(),
                ..Exit::default()
            }
        }
        None => Exit {
            status: status.code().and_then(|code| u32::try_from(code).ok()),
            ..Exit::default()
        },
    }
}

/// Exit status where the shell could not be started, as sshd's.
const NOT_STARTED: u32 = 1;
/// Exit status where nobody knows it.
const NOT_KNOWN: u32 = 255;
