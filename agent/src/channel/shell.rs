//! A session channel (RFC 4254, 6): it collects what is asked for, then runs one program.

use std::sync::Arc;

use bytes::Bytes;
use doorward_audit::{Env, Exec, Pty, Shell, Signal, Subsystem};
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::inlet::Inlet;
use super::{run, sftp};
use crate::forward::Display;
use crate::process::{Program, Size};
use crate::session::Session;
use crate::ssh::Level;
use crate::tap::{Outlet, Stop, Tap};

/// What a client asked for and was granted, for the channel's task to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Run the program on a terminal.
    Terminal {
        /// The value of `TERM`.
        term: String,
        /// Its size at first.
        size: Size,
        /// Its modes (RFC 4254, 8).
        modes: Vec<(u8, u32)>,
    },
    /// An environment variable, taken or not.
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// Whether it is set.
        accepted: bool,
    },
    /// Lend the user's X server to the program.
    Display(Display),
    /// Run this.
    Start(Program),
    /// Serve files, for reading only or not.
    Files {
        /// Whether every change is refused.
        read_only: bool,
    },
    /// Send a signal to the program's group; the name is without `SIG`.
    Signal(&'static str),
}

/// What the task of a new channel gets.
pub(crate) struct Opening {
    /// The channel.
    pub(crate) channel: Channel<Msg>,
    /// Its number in the recording.
    pub(crate) number: u32,
    /// How the client is told that it is open.
    pub(crate) reply: ChannelOpenHandle,
    /// The connection.
    pub(crate) handle: Handle,
    /// What was granted, in order.
    pub(crate) acts: mpsc::Receiver<Act>,
    /// The terminal's size: the latest counts.
    pub(crate) size: watch::Receiver<Size>,
    /// Where the length of its queue is told.
    pub(crate) level: Arc<Level>,
}

/// What a program is started with.
#[derive(Debug, Default)]
pub(super) struct Setup {
    pub(super) terminal: Option<(String, Vec<(u8, u32)>)>,
    pub(super) variables: Vec<(String, Vec<u8>)>,
    pub(super) display: Option<Display>,
}

/// What the channel is for, once that is known.
enum Ready {
    Program(Program, Setup),
    Files { read_only: bool },
}

/// The subsystem that is served.
pub(crate) const SFTP: &str = "sftp";

/// Serves a session channel to its end.
pub(crate) async fn serve(session: Arc<Session>, opening: Opening) {
    let Opening {
        channel,
        number,
        reply,
        handle,
        mut acts,
        mut size,
        level,
    } = opening;
    let tap = match Tap::open(&session, number, "session").await {
        Ok(tap) => tap,
        Err(_) => return reply.reject(ChannelOpenFailure::ResourceShortage).await,
    };
    let (mut reader, write) = channel.split();
    let closed = session.stopping().child_token();
    let outlet = Outlet::new(tap.clone(), write, handle, closed.clone());
    let inlet = Inlet::new(level);
    reply.accept().await;
    let work = async {
        let (program, setup) = match prepare(&mut acts, &outlet, &closed).await? {
            Some(Ready::Program(program, setup)) => (program, setup),
            Some(Ready::Files { read_only }) => return sftp::run(&session, &outlet, &inlet, &closed, read_only).await,
            None => return Ok(()),
        };
        run::run(&session, &outlet, &inlet, &closed, &mut acts, &mut size, program, setup).await
    };
    let mut draining = std::pin::pin!(drain(&mut reader, &inlet, &closed, &tap));
    tokio::select! {
        biased;
        () = &mut draining => {}
        // Boxed: it is the larger part by far, and most channels of a connection come one after the other.
        _ = Box::pin(work) => {}
    }
    // A session that is ended from this side says so once, for all of its channels.
    let silent = session.stopping().is_cancelled() && !session.recording().is_broken();
    // To the last moment the reader is emptied: what a client still sends must not stand in the way of the close.
    tokio::select! {
        biased;
        () = draining => {}
        () = outlet.close(silent) => {}
    }
}

/// Empties the reader for as long as the channel lives; never waits for anybody. Never returns.
async fn drain(reader: &mut ChannelReadHalf, inlet: &Inlet, closed: &CancellationToken, tap: &Tap) {
    let mut told = false;
    loop {
        match reader.wait().await {
            Some(ChannelMsg::Data { data }) => inlet.push(data),
            Some(ChannelMsg::ExtendedData { .. }) => {
                // No program reads from a second stream.
                if !std::mem::replace(&mut told, true) {
                    tap.refused("extended data", "a client has no second stream");
                }
            }
            Some(ChannelMsg::Eof) => inlet.end(),
            Some(ChannelMsg::Close) | None => break,
            // Requests arrive through the connection's handler, with their answers.
            Some(_) => {}
        }
    }
    inlet.discard();
    closed.cancel();
    std::future::pending::<()>().await;
}

/// Collects the set-up until a program is to be started; `None` if the channel ends before.
async fn prepare(
    acts: &mut mpsc::Receiver<Act>,
    outlet: &Outlet,
    closed: &CancellationToken,
) -> Result<Option<Ready>, Stop> {
    let mut setup = Setup::default();
    loop {
        let act = tokio::select! {
            () = closed.cancelled() => return Ok(None),
            act = acts.recv() => act,
        };
        match act {
            None => return Ok(None),
            Some(Act::Terminal { term, size, modes }) => {
                let (cols, rows) = (size.cols.into(), size.rows.into());
                let noted = Bytes::copy_from_slice(term.as_bytes());
                outlet
                    .tap()
                    .note(|channel| Pty {
                        channel,
                        term: noted,
                        cols,
                        rows,
                        modes: modes.clone(),
                    })
                    .await?;
                setup.terminal = Some((term, modes));
            }
            Some(Act::Variable { name, value, accepted }) => {
                let noted = Bytes::copy_from_slice(value.as_bytes());
                let env = |channel| Env {
                    channel,
                    name: name.clone(),
                    value: noted,
                    accepted,
                };
                outlet.tap().note(env).await?;
                if accepted {
                    setup.variables.push((name, value.into_bytes()));
                }
            }
            Some(Act::Display(display)) => setup.display = Some(display),
            Some(Act::Signal(name)) => {
                outlet
                    .tap()
                    .note(|channel| Signal {
                        channel,
                        name: name.to_owned(),
                    })
                    .await?;
            }
            Some(Act::Start(program)) => {
                match &program {
                    Program::Shell => outlet.tap().note(|channel| Shell { channel }).await?,
                    Program::Command(line) => {
                        let command = Bytes::copy_from_slice(line);
                        outlet.tap().note(|channel| Exec { channel, command }).await?;
                    }
                }
                outlet.tap().starts(setup.terminal.is_some());
                return Ok(Some(Ready::Program(program, setup)));
            }
            Some(Act::Files { read_only }) => {
                let name = SFTP.to_owned();
                outlet.tap().note(|channel| Subsystem { channel, name }).await?;
                outlet.tap().starts(false);
                return Ok(Some(Ready::Files { read_only }));
            }
        }
    }
}
