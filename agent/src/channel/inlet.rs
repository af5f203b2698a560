//! What a client has sent into a channel and its process has not taken yet.
//!
//! The channel's reader must never wait (an undrained reader stops the whole connection), so everything goes in here
//! at once, by count of bytes; the connection's window rule hears when a queue grows long.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::ssh::Level;

/// The queue of one channel.
#[derive(Debug)]
pub(crate) struct Inlet {
    level: Arc<Level>,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// Small packets, gathered: each alone would cost more than its bytes.
    tail: BytesMut,
    bytes: usize,
    ended: bool,
    discarding: bool,
}

impl Inlet {
    /// An empty queue that tells its length here.
    pub(crate) fn new(level: Arc<Level>) -> Self {
        Self {
            level,
            queue: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Takes in what arrived; never waits.
    pub(crate) fn push(&self, bytes: Bytes) {
        let mut queue = self.queue();
        if queue.discarding || queue.ended {
            return;
        }
        queue.bytes += bytes.len();
        if bytes.len() < SMALL {
            queue.tail.extend_from_slice(&bytes);
        } else {
            queue.seal();
            queue.chunks.push_back(bytes);
        }
        self.level.set(queue.bytes);
        drop(queue);
        self.changed.notify_one();
    }

    /// No more will arrive.
    pub(crate) fn end(&self) {
        self.queue().ended = true;
        self.changed.notify_one();
    }

    /// Nobody will take any more: what is here and what still comes is dropped.
    pub(crate) fn discard(&self) {
        let mut queue = self.queue();
        queue.discarding = true;
        queue.chunks.clear();
        queue.tail.clear();
        queue.bytes = 0;
        self.level.set(0);
        drop(queue);
        self.changed.notify_one();
    }

    /// The next bytes in order; `None` once all were taken and no more will come. For one taker.
    pub(crate) async fn take(&self) -> Option<Bytes> {
        loop {
            {
                let mut queue = self.queue();
                if let Some(chunk) = queue.pop() {
                    self.level.set(queue.bytes);
                    return Some(chunk);
                }
                if queue.ended || queue.discarding {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // The window rule may hold the level a little longer.
        self.level.set(0);
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }
}

/// Packets below this many bytes are gathered.
const SMALL: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::Inflow;

    fn inlet(inflow: &Arc<Inflow>) -> Inlet {
        Inlet::new(Arc::new(Level::new(inflow)))
    }

    #[tokio::test]
    async fn bytes_come_out_in_order_whatever_the_packets_were() {
        let inlet = inlet(&Arc::default());
        let mut expected = Vec::new();
        for size in [1, 5_000, 3, 3, 9_000, 1, 4_096, 4_095] {
            let packet = vec![u8::try_from(size % 251).unwrap(); size];
            expected.extend_from_slice(&packet);
            inlet.push(packet.into());
        }
        inlet.end();
        inlet.push(Bytes::from_static(b"after the end"));
        let mut got = Vec::new();
        while let Some(chunk) = inlet.take().await {
            got.extend_from_slice(&chunk);
        }
        assert_eq!(got, expected);
    }

    #[tokio::test]
    async fn a_long_queue_is_told_once_and_taken_back() {
        let inflow: Arc<Inflow> = Arc::default();
        let inlet = inlet(&inflow);
        for _ in 0..64 {
            inlet.push(vec![0; 32 * 1024].into());
        }
        assert!(inflow.is_stuck());
        for _ in 0..49 {
            assert!(inlet.take().await.is_some());
        }
        assert!(!inflow.is_stuck());
        for _ in 0..64 {
            inlet.push(vec![0; 32 * 1024].into());
        }
        assert!(inflow.is_stuck());
        drop(inlet);
        assert!(!inflow.is_stuck());
    }

    #[tokio::test]
    async fn discarding_empties_and_ends() {
        let inflow: Arc<Inflow> = Arc::default();
        let inlet = inlet(&inflow);
        inlet.push(vec![0; 2 * Inflow::LONG].into());
        inlet.discard();
        assert!(!inflow.is_stuck());
        inlet.push(Bytes::from_static(b"x"));
        assert_eq!(inlet.take().await, None);
    }
}
