//! A client that is already gone: the session was opened for it, and it did not stay.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use doorward_wire::{Carrier, Outbox};

/// Sends nothing, takes everything.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Carrier for Nobody {
    fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        Poll::Ready(Ok(None))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<()>> {
        while out.pop().is_some() {}
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
