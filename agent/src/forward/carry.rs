//! Carrying bytes between a channel and a socket, both ways, until both sides have ended or one is gone.
//!
//! Half-close passes in both directions. A socket that nobody reads fills its channel's queue, never the connection's
//! (`channel/inlet.rs`); a client that does not read stops the socket's reader alone.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use russh::{ChannelMsg, ChannelReadHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::channel::Inlet;
use crate::tap::{Flow, Keep, Outlet, Stop};

/// What passed, and how it ended.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) from_client: u64,
    pub(super) to_client: u64,
    pub(super) how: &'static str,
    /// Both sides have ended, and nothing was lost.
    pub(super) whole: bool,
}

/// Carries until the end, while somebody else drains the channel into its queue. `closed` is the channel's, a child of the session's end `stopping`.
pub(super) async fn carry<R, W>(
    outlet: &Outlet,
    inlet: &Inlet,
    (mut from, mut to): (R, W),
    closed: &CancellationToken,
    stopping: &CancellationToken,
) -> Carried
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut input = Flow::new(Flow::INPUT, Keep::Count);
    let mut output = Flow::new(Flow::OUTPUT, Keep::Count);
    let how = {
        let outward = outward(&mut from, outlet, &mut output);
        let inward = inward(inlet, &mut to, outlet, &mut input);
        both(outward, inward, closed, stopping).await
    };
    Carried {
        from_client: input.total(),
        to_client: output.total(),
        how,
        whole: how == WHOLE,
    }
}

/// Empties the reader for as long as the channel lives; never waits for anybody. Never returns.
///
/// What arrived before the channel was closed is still for the socket.
pub(super) async fn drain(reader: &mut ChannelReadHalf, inlet: &Inlet, closed: &CancellationToken) {
    loop {
        match reader.wait().await {
            Some(ChannelMsg::Data { data }) => inlet.push(data),
            Some(ChannelMsg::Eof) => inlet.end(),
            Some(ChannelMsg::Close) | None => break,
            // A forward has no second stream and no requests.
            Some(_) => {}
        }
    }
    inlet.end();
    closed.cancel();
    std::future::pending::<()>().await;
}

async fn both(
    outward: impl Future<Output = Result<(), &'static str>>,
    inward: impl Future<Output = Result<(), &'static str>>,
    closed: &CancellationToken,
    stopping: &CancellationToken,
) -> &'static str {
    let (mut outward, mut inward) = (std::pin::pin!(outward), std::pin::pin!(inward));
    let (sent, taken) = (Cell::new(false), Cell::new(false));
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return "the session ended",
            ended = &mut outward, if !sent.get() => match ended {
                Ok(()) => sent.set(true),
                Err(how) => return how,
            },
            ended = &mut inward, if !taken.get() => match ended {
                Ok(()) => taken.set(true),
                Err(how) => return how,
            },
            () = closed.cancelled() => {
                if !taken.get() {
                    let _ = timeout(FLUSH_WITHIN, inward).await;
                }
                return "the client closed it";
            }
        }
        if sent.get() && taken.get() {
            return WHOLE;
        }
    }
}

/// Sends the client what the socket gives, until its end.
async fn outward<R: AsyncRead + Unpin>(from: &mut R, outlet: &Outlet, flow: &mut Flow) -> Result<(), &'static str> {
    let mut size = LEAST;
    loop {
        let mut buffer = BytesMut::with_capacity(size);
        let read = from.read_buf(&mut BufMut::limit(&mut buffer, size)).await;
        match read {
            Ok(0) => break,
            Ok(count) if count == size => size = MOST.min(size * 4),
            Ok(count) => size = LEAST.max(count.next_power_of_two()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err("the connection was reset"),
        }
        outlet.output(flow, buffer.freeze()).await.map_err(lost)?;
    }
    outlet.eof().await.map_err(lost)
}

/// Gives the socket what the client sends, then its end. A socket that takes no more may still have something to say.
async fn inward<W: AsyncWrite + Unpin>(
    inlet: &Inlet,
    to: &mut W,
    outlet: &Outlet,
    flow: &mut Flow,
) -> Result<(), &'static str> {
    while let Some(chunk) = inlet.take().await {
        outlet.tap().input(flow, &chunk, true).await.map_err(lost)?;
        if to.write_all(&chunk).await.is_err() {
            inlet.discard();
            return Ok(());
        }
    }
    // Who has hung up needs no telling.
    let _ = to.shutdown().await;
    Ok(())
}

fn lost(stop: Stop) -> &'static str {
    match stop {
        Stop::Gone => "the client closed it",
        Stop::Lost(_) => "the recording is lost",
    }
}

const WHOLE: &str = "both sides ended";
/// The smallest buffer for what the socket gives, in bytes.
const LEAST: usize = 4 * 1024;
/// The largest: one packet of the client's.
const MOST: usize = 32 * 1024;
/// What a client sent before it closed the channel is given this long to be taken.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
