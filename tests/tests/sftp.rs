//! Files with OpenSSH's own sftp and scp, and with sshfs: the same tests on a stock sshd and on Doorward, with the same
//! outcome; and what Doorward's recording then says.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use doorward_audit::{Event, FileClosed, events};
use serde_json::Value;
use tests::side::{Field, Sides, make_tree, names, tree};
use tests::{Shared, Stand, feed, noise, sha256, until};
use tokio::process::Command;

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| Shared::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), "sftp"))
}

/// The events of the newest ended session that is not among these.
async fn newest(stand: &Stand, known: &[Value]) -> Result<Vec<Event>> {
    let entry = until("the session's entry closes", async || {
        let new = stand
            .sessions()
            .await?
            .into_iter()
            .find(|entry| !known.contains(&entry["session"]));
        Ok(new.filter(|entry| !entry["ended"].is_null()))
    })
    .await?;
    let id = entry["session"].as_str().context("a session without an id")?;
    let mut stream = Vec::new();
    for day in fs::read_dir(stand.stack.records_dir())? {
        let folder = day?.path().join(id);
        for segment in 0.. {
            match fs::read(folder.join(doorward_audit::segment_name(segment))) {
                Ok(bytes) => stream.extend(bytes),
                Err(_) => break,
            }
        }
    }
    events(&stream[..])
        .map(|stamped| Ok(stamped.map_err(|fault| anyhow::anyhow!("{fault:?}"))?.event))
        .collect()
}

async fn known(stand: &Stand) -> Result<Vec<Value>> {
    Ok(stand
        .sessions()
        .await?
        .iter()
        .map(|entry| entry["session"].clone())
        .collect())
}

fn file_closed<'a>(events: &'a [Event], name: &str) -> Result<&'a FileClosed> {
    let found = events.iter().find_map(|event| match event {
        Event::FileClosed(closed) if closed.path.ends_with(name.as_bytes()) => Some(closed),
        _ => None,
    });
    found.with_context(|| format!("{name} was not closed in the record: {events:?}"))
}

fn hex(hash: Option<[u8; 32]>) -> String {
    hash.unwrap_or_default()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One long batch, line by line the same answers as from a stock sshd, and the same files afterwards.
#[test]
fn a_batch_does_and_says_what_it_does_and_says_on_sshd() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let sides = Sides::of(stand, "batch")?;
        let mut outcomes = Vec::new();
        for side in &sides.sides {
            fs::write(side.local.join("small"), "small\n")?;
            fs::write(side.local.join("large"), noise(3 << 20))?;
            make_tree(&side.local.join("tree"))?;
            let lines = "pwd\nput small\nput large\nget large back\nmkdir made\n-mkdir made\nput -r tree made\n\
                         -rename -l small large\nrename -l small moved\n-rename -l absent other\nrename moved small\n\
                         chmod 600 small\n-chmod 600 absent\nln small hard\nln -s small soft\nln -s nowhere dangling\n\
                         -ln absent more\nls\nls -1 made/tree\n-ls absent\ncopy small copied\n-copy absent copied2\n\
                         -get absent\n-rm absent\n-rmdir absent\n-rmdir made\n-rm made\nrm hard\n-put absent\n\
                         -cd absent\n-cd small\ncd made\npwd\ncd ..\n-get made\nput -p small times\nput -f small synced\n\
                         -symlink\n!true\n-chown 0 absent\n-reput large\ndf\nls -l soft\nget -r made made-back";
            let outcome = side.batch(lines).await?;
            ensure!(outcome.code == Some(0), "{}: {:?}: {}", side.name, outcome.code, outcome.said());
            ensure!(
                tree(&side.local.join("made-back"), false)? == tree(&side.remote.join("made"), false)?,
                "{}: the folder came back changed",
                side.name
            );
            ensure!(fs::read(side.local.join("back"))? == noise(3 << 20), "{}: back differs", side.name);
            let mut said = side.plain(&outcome);
            // Free space changes while others work, and the time of a new link is now.
            said.retain(|line| !line.contains('%') || line.contains("made"));
            for line in &mut said {
                if line.starts_with("lrwx") {
                    let words: Vec<_> = line.split_whitespace().collect();
                    *line = [&words[..5], &words[8..]].concat().join(" ");
                }
            }
            outcomes.push((said, tree(&side.remote, false)?));
        }
        if let [(ours, our_tree), (theirs, their_tree)] = outcomes.as_slice() {
            for (ours, theirs) in ours.iter().zip(theirs) {
                ensure!(ours == theirs, "doorward says {ours:?}, sshd {theirs:?}");
            }
            ensure!(ours.len() == theirs.len(), "{} lines and {}", ours.len(), theirs.len());
            ensure!(our_tree == their_tree, "the files differ:\n{our_tree:?}\n{their_tree:?}");
        }
        Ok(())
    })
}

/// `ls -l` and `ls -la` of the same folder through both servers, byte for byte: long names as `ls -l` has them.
#[test]
fn long_listings_are_those_of_sshd() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let sides = Sides::of(stand, "listing")?;
        let folder = stand.folder().join("listing/shared");
        make_tree(&folder)?;
        fs::set_permissions(folder.join("plain"), fs::Permissions::from_mode(0o6751))?;
        fs::set_permissions(folder.join("with space"), fs::Permissions::from_mode(0o1777))?;
        symlink("plain", folder.join("link"))?;
        fs::write(folder.join("new"), noise(123_456))?;
        if nix::unistd::Uid::effective().is_root() {
            // Nobody has this name.
            std::os::unix::fs::chown(folder.join("new"), Some(54_321), Some(54_321))?;
        }
        let mut listings = Vec::new();
        for side in &sides.sides {
            for option in ["-l", "-la", "-ln", "-lr"] {
                listings.push((
                    side.name,
                    option,
                    side.good_batch(&format!("ls {option} {}", folder.display())).await?,
                ));
            }
        }
        let (ours, theirs) = listings.split_at(4);
        ensure!(ours[0].2.contains("-rwsr-s--x"), "{}", ours[0].2);
        for (ours, theirs) in ours.iter().zip(theirs) {
            ensure!(
                ours.2 == theirs.2,
                "ls {}: doorward:\n{}\nsshd:\n{}",
                ours.1,
                ours.2,
                theirs.2
            );
        }
        Ok(())
    })
}

/// The same packets to both servers, and the same bytes back: codes, words, attributes, long names.
#[test]
fn packets_are_answered_as_by_sshd() -> Result<()> {
    use Field::{Int, Long, Text};
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let sides = Sides::of(stand, "packets")?;
        let folder = stand.folder().join("packets/shared");
        make_tree(&folder)?;
        symlink("plain", folder.join("link"))?;
        symlink("absent", folder.join("dangling"))?;
        fs::write(folder.join("now"), "just now")?;
        let at = |name: &str| folder.join(name).into_os_string().into_vec();
        let [plain, link, dangling, absent, now] = ["plain", "link", "dangling", "absent", "now"].map(at);
        let [below, deep, many] = ["plain/x", "absent/x", "not here"].map(at);
        let folder = folder.as_os_str().as_bytes();
        let long = vec![b'n'; 5_000];
        let (statvfs, hardlink, lsetstat, unknown) = (
            b"statvfs@openssh.com",
            b"hardlink@openssh.com",
            b"lsetstat@openssh.com",
            b"nonsense@example.com",
        );
        let mut all = Vec::new();
        for side in &sides.sides {
            let mut raw = side.raw().await?;
            let mut said = Vec::new();
            for (kind, fields) in [
                (17, vec![Text(&plain)]),
                (7, vec![Text(&link)]),
                (17, vec![Text(&link)]),
                (17, vec![Text(&dangling)]),
                (7, vec![Text(&dangling)]),
                (17, vec![Text(&below)]),
                (17, vec![Text(b"")]),
                (17, vec![Text(&long)]),
                (19, vec![Text(&link)]),
                (19, vec![Text(&plain)]),
                (16, vec![Text(&absent)]),
                (16, vec![Text(&dangling)]),
                (16, vec![Text(&deep)]),
                (16, vec![Text(&below)]),
                (16, vec![Text(b"/usr/../etc/./passwd")]),
                (3, vec![Text(&absent), Int(1), Int(0)]),
                (3, vec![Text(&deep), Int(0x1a), Int(0)]),
                (3, vec![Text(folder), Int(2), Int(0)]),
                (3, vec![Text(&plain), Int(0x2a), Int(0)]),
                (4, vec![Text(b"\0\0\x55\x55")]),
                (4, vec![Text(b"")]),
                (5, vec![Text(b"\0\0\x55\x55"), Long(0), Int(1)]),
                (6, vec![Text(b"\0\0\x55\x55"), Long(0), Text(b"x")]),
                (8, vec![Text(b"\0\0\x55\x55")]),
                (10, vec![Text(b"\0\0\x55\x55"), Int(0)]),
                (12, vec![Text(b"\0\0\x55\x55")]),
                (11, vec![Text(&plain)]),
                (11, vec![Text(&absent)]),
                (9, vec![Text(&absent), Int(4), Int(0o600)]),
                (9, vec![Text(&plain), Int(1), Long(1 << 63)]),
                (9, vec![Text(&plain), Int(0x8000_0000), Int(1), Text(b"a"), Text(b"b")]),
                (13, vec![Text(folder)]),
                (13, vec![Text(&absent)]),
                (14, vec![Text(&plain), Int(0)]),
                (15, vec![Text(&plain)]),
                (15, vec![Text(folder)]),
                (18, vec![Text(&plain), Text(&now)]),
                (18, vec![Text(&absent), Text(&many)]),
                (18, vec![Text(folder), Text(&now)]),
                (20, vec![Text(b"says"), Text(&plain)]),
                (200, vec![Text(hardlink), Text(&plain), Text(&now)]),
                (200, vec![Text(hardlink), Text(&absent), Text(&many)]),
                (200, vec![Text(lsetstat), Text(&link), Int(1), Long(0)]),
                (200, vec![Text(statvfs), Text(&absent)]),
                (200, vec![Text(unknown)]),
                (200, vec![Text(b"limits@openssh.com")]),
                (200, vec![Text(b"home-directory"), Text(b"root")]),
                (200, vec![Text(b"home-directory"), Text(b"no-such-user")]),
                (200, vec![Text(b"expand-path@openssh.com"), Text(b"~root/x")]),
                (
                    200,
                    vec![
                        Text(b"users-groups-by-id@openssh.com"),
                        Text(&[0, 0, 0, 0, 9, 9, 9, 9]),
                        Text(&[0; 4]),
                    ],
                ),
            ] {
                let (answer, body) = raw.ask(kind, &fields).await?;
                said.push((kind, answer, body));
            }
            // Limits end in a number of handles that is each server's own.
            for (_, _, body) in said
                .iter_mut()
                .filter(|(kind, _, body)| *kind == 200 && body.len() == 32)
            {
                body.truncate(24);
            }
            let file = raw.open(3, &[Text(&plain), Int(1), Int(0)]).await?;
            for (offset, length) in [(0, 10), (1, 10), (1 << 63, 1), (u64::MAX, 1), (0, u32::MAX)] {
                let (answer, body) = raw.ask(5, &[Text(&file), Long(offset), Int(length)]).await?;
                said.push((5, answer, body));
            }
            let (answer, body) = raw.ask(6, &[Text(&file), Long(0), Text(b"x")]).await?;
            said.push((6, answer, body));
            let (answer, body) = raw.ask(12, &[Text(&file)]).await?;
            said.push((12, answer, body));
            let listed = raw.open(11, &[Text(folder)]).await?;
            let (answer, body) = raw.ask(12, &[Text(&listed)]).await?;
            ensure!(answer == 104, "{}: no names: {body:?}", side.name);
            all.push((said, names(&body)?));
        }
        if let [(ours, our_names), (theirs, their_names)] = all.as_slice() {
            for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                ensure!(
                    ours == theirs,
                    "answer {number}: doorward {:?}, sshd {:?}",
                    (ours.0, ours.1, String::from_utf8_lossy(&ours.2)),
                    (theirs.0, theirs.1, String::from_utf8_lossy(&theirs.2))
                );
            }
            ensure!(
                our_names == their_names,
                "doorward:\n{our_names:#?}\nsshd:\n{their_names:#?}"
            );
        }
        Ok(())
    })
}

/// Folders both ways with times and modes, by sftp and by scp, names of every kind.
#[test]
fn folders_pass_both_ways_with_times_and_modes() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let sides = Sides::of(stand, "folders")?;
        for side in &sides.sides {
            let here = side.local.join("here");
            make_tree(&here)?;
            fs::write(here.join("large"), noise(20 << 20))?;
            let there = side.remote.join("there");
            let up = side.scp(&["-rp".as_ref(), here.as_os_str(), &side.at(&there)]).await?;
            ensure!(up.code == Some(0), "{}: scp up: {}", side.name, up.said());
            ensure!(
                tree(&here, true)? == tree(&there, true)?,
                "{}: it changed on the way up",
                side.name
            );
            let back = side.local.join("back");
            let down = side.scp(&["-rp".as_ref(), &side.at(&there), back.as_os_str()]).await?;
            ensure!(down.code == Some(0), "{}: scp down: {}", side.name, down.said());
            ensure!(
                tree(&here, true)? == tree(&back, true)?,
                "{}: it changed on the way down",
                side.name
            );
            side.good_batch("put -rp here again\nget -rp again again").await?;
            ensure!(
                tree(&here, true)? == tree(&side.local.join("again"), true)?,
                "{}: sftp changed it",
                side.name
            );
            // The old protocol of scp is a command, and none of this server's business.
            let old = side
                .scp(&["-O".as_ref(), here.join("plain").as_os_str(), &side.at(&side.remote)])
                .await?;
            ensure!(old.code == Some(0), "{}: scp -O: {}", side.name, old.said());
            let missing = side
                .scp(&[&side.at(&side.remote.join("absent")), back.as_os_str()])
                .await?;
            ensure!(missing.code == Some(1), "{}: {:?}", side.name, missing.code);
        }
        Ok(())
    })
}

/// What passes is recorded with the hash of the file, a resumed part with its offset.
#[test]
fn the_record_has_the_hash_of_every_file() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let sides = Sides::of(stand, "recorded")?;
        let side = &sides.sides[0];
        let bytes = noise(64 << 20);
        fs::write(side.local.join("up"), &bytes)?;
        fs::write(side.remote.join("half"), &bytes[..20_000_000])?;
        fs::write(side.local.join("half"), &bytes)?;
        fs::write(side.local.join("down"), &bytes[..10_000_000])?;
        fs::write(side.remote.join("down"), &bytes)?;
        let before = known(stand).await?;
        side.good_batch("put up\nreput half\nreget down\nmkdir d\nls d").await?;
        for (folder, name) in [(&side.remote, "up"), (&side.remote, "half"), (&side.local, "down")] {
            ensure!(fs::read(folder.join(name))? == bytes, "{name} differs");
        }
        let told = newest(stand, &before).await?;
        let written = file_closed(&told, "/up")?.written.clone().context("not written")?;
        ensure!((written.bytes, written.from) == (64 << 20, 0), "{written:?}");
        ensure!(hex(written.sha256) == sha256(&bytes), "up has another hash");
        let written = file_closed(&told, "/half")?.written.clone().context("not written")?;
        ensure!(
            written.from == 20_000_000 && hex(written.sha256) == sha256(&bytes[20_000_000..]),
            "{written:?}"
        );
        let read = file_closed(&told, "/down")?.read.clone().context("not read")?;
        ensure!(
            read.from == 10_000_000 && hex(read.sha256) == sha256(&bytes[10_000_000..]),
            "{read:?}"
        );
        ensure!(
            told.iter().any(
                |event| matches!(event, Event::FileOperation(event) if event.operation == "mkdir"
                && event.path.ends_with(b"/d") && event.status == 0)
            ),
            "no mkdir: {told:?}"
        );
        ensure!(
            told.iter()
                .any(|event| matches!(event, Event::FolderListed(listed) if listed.names == 2)),
            "no listing: {told:?}"
        );
        ensure!(
            !told.iter().any(|event| matches!(event, Event::Gap(_))),
            "there is a gap: {told:?}"
        );
        let copied: usize = told
            .iter()
            .map(|event| match event {
                Event::Output(output) => output.bytes.len(),
                Event::Input(input) => input.bytes.len(),
                _ => 0,
            })
            .sum();
        ensure!(copied == 0, "{copied} bytes of files are copied into the record");
        Ok(())
    })
}

#[test]
fn ten_thousand_files_in_a_folder_are_listed() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let sides = Sides::of(stand, "many")?;
        let folder = stand.folder().join("many/shared");
        fs::create_dir_all(&folder)?;
        for number in 0..10_000 {
            fs::write(folder.join(format!("file {number}")), "")?;
        }
        let mut listings = Vec::new();
        for side in &sides.sides {
            listings.push(
                side.good_batch(&format!("ls -1 {}\nls -l {}", folder.display(), folder.display()))
                    .await?,
            );
        }
        let names = listings[0].lines().filter(|line| line.contains("file ")).count();
        ensure!(names == 20_000, "{names} lines");
        ensure!(
            listings.iter().all(|listing| *listing == listings[0]),
            "the listings differ"
        );
        Ok(())
    })
}

/// A folder that is mounted, under a storm of reads, writes, truncations and renames that a model follows.
#[test]
fn a_mounted_folder_keeps_what_is_written() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let sides = Sides::of(stand, "mounted")?;
        for side in &sides.sides {
            let point = side.local.join("mount");
            fs::create_dir_all(&point)?;
            let mut mount = Command::new("sshfs");
            mount
                .arg("-F")
                .arg(&side.config)
                .arg(side.at(&side.remote))
                .arg(&point)
                .args(["-o", "dir_cache=no"]);
            let mounted = match feed(mount, b"").await {
                Ok(outcome) if outcome.code == Some(0) => Mounted(point.clone()),
                Ok(outcome) => {
                    eprintln!("skipped: sshfs cannot mount here: {}", outcome.said());
                    return Ok(());
                }
                Err(error) => {
                    eprintln!("skipped: {error:#}");
                    return Ok(());
                }
            };
            let name = side.name;
            tokio::task::spawn_blocking(move || storm(&point).with_context(|| format!("on {name}"))).await??;
            drop(mounted);
        }
        Ok(())
    })
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("fusermount")
            .arg("-uz")
            .arg(&self.0)
            .status();
    }
}

fn storm(folder: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let seed = 0x5eed_0000_d00d_u64;
    eprintln!("seed {seed:#x}");
    let mut state = seed;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let noise = noise(1 << 20);
    let (mut model, mut path) = (Vec::new(), folder.join("storm"));
    let open = |path: &Path| {
        fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };
    let mut file = open(&path)?;
    for step in 0..2_000u32 {
        let at = random(200_000) as usize;
        let length = random(40_000) as usize;
        match random(20) {
            0..8 => {
                let from = random(900_000) as usize;
                let bytes = &noise[from..from + length];
                file.write_all_at(bytes, at as u64)?;
                if model.len() < at + length {
                    model.resize(at + length, 0);
                }
                model[at..at + length].copy_from_slice(bytes);
            }
            8..15 => {
                let mut got = vec![0; length];
                let mut count = 0;
                while count < length {
                    match file.read_at(&mut got[count..], (at + count) as u64)? {
                        0 => break,
                        more => count += more,
                    }
                }
                let end = model.len().min(at + length);
                ensure!(
                    got[..count] == model[end.min(at)..end],
                    "step {step}: {count} bytes at {at} differ"
                );
            }
            15 | 16 => {
                file.set_len(at as u64)?;
                model.resize(at, 0);
            }
            17 => {
                let to = folder.join(format!("storm {step}"));
                drop(file);
                fs::rename(&path, &to)?;
                path = to;
                file = open(&path)?;
            }
            18 => file.sync_all()?,
            _ => {
                drop(file);
                file = open(&path)?;
                ensure!(
                    file.metadata()?.len() == model.len() as u64,
                    "step {step}: another length"
                );
            }
        }
    }
    drop(file);
    ensure!(fs::read(&path)? == model, "the file differs in the end");
    Ok(())
}

/// carol may read: everything else is refused, on the way that sftp and scp show it.
#[test]
fn a_grant_for_reading_refuses_changes() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let carol = stand.stack.login("carol", &stand.folder().join("carol")).await?;
        let folder = stand.folder().join("reading");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("there"), "as it was")?;
        let run = async |lines: &str| {
            let mut command = Command::new("sftp");
            command
                .arg("-F")
                .arg(carol.ssh_config())
                .args(["-q", "-b", "-", "devenv-1"]);
            let lines = format!("cd {0}\nlcd {0}\n{lines}\n", folder.display());
            feed(command, lines.as_bytes()).await
        };
        let read = run("get there copy\nls").await?;
        ensure!(read.code == Some(0), "{}", read.said());
        ensure!(fs::read(folder.join("copy"))? == b"as it was", "read something else");
        for line in [
            "put copy new",
            "rm there",
            "mkdir d",
            "rename there gone",
            "chmod 777 there",
            "ln -s a b",
            "put copy there",
        ] {
            let outcome = run(line).await?;
            ensure!(outcome.code != Some(0), "{line} was done");
            ensure!(
                outcome.said().contains("ermission denied"),
                "{line}: {}",
                outcome.said()
            );
        }
        let names: Vec<_> = tree(&folder, false)?.into_keys().map(OsString::into_vec).collect();
        ensure!(names == [b"copy".to_vec(), b"there".to_vec()], "{names:?}");
        ensure!(fs::read(folder.join("there"))? == b"as it was", "it was written");
        Ok(())
    })
}
