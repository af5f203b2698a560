//! Proofs (RFC 9162, sections 2.1.3 and 2.1.4): made from complete nodes, checked from hashes alone.

use super::tree::{Hash, Nodes, node_hash, range, split};

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It has too few or too many hashes, or is for no such tree.
    #[error("the proof is not one for these sizes")]
    Shape,
    /// It leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// The proof that the leaf `index` is in the tree of the first `size` leaves; `index < size`, else it is empty.
///
/// # Errors
/// Those of `nodes`.
pub fn prove_inclusion<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    let (mut from, mut to) = (0, size);
    while index < size && to - from > 1 {
        let middle = from + split(to - from);
        // From the root down; the proof goes from the leaf up.
        if index < middle {
            path.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of the first `to` leaves begins with that of the first `from`; `0 < from < to`, else it is empty.
///
/// # Errors
/// Those of `nodes`.
pub fn prove_consistency<N: Nodes>(nodes: &mut N, from: u64, to: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if from == 0 || from >= to {
        return Ok(path);
    }
    let (mut begin, mut end) = (0, to);
    // Whether the subtree at hand is the old tree itself, which the other side knows.
    let mut whole = true;
    while from < end {
        let middle = begin + split(end - begin);
        if from <= middle {
            path.push(range(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range(nodes, begin, middle)?);
            begin = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range(nodes, begin, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that the leaf with this hash stands at `index` in the tree of this size and root (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Shape);
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for step in proof {
        if last == 0 {
            return Err(ProofError::Shape);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    match last {
        0 if hash == *root => Ok(()),
        0 => Err(ProofError::Root),
        _ => Err(ProofError::Shape),
    }
}

/// Checks that the second tree begins with the first (RFC 9162, section 2.1.4.2). Every tree begins with the empty one.
///
/// # Errors
/// [`ProofError`]; a smaller second tree is of no shape that could be proved.
pub fn verify_consistency(first: (u64, &Hash), second: (u64, &Hash), proof: &[Hash]) -> Result<(), ProofError> {
    let ((first, first_root), (second, second_root)) = (first, second);
    if first > second || ((first == second || first == 0) && !proof.is_empty()) {
        return Err(ProofError::Shape);
    }
    if first == 0 {
        return Ok(());
    }
    if first == second {
        return if first_root == second_root {
            Ok(())
        } else {
            Err(ProofError::Root)
        };
    }
    // The old root itself is not repeated in the proof where the old tree is a complete one.
    let known = first.is_power_of_two().then_some(first_root);
    let mut steps = known.into_iter().chain(proof);
    let start = *steps.next().ok_or(ProofError::Shape)?;
    let (mut at, mut last) = (first - 1, second - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (start, start);
    for step in steps {
        if last == 0 {
            return Err(ProofError::Shape);
        }
        if at & 1 == 1 || at == last {
            old = node_hash(step, &old);
            new = node_hash(step, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, step);
        }
        at >>= 1;
        last >>= 1;
    }
    match last {
        0 if old == *first_root && new == *second_root => Ok(()),
        0 => Err(ProofError::Root),
        _ => Err(ProofError::Shape),
    }
}
