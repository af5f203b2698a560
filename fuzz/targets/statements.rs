//! What gateways sign and say in public: checkpoints, leaves, receipts and tombstones have one form, and proofs have a shape.
#![no_main]

use doorward_audit::log::{Checkpoint, Hash, Leaf, Ledger, verify_consistency, verify_inclusion};
use doorward_audit::{Tombstone, receipt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    proofs(input);
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        let line = checkpoint.to_line().expect("what was read can be written");
        assert_eq!(
            Checkpoint::parse(&line).expect("what was written can be read").text(),
            checkpoint.text()
        );
    }
    if let Ok(receipt) = receipt::parse(text) {
        assert_eq!(
            receipt.to_line().expect("what was read can be written").trim_end(),
            text.trim_end()
        );
    }
    if let Ok(tombstone) = Tombstone::parse(text) {
        assert_eq!(tombstone.to_text().expect("what was read can be written"), text);
    }
    let mut ledger = Ledger::default();
    for line in text.lines() {
        if let Ok(leaf) = Leaf::parse(line) {
            ledger.take(&leaf);
            // a kind of a later version is read, and is not ours to write
            let written = leaf.to_text().ok().and_then(|text| Leaf::parse(&text).ok());
            assert!(leaf.kind.session().is_none() || written == Some(leaf));
        }
    }
});

// Two numbers, two hashes, and the proof's.
fn proofs(input: &[u8]) {
    let Some((numbers, hashes)) = input.split_first_chunk::<16>() else {
        return;
    };
    let (index, size) = numbers.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let (index, size) = (number(index), number(size));
    let hashes: Vec<Hash> = hashes
        .chunks_exact(32)
        .filter_map(|hash| hash.try_into().ok())
        .collect();
    let [leaf, root, proof @ ..] = hashes.as_slice() else {
        return;
    };
    if verify_inclusion(leaf, index, size, root, proof).is_ok() {
        assert!(index < size && proof.len() <= 64);
    }
    if verify_consistency((index, leaf), (size, root), proof).is_ok() {
        assert!(index <= size && proof.len() <= 65);
    }
}
