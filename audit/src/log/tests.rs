use ssh_key::{HashAlg, PrivateKey, SshSig, private::Ed25519Keypair};
use uuid::Uuid;

use super::*;
use crate::{block::hex, index::Outcome};

/// The tree by its definition (RFC 9162, section 2.1.1).
fn defined(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => leaf_hash(one),
        _ => {
            let half = leaves.len().next_power_of_two() / 2;
            node_hash(&defined(&leaves[..half]), &defined(&leaves[half..]))
        }
    }
}

fn leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("leaf {n}").into_bytes()).collect()
}

/// A log's stored hashes, and its frontier.
fn stored(leaves: &[Vec<u8>]) -> (Vec<Hash>, Frontier) {
    let (mut hashes, mut frontier) = (Vec::new(), Frontier::default());
    for leaf in leaves {
        frontier.add(leaf, |hash| hashes.push(*hash));
    }
    (hashes, frontier)
}

fn nodes(hashes: &[Hash]) -> impl FnMut(Node) -> Result<Hash, usize> + '_ {
    |node| {
        let at = usize::try_from(node_position(node)).unwrap();
        hashes.get(at).copied().ok_or(at)
    }
}

#[test]
fn roots_are_those_of_the_published_test_tree() {
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    let inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let (_, one) = stored(&[unhex(inputs[0])]);
    assert_eq!(
        hex(&one.root()),
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
    let all: Vec<_> = inputs.into_iter().map(unhex).collect();
    let (_, two) = stored(&all[..2]);
    assert_eq!(
        hex(&two.root()),
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    );
    let (_, eight) = stored(&all);
    assert_eq!(
        hex(&eight.root()),
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    );
    assert_eq!(
        hex(&Frontier::default().root()),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn every_proof_of_every_small_tree_holds_and_holds_for_nothing_else() {
    let all = leaves(40);
    let (hashes, _) = stored(&all);
    let mut nodes = nodes(&hashes);
    let roots: Vec<Hash> = (0..=all.len()).map(|size| defined(&all[..size])).collect();
    for size in 0..=all.len() as u64 {
        let root = &roots[size as usize];
        assert_eq!(root_at(&mut nodes, size).as_ref(), Ok(root));
        assert_eq!(&stored(&all[..size as usize]).1.root(), root);
        for index in 0..size {
            let proof = prove_inclusion(&mut nodes, index, size).unwrap();
            let leaf = leaf_hash(&all[index as usize]);
            assert_eq!(verify_inclusion(&leaf, index, size, root, &proof), Ok(()));
            for other in (0..size).filter(|other| *other != index) {
                assert!(
                    verify_inclusion(&leaf, other, size, root, &proof).is_err(),
                    "{index} {other} of {size}"
                );
            }
            spoiled(&proof, |proof| {
                verify_inclusion(&leaf, index, size, root, proof).is_ok()
            });
        }
        for first in 0..=size {
            let proof = prove_consistency(&mut nodes, first, size).unwrap();
            let old = &roots[first as usize];
            assert_eq!(
                verify_consistency((first, old), (size, root), &proof),
                Ok(()),
                "{first} of {size}"
            );
            if first > 0 {
                let other = leaf_hash(b"another tree");
                assert!(verify_consistency((first, &other), (size, root), &proof).is_err());
                assert!(verify_consistency((first, old), (size, &other), &proof).is_err());
                spoiled(&proof, |proof| {
                    verify_consistency((first, old), (size, root), proof).is_ok()
                });
            }
            if first < size {
                assert!(verify_consistency((size, root), (first, old), &proof).is_err());
            }
        }
    }
}

/// Proofs that are longer, shorter or other must not hold.
fn spoiled(proof: &[Hash], holds: impl Fn(&[Hash]) -> bool) {
    let mut longer = proof.to_vec();
    longer.push(empty_root());
    assert!(!holds(&longer));
    if let Some((_, shorter)) = proof.split_last() {
        assert!(!holds(shorter));
    }
    for at in 0..proof.len() {
        let mut other = proof.to_vec();
        other[at][7] ^= 1;
        assert!(!holds(&other));
    }
}

#[test]
fn proofs_for_what_is_not_there_are_refused() {
    let root = empty_root();
    assert_eq!(verify_inclusion(&root, 0, 0, &root, &[]), Err(ProofError::Shape));
    assert_eq!(
        verify_inclusion(&root, u64::MAX, u64::MAX, &root, &[]),
        Err(ProofError::Shape)
    );
    let many = vec![root; 200];
    assert!(verify_inclusion(&root, 0, u64::MAX, &root, &many).is_err());
    assert!(verify_consistency((1, &root), (u64::MAX, &root), &many).is_err());
    assert_eq!(
        verify_consistency((0, &root), (0, &root), &[root]),
        Err(ProofError::Shape)
    );
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn checkpoint(key: &PrivateKey, size: u64, root: Hash) -> Checkpoint {
    let statement = Statement {
        origin: origin_of(key.public_key()),
        head: TreeHead { size, root },
        at: 1_767_225_600_123,
        previous: (size > 3).then_some(TreeHead {
            size: 3,
            root: empty_root(),
        }),
        certificate: "ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(),
    };
    sign(statement, |text| {
        SshSig::sign(key, CHECKPOINT_NAMESPACE, HashAlg::Sha512, text)
    })
    .unwrap()
}

#[test]
fn a_checkpoint_comes_back_as_it_was_and_is_judged() {
    let (ours, other) = (key(1), key(2));
    let public = ours.public_key().clone();
    let judge: crate::verify::JudgeGateway = Box::new(move |_, _| Ok(public.clone()));
    for size in [0, 1, 4, u64::MAX] {
        let made = checkpoint(&ours, size, leaf_hash(b"x"));
        let read = Checkpoint::parse(&made.to_line().unwrap()).unwrap();
        assert_eq!(read.statement(), made.statement());
        assert_eq!(read.text(), made.text());
        assert_eq!(read.judge(&judge), Ok(()));
    }
    let stranger: crate::verify::JudgeGateway = Box::new(|_, _| Err("a stranger".to_owned()));
    let made = checkpoint(&ours, 4, empty_root());
    assert_eq!(
        made.judge(&stranger),
        Err(CheckpointError::Untrusted("a stranger".to_owned()))
    );
    // Named for our key, signed by another one: and the other way about.
    let forged = sign(made.statement().clone(), |text| {
        SshSig::sign(&other, CHECKPOINT_NAMESPACE, HashAlg::Sha512, text)
    });
    assert_eq!(forged.unwrap().judge(&judge), Err(CheckpointError::BadSignature));
    let theirs = checkpoint(&other, 4, empty_root());
    assert!(matches!(theirs.judge(&judge), Err(CheckpointError::Untrusted(_))));
    let changed = made.text().replace("\n4\n", "\n5\n");
    let changed = Checkpoint::from_parts(changed, &made.signature().unwrap()).unwrap();
    assert_eq!(changed.judge(&judge), Err(CheckpointError::BadSignature));
}

#[test]
fn texts_that_are_no_checkpoint_are_refused() {
    let made = checkpoint(&key(1), 4, empty_root());
    let signature = made.signature().unwrap();
    let text = made.text();
    for bad in [
        String::new(),
        text.trim_end().to_owned(),
        text.replace("\n4\n", "\n04\n"),
        text.replace("\n4\n", "\n-4\n"),
        text.replace("doorward-log/SHA256", "doorward-log/MD5"),
        text.replace("doorward-log/", "other/"),
        text.replace("at 2026", "at 26"),
        text.replace("certificate ", "certificat "),
        text.replace('\n', "\r\n"),
    ] {
        assert!(Checkpoint::from_parts(bad.clone(), &signature).is_err(), "{bad:?}");
    }
    // A later version says more.
    assert!(Checkpoint::from_parts(format!("{text}more to say\n"), &signature).is_ok());
    assert!(Checkpoint::parse("{}").is_err());
}

#[test]
fn a_shorter_and_another_log_are_told_from_a_grown_one() {
    let all = leaves(9);
    let (hashes, _) = stored(&all);
    let mut nodes = nodes(&hashes);
    let head = |size: usize| TreeHead {
        size: size as u64,
        root: defined(&all[..size]),
    };
    let shown = checkpoint(&key(1), 9, head(9).root);
    assert_eq!(shown.after(&head(9)), Ok(Reached::Same));
    assert_eq!(shown.after(&head(5)), Ok(Reached::Grown(5, 9)));
    let proof = prove_consistency(&mut nodes, 5, 9).unwrap();
    assert_eq!(shown.grew_from(&head(5), &proof), Ok(()));
    let forked = TreeHead {
        size: 5,
        root: head(6).root,
    };
    assert_eq!(shown.grew_from(&forked, &proof), Err(CheckpointError::Forked(5)));
    let same_size = TreeHead {
        size: 9,
        root: head(6).root,
    };
    assert_eq!(shown.after(&same_size), Err(CheckpointError::Forked(9)));
    let old = checkpoint(&key(1), 5, head(5).root);
    assert_eq!(
        old.after(&head(9)),
        Err(CheckpointError::RolledBack { known: 9, shown: 5 })
    );
}

#[test]
fn leaves_come_back_and_unknown_ones_are_passed_over() {
    let session = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    let link = "ab".repeat(32);
    let kinds = [
        LeafKind::LogStarted {
            log: "doorward-log/x".into(),
            previous: None,
        },
        LeafKind::Opened { session },
        LeafKind::Head {
            session,
            seq: 3,
            link: link.clone(),
            receipt: link.clone(),
        },
        LeafKind::Closing {
            session,
            seq: 5,
            link: link.clone(),
            outcome: Outcome::Complete,
            receipt: link.clone(),
        },
        LeafKind::Forgotten { session },
        LeafKind::Tombstone { session, sha256: link },
    ];
    for kind in kinds {
        let leaf = Leaf::new(1_767_225_600_123, kind);
        assert_eq!(Leaf::parse(&leaf.to_text().unwrap()), Ok(leaf));
    }
    let later = r#"{"v":1,"at":"2026-01-01T00:00:00.000Z","kind":"later","more":[1]}"#;
    assert_eq!(Leaf::parse(later).unwrap().kind, LeafKind::Unknown);
    for bad in [
        "",
        "{}",
        r#"{"v":2,"at":"2026-01-01T00:00:00.000Z","kind":"later"}"#,
        r#"{"v":1,"kind":"later"}"#,
    ] {
        assert!(Leaf::parse(bad).is_err(), "{bad}");
    }
    assert!(Leaf::parse(&format!("{later}{}", " ".repeat(MAX_LEAF))).is_err());
}

#[test]
fn only_a_session_that_never_opened_may_be_gone_without_a_tombstone() {
    let session = Uuid::from_u128(1);
    let zero = "00".repeat(32);
    let closing = |outcome| LeafKind::Closing {
        session,
        seq: 0,
        link: zero.clone(),
        outcome,
        receipt: zero.clone(),
    };
    let fate = |kinds: &[LeafKind]| {
        let mut ledger = Ledger::default();
        for kind in kinds {
            ledger.take(&Leaf::new(0, kind.clone()));
        }
        ledger.of(session).unwrap().fate()
    };
    let (opened, forgotten) = (LeafKind::Opened { session }, LeafKind::Forgotten { session });
    let tombstone = LeafKind::Tombstone {
        session,
        sha256: zero.clone(),
    };
    assert_eq!(fate(&[closing(Outcome::Abnormal), forgotten.clone()]), Fate::Nothing);
    assert_eq!(
        fate(&[opened.clone(), closing(Outcome::Abnormal), forgotten.clone()]),
        Fate::Recorded
    );
    assert_eq!(fate(&[closing(Outcome::Complete), forgotten]), Fate::Recorded);
    assert_eq!(fate(&[opened, tombstone]), Fate::Deleted([0; 32]));
}
