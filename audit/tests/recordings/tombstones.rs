//! Tombstones that must be judged the same for ever: `tests/tombstone-vectors` holds texts of `tombstone.json`, good ones and bad
//! ones, each with what it must give. `DOORWARD_VECTORS=check` makes them anew and compares, `DOORWARD_VECTORS=write` replaces them.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use doorward_audit::{TOMBSTONE_NAMESPACE, Tombstone, TombstoneStatement, receipt::RECEIPT_NAMESPACE};
use serde::{Deserialize, Serialize};
use ssh_key::{LineEnding, PrivateKey};
use uuid::Uuid;

use crate::world::{BEGIN, SESSION, World, sign_with};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Vector {
    about: String,
    /// `good`, or what is wrong.
    expected: String,
    /// The session in whose folder it lies.
    session: Uuid,
    /// The file.
    text: String,
}

impl Vector {
    fn judge(&self, world: &World) -> &'static str {
        let Ok(tombstone) = Tombstone::parse(&self.text) else {
            return "malformed";
        };
        let statement = tombstone.statement();
        if statement.session != self.session {
            return "other-session";
        }
        let judge = world.trust().gateway_key;
        match judge(&statement.gateway_certificate, statement.at) {
            Err(_) => "untrusted-key",
            Ok(key) if tombstone.verify(&key) => "good",
            Ok(_) => "bad-signature",
        }
    }
}

fn statement(world: &World) -> TombstoneStatement {
    TombstoneStatement {
        v: TombstoneStatement::VERSION,
        session: SESSION,
        workspace: "devenv-0".into(),
        why: "expired".into(),
        at: BEGIN * 1000 + 77,
        keep_until: BEGIN * 1000,
        offset: 4711,
        link: "5a".repeat(32),
        gateway_certificate: world.gateway_certificate.to_openssh().unwrap(),
    }
}

fn signed(key: &PrivateKey, statement: TombstoneStatement) -> String {
    let tombstone = Tombstone::sign(statement, sign_with(key, TOMBSTONE_NAMESPACE)).unwrap();
    tombstone.to_text().unwrap()
}

/// Any text as statement, signed as it stands.
fn signed_text(key: &PrivateKey, namespace: &str, statement: &str) -> String {
    let signature = sign_with(key, namespace)(statement.as_bytes()).unwrap();
    let signature = signature.to_pem(LineEnding::LF).unwrap();
    let text = serde_json::json!({ "signature": signature, "statement": statement }).to_string();
    // The members in the order of the format.
    let (signature, statement) = (
        text.find("\"signature\":").unwrap(),
        text.find(",\"statement\":").unwrap(),
    );
    let (signature, statement) = (&text[signature..statement], &text[statement + 1..text.len() - 1]);
    format!("{{{statement},{signature}}}\n")
}

fn vectors() -> BTreeMap<String, Vector> {
    let (world, forged) = (World::new(), World::forged());
    let good = signed(&world.gateway, statement(&world));
    let text = serde_json::to_string(&statement(&world)).unwrap();
    assert_eq!(good, signed_text(&world.gateway, TOMBSTONE_NAMESPACE, &text));
    let by_gateway = |text: &str| signed_text(&world.gateway, TOMBSTONE_NAMESPACE, text);
    let changed = |change: &dyn Fn(&mut TombstoneStatement)| {
        let mut statement = statement(&world);
        change(&mut statement);
        signed(&world.gateway, statement)
    };
    let all = [
        ("good", "good", "an expired recording", good.clone()),
        (
            "good-nothing",
            "good",
            "a recording without a byte",
            changed(&|statement| statement.offset = 0),
        ),
        (
            "good-other-reason",
            "good",
            "a reason that nobody gives yet",
            changed(&|statement| statement.why = "erased on request".into()),
        ),
        (
            "bad-other-session",
            "other-session",
            "in the folder of a session that it is not about",
            changed(&|statement| statement.session = Uuid::from_u128(SESSION.as_u128() + 1)),
        ),
        (
            "bad-authority",
            "untrusted-key",
            "everything right, by keys of another authority",
            signed(&forged.gateway, statement(&forged)),
        ),
        (
            "bad-certificate-over",
            "untrusted-key",
            "signed when the certificate was over",
            changed(&|statement| statement.at += 90_000_000),
        ),
        (
            "bad-key",
            "bad-signature",
            "signed by another key than the certificate's",
            signed(&forged.gateway, statement(&world)),
        ),
        (
            "bad-namespace",
            "bad-signature",
            "signed for another use of the key",
            signed_text(&world.gateway, RECEIPT_NAMESPACE, &text),
        ),
        (
            "bad-offset",
            "bad-signature",
            "another length than was signed",
            good.replace("\\\"offset\\\":4711", "\\\"offset\\\":4710"),
        ),
        (
            "bad-version",
            "malformed",
            "a version that nobody knows",
            by_gateway(&text.replace("\"v\":1", "\"v\":2")),
        ),
        (
            "bad-link-upper-case",
            "malformed",
            "upper-case hexadecimal digits",
            by_gateway(&text.replace("5a5a", "5A5a")),
        ),
        (
            "bad-link-short",
            "malformed",
            "a link of 31 bytes",
            by_gateway(&text.replacen("5a", "", 1)),
        ),
        (
            "bad-member-more",
            "malformed",
            "a member that is not in the format",
            by_gateway(&text.replace("{\"v\":1", "{\"v\":1,\"x\":1")),
        ),
        (
            "bad-member-less",
            "malformed",
            "no reason",
            by_gateway(&text.replace("\"why\":\"expired\",", "")),
        ),
        (
            "bad-member-twice",
            "malformed",
            "two reasons",
            by_gateway(&text.replace("\"why\":", "\"why\":\"none\",\"why\":")),
        ),
        (
            "bad-spaces",
            "malformed",
            "another form of the same JSON",
            good.replace("{\"statement\":", "{ \"statement\":"),
        ),
        (
            "bad-no-line-feed",
            "malformed",
            "no line feed at the end",
            good.trim_end().to_owned(),
        ),
        ("bad-two", "malformed", "two lines", good.repeat(2)),
        ("bad-cut", "malformed", "cut off", good[..good.len() / 2].to_owned()),
        (
            "bad-long",
            "malformed",
            "longer than any may be",
            changed(&|statement| statement.why = "x".repeat(32 * 1024)),
        ),
        ("bad-empty", "malformed", "an empty file", String::new()),
    ];
    let vector = |(name, expected, about, text): (&str, &str, &str, String)| {
        let vector = Vector {
            about: about.into(),
            expected: expected.into(),
            session: SESSION,
            text,
        };
        (name.to_owned(), vector)
    };
    all.map(vector).into()
}

#[test]
fn every_tombstone_vector_is_judged_as_it_always_was() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tombstone-vectors");
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
    assert!(stored.len() >= 21, "{} vectors", stored.len());
    if mode.as_deref() == Ok("check") {
        assert_eq!(fresh, stored);
    }
}
