//! Chance: certificates changed at random, before and after they were signed.

use std::{fs, process::Command, sync::LazyLock, time::SystemTime};

use doorward_certs::{CaKeys, Refusal, judge_link_at};
use proptest::{collection::vec, prelude::*, sample::Index};
use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    cases::{USER_CA, good_session, vector},
    draft::Draft,
    hosts,
    vectors::{Judge, Vector},
};

/// One change of a byte string.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
    /// A length of its own choice where some length may be.
    Length(Index, u32),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), 1..64_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (at(), 1..64_usize).prop_map(|(at, count)| Change::Repeat(at, count)),
        at().prop_map(Change::Cut),
        (at(), prop_oneof![0..64_u32, any::<u32>(), Just(u32::MAX)]).prop_map(|(at, n)| Change::Length(at, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let size = bytes.len();
    match change {
        Change::Flip(at, bit) => bytes[at.index(size)] ^= bit,
        Change::Set(at, byte) => bytes[at.index(size)] = *byte,
        Change::Insert(at, more) => drop(bytes.splice(at.index(size)..at.index(size), more.iter().copied())),
        Change::Remove(at, count) => drop(bytes.drain(at.index(size)..size.min(at.index(size) + count))),
        Change::Repeat(at, count) => {
            let from = at.index(size);
            bytes.extend_from_within(from..size.min(from + count));
        }
        Change::Cut(at) => bytes.truncate(at.index(size)),
        Change::Length(at, length) => {
            let from = at.index(size);
            let to = size.min(from + 4);
            bytes[from..to].copy_from_slice(&length.to_be_bytes()[..to - from]);
        }
    }
}

static GOOD: LazyLock<Vec<Vector>> = LazyLock::new(|| {
    let mut all = vec![vector(
        Judge::Session,
        "session",
        "",
        "accepted",
        good_session().sign(USER_CA),
    )];
    all.extend(hosts::made().into_iter().filter(|made| made.expect == "accepted"));
    all
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_certificate_is_never_accepted(which in any::<Index>(), changes in vec(change(), 1..4)) {
        let original = which.get(&GOOD);
        let mut changed = original.clone();
        for change in &changes {
            apply(&mut changed.blob, change);
        }
        prop_assert!(changed.judged().is_err() || changed.blob == original.blob);
    }

    #[test]
    fn chance_is_never_accepted(blob in vec(any::<u8>(), 0..600)) {
        for mut vector in GOOD.clone() {
            vector.blob.clone_from(&blob);
            prop_assert!(vector.judged().is_err());
        }
    }

    #[test]
    fn a_prefix_and_chance_are_never_accepted(left in any::<Index>(), tail in vec(any::<u8>(), 0..400)) {
        let mut vector = GOOD[0].clone();
        let original = vector.blob.clone();
        vector.blob.truncate(left.index(original.len()));
        vector.blob.extend(tail);
        prop_assert!(vector.judged().is_err() || vector.blob == original);
    }
}

/// One field of a draft changed at random, with pieces that hurt.
fn mutate(draft: &mut Draft, rng: &mut StdRng) {
    let pieces: [&[u8]; 12] = [
        b"",
        b"\0",
        b"\xff",
        b"node",
        b"*",
        &[0, 0, 0, 0],
        &[0, 0, 0, 1],
        &[0, 0, 0, 8, 0, 0, 0, 4, b'n', b'o', b'd', b'e'],
        &[
            0, 0, 0, 10, b'p', b'e', b'r', b'm', b'i', b't', b'-', b'p', b't', b'y', 0, 0, 0, 0,
        ],
        &[
            0, 0, 0, 10, b'p', b'e', b'r', b'm', b'i', b't', b'-', b'p', b't', b'y', 0, 0, 0, 1, b'x',
        ],
        &[0, 0, 0, 2, b'z', b'z', 0, 0, 0, 4, 0, 0, 0, 0],
        &[0xff; 4],
    ];
    let piece = pieces[rng.random_range(0..pieces.len())];
    let field = match rng.random_range(0..13) {
        0 => &mut draft.nonce,
        1 => &mut draft.subject,
        2 => &mut draft.key_id,
        3 | 4 => &mut draft.principals,
        5 | 6 => &mut draft.critical,
        7..=9 => &mut draft.extensions,
        10 => &mut draft.reserved,
        11 => {
            draft.kind = rng.random_range(0..4);
            return;
        }
        _ => {
            let far = rng.random::<u64>() >> rng.random_range(0..64);
            if rng.random_bool(0.5) {
                draft.after = far
            } else {
                draft.before = far
            }
            return;
        }
    };
    let at = rng.random_range(0..=field.len());
    match rng.random_range(0..4) {
        0 => drop(field.splice(at..at, piece.iter().copied())),
        1 => field.extend_from_slice(piece),
        2 => drop(field.drain(at..field.len().min(at + 4))),
        _ => {
            if let Some(byte) = field.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
    }
}

/// A trusted authority signs nonsense: whatever of it we accept, OpenSSH reads.
#[test]
fn nonsense_of_a_trusted_authority_is_accepted_only_where_openssh_reads_it() {
    let seed = std::env::var("DOORWARD_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random);
    println!("DOORWARD_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x-cert.pub");
    let (mut accepted, mut refused) = (0, 0);
    let mut asked = Ok(0);
    for _ in 0..4000 {
        let mut draft = good_session();
        for _ in 0..rng.random_range(1..3) {
            mutate(&mut draft, &mut rng);
        }
        let made = vector(Judge::Session, "mutated", "", "accepted", draft.sign(USER_CA));
        if made.judged().is_err() {
            refused += 1;
            continue;
        }
        accepted += 1;
        fs::write(&path, made.line()).unwrap();
        asked = match (
            asked,
            Command::new("ssh-keygen").arg("-L").arg("-f").arg(&path).output(),
        ) {
            (Ok(count), Ok(shown)) => {
                assert!(
                    shown.status.success(),
                    "seed {seed}: {}\n{}",
                    made.line(),
                    String::from_utf8_lossy(&shown.stderr)
                );
                Ok(count + 1)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
    match asked {
        Ok(count) => println!("{accepted} accepted, {refused} refused, ssh-keygen read {count}"),
        Err(error) => println!("skip: what was accepted was not shown to ssh-keygen: {error}"),
    }
    assert!(
        accepted > 0 && refused > accepted,
        "seed {seed}: {accepted} accepted, {refused} refused"
    );
}

/// Ten thousand certificates, each in the next: refused by its size, and without using the stack.
#[test]
fn nesting_without_end_is_refused() {
    let outer = Draft {
        authority: Some(Vec::new()),
        signature: Some(Vec::new()),
        ..good_session()
    };
    let mut head = outer.sign(USER_CA);
    // The two empty fields at its end.
    head.truncate(head.len() - 8);
    let mut nested = Vec::new();
    for inside in (0..10_000).rev() {
        nested.extend_from_slice(&head);
        nested.extend(u32::try_from(inside * (head.len() + 4)).unwrap().to_be_bytes());
    }
    let made = vector(Judge::Session, "nested", "", "too-long", nested);
    assert_eq!(made.judged(), Err(Refusal::TooLong));
    let line = made.line();
    let trusted = CaKeys::parse(&made.trusted).unwrap();
    assert_eq!(
        judge_link_at(&line, &trusted, SystemTime::now()).unwrap_err(),
        Refusal::TooLong
    );
    assert!(CaKeys::parse(&line).is_err());
}
