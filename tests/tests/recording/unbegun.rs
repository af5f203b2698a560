//! A best-effort session begins and ends while the store is away, and the gateway is started again before the store is back.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::stack::Options;
use tests::journal::journal;
use tests::parts::name_of;
use tests::stored::session;
use tests::tmpfs::Tmpfs;
use tests::{Stand, until};

const POLICY: &str = r#"
[[role]]
name = "best-effort"
groups = ["developers"]
workspaces = ["*"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { mode = "best-effort" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_store_is_recorded_after_the_gateway_was_started_again() -> Result<()> {
    let test = name_of(&|| {});
    let records = Path::new(crate::TMP).join("recording-unbegun/stack/state/records");
    Tmpfs::clear(&records);
    let options = Options {
        policy: Some(POLICY.to_owned()),
        ..Options::default()
    };
    let mut stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-unbegun", options).await?;
    let Some(disk) = Tmpfs::mount(&records, 8 << 20, test)? else {
        return Ok(());
    };
    let before = stand.before().await?;
    let log = stand.folder().join("stack/logs/gateway.log");
    let failures = || anyhow::Ok(std::fs::read_to_string(&log)?.matches("the record store fails").count());
    // One gateway ends in order, the other is killed.
    for killed in [false, true] {
        until("nothing is open for writing", async || {
            Ok(disk.remount("ro")?.then_some(()))
        })
        .await?;
        let shown = format!("unstored {killed}\n");
        let outcome = stand
            .run(&[], "devenv-0", &format!("echo unstored {killed}"), b"")
            .await?;
        ensure!(
            outcome.stdout == shown.as_bytes(),
            "{:?}: {}",
            outcome.code,
            outcome.said()
        );
        until("the session is over", async || {
            let ended = journal(&stand.stack.state_dir())?
                .into_iter()
                .filter(|event| matches!(event, Event::SessionEnded(_)));
            Ok((ended.count() == if killed { 2 } else { 1 }).then_some(()))
        })
        .await?;
        if killed {
            stand.stack.kill_gateway().await;
        }
        let known = failures()?;
        // It is ready only once its store is.
        let back = async {
            until("the new gateway meets the store", async || {
                Ok((failures()? > known).then_some(()))
            })
            .await?;
            ensure!(disk.remount("rw")?);
            anyhow::Ok(())
        };
        let (restarted, back) = tokio::join!(stand.stack.restart_gateway(), back);
        restarted?;
        back?;
    }
    let mut entries = stand.ended_since(&before, 2).await?;
    entries.sort_by_key(|entry| entry["started"].as_str().map(str::to_owned));
    for (entry, killed) in entries.iter().zip([false, true]) {
        let id = session(entry)?;
        until("the agent has brought the recording", async || {
            let verified = stand.doorward(&["verify", id]).await?;
            Ok((verified.code == Some(0)).then_some(()))
        })
        .await
        .with_context(|| format!("{entry}"))?;
        ensure!(stand.replayed(id).await? == format!("unstored {killed}\n").as_bytes());
        ensure!(stand.verdict(id).await? == "complete");
    }
    let ended = journal(&stand.stack.state_dir())?
        .into_iter()
        .filter(|event| matches!(event, Event::SessionEnded(_)));
    ensure!(ended.count() == 2, "an end is on record twice");
    let left = std::fs::read_dir(stand.stack.state_dir().join("unbegun"))?.count();
    ensure!(left == 0, "{left} notes are left");
    stand.stack.stop().await;
    Ok(())
}
