//! The Merkle tree (RFC 9162, section 2.1.1): hashes of leaves and nodes, and the order in which complete nodes are stored.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The root of the tree without a leaf: the hash of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The hash of a leaf: `SHA-256(0x00 || leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// The hash of a node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let node = Sha256::new().chain_update([1]).chain_update(left).chain_update(right);
    node.finalize().into()
}

/// A complete node: the one over the leaves `index << level` up to `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its height; leaves have 0.
    pub level: u32,
    /// Its number among those of its height.
    pub index: u64,
}

/// Gives the hashes of complete nodes.
pub trait Nodes {
    /// Why one cannot be had.
    type Error;

    /// The hash of this node.
    ///
    /// # Errors
    /// The caller's own.
    fn node(&mut self, node: Node) -> Result<Hash, Self::Error>;
}

impl<E, F: FnMut(Node) -> Result<Hash, E>> Nodes for F {
    type Error = E;

    fn node(&mut self, node: Node) -> Result<Hash, E> {
        self(node)
    }
}

/// Where a complete node stands in a list to which every leaf appends its own hash and then those of the nodes that it
/// completes, the lowest first.
pub fn node_position(node: Node) -> u64 {
    // The last leaf below the node: everything up to the node itself was appended by then.
    let leaf = ((node.index + 1) << node.level) - 1;
    stored(leaf) + u64::from(node.level)
}

/// How many hashes stand in the list before those of this leaf.
fn stored(leaf: u64) -> u64 {
    let (mut sum, mut left) = (0, leaf);
    while left > 0 {
        sum += left;
        left >>= 1;
    }
    sum
}

/// The right edge of a tree: enough to add leaves and to tell the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The roots of the complete trees that the size is made of, the largest first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Leaves that were added.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `complete` gets its hash and then those of the nodes that it completes.
    pub fn add(&mut self, leaf: &[u8], mut complete: impl FnMut(&Hash)) {
        let mut hash = leaf_hash(leaf);
        complete(&hash);
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            complete(&hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The root of the tree that the first `size` leaves make.
///
/// # Errors
/// Those of `nodes`.
pub fn root_at<N: Nodes>(nodes: &mut N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 {
        return Ok(empty_root());
    }
    range(nodes, 0, size)
}

/// The hash over the leaves from `from` up to `to`, at least one; `from` is where a subtree begins.
pub(super) fn range<N: Nodes>(nodes: &mut N, from: u64, to: u64) -> Result<Hash, N::Error> {
    let len = to - from;
    if len.is_power_of_two() {
        let level = len.trailing_zeros();
        return nodes.node(Node {
            level,
            index: from >> level,
        });
    }
    let half = split(len);
    let left = range(nodes, from, from + half)?;
    let right = range(nodes, from + half, to)?;
    Ok(node_hash(&left, &right))
}

/// The largest power of two below `len`, which is at least 2.
pub(super) fn split(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}
