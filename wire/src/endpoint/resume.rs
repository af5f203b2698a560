//! Going on over a new stream after the old one broke.

use std::collections::VecDeque;

use super::retained::Retained;
use super::{Endpoint, Item, ProtocolFault, is_ssh};

impl Endpoint {
    /// Goes on over a new stream: `received` is what the peer has of our SSH bytes, `recorded` what it has of the
    /// recording (`None` if records did not break off). All records go again before any SSH bytes do.
    ///
    /// # Errors
    /// [`ProtocolFault::Unresumable`] if that is not what we keep.
    pub fn resume(&mut self, received: u64, recorded: Option<u64>) -> Result<(), ProtocolFault> {
        let kept = |kept: &Retained, offset: u64| {
            let (start, end) = (kept.start(), kept.end());
            if offset < start || offset > end {
                return Err(ProtocolFault::Unresumable { offset, start, end });
            }
            Ok(())
        };
        kept(&self.data, received)?;
        if let Some(recorded) = recorded {
            kept(&self.records, recorded)?;
        }
        self.data.release(received);
        let mut queue: VecDeque<Item> = VecDeque::new();
        let mut record_end = false;
        if let Some(recorded) = recorded {
            self.records.release(recorded);
            queue.extend(self.records.take_back().into_iter().map(Item::Record));
            record_end = self.record_end;
        }
        queue.extend(self.data.take_back().into_iter().map(Item::Again));
        for item in self.queue.drain(..) {
            match item {
                // these come last of all, and at most once
                Item::RecordEnd => record_end = true,
                Item::Fin | Item::End(_) => {}
                item => queue.push_back(item),
            }
        }
        if record_end {
            queue.push_back(Item::RecordEnd);
        }
        if self.fin {
            queue.push_back(Item::Fin);
        }
        if self.is_ended() {
            queue.retain(|item| !is_ssh(item));
        }
        queue.extend(self.said_end.clone().map(Item::End));
        self.queue = queue;
        self.ack_due = true;
        Ok(())
    }
}
