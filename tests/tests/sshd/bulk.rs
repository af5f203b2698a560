//! Much of it: large, many, in both directions, closed at either end.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tests::both::{Server, both};
use tests::{feed, noise, sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::{fresh, has, stand, succeeds};

const LONG: std::time::Duration = std::time::Duration::from_secs(300);

/// Feeds a remote command chunk by chunk, `times` times, and hashes what comes back: (bytes, SHA-256).
async fn through(server: &Server, options: &[&str], remote: &str, chunk: &[u8], times: usize) -> Result<(u64, String)> {
    let mut child = server
        .ssh(options)
        .arg(remote)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let writing = async {
        for _ in 0..times {
            stdin.write_all(chunk).await?;
        }
        drop(stdin);
        anyhow::Ok(())
    };
    let reading = async {
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = stdout.read(&mut buffer).await?;
            let read = buffer.get(..count).context("more than was asked for")?;
            if read.is_empty() {
                let text = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                return anyhow::Ok((bytes, text));
            }
            hash.update(read);
            bytes += count as u64;
        }
    };
    let (_, heard) = timeout(LONG, async { tokio::try_join!(writing, reading) })
        .await
        .context("it hangs")??;
    let status = timeout(LONG, child.wait()).await.context("ssh does not end")??;
    ensure!(status.success(), "{status}");
    Ok(heard)
}

fn repeated(chunk: &[u8], times: usize) -> String {
    let mut hash = Sha256::new();
    for _ in 0..times {
        hash.update(chunk);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_quarter_of_a_gigabyte_comes_back_whole() -> Result<()> {
    stand().run(|stand| async move {
        let chunk = noise(1 << 20);
        both(stand, "quarter", "", async |server| {
            let (bytes, hash) = through(server, &[], "cat", &chunk, 256).await?;
            ensure!(bytes == 256 << 20 && hash == repeated(&chunk, 256), "{bytes} bytes");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_filter_that_multiplies_its_input_by_ten_does_not_hang() -> Result<()> {
    stand().run(|stand| async move {
        let line = [
            noise(4_000).iter().map(|byte| b'a' + byte % 26).collect(),
            b"\n".to_vec(),
        ]
        .concat();
        let tenfold = line.repeat(10);
        both(stand, "tenfold", "", async |server| {
            let filter = "awk '{ for (i = 0; i < 10; i++) print }'";
            let (bytes, hash) = through(server, &[], filter, &line, 2_000).await?;
            ensure!(
                bytes == 10 * 2_000 * 4_001 && hash == repeated(&tenfold, 2_000),
                "{bytes} bytes"
            );
            Ok(())
        })
        .await
    })
}

#[test]
fn three_hundred_thousand_small_writes_come_back_in_order() -> Result<()> {
    stand().run(|stand| async move {
        let chunk = noise(100);
        both(stand, "small", "", async |server| {
            let (bytes, hash) = through(server, &[], "cat", &chunk, 300_000).await?;
            ensure!(
                bytes == 30_000_000 && hash == repeated(&chunk, 300_000),
                "{bytes} bytes"
            );
            Ok(())
        })
        .await
    })
}

/// New keys after every kilobyte or so, both ways, to the very end.
#[test]
fn e09_keys_that_last_a_kilobyte_lose_nothing() -> Result<()> {
    stand().run(|stand| async move {
        let bytes = noise(700_000);
        both(stand, "rekey", "", async |server| {
            let outcome = server.run(&["-o", "RekeyLimit=1K"], "cat; exit 9", &bytes).await?;
            ensure!(
                sha256(&outcome.stdout) == sha256(&bytes),
                "{} bytes: {}",
                outcome.stdout.len(),
                outcome.said()
            );
            ensure!(outcome.code == Some(9), "{:?}", outcome.code);
            Ok(())
        })
        .await
    })
}

/// Each side closes what it sends while the other still talks.
#[test]
fn either_end_may_close_first() -> Result<()> {
    stand().run(|stand| async move {
        let bytes = noise(3 << 20);
        both(stand, "half", "", async |server| {
            let told = server
                .run(
                    &[],
                    "cd $HOME; cat > half; sleep 0.3; sha256sum < half; rm half",
                    &bytes,
                )
                .await?;
            ensure!(told.stdout.starts_with(sha256(&bytes).as_bytes()), "{}", told.said());
            let told = server.run(&[], "echo first; exec >&-; sha256sum >&2", &bytes).await?;
            ensure!(told.stdout == b"first\n", "{:?}", told.stdout);
            ensure!(told.said().starts_with(&sha256(&bytes)), "{}", told.said());
            Ok(())
        })
        .await
    })
}

#[test]
fn tar_goes_through_a_pipe_both_ways() -> Result<()> {
    if !has("tar") {
        return Ok(());
    }
    stand().run(|stand| async move {
        both(stand, "tar", "", async |server| {
            let here = stand.folder().join(format!("tar-{}", server.name));
            let back = here.join("back");
            fresh(&here)?;
            std::fs::create_dir_all(here.join("tree/sub"))?;
            std::fs::create_dir_all(&back)?;
            std::fs::write(here.join("tree/large"), noise(4 << 20))?;
            std::fs::write(here.join("tree/sub/a b"), b"small")?;
            let line = format!(
                "tar -C '{here}' -cf - tree | {ssh} {host} 'cd $HOME; rm -rf tared; mkdir tared; tar -C tared -xf -' && \
                 {ssh} {host} 'cd $HOME; tar -C tared -cf - tree' | tar -C '{back}' -xf -",
                here = here.display(),
                back = back.display(),
                ssh = server.shell_line(),
                host = server.host(),
            );
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]);
            succeeds(shell).await?;
            ensure!(
                std::fs::read(back.join("tree/large"))? == noise(4 << 20),
                "the large file changed"
            );
            ensure!(
                std::fs::read(back.join("tree/sub/a b"))? == b"small",
                "the small file changed"
            );
            Ok(())
        })
        .await
    })
}

#[test]
fn the_old_scp_copies_both_ways() -> Result<()> {
    if !has("scp") {
        return Ok(());
    }
    stand().run(|stand| async move {
        both(stand, "scp", "", async |server| {
            let here = stand.folder().join(format!("scp-{}", server.name));
            fresh(&here)?;
            std::fs::write(here.join("there"), noise(3 << 20))?;
            let copy = |from: String, to: String| {
                let mut scp = Command::new("scp");
                scp.args(["-O", "-q", "-p", "-F"]).arg(server.config()).args([from, to]);
                succeeds(scp)
            };
            let local = |name: &str| here.join(name).display().to_string();
            copy(
                local("there"),
                format!("{}:{}/scp-copy", server.host(), server.home().display()),
            )
            .await?;
            copy(
                format!("{}:{}/scp-copy", server.host(), server.home().display()),
                local("back"),
            )
            .await?;
            ensure!(std::fs::read(here.join("back"))? == noise(3 << 20), "the file changed");
            Ok(())
        })
        .await
    })
}

#[test]
fn git_speaks_its_second_protocol() -> Result<()> {
    if !has("git") {
        return Ok(());
    }
    stand().run(|stand| async move {
        both(stand, "git", "AcceptEnv GIT_PROTOCOL", async |server| {
            let here = stand.folder().join(format!("git-{}", server.name));
            fresh(&here)?;
            let made = server
                .run(&[], "cd $HOME; rm -rf v2.git; git init -q --bare v2.git", b"")
                .await?;
            ensure!(made.code == Some(0), "{}", made.said());
            let git = |args: &[&str]| {
                let mut command = Command::new("git");
                command
                    .current_dir(&here)
                    .env("GIT_SSH_COMMAND", server.shell_line())
                    .env("GIT_TRACE_PACKET", "1")
                    .args(["-c", "user.name=Bob", "-c", "user.email=bob@example.com"])
                    .args(["-c", "commit.gpgsign=false", "-c", "protocol.version=2"])
                    .args(args);
                command
            };
            succeeds(git(&["init", "-q", "."])).await?;
            std::fs::write(here.join("file"), noise(1 << 20))?;
            succeeds(git(&["add", "file"])).await?;
            succeeds(git(&["commit", "-q", "-m", "one"])).await?;
            let remote = format!("{}:{}/v2.git", server.host(), server.home().display());
            succeeds(git(&["push", "-q", &remote, "HEAD:refs/heads/work"])).await?;
            let cloned = feed(git(&["clone", "-q", "-b", "work", &remote, "clone"]), b"").await?;
            ensure!(cloned.code == Some(0), "{}", cloned.said());
            ensure!(
                cloned.said().contains("version 2"),
                "the second protocol was not spoken"
            );
            ensure!(
                std::fs::read(here.join("clone/file"))? == noise(1 << 20),
                "the file changed"
            );
            Ok(())
        })
        .await
    })
}
