//! What a best-effort recording leaves out while too much of it is unacknowledged: counted by channel, told in gaps.

use std::collections::BTreeMap;

use doorward_audit::Gap;

/// What is missing since the last gap was told.
#[derive(Debug, Default)]
pub(super) struct Missing {
    channels: BTreeMap<u32, Span>,
    events: Span,
}

#[derive(Debug, Default, Clone, Copy)]
struct Span {
    count: u64,
    from: u64,
    to: u64,
}

impl Span {
    fn add(&mut self, count: u64, at: u64) {
        if self.count == 0 {
            self.from = at;
        }
        self.count = self.count.saturating_add(count);
        self.to = at;
    }

    fn gap(self, channel: Option<u32>, bytes: u64, why: String) -> Gap {
        Gap {
            channel,
            bytes,
            why,
            from: Some(self.from),
            milliseconds: Some(self.to.saturating_sub(self.from) / 1_000_000),
        }
    }
}

impl Missing {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.events.count == 0
    }

    /// Bytes of a channel that passed unrecorded, `at` nanoseconds after the opening.
    pub(super) fn bytes(&mut self, channel: u32, count: u64, at: u64) {
        self.channels.entry(channel).or_default().add(count, at);
    }

    /// An event that was left out.
    pub(super) fn event(&mut self, at: u64) {
        self.events.add(1, at);
    }

    /// What is to be said of it, and begins anew.
    pub(super) fn take(&mut self) -> Vec<Gap> {
        let channels = std::mem::take(&mut self.channels);
        let mut gaps: Vec<Gap> = channels
            .into_iter()
            .map(|(channel, span)| span.gap(Some(channel), span.count, WHY.to_owned()))
            .collect();
        let events = std::mem::take(&mut self.events);
        if events.count > 0 {
            gaps.push(events.gap(None, 0, format!("{} events: {WHY}", events.count)));
        }
        gaps
    }
}

const WHY: &str = "not recorded while too much of the record waited to be stored";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_gap_with_its_time() {
        let mut missing = Missing::default();
        assert!(missing.is_empty() && missing.take().is_empty());
        missing.bytes(3, 10, 5_000_000);
        missing.bytes(1, 1, 6_000_000);
        missing.bytes(3, 20, 9_000_000);
        missing.event(7_000_000);
        let gaps = missing.take();
        let told: Vec<_> = gaps
            .iter()
            .map(|gap| (gap.channel, gap.bytes, gap.from, gap.milliseconds))
            .collect();
        assert_eq!(
            told,
            [
                (Some(1), 1, Some(6_000_000), Some(0)),
                (Some(3), 30, Some(5_000_000), Some(4)),
                (None, 0, Some(7_000_000), Some(0)),
            ]
        );
        assert!(gaps[2].why.starts_with("1 events"), "{}", gaps[2].why);
        assert!(missing.is_empty());
    }
}
