//! SSH bytes that arrived and were not consumed yet.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::ProtocolFault;

/// The receiving half of a stream of bytes: bounded by the window, in order, without gaps or doubles.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    chunks: VecDeque<Bytes>,
    small: BytesMut,
    received: u64,
    consumed: u64,
    acked: u64,
    fin: Option<u64>,
    discarding: bool,
}

/// Payloads up to this many bytes are copied, so that a few of them do not keep a large buffer alive.
const SMALL: usize = 8 * 1024;

impl Inbox {
    /// Takes bytes that begin at `offset`; what is here already is skipped. Says whether anything was new.
    pub(crate) fn accept(&mut self, offset: u64, mut bytes: Bytes, window: u64) -> Result<bool, ProtocolFault> {
        if offset > self.received {
            return Err(ProtocolFault::Gap {
                expected: self.received,
                offset,
            });
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(ProtocolFault::Overflow)?;
        if end <= self.received {
            return Ok(false);
        }
        if self.fin.is_some() {
            return Err(ProtocolFault::AfterFin);
        }
        if end - self.consumed > window {
            return Err(ProtocolFault::WindowExceeded { window });
        }
        bytes.advance(usize::try_from(self.received - offset).map_err(|_| ProtocolFault::Overflow)?);
        self.received = end;
        if self.discarding {
            self.consumed = end;
        } else if bytes.len() <= SMALL {
            self.small.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.chunks.push_back(bytes);
        }
        Ok(true)
    }

    /// Takes the end of the stream.
    pub(crate) fn finish(&mut self, offset: u64) -> Result<(), ProtocolFault> {
        if offset > self.received {
            return Err(ProtocolFault::Gap {
                expected: self.received,
                offset,
            });
        }
        if offset < self.received {
            return Err(ProtocolFault::AfterFin);
        }
        self.fin = Some(offset);
        Ok(())
    }

    /// Whether the peer's stream has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether the peer's stream has ended and all of it was consumed.
    pub(crate) fn is_over(&self) -> bool {
        self.fin.is_some() && self.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.small.is_empty()
    }

    /// The offset after the last byte that arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes consumed that no acknowledgement has covered.
    pub(crate) fn unannounced(&self) -> u64 {
        self.consumed - self.acked
    }

    /// The acknowledgement to send now.
    pub(crate) fn announce(&mut self) -> u64 {
        self.acked = self.consumed;
        self.consumed
    }

    /// Consumes up to `most` bytes without a copy.
    pub(crate) fn pop(&mut self, most: usize) -> Option<Bytes> {
        self.seal_if_first();
        let first = self.chunks.front_mut()?;
        let chunk = if first.len() > most {
            first.split_to(most)
        } else {
            self.chunks.pop_front()?
        };
        self.consumed += chunk.len() as u64;
        Some(chunk)
    }

    /// Consumes into `to`, and says how much.
    pub(crate) fn read(&mut self, to: &mut [u8]) -> usize {
        let mut count = 0;
        while count < to.len() {
            self.seal_if_first();
            let Some(first) = self.chunks.front_mut() else {
                break;
            };
            let part = first.len().min(to.len() - count);
            to[count..count + part].copy_from_slice(&first[..part]);
            count += part;
            if part == first.len() {
                self.chunks.pop_front();
            } else {
                first.advance(part);
            }
        }
        self.consumed += count as u64;
        count
    }

    /// Nobody reads any more: what is here and what will come counts as consumed.
    pub(crate) fn discard(&mut self) {
        self.discarding = true;
        self.chunks = VecDeque::new();
        self.small = BytesMut::new();
        self.consumed = self.received;
    }

    fn seal_if_first(&mut self) {
        if self.chunks.is_empty() {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.small).freeze());
        }
    }
}
