//! Damage to a stored recording is found, whatever it is, and a recording that nobody touched is never blamed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use doorward_audit::{Verdict, blocks};
use tests::random::Random;
use tests::stored::{copy, session};
use tests::{Outcome, Stand};

use crate::{recorded, stand};

async fn verify(stand: &Stand, folder: &Path) -> Result<Outcome> {
    stand.doorward(&["verify", &folder.to_string_lossy()]).await
}

#[test]
fn every_kind_of_damage_is_named() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        // random bytes, so that they are stored as they are and the record has more than one segment
        let (_, entry) = recorded(stand, &["-tt"], "stty -opost; head -c 10000000 /dev/urandom").await?;
        let (_, other) = recorded(stand, &["-tt"], "stty -opost; head -c 10000000 /dev/urandom").await?;
        let whole = stand.stored(session(&entry)?)?;
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
        fs::copy(stand.stored(session(&other)?)?.join(name), spliced.join(name))?;
        ensure!(
            verify(stand, &spliced).await?.code != Some(0),
            "a segment of another session went in, unseen"
        );
        Ok(())
    })
}

/// A recording as its files' contents, and the edges of what stands in them.
struct Files(Vec<File>);

struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where a block or a line begins, without the first.
    edges: Vec<usize>,
}

impl Files {
    /// Segments and receipts: what evidence consists of.
    fn read(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut whole = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let bytes = fs::read(&path)?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".dwr") {
                whole.push((path, bytes));
            } else if name == "receipts.jsonl" {
                let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
                let edges = ends.map(|(at, _)| at + 1).filter(|at| *at < bytes.len()).collect();
                files.push(File { path, bytes, edges });
            }
        }
        whole.sort();
        let stream: Vec<u8> = whole.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let starts: Vec<usize> = blocks(&stream[..])
            .map(|block| Ok(usize::try_from(block?.seen.offset)?))
            .collect::<Result<_>>()?;
        let mut begin = 0;
        for (path, bytes) in whole {
            let here = begin + 1..begin + bytes.len();
            let edges = starts
                .iter()
                .filter(|at| here.contains(at))
                .map(|at| at - begin)
                .collect();
            begin += bytes.len();
            files.push(File { path, bytes, edges });
        }
        ensure!(files.len() >= 2, "only {} files in {}", files.len(), folder.display());
        Ok(Self(files))
    }
}

/// One change, and what it was.
fn mutated(random: &mut Random, one: &File, other: &File) -> (Vec<u8>, &'static str) {
    let mut bytes = one.bytes.clone();
    let len = bytes.len();
    let (at, from) = (random.below(len), random.below(len));
    // Short or long, and within the file from both places on.
    let most = (len - at.max(from)).min(at.abs_diff(from).max(1));
    let run = random.magnitude(12).min(most);
    let edge = |random: &mut Random| one.edges.get(random.below(one.edges.len())).copied().unwrap_or(at);
    match random.below(8) {
        0 => {
            bytes[at] ^= 1 << random.below(8);
            (bytes, "a bit flipped")
        }
        1 => {
            bytes.drain(at..at + run);
            (bytes, "a piece deleted")
        }
        2 => {
            let piece: Vec<u8> = (0..run).map(|_| random.word().to_le_bytes()[0]).collect();
            bytes.splice(at..at, piece);
            (bytes, "a piece inserted")
        }
        3 => {
            let piece = bytes[from..from + run].to_vec();
            bytes.splice(at..at, piece);
            (bytes, "a piece doubled")
        }
        4 => {
            for offset in 0..run {
                bytes.swap(at + offset, from + offset);
            }
            (bytes, "two pieces of equal length swapped")
        }
        5 => {
            let end = other.bytes.get(at.min(other.bytes.len())..).unwrap_or_default();
            bytes.truncate(at);
            bytes.extend_from_slice(end);
            (bytes, "the end of another session")
        }
        6 => {
            bytes.truncate(at);
            (bytes, "cut anywhere")
        }
        _ => {
            let edge = edge(random);
            bytes.truncate(edge);
            (bytes, "cut at the edge of a block or line")
        }
    }
}

/// A thousand random changes to recordings of the real agent, each found; the untouched ones are good before, meanwhile and after.
#[test]
fn a_thousand_changes_are_found_and_none_is_imagined() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let mut random = Random::seeded("damage");
        let trust = stand.trust()?;
        let scripts = [
            "stty -opost; seq 1 3000; head -c 30000 /dev/urandom; ls -l /",
            "stty -opost; seq 5000 9000; head -c 30000 /dev/urandom; ls -l /etc",
        ];
        let mut both = Vec::new();
        for script in scripts {
            let (_, entry) = recorded(stand, &["-tt"], script).await?;
            let id = session(&entry)?;
            let folder = stand.folder().join("mutated").join(id);
            copy(&stand.stored(id)?, &folder)?;
            both.push((Files::read(&folder)?, folder));
        }
        for round in 0..1000 {
            let (one, other) = (&both[round % 2], &both[1 - round % 2]);
            let which = random.below(one.0.0.len());
            let (file, twin) = (&one.0.0[which], &other.0.0[which.min(other.0.0.len() - 1)]);
            let (bytes, what) = mutated(&mut random, file, twin);
            if bytes == file.bytes {
                continue;
            }
            fs::write(&file.path, &bytes)?;
            let report = doorward_audit::verify(&one.1, &trust);
            ensure!(
                report.verdict() == Verdict::Bad && !report.findings.is_empty(),
                "round {round}: {what} in {}: {report:?}",
                file.path.display()
            );
            fs::write(&file.path, &file.bytes)?;
            if round % 100 == 0 {
                for (_, folder) in &both {
                    let report = doorward_audit::verify(folder, &trust);
                    ensure!(
                        report.verdict() == Verdict::Complete,
                        "round {round}, untouched: {report:?}"
                    );
                }
            }
        }
        Ok(())
    })
}
