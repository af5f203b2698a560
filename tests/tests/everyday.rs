//! What people do every day with their own tools, and what they then expect: rsync, git, an editor that feeds a script
//! to a shell, new keys in the middle of a transfer, a window that changes its size, signals, and jobs left behind.

use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Shared, Stand, feed, noise, sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        Shared::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "everyday",
        )
    })
}

/// Whether a program is there; says by name what is left out if not.
fn has(program: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}

/// The `ssh` line that rsync and git are told to use.
fn shell_line(stand: &Stand) -> String {
    format!("ssh -F '{}'", stand.stack.ssh_config().display())
}

async fn succeeds(command: Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let outcome = feed(command, b"").await?;
    ensure!(
        outcome.code == Some(0),
        "{shown}: {:?}: {}",
        outcome.code,
        outcome.said()
    );
    Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
}

#[test]
fn rsync_carries_a_folder_there_and_back() -> Result<()> {
    if !has("rsync") {
        return Ok(());
    }
    stand().run(|stand| async move {
        let (here, back) = (stand.folder().join("rsync here"), stand.folder().join("rsync-back"));
        std::fs::create_dir_all(here.join("sub"))?;
        std::fs::write(here.join("large"), noise(5 << 20))?;
        std::fs::write(here.join("sub/a name with spaces"), b"small")?;
        let rsync = |from: String, to: String| {
            let mut command = Command::new("rsync");
            command.args(["-a", "-s", "-e", &shell_line(stand), &from, &to]);
            succeeds(command)
        };
        let local = |path: &Path| format!("{}/", path.display());
        rsync(local(&here), "devenv-0:rsynced/".to_owned()).await?;
        rsync("devenv-0:rsynced/".to_owned(), local(&back)).await?;
        ensure!(
            std::fs::read(back.join("large"))? == noise(5 << 20),
            "the large file changed"
        );
        ensure!(
            std::fs::read(back.join("sub/a name with spaces"))? == b"small",
            "the small file changed"
        );
        Ok(())
    })
}

#[test]
fn git_pushes_and_clones() -> Result<()> {
    if !has("git") {
        return Ok(());
    }
    stand().run(|stand| async move {
        let made = stand
            .run(&[], "devenv-0", "git init -q --bare everyday.git", b"")
            .await?;
        ensure!(made.code == Some(0), "git init: {}", made.said());
        let (first, second) = (stand.folder().join("git-first"), stand.folder().join("git-second"));
        let git = |folder: &Path, args: &[&str]| {
            let mut command = Command::new("git");
            command
                .current_dir(folder)
                .env("GIT_SSH_COMMAND", shell_line(stand))
                .args([
                    "-c",
                    "user.name=Bob",
                    "-c",
                    "user.email=bob@example.com",
                    "-c",
                    "commit.gpgsign=false",
                ])
                .args(args);
            succeeds(command)
        };
        std::fs::create_dir_all(&first)?;
        git(&first, &["init", "-q"]).await?;
        std::fs::write(first.join("file"), noise(1 << 20))?;
        git(&first, &["add", "file"]).await?;
        git(&first, &["commit", "-q", "-m", "one"]).await?;
        git(&first, &["push", "-q", "devenv-0:everyday.git", "HEAD:refs/heads/work"]).await?;
        let target = second.display().to_string();
        git(
            stand.folder(),
            &["clone", "-q", "-b", "work", "devenv-0:everyday.git", &target],
        )
        .await?;
        ensure!(
            std::fs::read(second.join("file"))? == noise(1 << 20),
            "the clone has another file"
        );
        Ok(())
    })
}

/// Remote-SSH feeds a long script to `ssh -T host bash` and looks for its own markers in the output.
#[test]
fn a_script_on_standard_input_prints_its_markers_and_nothing_else() -> Result<()> {
    stand().run(|stand| async move {
        let mut script = "# filler\n".repeat(1200);
        script.push_str("echo begin-marker\nuname -s\necho end-marker\nexit 3\n");
        let options = ["-T", "-o", "ConnectTimeout=15"];
        let outcome = stand.run(&options, "devenv-0", "bash", script.as_bytes()).await?;
        ensure!(
            outcome.code == Some(3),
            "exit code {:?}: {}",
            outcome.code,
            outcome.said()
        );
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        ensure!(said == "begin-marker\nLinux\nend-marker\n", "stdout: {said:?}");
        ensure!(outcome.stderr.is_empty(), "stderr: {}", outcome.said());
        Ok(())
    })
}

#[test]
fn new_keys_in_the_middle_of_a_transfer_lose_nothing() -> Result<()> {
    stand().run(|stand| async move {
        let bytes = noise(24 << 20);
        let outcome = stand.run(&["-o", "RekeyLimit=1M"], "devenv-0", "cat", &bytes).await?;
        ensure!(
            sha256(&outcome.stdout) == sha256(&bytes),
            "{} of {} bytes: {}",
            outcome.stdout.len(),
            bytes.len(),
            outcome.said()
        );
        Ok(())
    })
}

#[test]
fn many_small_writes_keep_their_order() -> Result<()> {
    stand().run(|stand| async move {
        let remote = "i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done; exit 4";
        let outcome = stand.run(&[], "devenv-0", remote, b"").await?;
        let expected: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
        ensure!(outcome.code == Some(4), "exit code {:?}", outcome.code);
        ensure!(outcome.stdout == expected.as_bytes(), "the lines differ");
        Ok(())
    })
}

/// As with sshd: whoever keeps standard output open keeps the connection, whoever gave it away does not.
#[test]
fn a_job_in_the_background_holds_the_connection_only_by_its_output() -> Result<()> {
    stand().run(|stand| async move {
        let begun = Instant::now();
        let outcome = stand
            .run(&[], "devenv-0", "sleep 60 >/dev/null 2>&1 </dev/null & echo hi", b"")
            .await?;
        ensure!(
            outcome.stdout == b"hi\n" && outcome.code == Some(0),
            "{:?}",
            outcome.code
        );
        ensure!(
            begun.elapsed() < Duration::from_secs(30),
            "the silent job held the connection"
        );
        let begun = Instant::now();
        let outcome = stand
            .run(&[], "devenv-0", "(sleep 2; echo late) & echo hi", b"")
            .await?;
        ensure!(outcome.stdout == b"hi\nlate\n", "late output is lost");
        ensure!(begun.elapsed() >= Duration::from_secs(2), "ended before its output");
        Ok(())
    })
}

#[test]
fn a_window_that_changes_its_size_is_told_to_the_program() -> Result<()> {
    if !has("script") {
        return Ok(());
    }
    stand().run(|stand| async move {
        // script(1) gives ssh a terminal of its own; its size is changed from a second process on the same terminal.
        let tty = stand.folder().join("resize.tty");
        let remote = "trap 'stty size; exit' WINCH; echo ready; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done";
        let line = format!(
            "tty > '{}'; stty cols 81 rows 25; exec {} -tt devenv-0 \"{remote}\"",
            tty.display(),
            shell_line(stand)
        );
        let mut child = Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut seen = Vec::new();
        let reading = async {
            while let Some(text) = lines.next_line().await? {
                let text = text.trim().to_owned();
                if text == "ready" {
                    let path = std::fs::read_to_string(&tty)?.trim().to_owned();
                    let mut resize = Command::new("stty");
                    resize.args(["-F", &path, "cols", "132", "rows", "43"]);
                    succeeds(resize).await?;
                }
                seen.push(text);
            }
            anyhow::Ok(())
        };
        timeout(Duration::from_secs(30), reading).await.context("no end")??;
        ensure!(seen.iter().any(|text| text == "43 132"), "{seen:?}");
        Ok(())
    })
}

#[test]
fn the_keys_of_a_terminal_interrupt_stop_and_end() -> Result<()> {
    stand().run(|stand| async move {
        let mut child = stand
            .ssh(&["-tt", "-q"], "devenv-0")
            // Whoever is to be interrupted says itself that it is there.
            .arg("trap 'echo interrupted' INT; stty -echo; sh -c 'echo ready; exec cat'; echo after; cat >/dev/null; exit 6")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let talk = async {
            let mut first = String::new();
            stdout.read_line(&mut first).await?;
            ensure!(first.trim() == "ready", "{first:?}");
            stdin.write_all(b"\x03").await?;
            let mut text = String::new();
            while !text.contains("after") {
                text.clear();
                ensure!(stdout.read_line(&mut text).await? > 0, "ended too early");
            }
            stdin.write_all(b"\x04").await?;
            let mut rest = Vec::new();
            stdout.read_to_end(&mut rest).await?;
            let status = child.wait().await?;
            ensure!(status.code() == Some(6), "{status:?}: {rest:?}");
            Ok(())
        };
        timeout(Duration::from_secs(30), talk).await.context("hung")?
    })
}

#[test]
fn twenty_at_once_each_get_their_own_answer() -> Result<()> {
    stand().run(|stand| async move {
        let all = (0..20).map(|i| {
            let mut command = stand.ssh(&[], "devenv-1");
            command.arg(format!("echo {i}; exit {i}"));
            feed(command, b"")
        });
        for (i, one) in futures_util::future::join_all(all).await.into_iter().enumerate() {
            let outcome = one?;
            ensure!(
                outcome.code == i32::try_from(i).ok() && outcome.stdout == format!("{i}\n").as_bytes(),
                "{i}: {:?} {}",
                outcome.code,
                outcome.said()
            );
        }
        Ok(())
    })
}
