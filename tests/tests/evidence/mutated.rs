//! A thousand random changes to a bundle, each found; the untouched one is good before, meanwhile and after.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::random::Random;

use crate::{BAD, auditor, session, stand, text, verify};

const CHANGES: usize = 1000;
/// So many are judged by one call of the program.
const AT_ONCE: usize = 50;

#[test]
fn a_thousand_changes_to_a_bundle_are_found_and_none_is_imagined() -> Result<()> {
    let _alone = tests::alone();
    tokio::runtime::Runtime::new()?.block_on(async {
        let stand = stand("evidence-mutated").await?;
        let auditor = auditor(&stand).await?;
        let id = session(&stand, &auditor, "seq 1 300; ls -l /").await?;
        let folder = stand.folder().join("mutated");
        fs::create_dir(&folder)?;
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let good = file("good.tar");
        let made = verify(&auditor, &["--bundle", &good, &id]).await?;
        ensure!(made.code == Some(0), "{}", text(&made));
        stand.stack.stop().await;
        let whole = fs::read(&good)?;
        let mut random = Random::seeded("bundle");
        let mut done = 0;
        while done < CHANGES {
            let mut changes = BTreeMap::new();
            for number in 0..AT_ONCE {
                let (bytes, what) = mutated(&mut random, &whole);
                if bytes != whole {
                    let name = file(&format!("{number}.tar"));
                    fs::write(&name, bytes)?;
                    changes.insert(name, what);
                }
            }
            done += changes.len();
            let mut args = vec!["--json", good.as_str()];
            args.extend(changes.keys().map(String::as_str));
            let found = verify(&auditor, &args).await?;
            ensure!(found.code == Some(BAD), "{}", text(&found));
            let items: Vec<Value> = serde_json::from_slice(&found.stdout)?;
            let mut bad = BTreeMap::new();
            for item in &items {
                let name = ["recording", "log", "bundle"].iter().find_map(|key| item[key].as_str());
                let name = name.context("an item without a name")?.trim_end_matches(": log");
                *bad.entry(name).or_insert(false) |= item["class"] != "complete";
            }
            for (name, what) in &changes {
                ensure!(bad.get(name.as_str()) == Some(&true), "{what} is not found: {name}");
            }
            ensure!(bad.get(good.as_str()) == Some(&false), "the untouched one is blamed");
        }
        Ok(())
    })
}

/// One change, and what it was.
fn mutated(random: &mut Random, whole: &[u8]) -> (Vec<u8>, &'static str) {
    let mut bytes = whole.to_vec();
    // Half of them in the headers and the padding of the tar file, which are its smaller part.
    let block = random.below(bytes.len() / 512) * 512;
    let at = if random.coin() {
        random.below(bytes.len())
    } else {
        block + random.below(512)
    };
    let run = random.magnitude(11).min(bytes.len() - at);
    let from = random.below(bytes.len() - run);
    match random.below(8) {
        0 => {
            bytes[at] ^= 1 << random.below(8);
            (bytes, "a bit flipped")
        }
        1 => {
            bytes[at] = 0;
            (bytes, "a byte wiped")
        }
        2 => {
            bytes.drain(at..at + run);
            (bytes, "a piece deleted")
        }
        3 => {
            let piece = bytes[from..from + run].to_vec();
            bytes.splice(at..at, piece);
            (bytes, "a piece doubled")
        }
        4 => {
            let piece = bytes[from..from + run].to_vec();
            bytes[at..at + run].copy_from_slice(&piece);
            (bytes, "a piece over another one")
        }
        5 => {
            bytes.truncate(at);
            (bytes, "cut anywhere")
        }
        6 => {
            let block: Vec<u8> = bytes.drain(block..block + 512).collect();
            let to = random.below(bytes.len() / 512) * 512;
            bytes.splice(to..to, block);
            (bytes, "a block in another place")
        }
        _ => {
            let len = random.magnitude(11);
            bytes.extend((0..len).map(|_| if random.below(4) == 0 { 1 } else { 0 }));
            (bytes, "something behind the end")
        }
    }
}
