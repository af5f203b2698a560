//! A store that was edited by hand is named as that, whichever way it was edited.

mod mutated;
mod reader;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use doorward_audit::{BlockKind, Event, HEAD_NAMESPACE, Recorder, Stamped, blocks, events};
use doorward_dev::stack::ClientFolder;
use serde_json::Value;
use ssh_key::{HashAlg, PrivateKey, private::Ed25519Keypair};
use tests::{Outcome, Stand};
use uuid::Uuid;

const BAD: i32 = 10;
const MISSING: i32 = 13;
/// Of a block.
const HEADER: usize = 28;
/// Shows pieces of equal length that do not compress, with a pause behind each.
const PIECES: &str = "for piece in 1 2 3 4 5 6; do head -c 4000 /dev/urandom; sleep 0.05; done";

async fn stand(name: &str) -> Result<Stand> {
    Stand::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), name).await
}

/// Alice, who may see every recording.
async fn auditor(stand: &Stand) -> Result<ClientFolder> {
    Ok(stand.stack.login("alice", &stand.folder().join("alice")).await?)
}

/// Makes a session of this output and waits until its recording is closed and in the log.
async fn session(stand: &Stand, auditor: &ClientFolder, command: &str) -> Result<String> {
    let before: Vec<Value> = stand.sessions().await?;
    let outcome = stand.run(&[], "devenv-1", command, b"").await?;
    ensure!(outcome.code == Some(0), "{command}: {}", outcome.said());
    let id = tests::until("the session's entry closes", async || {
        let new = stand
            .sessions()
            .await?
            .into_iter()
            .find(|entry| !entry["ended"].is_null() && before.iter().all(|old| old["session"] != entry["session"]));
        Ok(new.and_then(|entry| Some(entry["session"].as_str()?.to_owned())))
    })
    .await?;
    tests::until("the closing is in the log", async || {
        let state = fs::read_dir(stand.stack.state_dir().join("log"))?;
        let leaves: String = state
            .map(|folder| Ok(fs::read_to_string(folder?.path().join("leaves.jsonl"))?))
            .collect::<Result<_>>()?;
        let closing = |line: &str| line.contains("\"closing\"") && line.contains(&id);
        Ok(leaves.lines().any(closing).then_some(()))
    })
    .await?;
    let verified = verify(auditor, &["--all"]).await?;
    ensure!(verified.code == Some(0), "before any edit: {}", text(&verified));
    Ok(id)
}

async fn verify(client: &ClientFolder, what: &[&str]) -> Result<Outcome> {
    let mut args = vec!["verify"];
    args.extend(what);
    tests::feed(client.command(args), b"").await
}

fn text(outcome: &Outcome) -> String {
    format!(
        "{:?}: {}{}",
        outcome.code,
        String::from_utf8_lossy(&outcome.stdout),
        outcome.said()
    )
}

/// It must be found in the gateway's store and from files alone, with this exit code and these words on one line.
async fn named(stand: &Stand, auditor: &ClientFolder, edit: &str, code: i32, words: &[&str]) -> Result<()> {
    let (records, log) = (stand.stack.records_dir(), stand.stack.state_dir().join("log"));
    let files = [log.to_string_lossy(), records.to_string_lossy()];
    for what in [vec!["--all"], files.iter().map(AsRef::as_ref).collect()] {
        let found = verify(auditor, &what).await?;
        let said = String::from_utf8_lossy(&found.stdout);
        let named = words.iter().all(|word| said.contains(word));
        ensure!(found.code == Some(code) && named, "{edit}, {what:?}: {}", text(&found));
    }
    Ok(())
}

fn folder_of(stand: &Stand, id: &str) -> Result<PathBuf> {
    for day in fs::read_dir(stand.stack.records_dir())? {
        let folder = day?.path().join(id);
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    anyhow::bail!("no folder of {id}")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Puts a folder back to what was copied of it.
fn restore(copied: &Path, folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder)?;
    copy(copied, folder)
}

/// The event blocks of a recording's first segment: where each begins, its length, the position of its number.
fn chunks(segment: &[u8]) -> Result<Vec<(usize, usize)>> {
    let mut found = Vec::new();
    for block in blocks(segment) {
        let seen = block?.seen;
        if seen.kind == BlockKind::Events {
            found.push((usize::try_from(seen.offset)?, usize::try_from(seen.len)?));
        }
    }
    Ok(found)
}

#[test]
fn every_edit_of_a_store_is_named() -> Result<()> {
    let _alone = tests::alone();
    tokio::runtime::Runtime::new()?.block_on(async {
        let stand = stand("evidence").await?;
        let auditor = auditor(&stand).await?;
        let backup = stand.folder().join("backup");
        let first = session(&stand, &auditor, PIECES).await?;
        let older = stand.folder().join("older");
        copy(&stand.stack.records_dir(), &older)?;
        let one = folder_of(&stand, &first)?;
        let segment = one.join("segment-000000.dwr");
        let bytes = fs::read(&segment)?;
        // How what is shown is cut into chunks is for the agent to say; so again, should they not match.
        let (second, other) = tests::until("a session with a chunk as long as one of the first", async || {
            let second = session(&stand, &auditor, PIECES).await?;
            let folder = folder_of(&stand, &second)?;
            let twins = twins(&bytes, &fs::read(folder.join("segment-000000.dwr"))?)?;
            Ok(twins.map(|_| (second, folder)))
        })
        .await?;
        let records = stand.stack.records_dir();
        copy(&records, &backup)?;

        let (at, len) = *chunks(&bytes)?.first().context("no chunk")?;
        let mut edited = bytes.clone();
        edited[at + len / 2] ^= 4;
        fs::write(&segment, &edited)?;
        named(
            &stand,
            &auditor,
            "a byte",
            BAD,
            &[&first, "altered at segment 0, block 1"],
        )
        .await?;
        restore(&backup, &records)?;

        swapped(&one, &other)?;
        named(
            &stand,
            &auditor,
            "two chunks swapped",
            BAD,
            &[&first, &second, "altered at segment 0"],
        )
        .await?;
        restore(&backup, &records)?;

        let last = blocks(&bytes[..]).last().context("no block")??.seen;
        fs::write(&segment, &bytes[..usize::try_from(last.offset)?])?;
        named(
            &stand,
            &auditor,
            "the last chunk dropped",
            BAD,
            &[&first, "truncated at"],
        )
        .await?;
        // With the receipts that tell of it: the log remembers.
        fs::remove_file(one.join("receipts.jsonl"))?;
        named(
            &stand,
            &auditor,
            "the last chunk and the receipts dropped",
            MISSING,
            &[&first, "rolled-back at"],
        )
        .await?;
        restore(&backup, &records)?;

        fs::remove_dir_all(&one)?;
        named(
            &stand,
            &auditor,
            "a whole session deleted",
            MISSING,
            &[&first, "MISSING"],
        )
        .await?;
        restore(&backup, &records)?;

        fs::remove_dir_all(&records)?;
        fs::create_dir(&records)?;
        let words = [&format!("{first}: MISSING")[..], &format!("{second}: MISSING")];
        named(&stand, &auditor, "everything deleted", MISSING, &words).await?;
        restore(&backup, &records)?;

        restore(&older, &records)?;
        named(
            &stand,
            &auditor,
            "the folder rolled back",
            MISSING,
            &[&second, "MISSING"],
        )
        .await?;
        restore(&backup, &records)?;

        chained_again(&one, &first)?;
        named(
            &stand,
            &auditor,
            "all hashes made anew",
            BAD,
            &[&first, "bad-signature at", "rolled-back at"],
        )
        .await?;
        restore(&backup, &records)?;

        let whole = verify(&auditor, &["--all"]).await?;
        ensure!(whole.code == Some(0), "the restored store: {}", text(&whole));
        stand.stack.stop().await;
        Ok(())
    })
}

/// A recording whose time is over is deleted by the gateway; what it leaves in its place is judged like a recording.
#[test]
fn a_deleted_recording_is_judged_by_its_tombstone() -> Result<()> {
    let _alone = tests::alone();
    tokio::runtime::Runtime::new()?.block_on(async {
        let stand = stand("evidence-deleted").await?;
        let auditor = auditor(&stand).await?;
        let kept = session(&stand, &auditor, "echo kept").await?;
        let policy = stand.folder().join("stack/policy.toml");
        let roles = fs::read_to_string(&policy)?;
        let short = roles.replace("[role.recording]", "[role.recording]\nkeep = \"1s\"");
        ensure!(short != roles, "no role to change");
        fs::write(&policy, short)?;
        let records = stand.stack.records_dir();
        let stone = tests::until("a recording is deleted", async || {
            stand.run(&[], "devenv-1", "echo gone", b"").await?;
            for day in fs::read_dir(&records)? {
                for folder in fs::read_dir(day?.path())? {
                    let path = folder?.path();
                    if path.join("tombstone.json").is_file() && !path.join("session.json").exists() {
                        return Ok(Some(path.join("tombstone.json")));
                    }
                }
            }
            Ok(None)
        })
        .await?;
        let id = stone.parent().and_then(Path::file_name).context("no folder")?;
        let id = id.to_string_lossy().into_owned();
        tests::until("every other one that is due is deleted", async || {
            let left = stand.sessions().await?;
            let waits = left
                .iter()
                .any(|entry| entry["ended"].is_null() || !entry["keep-until"].is_null());
            Ok((!waits).then_some(()))
        })
        .await?;
        let good = format!("{id}: ok: deleted on ");
        tests::until("the tombstones are in the log", async || {
            let found = verify(&auditor, &["--all"]).await?;
            let said = text(&found);
            Ok((found.code == Some(0) && said.contains(&good) && said.contains(&kept)).then_some(()))
        })
        .await?;
        named(&stand, &auditor, "nothing", 0, &[&id, "tombstone good and in the log"]).await?;
        let one = verify(&auditor, &[&id]).await?;
        ensure!(one.code == Some(0) && text(&one).contains(&good), "{}", text(&one));
        let alone = verify(&auditor, &[&records.to_string_lossy()]).await?;
        ensure!(
            alone.code == Some(0) && text(&alone).contains("was not read"),
            "{}",
            text(&alone)
        );

        let whole = fs::read_to_string(&stone)?;
        fs::write(&stone, whole.replacen("\\\"expired\\\"", "\\\"pleased\\\"", 1))?;
        named(
            &stand,
            &auditor,
            "another reason",
            BAD,
            &[&id, "its signature does not fit"],
        )
        .await?;
        let other = fs::read_dir(&records)?
            .flat_map(|day| fs::read_dir(day.map(|day| day.path()).unwrap_or_default()))
            .flatten()
            .filter_map(|folder| Some(folder.ok()?.path().join("tombstone.json")))
            .find(|path| path.is_file() && *path != stone);
        if let Some(other) = other {
            fs::copy(&other, &stone)?;
            named(&stand, &auditor, "another one's", BAD, &[&id, "it is the tombstone of"]).await?;
        }
        fs::remove_file(&stone)?;
        named(&stand, &auditor, "none", MISSING, &[&id, "tombstone.json is not there"]).await?;
        fs::write(&stone, &whole)?;
        named(
            &stand,
            &auditor,
            "as it was",
            0,
            &[&id, "tombstone good and in the log"],
        )
        .await?;
        stand.stack.stop().await;
        Ok(())
    })
}

#[test]
fn a_bundle_is_checked_by_its_own_page() -> Result<()> {
    let _alone = tests::alone();
    tokio::runtime::Runtime::new()?.block_on(async {
        let stand = stand("evidence-bundle").await?;
        let auditor = auditor(&stand).await?;
        let id = session(&stand, &auditor, "printf 'gr\\303\\274n\\n\\377'; echo oops >&2").await?;
        let file = |name: &str| stand.folder().join(name).to_string_lossy().into_owned();
        let (one, two) = (file("one.tar"), file("two.tar"));
        for name in [&one, &two] {
            let made = verify(&auditor, &["--bundle", name, &id]).await?;
            ensure!(made.code == Some(0), "{}", text(&made));
        }
        ensure!(fs::read(&one)? == fs::read(&two)?, "the same contents give other bytes");
        let again = verify(&auditor, &["--bundle", &one, &id]).await?;
        ensure!(
            again.code == Some(64),
            "a file that is there was replaced: {}",
            text(&again)
        );
        let good = verify(&auditor, &[&one]).await?;
        ensure!(good.code == Some(0), "{}", text(&good));
        ensure!(text(&good).contains("counts agree"), "{}", text(&good));

        // As the page says, with nothing of ours.
        let apart = stand.folder().join("apart");
        fs::create_dir(&apart)?;
        let run = async |program: &str, args: &[&str], input: &Path| -> Result<Outcome> {
            let mut command = tokio::process::Command::new(program);
            command.args(args).current_dir(&apart);
            let bytes = if input.as_os_str().is_empty() {
                Vec::new()
            } else {
                fs::read(input)?
            };
            tests::feed(command, &bytes).await
        };
        let nothing = Path::new("");
        let out = run("tar", &["xf", &one, "--strip-components=1"], nothing).await?;
        ensure!(out.code == Some(0), "{}", text(&out));
        let sums = run("sha256sum", &["--check", "--strict", "SHA256SUMS"], nothing).await?;
        ensure!(sums.code == Some(0), "{}", text(&sums));
        for (namespace, name) in [
            ("doorward-checkpoint@doorward", "log/checkpoint.txt"),
            ("doorward-head@doorward", "heads/000000"),
        ] {
            let message = apart.join(if name.starts_with("heads") {
                format!("{name}.cbor")
            } else {
                name.to_owned()
            });
            let signature = format!("{name}.sig");
            let signed = run(
                "ssh-keygen",
                &["-Y", "check-novalidate", "-n", namespace, "-s", &signature],
                &message,
            )
            .await?;
            ensure!(signed.code == Some(0), "{name}: {}", text(&signed));
        }
        for name in ["keys/gateway-cert.pub", "keys/workspace-cert.pub"] {
            let shown = run("ssh-keygen", &["-L", "-f", name], nothing).await?;
            ensure!(shown.code == Some(0), "{name}: {}", text(&shown));
        }
        if let Some(python) = reader::python()? {
            let keys = ["--host-ca", "keys/host-ca.pub", "--user-ca", "keys/user-ca.pub"];
            let mut args = vec!["reader.py", "recording", "--session", &id, "--output"];
            args.extend(keys);
            let read = run(&python, &args, nothing).await?;
            ensure!(read.code == Some(0), "{}", text(&read));
            // Where the other stream's bytes stand among these is the scheduler's choice.
            let mut shown = read.stdout.clone();
            let oops = shown.windows(5).position(|window| window == b"oops\n");
            shown.drain(oops.map(|at| at..at + 5).context("standard error is not there")?);
            ensure!(shown == b"gr\xc3\xbcn\n\xff", "{:?}", read.stdout);
        }

        let whole = fs::read(&one)?;
        let edited = file("edited.tar");
        for (at, what) in places(&whole)? {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&edited, bytes)?;
            let found = verify(&auditor, &[&edited]).await?;
            ensure!(found.code == Some(BAD), "{what}: {}", text(&found));
        }
        stand.stack.stop().await;
        Ok(())
    })
}

#[test]
fn the_log_names_sessions_only_to_who_may_see_them() -> Result<()> {
    let _alone = tests::alone();
    tokio::runtime::Runtime::new()?.block_on(async {
        let stand = stand("evidence-rights").await?;
        let auditor = auditor(&stand).await?;
        let id = session(&stand, &auditor, "echo bob was here").await?;
        let carol = stand.stack.login("carol", &stand.folder().join("carol")).await?;
        let found = verify(&carol, &["--all", "--json"]).await?;
        let said = text(&found);
        ensure!(
            found.code == Some(0) && !said.contains(&id),
            "carol reads of bob's session: {said}"
        );
        ensure!(
            said.contains("only your own view"),
            "carol is not told what she cannot see: {said}"
        );
        let one = verify(&carol, &[&id]).await?;
        let none = verify(&carol, &["01900000-0000-7000-8000-000000000000"]).await?;
        ensure!(one.code == Some(77) && one.stdout.is_empty(), "{}", text(&one));
        ensure!(
            (one.code, one.said()) == (none.code, none.said()),
            "{} {}",
            text(&one),
            text(&none)
        );
        let own = verify(stand.stack.client(), &["--all"]).await?;
        ensure!(own.code == Some(0) && text(&own).contains(&id), "{}", text(&own));
        stand.stack.stop().await;
        Ok(())
    })
}

/// Where the first byte of what matters stands in a bundle.
fn places(bundle: &[u8]) -> Result<Vec<(usize, &'static str)>> {
    let find = |text: &str| {
        let at = bundle.windows(text.len()).position(|window| window == text.as_bytes());
        at.with_context(|| format!("no {text}"))
    };
    Ok(vec![
        (find("What is in here")?, "the page"),
        (find("\"proof\":[\"")? + 12, "a proof"),
        (find("doorward-log/SHA256:")? + 25, "the checkpoint"),
        (find("DWREC")? + 70, "the recording"),
        (find("{\"statement\":\"{\\\"v\\\":1")? + 40, "a receipt"),
    ])
}

/// A chunk of each of two segments whose headers say the same but for number and tag: where they begin, and how long they are.
fn twins(one: &[u8], other: &[u8]) -> Result<Option<(usize, usize, usize)>> {
    let (in_one, in_other) = (chunks(one)?, chunks(other)?);
    // Kind and codec, raw and stored length.
    let says = |segment: &[u8], at: usize| [&segment[at..at + 4], &segment[at + 12..at + 20]].concat();
    for (at, len) in in_one {
        let same = |(there, _): &&(usize, usize)| says(one, at) == says(other, *there);
        if let Some((there, _)) = in_other.iter().find(same) {
            return Ok(Some((at, *there, len)));
        }
    }
    Ok(None)
}

/// Exchanges two chunks of the same length between two recordings; each place keeps its number and its tag.
fn swapped(one: &Path, other: &Path) -> Result<()> {
    let (one, other) = (one.join("segment-000000.dwr"), other.join("segment-000000.dwr"));
    let (mut a, mut b) = (fs::read(&one)?, fs::read(&other)?);
    let (x, y, len) = twins(&a, &b)?.context("no chunks of equal length")?;
    ensure!(
        a[x + HEADER..x + len] != b[y + HEADER..y + len],
        "both chunks are the same"
    );
    a[x + HEADER..x + len].swap_with_slice(&mut b[y + HEADER..y + len]);
    fs::write(one, a)?;
    fs::write(other, b)?;
    Ok(())
}

/// What somebody with write access to the store can do: other words, all hashes anew, heads by a key of their own, and no receipt.
fn chained_again(folder: &Path, id: &str) -> Result<()> {
    let bytes = fs::read(folder.join("segment-000000.dwr"))?;
    let mut all = events(&bytes[..]).collect::<Result<Vec<Stamped>, _>>()?;
    let mut said = false;
    for stamped in &mut all {
        if let Event::Output(output) = &mut stamped.event {
            output.bytes = b"nothing happened\n".to_vec().into();
            said = true;
        }
    }
    ensure!(said, "no output to change");
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let mut recorder = Recorder::new(Uuid::parse_str(id)?);
    let mut forged = recorder.append(&all).to_vec();
    let head = recorder.head(1_700_000_000_000, true, |text| {
        key.sign(HEAD_NAMESPACE, HashAlg::Sha512, text)
    })?;
    forged.extend_from_slice(&head);
    fs::write(folder.join("segment-000000.dwr"), forged)?;
    fs::remove_file(folder.join("receipts.jsonl"))?;
    Ok(())
}

#[test]
fn a_store_and_its_log_rolled_back_together_are_named_by_what_the_laptop_remembers() -> Result<()> {
    let _alone = tests::alone();
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut stand = stand("evidence-rollback").await?;
        let auditor = auditor(&stand).await?;
        session(&stand, &auditor, "echo first").await?;
        stand.stack.kill_gateway().await;
        let (state, records) = (stand.stack.state_dir(), stand.stack.records_dir());
        let (old_state, old_records) = (stand.folder().join("old-state"), stand.folder().join("old-records"));
        copy(&state, &old_state)?;
        copy(&records, &old_records)?;
        stand.stack.restart_gateway().await?;
        session(&stand, &auditor, "echo second").await?;
        stand.stack.kill_gateway().await;
        restore(&old_state, &state)?;
        restore(&old_records, &records)?;
        stand.stack.restart_gateway().await?;
        let found = verify(&auditor, &["--all"]).await?;
        let said = String::from_utf8_lossy(&found.stdout).into_owned();
        ensure!(
            found.code == Some(MISSING) && said.contains("ROLLED BACK"),
            "{}",
            text(&found)
        );
        let files = verify(&auditor, &[&state.join("log").to_string_lossy()]).await?;
        let said = String::from_utf8_lossy(&files.stdout).into_owned();
        ensure!(
            files.code == Some(MISSING) && said.contains("rolled back"),
            "{}",
            text(&files)
        );
        // Grown again to more leaves than are remembered it is no longer shorter, but another one.
        for _ in 0..3 {
            let outcome = stand.run(&[], "devenv-1", "echo more", b"").await?;
            ensure!(outcome.code == Some(0), "{}", outcome.said());
        }
        let forked = tests::until("the log is longer than the one that is remembered", async || {
            let found = verify(&auditor, &["--all"]).await?;
            let said = String::from_utf8_lossy(&found.stdout).into_owned();
            ensure!(found.code == Some(MISSING), "{}", text(&found));
            Ok(said.contains("the log was forked").then_some(said))
        })
        .await?;
        ensure!(forked.contains("ROLLED BACK"), "{forked}");
        stand.stack.stop().await;
        Ok(())
    })
}
