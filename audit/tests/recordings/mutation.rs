//! A byte that differs anywhere in a recording is found, a thousand times at random.

use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use crate::world::{SESSION, World, killed_session, shell_session};
use doorward_audit::{ChainCheck, events, receipt::RECEIPTS_NAME, segment_name, verify};
use tempfile::tempdir;

/// SplitMix64: enough to choose places, and short enough to be repeated from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

pub fn seed() -> u64 {
    match std::env::var("DOORWARD_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

#[test]
fn a_thousand_mutations_are_found() {
    let seed = seed();
    println!("DOORWARD_SEED={seed}");
    let mut random = Random(seed);
    let trust = World::new().trust();
    for author in [
        shell_session(World::new(), SESSION),
        killed_session(World::new(), SESSION),
    ] {
        let dir = tempdir().unwrap();
        author.stored().write(dir.path());
        assert!(verify(dir.path(), &trust).ok);
        let mut files: Vec<_> = (0..author.segments.len() as u32).map(segment_name).collect();
        files.push(RECEIPTS_NAME.to_owned());
        for round in 0..500 {
            let path = dir.path().join(&files[random.below(files.len())]);
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            let at = random.below(bytes.len());
            bytes[at] ^= 1 + random.below(255) as u8;
            fs::write(&path, &bytes).unwrap();
            let report = verify(dir.path(), &trust);
            assert!(!report.ok, "seed {seed} round {round}: {path:?} byte {at}");
            fs::write(&path, &whole).unwrap();
        }
        assert!(verify(dir.path(), &trust).ok);
    }
}

#[test]
fn hostile_bytes_end_in_a_fault_and_not_in_a_panic() {
    let seed = seed();
    println!("DOORWARD_SEED={seed}");
    let mut random = Random(seed);
    let whole = shell_session(World::new(), SESSION).segments.concat();
    for round in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(4) {
            match random.below(4) {
                0 => {
                    let at = random.below(bytes.len());
                    bytes[at] = random.next() as u8;
                }
                1 => {
                    let from = random.below(bytes.len());
                    bytes.drain(from..from + random.below((bytes.len() - from).min(64) + 1));
                }
                2 => {
                    let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
                    let piece = bytes[from.min(to)..from.max(to)].to_vec();
                    let at = random.below(bytes.len());
                    bytes.splice(at..at, piece.into_iter().take(64));
                }
                _ => {
                    let at = random.below(bytes.len());
                    let len = (bytes.len() - at).min(8);
                    bytes[at..at + len].fill([0, 0xff, 0x7f][random.below(3)]);
                }
            }
        }
        let read = events(&bytes[..]).take_while(Result::is_ok).count();
        assert!(read < 10_000, "seed {seed} round {round}");
        let mut check = ChainCheck::new(SESSION);
        let mut offset = 0;
        let mut result = Ok(());
        while offset < bytes.len() && result.is_ok() {
            let len = 1 + random.below(100);
            let end = bytes.len().min(offset + len);
            result = check.push(&bytes[offset..end], &mut |_| {});
            offset = end;
        }
        if bytes != whole && bytes.len() >= whole.len() {
            assert!(result.is_err(), "seed {seed} round {round}");
        }
    }
}
