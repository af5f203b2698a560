//! What the events add up to, against what the author and the gateway say of it.

use crate::{
    event::Event,
    printable::printable,
    receipt::Statement,
    reconcile::{Agreement, Reconciliation},
    session::Coverage,
};

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

    /// The agent's claim against the gateway's count, where both are there.
    pub(super) fn reconciliation(&self, closing: &Statement) -> Option<Reconciliation> {
        let claim = self.coverage.as_ref()?;
        Some(Reconciliation::new(claim, closing.client_bytes?, closing.agent_bytes?))
    }

    /// What an auditor should know although it is no fault.
    pub(super) fn notes(&self, closing: &Statement) -> Vec<String> {
        let mut notes = Vec::new();
        if self.gaps > 0 {
            notes.push(format!("{} gaps, {} bytes missing", self.gaps, self.gap_bytes));
        }
        let not_captured = self.coverage.iter().flat_map(|said| said.not_captured.iter().flatten());
        notes.extend(not_captured.map(|what| format!("not captured: {}", printable(what.as_bytes()))));
        if let Some(both) = self
            .reconciliation(closing)
            .filter(|both| both.agreement == Agreement::Differ)
        {
            for (who, witness, claim) in [
                ("client", both.gateway_client_bytes, both.agent_client_bytes),
                ("agent", both.gateway_agent_bytes, both.agent_agent_bytes),
            ] {
                notes.push(format!(
                    "the gateway relayed {witness} bytes from the {who}, the author counts {claim}"
                ));
            }
        }
        notes
    }
}
