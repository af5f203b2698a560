//! Many files: rsync of a tree of small ones both ways, and a clone of a large repository.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::report::{Goal, Row};
use crate::target::Target;
use crate::transfer::Noise;

/// rsync both ways, then git.
///
/// # Errors
/// When a program fails, or not everything arrives.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let goal = Some(Goal::AtLeast(0.8));
    let mut rows = Vec::new();
    let tree = bench.folder.join("tree");
    make_tree(&tree, bench.args.files)?;
    for (name, up) in [("up", true), ("down", false)] {
        let (mut direct, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..bench.args.rounds {
            direct.push(rsync(&bench.direct, &tree, bench, up)?);
            ours.push(rsync(&bench.doorward, &tree, bench, up)?);
        }
        let name = format!("rsync of {} small files, {name}", bench.args.files);
        rows.push(Row::new(name, "files/s", &direct, &ours, goal));
    }
    fs::remove_dir_all(&tree)?;
    for (state, mebibytes) in [(State::Packed, bench.args.repository), (State::Loose, bench.args.loose)] {
        let repository = bench.folder.join("repository");
        let megabytes = make_repository(&repository, mebibytes, state)?;
        let (mut direct, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..bench.args.rounds {
            direct.push(megabytes / clone(&bench.direct, &repository, bench)?);
            ours.push(megabytes / clone(&bench.doorward, &repository, bench)?);
        }
        let name = format!("git clone of {megabytes:.0} MB, {}", state.name());
        rows.push(Row::new(name, "MB/s", &direct, &ours, goal));
        fs::remove_dir_all(&repository)?;
    }
    Ok(rows)
}

/// Files of 1 to 4,000 bytes, a hundred in a folder.
fn make_tree(tree: &Path, files: usize) -> Result<()> {
    let mut noise = Noise::default();
    for number in 0..files {
        let folder = tree.join(format!("folder-{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let mut bytes = vec![0; 1 + number * 37 % 4000];
        noise.fill(&mut bytes);
        fs::write(folder.join(format!("file-{number}")), bytes)?;
    }
    Ok(())
}

/// Copies the tree into a fresh folder; files per second.
fn rsync(target: &Target, tree: &Path, bench: &Bench<'_>, up: bool) -> Result<f64> {
    let copy = bench.folder.join("copy");
    let (here, there) = if up {
        (tree, copy.as_path())
    } else {
        (copy.as_path(), tree)
    };
    let remote = |path: &Path| format!("{}:{}/", target.host, path.display());
    let local = |path: &Path| format!("{}/", path.display());
    let (from, to) = if up {
        (local(here), remote(there))
    } else {
        (remote(there), local(here))
    };
    let start = Instant::now();
    let status = Command::new("rsync")
        .args(["-a", "-e", &shell(target)])
        .args([from, to])
        .status()
        .context("rsync")?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "rsync through {} ended with {status}", target.name);
    let arrived = count(&copy)?;
    ensure!(
        arrived == bench.args.files,
        "{arrived} files arrived through {}",
        target.name
    );
    fs::remove_dir_all(&copy)?;
    Ok(arrived as f64 / seconds)
}

fn count(folder: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(files)
}

/// How a repository keeps its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a pack, as a server has them: sent as they lie.
    Packed,
    /// Each in a file, as after commits: git packs them anew for each clone, which takes longer than to send them.
    Loose,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Packed => "packed",
            Self::Loose => "loose objects",
        }
    }
}

/// A repository of one commit with files of a mebibyte; its megabytes.
fn make_repository(repository: &Path, mebibytes: usize, state: State) -> Result<f64> {
    let work = repository.with_extension("work");
    fs::create_dir_all(&work)?;
    let mut noise = Noise::default();
    let mut bytes = vec![0; 1 << 20];
    for number in 0..mebibytes {
        noise.fill(&mut bytes);
        fs::write(work.join(format!("file-{number}")), &bytes)?;
    }
    let git = |line: &[&str]| {
        let status = Command::new("git")
            .arg("-C")
            .arg(&work)
            .args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"])
            .args(line)
            .status()
            .context("git")?;
        ensure!(status.success(), "git {line:?} ended with {status}");
        anyhow::Ok(())
    };
    git(&["init", "-q", "-b", "main"])?;
    git(&["add", "."])?;
    git(&["-c", "gc.auto=0", "commit", "-q", "-m", "all"])?;
    match state {
        State::Packed => git(&[
            "clone",
            "-q",
            "--bare",
            "--no-local",
            ".",
            &repository.to_string_lossy(),
        ])?,
        State::Loose => fs::rename(work.join(".git"), repository)?,
    }
    fs::remove_dir_all(&work)?;
    Ok((mebibytes << 20) as f64 / 1e6)
}

/// Clones without a working tree, which would measure the disk; the seconds that it took.
fn clone(target: &Target, repository: &Path, bench: &Bench<'_>) -> Result<f64> {
    let copy = bench.folder.join("clone");
    let start = Instant::now();
    let status = Command::new("git")
        .args(["clone", "-q", "--bare"])
        .arg(format!("ssh://{}{}", target.host, repository.display()))
        .arg(&copy)
        .env("GIT_SSH_COMMAND", shell(target))
        .stdin(Stdio::null())
        .status()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(
        status.success(),
        "git clone through {} ended with {status}",
        target.name
    );
    let whole = Command::new("git")
        .arg("-C")
        .arg(&copy)
        .args(["cat-file", "-e", "main^{tree}"])
        .status()?;
    ensure!(whole.success(), "the clone through {} has no commit", target.name);
    fs::remove_dir_all(&copy)?;
    Ok(seconds)
}

fn shell(target: &Target) -> String {
    format!("ssh -F '{}'", target.config.display())
}
