//! A channel that serves files: it carries requests to the serving process and its answers back, and puts what the
//! process reports into the recording before the answers that show it.

use std::sync::Arc;
use std::time::Duration;

use doorward_audit::{Event, FileClosed, FileOperation, FolderListed, Gap};
use nix::fcntl::{FcntlArg, fcntl};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::inlet::Inlet;
use super::{pump, run};
use crate::process::{self, Ending, LaunchError, Launched, Mark, for_terminal, launch_own};
use crate::session::Session;
use crate::sftp::{self, Piece, Splitter};
use crate::tap::{Flow, Keep, Outlet, Stop};

/// Serves files until the client or the process has ended.
pub(super) async fn run(
    session: &Arc<Session>,
    outlet: &Outlet,
    inlet: &Inlet,
    closed: &CancellationToken,
    read_only: bool,
) -> Result<(), Stop> {
    let account = Arc::clone(session.account());
    match process::inside(account.root.clone(), move || Ok(process::closed(&account))).await {
        Ok(None) => {}
        Ok(Some(text)) => return run::not_started(outlet, for_terminal(&text)).await,
        Err(error) => return run::failed(outlet, &error).await,
    }
    if let Some(text) = session.notice() {
        let mut errors = Flow::new(Flow::ERRORS, Keep::Whole);
        outlet
            .output(&mut errors, format!("doorward: {text}\r\n").into())
            .await?;
    }
    let launched = match start(session, read_only).await {
        Ok(launched) => launched,
        Err(error) => return run::failed(outlet, &error).await,
    };
    let Launched {
        mut child,
        leader,
        awaited,
        stdin,
        stdout,
        stderr,
    } = launched;
    let (_, grace) = session.ending();
    let mark = Mark::channel(session.id(), outlet.tap().channel());
    let mut errors = Flow::new(Flow::ERRORS, Keep::UpTo(session.terms().recording.bulk_limit));
    let mut passed = Passed::default();
    let talk = async {
        let said = async {
            if let Some(stderr) = stderr {
                // A client that has left hears no errors.
                let _ = pump::outward(stderr, outlet, &mut errors, None).await;
            }
        };
        let whole = tokio::join!(answers(&stdout, outlet, &mut passed.out), said).0?;
        Ok((child.wait().await, whole))
    };
    let ended = tokio::select! {
        ended = talk => ended,
        Err(stop) = requests(inlet, stdin, outlet, closed, &mut passed.inward) => Err(stop),
        () = late(closed, grace) => Err(Stop::Gone),
    };
    // It tells of everything that is open before it ends by itself.
    let told = matches!(&ended, Ok((Ok(status), true)) if status.code().is_some_and(|code| TOLD.contains(&code)));
    let ended = match ended {
        Ok((status, _)) => Ok(status),
        Err(stop) => {
            // Whatever becomes of programs: it has nobody left to serve.
            let end = process::end(child, leader, awaited, mark, Ending::Kill, grace);
            session.tasks().spawn(end);
            Err(stop)
        }
    };
    outlet.tap().end(errors).await?;
    if !told {
        let gap = |channel| Gap {
            channel: Some(channel),
            bytes: passed.inward.saturating_add(passed.out),
            why: "the sftp server was ended before it could say which files were open".to_owned(),
            ..Gap::default()
        };
        outlet.tap().note(gap).await?;
    }
    let status = ended?;
    inlet.discard();
    outlet.exit(run::described(status)).await?;
    outlet.eof().await
}

/// Bytes that were carried.
#[derive(Debug, Default)]
struct Passed {
    inward: u64,
    out: u64,
}

/// Starts the process where blocking is allowed.
async fn start(session: &Arc<Session>, read_only: bool) -> Result<Launched, LaunchError> {
    let arguments = sftp::arguments(session.account(), read_only);
    let program = session.program().to_owned();
    let task = tokio::task::spawn_blocking(move || launch_own(&program, sftp::NAME, arguments));
    let launched = task
        .await
        .map_err(|_| LaunchError::Pipes(std::io::ErrorKind::Interrupted.into()))??;
    // As large as a pipe may be without rights; a smaller one serves as well.
    let _ = fcntl(&launched.stdin, FcntlArg::F_SETPIPE_SZ(PIPE));
    let _ = fcntl(&launched.stdout, FcntlArg::F_SETPIPE_SZ(PIPE));
    Ok(launched)
}

/// Carries requests until the client has said everything; then the process hears the end of its input.
async fn requests(
    inlet: &Inlet,
    to: pipe::Sender,
    outlet: &Outlet,
    closed: &CancellationToken,
    passed: &mut u64,
) -> Result<(), Stop> {
    while let Some(chunk) = inlet.take().await {
        outlet.tap().accounted(chunk.len());
        *passed += chunk.len() as u64;
        let written = tokio::select! {
            written = pump::write_all(&to, chunk) => written,
            () = closed.cancelled() => return Ok(()),
        };
        if written.is_err() {
            inlet.discard();
        }
    }
    Ok(())
}

/// Records what is reported and sends what is answered, in their order, until the process says no more; tells whether it
/// stopped after a whole packet. Reports are recorded also when the client has left.
async fn answers(from: &pipe::Receiver, outlet: &Outlet, passed: &mut u64) -> Result<bool, Stop> {
    let mut splitter = Splitter::default();
    let mut gone = false;
    loop {
        if from.readable().await.is_err() {
            return Ok(splitter.is_whole());
        }
        splitter.buffer.reserve(READ);
        match from.try_read_buf(&mut splitter.buffer) {
            Ok(0) => return Ok(splitter.is_whole()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return Ok(false),
        }
        loop {
            match splitter.next() {
                Ok(Some(Piece::Report(event))) => record(event, outlet).await?,
                Ok(Some(Piece::Answers(bytes))) => {
                    *passed += bytes.len() as u64;
                    gone = gone || outlet.accounted(bytes).await.is_err();
                }
                Ok(None) => break,
                Err(broken) => {
                    tracing::error!(%broken, "ending a file server");
                    return Err(Stop::Gone);
                }
            }
        }
    }
}

/// Records an event of the process: what such a process can know about, and nothing else.
async fn record(event: Event, outlet: &Outlet) -> Result<(), Stop> {
    let tap = outlet.tap();
    match event {
        Event::FileOperation(event) => tap.note(|channel| FileOperation { channel, ..event }).await,
        Event::FileClosed(event) => tap.note(|channel| FileClosed { channel, ..event }).await,
        Event::FolderListed(event) => tap.note(|channel| FolderListed { channel, ..event }).await,
        Event::Refused(event) => {
            tap.refused(event.what, event.why);
            Ok(())
        }
        _ => Err(Stop::Gone),
    }
}

/// Resolves when the client has left and the process was given its time to end.
async fn late(closed: &CancellationToken, grace: Duration) {
    closed.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Exit codes after which nothing is left to tell.
const TOLD: [i32; 2] = [0, sftp::BAD_PACKET as i32];
/// Bytes that a pipe to or from the process holds.
const PIPE: i32 = 512 * 1024;
/// Room for one reading from it.
const READ: usize = 64 * 1024;
