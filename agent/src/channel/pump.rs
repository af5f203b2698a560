//! Moving bytes between a process and its channel.

use std::io;
use std::os::fd::AsFd;

use bytes::{BufMut, Bytes, BytesMut};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::inlet::Inlet;
use crate::process::Terminal;
use crate::tap::{Flow, Outlet, Stop, Tap};

/// Sends what the process writes to the client, until the process's side is closed.
///
/// `last_call` is for terminals: once it is cancelled, what is there now is the rest, whoever else still holds the
/// terminal open.
pub(super) async fn outward(
    from: pipe::Receiver,
    outlet: &Outlet,
    flow: &mut Flow,
    last_call: Option<&CancellationToken>,
) -> Result<(), Stop> {
    // Grows under load and is given back when the process falls silent: an idle channel holds no buffer.
    let mut size = LEAST;
    let most = match outlet.tap().waits_for_the_disk() {
        true => MOST_AT_ONCE,
        false => MOST,
    };
    loop {
        let called = async {
            match last_call {
                Some(token) => token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = from.readable() => if ready.is_err() { return Ok(()) },
            () = called => return rest(&from, outlet, flow).await,
        }
        let mut buffer = BytesMut::with_capacity(size);
        let more = fill(&from, &mut buffer, size);
        if !buffer.is_empty() {
            size = if buffer.len() == size {
                most.min(size * 4)
            } else {
                LEAST.max(buffer.len().next_power_of_two())
            };
            if size > MOST {
                // Of a terminal it cannot be asked, and a smaller pipe serves as well.
                let _ = fcntl(&from, FcntlArg::F_SETPIPE_SZ(MOST_AT_ONCE as i32));
            }
            outlet.output(flow, buffer.freeze()).await?;
        }
        if !more {
            return Ok(());
        }
    }
}

/// Reads what is there, up to `size` bytes; false at the end.
fn fill(from: &pipe::Receiver, buffer: &mut BytesMut, size: usize) -> bool {
    while buffer.len() < size {
        let room = size - buffer.len();
        match from.try_read_buf(&mut BufMut::limit(&mut *buffer, room)) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal that nobody holds any longer answers EIO.
            Err(_) => return false,
        }
    }
    true
}

/// What a terminal still holds. The system call is made without asking the reactor, which may not have heard yet.
async fn rest(from: &pipe::Receiver, outlet: &Outlet, flow: &mut Flow) -> Result<(), Stop> {
    loop {
        let mut buffer = BytesMut::zeroed(LEAST);
        match nix::unistd::read(from.as_fd(), &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                buffer.truncate(count);
                outlet.output(flow, buffer.freeze()).await?;
            }
            Err(Errno::EINTR) => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Gives the process what the client sends; when the client says that no more comes, a pipe is closed, a terminal is
/// not (as with sshd). Input that nobody reads any more is dropped.
pub(super) async fn inward(
    inlet: &Inlet,
    to: pipe::Sender,
    terminal: Option<&Terminal>,
    tap: &Tap,
    flow: &mut Flow,
) -> Result<(), Stop> {
    while let Some(chunk) = inlet.take().await {
        // Asked only where it matters: it is a system call for every key.
        let visible = !flow.is_kept() || terminal.is_none_or(Terminal::echoes);
        tap.input(flow, &chunk, visible).await?;
        if write_all(&to, chunk).await.is_err() {
            inlet.discard();
        }
    }
    Ok(())
}

pub(super) async fn write_all(to: &pipe::Sender, mut chunk: Bytes) -> io::Result<()> {
    while !chunk.is_empty() {
        match to.try_write(&chunk) {
            Ok(count) => drop(chunk.split_to(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The smallest buffer for output, in bytes.
const LEAST: usize = 4 * 1024;
/// The largest: one packet of the client's.
const MOST: usize = 32 * 1024;
/// The largest where each waits for the disk, which takes as long for much as for little; a block of the recording holds it.
const MOST_AT_ONCE: usize = 128 * 1024;
