//! What a log says of each session: how far its recording went, how it was closed, whether it may be gone.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::leaf::{Leaf, LeafKind};
use crate::{
    block::{first_link, unhex},
    index::Outcome,
    verify::Anchor,
};

/// What is known of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether it was opened, so that there must be a recording.
    pub opened: bool,
    /// Blocks that the recording must reach.
    pub anchors: Vec<Anchor>,
    /// SHA-256 of the receipts that must stand beside it, in their order.
    pub receipts: Vec<[u8; 32]>,
    /// How its newest closing says that it ended.
    pub outcome: Option<Outcome>,
    /// Whether it never opened and its folder was removed.
    pub forgotten: bool,
    /// SHA-256 of its tombstone.
    pub tombstone: Option<[u8; 32]>,
}

/// What must be there of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its recording.
    Recorded,
    /// Its tombstone, with this SHA-256.
    Deleted([u8; 32]),
    /// Nothing: it never opened.
    Nothing,
}

impl Known {
    /// Takes a leaf about this session.
    pub fn take(&mut self, leaf: &LeafKind) {
        match leaf {
            LeafKind::Opened { .. } => self.opened = true,
            LeafKind::Head {
                session,
                seq,
                link,
                receipt,
            } => self.reached(*session, *seq, link, receipt),
            LeafKind::Closing {
                session,
                seq,
                link,
                outcome,
                receipt,
            } => {
                self.outcome = Some(*outcome);
                self.reached(*session, *seq, link, receipt);
            }
            LeafKind::Forgotten { .. } => self.forgotten = true,
            LeafKind::Tombstone { sha256, .. } => self.tombstone = unhex(sha256),
            LeafKind::LogStarted { .. } | LeafKind::Unknown => {}
        }
    }

    fn reached(&mut self, session: Uuid, seq: u64, link: &str, receipt: &str) {
        let anchor = unhex(link).map(|link| Anchor { seq, link });
        // A closing from before the first block is no place in the stream.
        self.anchors
            .extend(anchor.filter(|anchor| anchor.link != first_link(session) && !self.anchors.contains(anchor)));
        let receipt = unhex(receipt).filter(|hash| !self.receipts.contains(hash));
        self.receipts.extend(receipt);
    }

    /// What must be there of it.
    pub fn fate(&self) -> Fate {
        match self.tombstone {
            Some(hash) => Fate::Deleted(hash),
            // A session that was opened, or that has a signed head, cannot be called one that never was.
            None if self.forgotten && !self.opened && self.outcome != Some(Outcome::Complete) => Fate::Nothing,
            None => Fate::Recorded,
        }
    }
}

/// What one or several logs say of all sessions.
#[derive(Debug, Clone, Default)]
pub struct Ledger(BTreeMap<Uuid, Known>);

impl Ledger {
    /// Takes the next leaf.
    pub fn take(&mut self, leaf: &Leaf) {
        if let Some(session) = leaf.kind.session() {
            self.0.entry(session).or_default().take(&leaf.kind);
        }
    }

    /// What is known of a session.
    pub fn of(&self, session: Uuid) -> Option<&Known> {
        self.0.get(&session)
    }

    /// All sessions, the oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = (Uuid, &Known)> {
        self.0.iter().map(|(session, known)| (*session, known))
    }
}
