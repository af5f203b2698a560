//! Recordings are deleted when their time is over, and not because a clock says so alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use doorward_audit::{Event, SessionIndex};
use doorward_dev::stack::Options;
use tests::journal::journal;
use tests::parts::name_of;
use tests::raw::plain;
use tests::stored::session;
use tests::{Outcome, Stand, feed, until};
use tokio::process::Command;

use crate::clocks::Clock;
use crate::recorded;

const DAY: Duration = Duration::from_secs(24 * 3600);

const POLICY: &str = r#"
[[role]]
name = "kept for two days"
groups = ["developers"]
workspaces = ["*"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { keep = "2d" }
"#;

/// A gateway that is started by a clock ten days ahead keeps what is due by that clock alone, says so everywhere, and deletes it once an operator
/// has said what day it is; nobody can say another day than the clock does.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_nobody_confirms_deletes_nothing() -> Result<()> {
    let Some(clock) = Clock::new("expiry", name_of(&|| {}))? else {
        return Ok(());
    };
    let options = Options {
        policy: Some(POLICY.to_owned()),
        gateway_env: clock.variables(),
        ..Options::default()
    };
    let mut stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-expiry", options).await?;
    let (_, entry) = recorded(&stand, &[], "echo kept").await?;
    let folder = stand.stored(session(&entry)?)?;
    let config = stand.folder().join("stack/gateway.toml");
    let gateway = Commands {
        config,
        variables: clock.variables(),
    };
    stand.stack.stop_gateway().await;
    clock.set("+864000")?;
    let (state, admin) = (stand.stack.state_dir(), stand.stack.admin_address());
    let meanwhile = async {
        until("the clock is doubted", async || Ok(doubts(&state)?.pop().map(|_| ()))).await?;
        ensure!(doubts(&state)? == [1], "{:?}", doubts(&state)?);
        let numbers = until("the numbers say so", async || {
            let answer = plain(admin, "/metrics").await?;
            Ok(answer.contains("\ndoorward_records_held_back 1\n").then_some(answer))
        })
        .await?;
        ensure!(
            numbers.contains("\ndoorward_records_clock_apart_seconds 8"),
            "{numbers}"
        );
        let doctor = gateway.run(&["doctor"], &[]).await?;
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        ensure!(said.contains("held back") && said.contains("confirm-clock"), "{said}");
        ensure!(folder.join("segment-000000.dwr").exists(), "deleted by a clock alone");

        let other = gateway.run(&["confirm-clock"], &["2001-02-03"]).await?;
        ensure!(
            other.code == Some(1) && other.said().contains("set the clock first"),
            "{}",
            other.said()
        );
        ensure!(folder.join("segment-000000.dwr").exists(), "deleted by a wrong date");
        let then = humantime::format_rfc3339_seconds(SystemTime::now() + 10 * DAY).to_string();
        let today = then.split('T').next().context("no date")?;
        let right = gateway.run(&["confirm-clock"], &[today]).await?;
        ensure!(right.code == Some(0), "{}", right.said());
        until("it is deleted", async || {
            let left = folder.join("tombstone.json").exists() && !folder.join("segment-000000.dwr").exists();
            Ok(left.then_some(()))
        })
        .await?;
        // The clock is put right, and that again is a leap.
        clock.set("+0")?;
        until("the clock is doubted again", async || {
            Ok((doubts(&state)? == [1, 0]).then_some(()))
        })
        .await?;
        anyhow::Ok(())
    };
    let (started, looked) = tokio::join!(stand.stack.restart_gateway(), meanwhile);
    looked?;
    started?;
    // What is closed meanwhile is kept from the later of the two times on.
    let (_, entry) = recorded(&stand, &[], "echo later").await?;
    let index = std::fs::read(stand.stored(session(&entry)?)?.join("session.json"))?;
    let index: SessionIndex = serde_json::from_slice(&index)?;
    let kept = index.keep_until.context("no time")? - index.ended.context("no end")?;
    ensure!(Duration::from_millis(kept) > 11 * DAY, "{index:?}");
    let why: Vec<String> = journal(&state)?
        .into_iter()
        .filter_map(|event| match event {
            Event::ClockBelieved(believed) => Some(believed.why),
            _ => None,
        })
        .collect();
    ensure!(why == ["confirmed"], "{why:?}");
    stand.stack.stop().await;
    Ok(())
}

/// How many recordings were held back each time that the clock was doubted.
fn doubts(state: &Path) -> Result<Vec<u64>> {
    let doubts = journal(state)?.into_iter().filter_map(|event| match event {
        Event::ClockDoubted(doubted) => Some(doubted.held_back),
        _ => None,
    });
    Ok(doubts.collect())
}

/// Commands of the gateway on its configuration, by its clock.
struct Commands {
    config: PathBuf,
    variables: Vec<(String, String)>,
}

impl Commands {
    async fn run(&self, command: &[&str], more: &[&str]) -> Result<Outcome> {
        let mut program = Command::new(crate::PROGRAM);
        program
            .arg("gateway")
            .args(command)
            .arg("--config")
            .arg(&self.config)
            .args(more);
        program.envs(self.variables.iter().map(|(name, value)| (name, value)));
        feed(program, b"").await
    }
}
