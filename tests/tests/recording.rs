//! A recording is what was shown, and damage to it is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Outcome, Shared, Stand, noise, sha256};

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        Shared::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "recording",
        )
    })
}

/// Runs a command whose text makes its session findable, and returns what it did and its session's entry.
async fn recorded(stand: &Stand, options: &[&str], command: &str) -> Result<(Outcome, Value)> {
    let before: Vec<Value> = stand
        .sessions()
        .await?
        .iter()
        .map(|entry| entry["session"].clone())
        .collect();
    let outcome = stand.run(options, "devenv-1", command, b"").await?;
    let entry = tests::until("the session's entry closes", async || {
        let new = stand
            .sessions()
            .await?
            .into_iter()
            .find(|entry| !before.contains(&entry["session"]));
        Ok(new.filter(|entry| !entry["ended"].is_null()))
    })
    .await?;
    Ok((outcome, entry))
}

fn id(entry: &Value) -> Result<&str> {
    entry["session"].as_str().context("a session without an id")
}

/// The folder of a session in the gateway's store.
fn stored(stand: &Stand, id: &str) -> Result<PathBuf> {
    for day in fs::read_dir(stand.stack.records_dir())? {
        let folder = day?.path().join(id);
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    anyhow::bail!("no folder of {id} in the store")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

async fn verify(stand: &Stand, folder: &Path) -> Result<Outcome> {
    stand.doorward(&["verify", &folder.to_string_lossy()]).await
}

#[test]
fn a_terminal_replays_byte_for_byte() -> Result<()> {
    // tests of this file that make sessions hold this lock: a session is found as the one that is new
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let script =
            "stty -opost; printf '\\377\\000\\233x\\033[31mred\\033[0m'; seq 1 5000; head -c 100000 /dev/urandom";
        let (outcome, entry) = recorded(stand, &["-tt"], script).await?;
        ensure!(
            outcome.stdout.len() > 100_000,
            "the terminal printed {} bytes",
            outcome.stdout.len()
        );
        let replayed = stand.doorward(&["replay", "--raw", id(&entry)?]).await?;
        ensure!(replayed.code == Some(0), "replay: {}", replayed.said());
        ensure!(
            sha256(&replayed.stdout) == sha256(&outcome.stdout),
            "the replay differs from what was printed"
        );
        let verified = stand.doorward(&["verify", id(&entry)?]).await?;
        ensure!(verified.code == Some(0), "verify: {}", verified.said());
        Ok(())
    })
}

#[test]
fn bulk_is_digested_past_its_limit_and_the_record_stays_small() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let file = stand.folder().join("bulk");
        let bytes = noise(40 << 20);
        fs::write(&file, &bytes)?;
        let (outcome, entry) = recorded(stand, &[], &format!("cat '{}'", file.display())).await?;
        ensure!(sha256(&outcome.stdout) == sha256(&bytes), "the bytes did not arrive");
        let size: u64 = fs::read_dir(stored(stand, id(&entry)?)?)?
            .filter_map(|f| f.ok()?.metadata().ok())
            .map(|m| m.len())
            .sum();
        ensure!(
            (16 << 20..20 << 20).contains(&size),
            "the record of 40 MiB takes {size} bytes"
        );
        let shown = stand.doorward(&["sessions", "show", id(&entry)?, "--json"]).await?;
        ensure!(shown.code == Some(0), "show: {}", shown.said());
        let verified = stand.doorward(&["verify", id(&entry)?]).await?;
        ensure!(verified.code == Some(0), "verify: {}", verified.said());
        Ok(())
    })
}

#[test]
fn every_kind_of_damage_is_named() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        // random bytes, so that they are stored as they are and the record has more than one segment
        let (_, entry) = recorded(stand, &["-tt"], "stty -opost; head -c 10000000 /dev/urandom").await?;
        let (_, other) = recorded(stand, &["-tt"], "stty -opost; head -c 10000000 /dev/urandom").await?;
        let whole = stored(stand, id(&entry)?)?;
        let mut segments: Vec<PathBuf> = fs::read_dir(&whole)?
            .filter_map(|f| Some(f.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "dwr"))
            .collect();
        segments.sort();
        ensure!(segments.len() >= 3, "only {} segments", segments.len());
        let copy_of = |name: &str| -> Result<PathBuf> {
            let to = stand.folder().join(name);
            copy(&whole, &to)?;
            Ok(to)
        };
        let good = copy_of("good")?;
        let outcome = verify(stand, &good).await?;
        ensure!(outcome.code == Some(0), "the untouched copy fails: {}", outcome.said());

        let damaged = copy_of("damaged")?;
        let mut state = 42u64;
        for round in 0..40 {
            let name = segments[round % segments.len()].file_name().context("no name")?;
            let path = damaged.join(name);
            let mut bytes = fs::read(&path)?;
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(state >> 33)? % bytes.len();
            bytes[at] ^= 1 << (round % 8);
            fs::write(&path, &bytes)?;
            let outcome = verify(stand, &damaged).await?;
            ensure!(outcome.code != Some(0), "byte {at} of {name:?} was changed, unseen");
            let text = format!("{}{}", String::from_utf8_lossy(&outcome.stdout), outcome.said());
            ensure!(text.contains("segment"), "the place is not named: {text}");
            bytes[at] ^= 1 << (round % 8);
            fs::write(&path, &bytes)?;
        }
        for (which, index) in [("first", 0), ("middle", 1), ("last", segments.len() - 1)] {
            let folder = copy_of(&format!("without-{which}"))?;
            fs::remove_file(folder.join(segments[index].file_name().context("no name")?))?;
            ensure!(
                verify(stand, &folder).await?.code != Some(0),
                "the {which} segment is gone, unseen"
            );
        }
        let cut = copy_of("cut")?;
        let last = cut.join(segments[segments.len() - 1].file_name().context("no name")?);
        for keep in [0, 1, fs::metadata(&last)?.len() / 2, fs::metadata(&last)?.len() - 1] {
            let bytes = fs::read(&segments[segments.len() - 1])?;
            fs::write(&last, &bytes[..usize::try_from(keep)?])?;
            ensure!(
                verify(stand, &cut).await?.code != Some(0),
                "the last segment was cut to {keep}, unseen"
            );
        }
        let spliced = copy_of("spliced")?;
        let name = segments[1].file_name().context("no name")?;
        fs::copy(stored(stand, id(&other)?)?.join(name), spliced.join(name))?;
        ensure!(
            verify(stand, &spliced).await?.code != Some(0),
            "a segment of another session went in, unseen"
        );
        Ok(())
    })
}

#[test]
fn recordings_export_as_asciicast() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let (_, entry) = recorded(stand, &["-tt"], "printf 'gr\\303\\274n'").await?;
        for (format, version) in [("asciicast-v2", 2), ("asciicast-v3", 3)] {
            let outcome = stand.doorward(&["export", id(&entry)?, "--format", format]).await?;
            ensure!(outcome.code == Some(0), "export: {}", outcome.said());
            let text = String::from_utf8(outcome.stdout)?;
            let mut lines = text.lines();
            let header: Value = serde_json::from_str(lines.next().context("no header")?)?;
            ensure!(header["version"] == version, "header {header}");
            let mut output = String::new();
            for line in lines {
                let event: Value = serde_json::from_str(line)?;
                if event[1] == "o" {
                    output += event[2].as_str().context("no text")?;
                }
            }
            ensure!(output.contains("grün"), "output {output:?}");
        }
        Ok(())
    })
}

#[test]
fn another_person_sees_only_what_is_theirs() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let (_, entry) = recorded(stand, &[], "echo bob was here").await?;
        let carol = stand.stack.login("carol", &stand.folder().join("carol")).await?;
        ensure!(
            tests::sessions_of(&carol).await?.is_empty(),
            "carol sees bob's sessions"
        );
        let peek = tests::feed(carol.command(["replay", "--raw", id(&entry)?]), b"").await?;
        ensure!(
            peek.code != Some(0) && peek.stdout.is_empty(),
            "carol replays bob's session"
        );
        let alice = stand.stack.login("alice", &stand.folder().join("alice")).await?;
        let list = tests::sessions_of(&alice).await?;
        ensure!(
            list.iter().any(|other| other["session"] == entry["session"]),
            "alice does not see bob's session"
        );
        Ok(())
    })
}
