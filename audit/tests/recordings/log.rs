//! Logs that must be judged the same for ever: `tests/log-vectors` holds checkpoints, proofs and leaves, good ones and bad ones,
//! each with what it must give. `DOORWARD_VECTORS=check` makes them anew and compares, `DOORWARD_VECTORS=write` replaces them.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use doorward_audit::{
    Outcome, hex,
    log::{
        CHECKPOINT_NAMESPACE, Checkpoint, CheckpointError, Frontier, Hash, Leaf, LeafKind, Node, Reached, Statement,
        TreeHead, leaf_hash, node_position, origin_of, prove_consistency, prove_inclusion, sign, verify_inclusion,
    },
    unhex,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    mutation::{Random, seed},
    world::{BEGIN, SESSION, World, sign_with},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Vector {
    about: String,
    /// `good`, or what is wrong.
    expected: String,
    /// The line of a file.
    checkpoint: String,
    /// What was known before: leaves and root, with the proof that the checkpoint's tree begins with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    known: Option<(u64, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    consistency: Vec<String>,
    /// A leaf, its index and its proof.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    leaf: Option<(u64, String, Vec<String>)>,
}

impl Vector {
    fn judge(&self, world: &World) -> &'static str {
        match self.judged(world) {
            Ok(()) => "good",
            Err(CheckpointError::Malformed(_)) => "malformed",
            Err(CheckpointError::Untrusted(_)) => "untrusted-key",
            Err(CheckpointError::BadSignature) => "bad-signature",
            Err(CheckpointError::RolledBack { .. }) => "rolled-back",
            Err(CheckpointError::Forked(_)) => "forked",
        }
    }

    fn judged(&self, world: &World) -> Result<(), CheckpointError> {
        let hash = |text: &String| unhex(text).ok_or(CheckpointError::Malformed("no hash"));
        let hashes = |all: &[String]| all.iter().map(hash).collect::<Result<Vec<Hash>, _>>();
        let checkpoint = Checkpoint::parse(&self.checkpoint)?;
        checkpoint.judge(&world.trust().gateway_key)?;
        if let Some((size, root)) = &self.known {
            let known = TreeHead {
                size: *size,
                root: hash(root)?,
            };
            if let Reached::Grown(..) = checkpoint.after(&known)? {
                checkpoint.grew_from(&known, &hashes(&self.consistency)?)?;
            }
        }
        if let Some((index, leaf, proof)) = &self.leaf {
            let head = checkpoint.statement().head;
            verify_inclusion(
                &leaf_hash(leaf.as_bytes()),
                *index,
                head.size,
                &head.root,
                &hashes(proof)?,
            )
            .map_err(|_| CheckpointError::Malformed("the leaf is not in it"))?;
        }
        Ok(())
    }
}

/// A log of a few sessions.
struct Log {
    leaves: Vec<String>,
    hashes: Vec<Hash>,
    heads: Vec<TreeHead>,
}

impl Log {
    fn new(sessions: u128) -> Self {
        let link = "5a".repeat(32);
        let mut kinds = vec![LeafKind::LogStarted {
            log: origin_of(World::new().gateway.public_key()),
            previous: None,
        }];
        for number in 0..sessions {
            let session = Uuid::from_u128(SESSION.as_u128() + number);
            kinds.push(LeafKind::Opened { session });
            kinds.push(LeafKind::Head {
                session,
                seq: 4,
                link: link.clone(),
                receipt: link.clone(),
            });
            let outcome = Outcome::Complete;
            kinds.push(LeafKind::Closing {
                session,
                seq: 4,
                link: link.clone(),
                outcome,
                receipt: link.clone(),
            });
        }
        let mut log = Self {
            leaves: Vec::new(),
            hashes: Vec::new(),
            heads: Vec::new(),
        };
        let mut frontier = Frontier::default();
        log.heads.push(TreeHead {
            size: 0,
            root: frontier.root(),
        });
        for (number, kind) in (0..).zip(kinds) {
            let text = Leaf::new(BEGIN * 1000 + number, kind).to_text().unwrap();
            frontier.add(text.as_bytes(), |hash| log.hashes.push(*hash));
            log.heads.push(TreeHead {
                size: frontier.size(),
                root: frontier.root(),
            });
            log.leaves.push(text);
        }
        log
    }

    fn nodes(&self) -> impl FnMut(Node) -> Result<Hash, ()> + '_ {
        |node| self.hashes.get(node_position(node) as usize).copied().ok_or(())
    }

    fn last(&self) -> TreeHead {
        *self.heads.last().unwrap()
    }
}

fn checkpoint(world: &World, head: TreeHead) -> Checkpoint {
    let statement = Statement {
        origin: origin_of(world.gateway.public_key()),
        head,
        at: BEGIN * 1000 + 77,
        previous: None,
        certificate: world.gateway_certificate.to_openssh().unwrap(),
    };
    sign(statement, sign_with(&world.gateway, CHECKPOINT_NAMESPACE)).unwrap()
}

fn texts(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(|hash| hex(hash)).collect()
}

fn vectors() -> BTreeMap<String, Vector> {
    let (world, log) = (World::new(), Log::new(4));
    let last = log.last();
    let known = log.heads[6];
    let index = 5;
    let good = Vector {
        about: "a checkpoint, what was known before, and a leaf".into(),
        expected: "good".into(),
        checkpoint: checkpoint(&world, last).to_line().unwrap(),
        known: Some((known.size, hex(&known.root))),
        consistency: texts(&prove_consistency(&mut log.nodes(), known.size, last.size).unwrap()),
        leaf: Some((
            index,
            log.leaves[index as usize].clone(),
            texts(&prove_inclusion(&mut log.nodes(), index, last.size).unwrap()),
        )),
    };
    let mut all = BTreeMap::new();
    let mut bad = |name: &str, expected: &str, about: &str, change: &dyn Fn(&mut Vector)| {
        let mut vector = Vector {
            expected: expected.into(),
            about: about.into(),
            ..good.clone()
        };
        change(&mut vector);
        all.insert(name.to_owned(), vector);
    };
    bad(
        "bad-other-authority",
        "untrusted-key",
        "everything right, by keys of another authority",
        &|vector| {
            vector.checkpoint = checkpoint(&World::forged(), last).to_line().unwrap();
        },
    );
    bad("bad-size", "bad-signature", "another size than was signed", &|vector| {
        vector.checkpoint = vector.checkpoint.replace("\\n13\\n", "\\n14\\n");
    });
    bad("bad-name", "untrusted-key", "a log named for another key", &|vector| {
        let other = origin_of(World::forged().gateway.public_key());
        vector.checkpoint = vector
            .checkpoint
            .replace(&origin_of(world.gateway.public_key()), &other);
    });
    bad("bad-number", "malformed", "a size with a zero in front", &|vector| {
        vector.checkpoint = vector.checkpoint.replace("\\n13\\n", "\\n013\\n");
    });
    bad(
        "bad-rolled-back",
        "rolled-back",
        "fewer leaves than were known",
        &|vector| {
            vector.checkpoint = checkpoint(&world, log.heads[5]).to_line().unwrap();
        },
    );
    bad(
        "bad-forked",
        "forked",
        "more leaves, and not those that were known",
        &|vector| {
            vector.known = Some((6, hex(&log.heads[7].root)));
        },
    );
    bad(
        "bad-same-size",
        "forked",
        "as many leaves, and not those that were known",
        &|vector| {
            vector.known = Some((13, hex(&log.heads[7].root)));
        },
    );
    bad(
        "bad-proof-shorter",
        "forked",
        "a hash of the proof is missing",
        &|vector| {
            vector.consistency.pop();
        },
    );
    bad("bad-leaf", "malformed", "a leaf that is not in the log", &|vector| {
        let (_, text, _) = vector.leaf.as_mut().unwrap();
        *text = text
            .replace("complete", "abnormal")
            .replace("head", "opened")
            .replace(":4", ":5");
    });
    bad("bad-leaf-index", "malformed", "a leaf at another place", &|vector| {
        vector.leaf.as_mut().unwrap().0 += 1;
    });
    bad("good-more", "good", "members that nobody knows yet", &|vector| {
        vector.checkpoint = vector
            .checkpoint
            .replace("{\"statement\"", "{\"more\":[1],\"statement\"");
    });
    bad(
        "good-first",
        "good",
        "everything begins with the empty log",
        &|vector| {
            vector.known = Some((0, hex(&log.heads[0].root)));
            vector.consistency.clear();
        },
    );
    all.insert("good".to_owned(), good);
    all
}

#[test]
fn every_log_vector_is_judged_as_it_always_was() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/log-vectors");
    let fresh = vectors();
    let mode = env::var("DOORWARD_VECTORS");
    if mode.as_deref() == Ok("write") {
        fs::create_dir_all(&folder).unwrap();
        for (name, vector) in &fresh {
            let text = serde_json::to_string_pretty(vector).unwrap() + "\n";
            fs::write(folder.join(format!("{name}.json")), text).unwrap();
        }
    }
    let world = World::new();
    let mut stored = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let vector: Vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(vector.judge(&world), vector.expected, "{}", path.display());
        stored.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), vector);
    }
    assert!(stored.len() >= 13, "{} vectors", stored.len());
    if mode.as_deref() == Ok("check") {
        assert_eq!(fresh, stored);
    }
}

#[test]
fn a_thousand_mutations_of_a_log_are_found() {
    let seed = seed();
    println!("DOORWARD_SEED={seed}");
    let mut random = Random(seed);
    let (world, log) = (World::new(), Log::new(20));
    let line = checkpoint(&world, log.last()).to_line().unwrap();
    let good = Checkpoint::parse(&line).unwrap();
    let leaves = log.leaves.join("\n");
    let judge = world.trust().gateway_key;
    for round in 0..1000 {
        let mut change = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let at = random.below(bytes.len());
            bytes[at] ^= 1 + random.below(255) as u8;
            (at, bytes)
        };
        if round % 2 == 0 {
            let (at, bytes) = change(line.trim_end());
            let found = String::from_utf8(bytes)
                .ok()
                .and_then(|line| Checkpoint::parse(&line).ok());
            let found = found.is_none_or(|read| read.judge(&judge).is_err());
            assert!(found, "seed {seed} round {round}: byte {at} of the checkpoint");
        } else {
            let (at, bytes) = change(&leaves);
            let mut frontier = Frontier::default();
            for leaf in bytes.split(|byte| *byte == b'\n') {
                frontier.add(leaf, |_| {});
            }
            let head = TreeHead {
                size: frontier.size(),
                root: frontier.root(),
            };
            assert_ne!(
                head,
                good.statement().head,
                "seed {seed} round {round}: byte {at} of the leaves"
            );
        }
    }
    assert_eq!(good.judge(&judge), Ok(()));
}
