//! The agent's claims against the gateway's own count of the ciphertext: who records less than passed is found out by that.

use serde::{Deserialize, Serialize};

use crate::{
    block::{BlockKind, Codec, HEADER_LEN, Header},
    event::{Event, Stamped},
    pack,
    session::Coverage,
};

/// What the last messages of a connection may add after the agent has counted.
const UNCOUNTED_TAIL: u64 = 64 * 1024;
/// What may have been under way, or was never asked for again, when a connection broke: the agent counts it, the gateway never
/// passed it on.
const IN_FLIGHT: u64 = 4 * 1024 * 1024;

/// Whether both counts tell the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// They do, but for what may have been under way.
    Agree,
    /// They do not.
    Differ,
}

/// Both counts of one session, in bytes of SSH ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reconciliation {
    /// From the client, as the agent claims.
    pub agent_client_bytes: u64,
    /// From the agent, as the agent claims.
    pub agent_agent_bytes: u64,
    /// From the client, as the gateway counted.
    pub gateway_client_bytes: u64,
    /// From the agent, as the gateway counted.
    pub gateway_agent_bytes: u64,
    /// The sum.
    pub agreement: Agreement,
}

impl Reconciliation {
    /// Compares the claim with the gateway's count of what came from the client and from the agent.
    pub fn new(claim: &Coverage, gateway_client_bytes: u64, gateway_agent_bytes: u64) -> Self {
        let fits = |claim: u64, witness: u64| {
            witness.saturating_sub(claim) <= UNCOUNTED_TAIL && claim.saturating_sub(witness) <= IN_FLIGHT
        };
        let agree =
            fits(claim.client_to_agent, gateway_client_bytes) && fits(claim.agent_to_client, gateway_agent_bytes);
        Self {
            agent_client_bytes: claim.client_to_agent,
            agent_agent_bytes: claim.agent_to_client,
            gateway_client_bytes,
            gateway_agent_bytes,
            agreement: if agree { Agreement::Agree } else { Agreement::Differ },
        }
    }

    /// By how much the gateway counted more than the agent claims: from the client, from the agent. Negative where less.
    pub fn differences(&self) -> (i128, i128) {
        (
            i128::from(self.gateway_client_bytes) - i128::from(self.agent_client_bytes),
            i128::from(self.gateway_agent_bytes) - i128::from(self.agent_agent_bytes),
        )
    }
}

/// The coverage statement in a segment whose chain was checked before, if it is among its last blocks and in one that can
/// be read alone.
pub fn coverage_in(segment: &[u8]) -> Option<Coverage> {
    let mut blocks = Vec::new();
    let mut rest = segment;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
        let header = Header::parse(header).ok()?;
        let (stored, after) = after.split_at_checked(header.stored_len as usize)?;
        if header.kind == BlockKind::Events {
            blocks.push((header, stored));
        }
        rest = after;
    }
    blocks.iter().rev().take(LAST).find_map(|(header, stored)| {
        let mut raw = Vec::new();
        let bytes = match header.codec {
            Codec::Raw => stored,
            Codec::Zstd => {
                pack::unpack(stored, header.raw_len as usize, &mut raw).ok()?;
                raw.as_slice()
            }
            // A recorder writes the statement so that it can be read without the blocks before it.
            Codec::Begins | Codec::Continues => return None,
        };
        let mut decoder = minicbor::Decoder::new(bytes);
        let mut found = None;
        while decoder.position() < bytes.len() {
            if let Event::Coverage(coverage) = decoder.decode::<Stamped>().ok()?.event {
                found = Some(coverage);
            }
        }
        found
    })
}

/// In how many blocks from the end the statement is looked for.
const LAST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_counts_less_than_passed_is_found_out() {
        let claim = Coverage {
            client_to_agent: 1_000,
            agent_to_client: 1_000_000,
            ..Coverage::default()
        };
        for (client, agent, expected) in [
            (1_000, 1_000_000, Agreement::Agree),
            (1_000, 1_000_000 + UNCOUNTED_TAIL, Agreement::Agree),
            (1_000, 1_000_001 + UNCOUNTED_TAIL, Agreement::Differ),
            (1_001 + UNCOUNTED_TAIL, 1_000_000, Agreement::Differ),
            (0, 0, Agreement::Agree),
        ] {
            let both = Reconciliation::new(&claim, client, agent);
            assert_eq!(both.agreement, expected, "{client} {agent}");
            assert_eq!(
                both.differences(),
                (i128::from(client) - 1_000, i128::from(agent) - 1_000_000)
            );
        }
        let boast = Coverage {
            agent_to_client: IN_FLIGHT + 1,
            ..Coverage::default()
        };
        assert_eq!(Reconciliation::new(&boast, 0, 0).agreement, Agreement::Differ);
    }

    #[test]
    fn the_statement_is_found_in_a_segment_and_nothing_in_noise() {
        let mut recorder = crate::Recorder::new(uuid::Uuid::from_u128(1));
        let coverage = Coverage {
            client_to_agent: 7,
            ..Coverage::default()
        };
        let segment = recorder.append(&[
            Stamped::new(1, crate::Shell::default()),
            Stamped::new(2, coverage.clone()),
        ]);
        assert_eq!(coverage_in(&segment), Some(coverage));
        for len in 0..segment.len() {
            assert_eq!(coverage_in(&segment[..len]), None);
        }
        assert_eq!(coverage_in(&[7; 100]), None);
    }
}
