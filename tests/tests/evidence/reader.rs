//! The reader in Python, written from the format's page alone, says what our own verification says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/reader.py");

/// A Python with the package zstandard: the one that `tests/clients/install` makes, or the system's. Where `CI` is set there must
/// be one.
pub(crate) fn python() -> Result<Option<String>> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let own = cache.map(|cache| {
        cache
            .join("doorward/clients/python/bin/python")
            .to_string_lossy()
            .into_owned()
    });
    let has = |python: &String| {
        let tried = Command::new(python).args(["-c", "import zstandard"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let found = own.into_iter().chain(["python3".to_owned()]).find(has);
    if found.is_none() {
        ensure!(
            std::env::var_os("CI").is_none(),
            "the reader needs Python with zstandard: tests/clients/install"
        );
        eprintln!("skipped: there is no Python with the package zstandard");
    }
    Ok(found)
}

fn read(python: &str, recording: &Path, keys: [&Path; 2], session: &str) -> Result<Output> {
    Command::new(python)
        .arg(READER)
        .arg(recording)
        .args(["--session", session])
        .arg("--host-ca")
        .arg(keys[0])
        .arg("--user-ca")
        .arg(keys[1])
        .output()
        .context(python.to_owned())
}

#[test]
fn every_vector_is_judged_alike() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let lines = std::fs::read_to_string(READER)?.lines().count();
    ensure!(lines < 200, "the reader has {lines} lines");
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../audit/tests/vectors");
    let index: Value = serde_json::from_slice(&std::fs::read(vectors.join("index.json"))?)?;
    let keys = [vectors.join("host-ca.pub"), vectors.join("user-ca.pub")];
    let mut count = 0;
    for (name, expected) in index.as_object().context("no index")? {
        let session = "01900000-0000-7000-8000-000000000001";
        let said = read(&python, &vectors.join(name), [&keys[0], &keys[1]], session)?;
        let open = expected["class"] == "no-closing";
        let wanted = match expected["verdict"].as_str() {
            Some("complete") => 0,
            Some("abnormal") => 11,
            _ if open => 12,
            _ => 10,
        };
        let code = said.status.code();
        ensure!(
            code == Some(wanted),
            "{name}: {code:?}, {}",
            String::from_utf8_lossy(&said.stderr)
        );
        count += 1;
    }
    ensure!(count >= 30, "{count} vectors");
    Ok(())
}
