//! The transparency log: what a gateway says in public about its recordings, so that it cannot take it back.
//!
//! A log is a list of leaves under a Merkle tree (RFC 9162, section 2.1). A gateway signs checkpoints of it; whoever keeps one
//! can have it proved that a leaf is in the tree and that a later tree only adds to an earlier one. This module owns the tree,
//! the leaves, the checkpoints and their judgement. It does no I/O: hashes of the tree and the leaves come from the caller.

mod checkpoint;
mod leaf;
mod ledger;
mod proof;
mod tree;

pub use checkpoint::{
    CHECKPOINT_NAMESPACE, Checkpoint, CheckpointError, MAX_CHECKPOINT, Reached, Statement, TreeHead, is_origin,
    origin_of, sign,
};
pub use leaf::{Leaf, LeafError, LeafKind, MAX_LEAF};
pub use ledger::{Fate, Known, Ledger};
pub use proof::{ProofError, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion};
pub use tree::{Frontier, Hash, Node, Nodes, empty_root, leaf_hash, node_hash, node_position, root_at};

/// The name of the file with a log's leaves, one in each line.
pub const LEAVES_NAME: &str = "leaves.jsonl";
/// The name of the file with a log's checkpoints, one in each line.
pub const CHECKPOINTS_NAME: &str = "checkpoints.jsonl";

#[cfg(test)]
mod tests;
