//! What a session does without its recording: an agent that stands still, and a store that is away.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::journal::journal;
use tests::{Stand, feed, until};
use tokio::io::AsyncReadExt;

async fn start(name: &str) -> Result<Stand> {
    Stand::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), name).await
}

async fn newest(stand: &Stand) -> Result<Value> {
    until("the session's entry closes", async || {
        let first = stand.sessions().await?.into_iter().next();
        Ok(first.filter(|entry| !entry["ended"].is_null()))
    })
    .await
}

/// Whoever is root in a workspace can stop its agent. The gateway notices, ends the session and says so in the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_ends_the_session_abnormally() -> Result<()> {
    let stand = start("strict-stopped").await?;
    let mut ssh = stand.ssh(&["-tt"], "devenv-0");
    let mut ssh = ssh
        .arg("echo ready; exec sleep 1000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut ready = [0; 5];
    ssh.stdout.as_mut().context("no stdout")?.read_exact(&mut ready).await?;
    let agent = stand.stack.agent_pid().context("no agent")?;
    let agent = Pid::from_raw(i32::try_from(agent)?);
    kill(agent, Signal::SIGSTOP)?;
    let ended = tokio::time::timeout(tests::PATIENCE, ssh.wait_with_output()).await;
    let ended = ended.context("nobody noticed")??;
    ensure!(ended.status.code() == Some(255), "ssh ended with {}", ended.status);
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        said.contains("doorward: the connection to the workspace was lost"),
        "{said}"
    );
    let entry = newest(&stand).await?;
    ensure!(entry["outcome"] == "abnormal", "{entry}");
    let journal = until("the end in the journal", async || {
        let all = journal(&stand.stack.state_dir())?;
        let ended = all.into_iter().find_map(|event| match event {
            Event::SessionEnded(ended) => Some(ended),
            _ => None,
        });
        Ok(ended)
    })
    .await?;
    ensure!(journal.code == "agent-gone", "{journal:?}");
    kill(agent, Signal::SIGCONT)?;
    stand.stack.stop().await;
    Ok(())
}

/// With the store away nobody gets in, but for whom the glass may be broken, loudly and for a reason.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_away() -> Result<()> {
    let stand = start("strict-away").await?;
    let policy = stand.folder().join("stack/policy.toml");
    let role = "\n[[role]]\nname = \"night\"\ngroups = [\"developers\"]\nworkspaces = [\"devenv-0\"]\nallow = [\"exec\"]\n\
                break-glass = true\n";
    fs::write(&policy, fs::read_to_string(&policy)? + role)?;
    let (records, away) = (stand.stack.records_dir(), stand.folder().join("away"));
    fs::rename(&records, &away)?;
    fs::write(&records, "in the way")?;
    let refused = until("the reason is asked for", async || {
        let outcome = stand.run(&[], "devenv-0", "true", b"").await?;
        ensure!(outcome.code == Some(255), "let in: {}", outcome.said());
        Ok(outcome.said().contains("stated reason").then_some(outcome))
    })
    .await?;
    ensure!(refused.said().contains("DOORWARD_REASON="), "{}", refused.said());
    // The role is for one workspace.
    let elsewhere = stand.run(&[], "devenv-1", "true", b"").await?;
    ensure!(elsewhere.said().contains("recording store"), "{}", elsewhere.said());
    let mut ssh = stand.ssh(&[], "devenv-0");
    ssh.arg("echo shown")
        .env("DOORWARD_REASON", "the store is down – pager 7");
    let inside = feed(ssh, b"").await?;
    ensure!(
        inside.code == Some(0) && inside.stdout == b"shown\n",
        "{}",
        inside.said()
    );
    ensure!(inside.said().contains("BREAK-GLASS"), "{}", inside.said());
    fs::remove_file(&records)?;
    fs::rename(&away, &records)?;
    let entry = newest(&stand).await?;
    let id = entry["session"].as_str().context("no id")?;
    let verified = stand.doorward(&["verify", id]).await?;
    ensure!(verified.code == Some(0), "verify: {}", verified.said());
    let replayed = stand.doorward(&["replay", "--raw", id]).await?;
    ensure!(replayed.stdout == b"shown\n", "{:?}", replayed.stdout);
    let broken = journal(&stand.stack.state_dir())?
        .into_iter()
        .find_map(|event| match event {
            Event::BreakGlass(broken) => Some((broken.user, broken.reason)),
            _ => None,
        });
    let (user, reason) = broken.context("not in the journal")?;
    ensure!(
        user.contains("bob") && reason == "the store is down – pager 7",
        "{user}: {reason}"
    );
    let again = stand.run(&[], "devenv-0", "echo on", b"").await?;
    ensure!(
        again.stdout == b"on\n" && !again.said().contains("BREAK-GLASS"),
        "{}",
        again.said()
    );
    stand.stack.stop().await;
    Ok(())
}
