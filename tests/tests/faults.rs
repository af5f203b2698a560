//! Programs that are killed, and what is left of their sessions.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Stand, feed, until};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

fn pid(pid: Option<u32>) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid.context("the program does not run")?)?))
}

async fn start(name: &str) -> Result<Stand> {
    Stand::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), name).await
}

async fn closed(stand: &Stand) -> Result<Value> {
    until("the session's entry closes", async || {
        Ok(stand
            .sessions()
            .await?
            .into_iter()
            .next()
            .filter(|entry| !entry["ended"].is_null()))
    })
    .await
}

/// What a killed agent had shown stands in the recording, which says that it ended abnormally.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_agent_had_shown_is_recorded() -> Result<()> {
    let mut stand = start("agent-killed").await?;
    let mut ssh = stand.ssh(&["-tt"], "devenv-0");
    let mut ssh = ssh
        .arg("stty -opost; i=0; while :; do i=$((i+1)); echo line $i; done")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdout = ssh.stdout.take().context("no stdout")?;
    let mut shown = vec![0u8; 200_000];
    stdout.read_exact(&mut shown).await?;
    stand.stack.kill_agent().await;
    stdout.read_to_end(&mut shown).await?;
    let status = ssh.wait().await?;
    ensure!(status.code() == Some(255), "ssh ended with {status}");
    let entry = closed(&stand).await?;
    let id = entry["session"].as_str().context("no id")?;
    let replayed = stand.doorward(&["replay", "--raw", id]).await?;
    ensure!(
        replayed.stdout.starts_with(&shown),
        "shown {} bytes, recorded {}",
        shown.len(),
        replayed.stdout.len()
    );
    ensure!(entry["outcome"] == "abnormal", "the entry says {entry}");
    let verified = stand.doorward(&["verify", id]).await?;
    let text = format!("{}{}", String::from_utf8_lossy(&verified.stdout), verified.said());
    ensure!(text.contains("abnormal"), "verify does not say so: {text}");

    stand.stack.restart_agent().await?;
    let again = until("the workspace is there again", async || {
        let outcome = stand.run(&[], "devenv-0", "echo again", b"").await?;
        Ok((outcome.code == Some(0)).then_some(outcome))
    })
    .await?;
    ensure!(again.stdout == b"again\n");
    stand.stack.stop().await;
    Ok(())
}

/// A killed gateway costs its sessions, and nothing else: recordings close, new sessions work.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_leaves_recordings_that_verify() -> Result<()> {
    let mut stand = start("gateway-killed").await?;
    let mut ssh = stand.ssh(&["-tt"], "devenv-0");
    let mut ssh = ssh
        .arg("echo ready; exec cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut seen = [0u8; 5];
    ssh.stdout.as_mut().context("no stdout")?.read_exact(&mut seen).await?;
    stand.stack.kill_gateway().await;
    ensure!(ssh.wait().await?.code() == Some(255), "ssh outlived its gateway");
    stand.stack.restart_gateway().await?;
    let entry = closed(&stand).await?;
    let id = entry["session"].as_str().context("no id")?;
    let replayed = stand.doorward(&["replay", "--raw", id]).await?;
    ensure!(replayed.stdout.starts_with(b"ready"), "recorded: {:?}", replayed.stdout);
    let verified = stand.doorward(&["verify", id]).await?;
    ensure!(
        verified.code == Some(0),
        "verify: {:?} {}",
        verified.stdout,
        verified.said()
    );
    let outcome = stand.run(&[], "devenv-0", "echo on", b"").await?;
    ensure!(outcome.stdout == b"on\n", "after the restart: {}", outcome.said());
    stand.stack.stop().await;
    Ok(())
}

/// A client that vanishes ends its session alone; its processes are gone, its record is complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_ends_its_processes_and_nobody_elses() -> Result<()> {
    let stand = start("client-killed").await?;
    let mut other = stand.ssh(&[], "devenv-0");
    let mut other = other
        .arg("echo $$; exec cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ssh = stand.ssh(&["-tt"], "devenv-0");
    let mut ssh = ssh.arg("echo $$; exec sleep 1000").stdout(Stdio::piped()).spawn()?;
    let mut line = Vec::new();
    let stdout = ssh.stdout.as_mut().context("no stdout")?;
    while !line.ends_with(b"\n") {
        line.push(stdout.read_u8().await?);
    }
    let remote: i32 = String::from_utf8_lossy(&line).trim().parse()?;
    ssh.kill().await?;
    until("the remote process ends", async || {
        Ok(kill(Pid::from_raw(remote), None).is_err().then_some(()))
    })
    .await?;
    ensure!(other.try_wait()?.is_none(), "another session ended too");
    other.kill().await?;
    until("both entries close", async || {
        let list = stand.sessions().await?;
        Ok((list.len() == 2 && list.iter().all(|entry| !entry["ended"].is_null())).then_some(()))
    })
    .await?;
    stand.stack.stop().await;
    Ok(())
}

/// An agent that hangs is a refusal within seconds, and it is back as soon as it answers again.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_answering_hurts_only_its_own() -> Result<()> {
    let stand = start("agent-stopped").await?;
    let agent = pid(stand.stack.agent_pid())?;
    kill(agent, Signal::SIGSTOP)?;
    let outcome = stand.run(&[], "devenv-0", "true", b"").await?;
    kill(agent, Signal::SIGCONT)?;
    ensure!(outcome.code == Some(255), "exit code {:?}", outcome.code);
    ensure!(outcome.said().contains("doorward:"), "no sentence: {}", outcome.said());
    let again = until("the workspace is there again", async || {
        let outcome = stand.run(&[], "devenv-0", "echo again", b"").await?;
        Ok((outcome.code == Some(0)).then_some(outcome))
    })
    .await?;
    ensure!(again.stdout == b"again\n");
    stand.stack.stop().await;
    Ok(())
}

/// E14: a socket that a killed agent has left behind is gone, or makes room, once an agent runs again.
#[tokio::test(flavor = "multi_thread")]
async fn e14_sockets_of_a_killed_agent_are_cleared_away() -> Result<()> {
    let mut stand = start("sockets-left").await?;
    let folder = tempfile::tempdir_in("/tmp")?;
    let (keys, there) = (folder.path().join("keys"), folder.path().join("there"));
    let _keys = tokio::process::Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&keys)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    until("the agent of keys", async || Ok(keys.exists().then_some(()))).await?;
    let forward = format!("{}:127.0.0.1:1", there.display());
    let options = [
        "-A",
        "-R",
        &forward,
        "-o",
        "IdentityAgent=SSH_AUTH_SOCK",
        "-o",
        "ExitOnForwardFailure=yes",
    ];
    let mut ssh = stand.ssh(&options, "devenv-0");
    let mut ssh = ssh
        .arg("echo $SSH_AUTH_SOCK; exec cat")
        .env("SSH_AUTH_SOCK", &keys)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(ssh.stdout.take().context("no stdout")?).lines();
    let lent = PathBuf::from(lines.next_line().await?.context("no line")?);
    let private = lent.parent().context("no folder")?.to_owned();
    ensure!(
        lent.is_absolute() && lent.exists() && there.exists(),
        "{}",
        lent.display()
    );
    stand.stack.kill_agent().await;
    ensure!(ssh.wait().await?.code() == Some(255), "ssh outlived the agent");
    // What the test is about: both are still there.
    ensure!(lent.exists() && there.exists(), "the killed agent has cleared up");
    stand.stack.restart_agent().await?;
    until("the folder is removed", async || Ok((!private.exists()).then_some(()))).await?;
    let mut again = stand.ssh(&options, "devenv-0");
    again
        .arg("test -S \"$SSH_AUTH_SOCK\" && echo served")
        .env("SSH_AUTH_SOCK", &keys);
    let outcome = feed(again, b"").await?;
    ensure!(outcome.stdout == b"served\n", "{:?}: {}", outcome.code, outcome.said());
    until("the forward's socket is gone with it", async || {
        Ok((!there.exists()).then_some(()))
    })
    .await
}
