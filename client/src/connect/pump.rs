//! Bytes between `ssh` and the tunnel, both ways at once.
//!
//! Each direction ends by itself: the end of standard input is passed on, and what still comes is written until the
//! session says its end. Writing waits for `ssh` as long as `ssh` lives, for a stopped terminal is no fault; a session
//! that is over but whose last bytes are not read yet is waited for in the same way.

use std::future::pending;
use std::time::Duration;

use doorward_wire::driver::{Closed, DriverError, Said};
use doorward_wire::{End, Incoming, SessionHandle, SshReader, SshStream, SshWriter};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::early::Expected;
use super::stdio::{Input, Output};
use crate::say;
use crate::signals::Signals;

/// How much is read at once.
const CHUNK: usize = 128 * 1024;
/// How long a session may go on without a byte after our input ended. `ssh` closes it only when it ends itself.
const AFTERWARDS: Duration = Duration::from_secs(15);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a part has to say to the whole.
#[derive(Debug)]
enum Happened {
    /// Standard input ended, and that was passed on.
    InputEnded,
    /// Everything that came was written.
    Written,
    /// The workspace is not the one that was announced to `ssh`.
    Stranger,
    /// Nobody reads standard output any more.
    NobodyReads,
    /// Everything that the other side says was heard.
    Heard,
    /// The driver ended.
    Over(Result<Closed, DriverError>),
}

/// Moves bytes until the session is over and everything of it was written.
pub(super) async fn run(
    stream: SshStream,
    incoming: Incoming,
    handle: SessionHandle,
    driver: impl Future<Output = Result<Closed, DriverError>> + Send + 'static,
    input: Input,
    output: Output,
    said: Expected,
) -> Result<Closed, DriverError> {
    let (reader, writer) = stream.into_split();
    let mut parts = JoinSet::new();
    parts.spawn(async { Happened::Over(driver.await) });
    parts.spawn(upwards(input, writer));
    parts.spawn(downwards(reader, output, said));
    parts.spawn(listen(incoming));
    let mut leaving = Leaving { handle, said: false };
    let mut asked_to_leave = Signals::new();
    let mut over = None;
    let (mut written, mut heard) = (false, false);
    // When to look whether the session still has a purpose.
    let mut look_at: Option<Instant> = None;
    let mut moved = leaving.handle.counters();
    while over.is_none() || !written || !heard {
        let happened = tokio::select! {
            joined = parts.join_next() => match joined {
                Some(Ok(happened)) => happened,
                // A part that failed in a way of its own leaves nothing to go on with.
                Some(Err(_)) | None => return over.unwrap_or(Err(DriverError::Cut)),
            },
            () = asked_to_leave.next() => {
                // `ssh` hangs up on its way out. What it still wrote is passed on before we go.
                look_at = Some(Instant::now() + GOODBYE);
                leaving.said = true;
                continue;
            }
            () = at(look_at) => {
                let now = leaving.handle.counters();
                if leaving.said || now == moved {
                    leaving.end();
                    let rest = timeout(GOODBYE, until_over(&mut parts)).await;
                    return over.or(rest.ok().flatten()).unwrap_or(Ok(Closed::Finished));
                }
                moved = now;
                look_at = Some(Instant::now() + AFTERWARDS);
                continue;
            }
        };
        match happened {
            Happened::InputEnded if look_at.is_none() => {
                moved = leaving.handle.counters();
                look_at = Some(Instant::now() + AFTERWARDS);
            }
            Happened::InputEnded => {}
            Happened::Written => written = true,
            Happened::Heard => heard = true,
            Happened::Over(result) => {
                over = Some(result);
                // What is left depends on the reader of our output alone.
                look_at = None;
            }
            Happened::Stranger => {
                leaving.end();
                let other = "the workspace did not identify itself as the gateway said it would";
                over = Some(Err(DriverError::Io(std::io::Error::other(other))));
                (written, heard) = (true, true);
            }
            Happened::NobodyReads => {
                written = true;
                leaving.end();
                look_at = Some(Instant::now() + GOODBYE);
            }
        }
    }
    over.unwrap_or(Ok(Closed::Finished))
}

/// Our own end of the session.
#[derive(Debug)]
struct Leaving {
    handle: SessionHandle,
    /// Whether somebody wants us to leave, whatever still moves.
    said: bool,
}

impl Leaving {
    fn end(&mut self) {
        self.said = true;
        self.handle.end(End::new(0, "client-gone", "the client ended"));
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}

async fn until_over(parts: &mut JoinSet<Happened>) -> Option<Result<Closed, DriverError>> {
    while let Some(joined) = parts.join_next().await {
        if let Ok(Happened::Over(over)) = joined {
            return Some(over);
        }
    }
    None
}

async fn upwards(mut input: impl AsyncRead + Unpin, mut writer: SshWriter) -> Happened {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match input.read(&mut buffer).await {
            // A reset by `ssh` is its end as well.
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if writer.write_all(&buffer[..count]).await.is_err() {
            // The session is over; the driver says why.
            break;
        }
    }
    let _ = writer.shutdown().await;
    Happened::InputEnded
}

async fn downwards(mut reader: SshReader, mut output: Output, mut said: Expected) -> Happened {
    // A break is an end here: what came before it is written, and the driver says why.
    while let Ok(Some(mut chunk)) = reader.chunk().await {
        if said.skip(&mut chunk).is_err() {
            return Happened::Stranger;
        }
        let written = match output.write_all(&chunk).await {
            Ok(()) => output.flush().await,
            Err(error) => Err(error),
        };
        if written.is_err() {
            return Happened::NobodyReads;
        }
    }
    output.close();
    Happened::Written
}

async fn listen(mut incoming: Incoming) -> Happened {
    while let Some(said) = incoming.next().await {
        match said {
            Said::Notice(text) => say::aside(&text),
            // The driver's result holds it.
            Said::End(_) => {}
        }
    }
    Happened::Heard
}
