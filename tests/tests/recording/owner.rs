//! The owner of a workspace is root in its pod: may stop the agent, fill its disk, empty its environment.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::parts::name_of;
use tests::stored::session;
use tests::tmpfs::Tmpfs;
use tests::{PATIENCE, Stand, until};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// A stopped agent shows nothing and is noticed: its session ends, its recording is closed as abnormal while it is still
/// stopped, and what had been shown stands in it. Once it goes on it serves again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_is_noticed_and_its_recording_closed() -> Result<()> {
    let stand = Stand::start(crate::PROGRAM, crate::TMP, "recording-stopped").await?;
    let mut ssh = stand.ssh(&["-tt"], "devenv-0");
    let mut ssh = ssh
        .arg("stty -opost -echo; echo shown before; exec cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut shown = vec![0; 13];
    let mut stdout = ssh.stdout.take().context("no stdout")?;
    stdout.read_exact(&mut shown).await?;
    let agent = Pid::from_raw(i32::try_from(stand.stack.agent_pid().context("no agent")?)?);
    kill(agent, Signal::SIGSTOP)?;
    let ended = timeout(PATIENCE, ssh.wait()).await.context("nobody noticed")??;
    ensure!(ended.code() == Some(255), "ssh ended with {ended}");
    let mut said = String::new();
    ssh.stderr
        .take()
        .context("no stderr")?
        .read_to_string(&mut said)
        .await?;
    ensure!(said.contains("doorward:"), "no sentence: {said}");
    let entry = until("the entry closes", async || {
        let list = stand.sessions().await?;
        Ok(list.into_iter().find(|entry| !entry["ended"].is_null()))
    })
    .await?;
    ensure!(entry["outcome"] == "abnormal", "{entry}");
    let id = session(&entry)?;
    ensure!(
        stand.replayed(id).await?.starts_with(&shown),
        "what was shown is not recorded"
    );
    let verdict = stand.verdict(id).await?;
    ensure!(verdict == "abnormal", "{verdict}");
    kill(agent, Signal::SIGCONT)?;
    until("the workspace is there again", async || {
        let outcome = stand.run(&[], "devenv-0", "echo again", b"").await?;
        Ok((outcome.stdout == b"again\n").then_some(()))
    })
    .await
}

/// A full disk of the workspace, or a process without our variables, changes nothing: records never touch that disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_an_empty_environment_hide_nothing() -> Result<()> {
    let test = name_of(&|| {});
    let full = std::path::Path::new(crate::TMP).join("recording-full/stack/home/devenv-0");
    Tmpfs::clear(&full);
    let stand = Stand::start(crate::PROGRAM, crate::TMP, "recording-full").await?;
    let Some(disk) = Tmpfs::mount(&full, 1 << 20, test)? else {
        return Ok(());
    };
    disk.fill(0)?;
    disk.check_full()?;
    let script = "stty -opost; cd; if echo x > file; then echo room; else echo full; fi; seq 1 100000; \
                  exec env -i /bin/sh -c 'echo unnamed; echo $DOORWARD_SESSION.'";
    let before = stand.before().await?;
    let outcome = stand.run(&["-tt"], "devenv-0", script, b"").await?;
    let text = String::from_utf8_lossy(&outcome.stdout);
    ensure!(
        text.contains("full\n") && text.ends_with("unnamed\n.\n"),
        "{}",
        &text[text.len().saturating_sub(200)..]
    );
    let entries = stand.ended_since(&before, 1).await?;
    let id = session(entries.first().context("no entry")?)?;
    ensure!(stand.replayed(id).await? == outcome.stdout, "the recording differs");
    let verdict = stand.verdict(id).await?;
    ensure!(verdict == "complete", "{verdict}");
    Ok(())
}
