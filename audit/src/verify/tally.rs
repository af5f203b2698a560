//! What the events add up to, against what the author and the gateway say of it.

use crate::{event::Event, printable::printable, receipt::Statement, session::Coverage};

/// What the last messages of a connection may add after the agent has counted.
const UNCOUNTED_TAIL: u64 = 64 * 1024;

#[derive(Default)]
pub(super) struct Tally {
    channels: u32,
    recorded: u64,
    gaps: u64,
    gap_bytes: u64,
    coverage: Option<Coverage>,
}

impl Tally {
    pub(super) fn add(&mut self, event: Event) {
        match event {
            Event::ChannelOpened(_) => self.channels = self.channels.saturating_add(1),
            Event::Output(output) => self.recorded += output.bytes.len() as u64,
            Event::Input(input) => self.recorded += input.bytes.len() as u64,
            Event::Gap(gap) => {
                self.gaps += 1;
                self.gap_bytes = self.gap_bytes.saturating_add(gap.bytes);
            }
            Event::Coverage(coverage) => self.coverage = Some(coverage),
            _ => {}
        }
    }

    pub(super) fn has_coverage(&self) -> bool {
        self.coverage.is_some()
    }

    /// Where the author's own count differs from the events.
    pub(super) fn contradiction(&self) -> Option<String> {
        let said = self.coverage.as_ref()?;
        let same = said.channels == self.channels && said.bytes_recorded == self.recorded;
        (!same).then(|| {
            format!(
                "author counts {} channels and {} recorded bytes, the events have {} and {}",
                said.channels, said.bytes_recorded, self.channels, self.recorded
            )
        })
    }

    /// What an auditor should know although it is no fault.
    pub(super) fn notes(&self, closing: &Statement) -> Vec<String> {
        let mut notes = Vec::new();
        if self.gaps > 0 {
            notes.push(format!("{} gaps, {} bytes missing", self.gaps, self.gap_bytes));
        }
        let Some(said) = &self.coverage else {
            return notes;
        };
        notes.extend(
            said.not_captured
                .iter()
                .flatten()
                .map(|what| format!("not captured: {}", printable(what.as_bytes()))),
        );
        for (who, witness, claim) in [
            ("client", closing.client_bytes, said.client_to_agent),
            ("agent", closing.agent_bytes, said.agent_to_client),
        ] {
            let witness = witness.unwrap_or(claim);
            if witness.saturating_sub(claim) > UNCOUNTED_TAIL {
                notes.push(format!(
                    "the gateway relayed {witness} bytes from the {who}, the author counts {claim}"
                ));
            }
        }
        notes
    }
}
