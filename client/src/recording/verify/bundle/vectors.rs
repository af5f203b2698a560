//! Bundles that must be judged the same for ever: `audit/tests/bundle-vectors` holds a good one and edits of it, and `index.json`
//! says what each must give.
//!
//! Made anew from a good bundle with `DOORWARD_BUNDLE_VECTORS=FILE cargo test -p doorward-client bundle_vectors`, only where the
//! format has another version.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::class::Class;
use super::super::trust;
use super::*;
use crate::error::Error;
use crate::gateway::CaLines;

#[derive(Serialize, Deserialize)]
struct Vector {
    file: String,
    about: String,
    /// A class of `doorward verify`.
    expected: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../audit/tests/bundle-vectors")
}

fn judged(file: &Path, keys: &CaLines) -> Class {
    match Bundle::open(file) {
        Ok(bundle) => {
            let items = bundle.verify("vector", &trust(keys).unwrap());
            items.iter().map(|item| item.class).max().unwrap()
        }
        Err(Error::Recording(_)) => Class::Bad,
        Err(error) => panic!("{}: {error}", file.display()),
    }
}

#[test]
fn bundle_vectors() {
    if let Some(good) = std::env::var_os("DOORWARD_BUNDLE_VECTORS") {
        make(&fs::read(good).unwrap());
    }
    let text = |name: &str| fs::read_to_string(folder().join(name)).unwrap();
    let keys: CaLines = serde_json::from_str(&text("trust.json")).unwrap();
    let strangers = CaLines {
        host_ca: keys.user_ca.clone(),
        user_ca: keys.host_ca.clone(),
    };
    let vectors: Vec<Vector> = serde_json::from_str(&text("index.json")).unwrap();
    assert!(vectors.len() > 10);
    for Vector { file, about, expected } in &vectors {
        let path = folder().join(file);
        assert_eq!(judged(&path, &keys).as_str(), expected, "{file}: {about}");
        assert_ne!(
            judged(&path, &strangers),
            Class::Complete,
            "{file} by other authorities"
        );
    }
    let mut files: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tar"))
        .collect();
    files.sort();
    let mut listed: Vec<_> = vectors.iter().map(|vector| vector.file.clone()).collect();
    listed.sort();
    assert_eq!(files, listed);
}

/// Entries as they stand in the file: the name, and the bytes of header, content and padding.
type Entries = Vec<(String, Vec<u8>)>;

fn entries(bundle: &[u8]) -> Entries {
    let mut all = Vec::new();
    for entry in tar::Archive::new(bundle).entries().unwrap() {
        let entry = entry.unwrap();
        let at = usize::try_from(entry.raw_header_position()).unwrap();
        let len = usize::try_from(entry.size()).unwrap().next_multiple_of(512);
        let name = entry.path().unwrap().display().to_string();
        let name = name.split_once('/').unwrap().1.to_owned();
        all.push((name, bundle[at..at + 512 + len].to_vec()));
    }
    all
}

fn joined(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut all: Vec<u8> = entries.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    all.resize(all.len() + 1024, 0);
    all
}

/// Changes bytes of an entry's header and makes its sum right again.
fn header(entry: &mut [u8], at: usize, bytes: &[u8]) {
    entry[at..at + bytes.len()].copy_from_slice(bytes);
    entry[148..156].fill(b' ');
    let sum: u32 = entry[..512].iter().map(|byte| u32::from(*byte)).sum();
    entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn make(good: &[u8]) {
    fs::create_dir_all(folder()).unwrap();
    let all = entries(good);
    assert!(joined(&all) == good);
    let place = |name: &str| all.iter().position(|(known, _)| known == name).unwrap();
    let mut vectors = vec![("good", "as it was made", good.to_vec())];
    let mut edit = |name, about, change: &dyn Fn(&mut Entries)| {
        let mut edited = all.clone();
        change(&mut edited);
        vectors.push((name, about, joined(&edited)));
    };
    let page = place("README.txt");
    let segment = place("recording/segment-000000.dwr");
    edit("bad-mode", "a mode in a header", &|all| {
        header(&mut all[page].1, 100, b"0000600")
    });
    edit("bad-time", "a time in a header", &|all| {
        header(&mut all[page].1, 136, b"00000000001");
    });
    edit("bad-owner", "an owner in a header", &|all| {
        header(&mut all[page].1, 265, b"root")
    });
    edit("bad-header-rest", "bytes behind a header's fields", &|all| {
        header(&mut all[page].1, 500, b"unseen");
    });
    edit("bad-padding", "a byte between two files", &|all| {
        *all[page].1.last_mut().unwrap() = 1;
    });
    edit("bad-order", "two files in another order", &|all| {
        all.swap(page, page + 1)
    });
    edit("bad-twice", "a file that is there twice", &|all| {
        all.insert(page, all[page].clone())
    });
    edit("bad-missing", "a file that is not there", &|all| {
        drop(all.remove(place("log/leaves.jsonl")))
    });
    edit("bad-page", "a letter on the page", &|all| all[page].1[600] ^= 1);
    edit("bad-recording", "a bit in the recording", &|all| {
        all[segment].1[512 + 200] ^= 4
    });
    edit("bad-checkpoint", "a digit in the checkpoint", &|all| {
        all[place("log/checkpoint.txt")].1[512 + 20] ^= 1;
    });
    let sums = place(SUMS);
    edit("bad-sums-twice", "a sum that is there twice, and right", &|all| {
        let len = usize::from_str_radix(std::str::from_utf8(&all[sums].1[124..135]).unwrap(), 8).unwrap();
        let text = &all[sums].1[512..512 + len];
        let line = text.split_inclusive(|byte| *byte == b'\n').next().unwrap();
        let longer = [line, text].concat();
        let mut entry = all[sums].1[..512].to_vec();
        header(&mut entry, 124, format!("{:011o}", longer.len()).as_bytes());
        entry.extend_from_slice(&longer);
        entry.resize(entry.len().next_multiple_of(512), 0);
        all[sums].1 = entry;
    });
    let mut more = good.to_vec();
    more.extend_from_slice(&[0; 512]);
    vectors.push(("bad-longer", "more zeros at the end", more));
    let mut end = good.to_vec();
    end.extend_from_slice(b"and that");
    vectors.push(("bad-behind", "words behind the end", end));
    let mut last = good.to_vec();
    *last.last_mut().unwrap() = 7;
    vectors.push(("bad-end", "a byte in the end's zeros", last));
    vectors.push(("bad-cut", "without its end", good[..good.len() - 1024].to_vec()));
    vectors.push(("bad-half", "cut in a file", good[..good.len() / 2].to_vec()));
    vectors.push(("bad-empty", "an empty file", Vec::new()));
    let index: Vec<Vector> = vectors
        .iter()
        .map(|(name, about, bytes)| {
            let file = format!("{name}.tar");
            fs::write(folder().join(&file), bytes).unwrap();
            let expected = if *name == "good" { "complete" } else { "bad" };
            Vector {
                file,
                about: (*about).to_owned(),
                expected: expected.to_owned(),
            }
        })
        .collect();
    let keys = &all[place("keys/trust.json")].1;
    let len = usize::from_str_radix(std::str::from_utf8(&keys[124..135]).unwrap(), 8).unwrap();
    fs::write(folder().join("trust.json"), &keys[512..512 + len]).unwrap();
    let index = serde_json::to_string_pretty(&index).unwrap() + "\n";
    fs::write(folder().join("index.json"), index).unwrap();
}
