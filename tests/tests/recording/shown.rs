//! A recording is what was shown, byte for byte, and shown to nobody else.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::stored::session;
use tests::{noise, sha256};

use crate::{recorded, stand};

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
        let replayed = stand.doorward(&["replay", "--raw", session(&entry)?]).await?;
        ensure!(replayed.code == Some(0), "replay: {}", replayed.said());
        ensure!(
            sha256(&replayed.stdout) == sha256(&outcome.stdout),
            "the replay differs from what was printed"
        );
        let verified = stand.doorward(&["verify", session(&entry)?]).await?;
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
        let size: u64 = fs::read_dir(stand.stored(session(&entry)?)?)?
            .filter_map(|f| f.ok()?.metadata().ok())
            .map(|m| m.len())
            .sum();
        ensure!(
            (16 << 20..20 << 20).contains(&size),
            "the record of 40 MiB takes {size} bytes"
        );
        let shown = stand
            .doorward(&["sessions", "show", session(&entry)?, "--json"])
            .await?;
        ensure!(shown.code == Some(0), "show: {}", shown.said());
        let verified = stand.doorward(&["verify", session(&entry)?]).await?;
        ensure!(verified.code == Some(0), "verify: {}", verified.said());
        Ok(())
    })
}

#[test]
fn recordings_export_as_asciicast() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let (_, entry) = recorded(stand, &["-tt"], "printf 'gr\\303\\274n'").await?;
        for (format, version) in [("asciicast-v2", 2), ("asciicast-v3", 3)] {
            let outcome = stand
                .doorward(&["export", session(&entry)?, "--format", format])
                .await?;
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
        let peek = tests::feed(carol.command(["replay", "--raw", session(&entry)?]), b"").await?;
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
