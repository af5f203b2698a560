//! Wall clocks that jump, the workspace's and the gateway's: what is recorded stays whole and in order, what was honestly signed is believed,
//! and who may enter is judged with a clear word.
//!
//! Programs run under libfaketime, which gives them another wall clock at any time and leaves the monotonic one alone, as a
//! correction of the system's clock does.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_audit::{Event, Stamped, blocks, events};
use doorward_dev::stack::Options;
use serde_json::Value;
use tests::journal::journal;
use tests::parts::name_of;
use tests::stored::{Before, session};
use tests::{PATIENCE, Stand, feed, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Where Debian's package `faketime` puts it.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const HOUR: i64 = 3_600_000;

/// A program's wall clock, as the file says.
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// As the system's; `None` where there is no libfaketime, which is said with the test's name.
    pub(crate) fn new(name: &str, test: &str) -> Result<Option<Self>> {
        if !Path::new(LIBRARY).is_file() {
            // Past the capture of a test's output: what was skipped must be seen.
            writeln!(std::io::stderr(), "skipped {test}: no {LIBRARY}")?;
            return Ok(None);
        }
        let clock = Self(Path::new(crate::TMP).join(format!("recording-clocks-{name}.time")));
        clock.set("+0")?;
        Ok(Some(clock))
    }

    pub(crate) fn set(&self, offset: &str) -> Result<()> {
        let fresh = self.0.with_extension("new");
        fs::write(&fresh, offset)?;
        Ok(fs::rename(fresh, &self.0)?)
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let file = self.0.to_string_lossy().into_owned();
        let all = [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        all.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }
}

/// A session on a terminal that shows a word after each line of input.
struct Steps {
    ssh: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

const SCRIPT: &str =
    "stty -opost -echo; echo one; read x; echo two; read x; echo three; read x; echo four; read x; echo five";

impl Steps {
    async fn begin(stand: &Stand) -> Result<Self> {
        let mut ssh = stand.ssh(&["-tt"], "devenv-0");
        let mut ssh = ssh
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = ssh.stdin.take().context("no stdin")?;
        let stdout = ssh.stdout.take().context("no stdout")?;
        let mut steps = Self { ssh, stdin, stdout };
        steps.shown("one\n").await?;
        Ok(steps)
    }

    async fn shown(&mut self, line: &str) -> Result<()> {
        let mut got = vec![0; line.len()];
        timeout(PATIENCE, self.stdout.read_exact(&mut got))
            .await
            .with_context(|| format!("no {line:?}"))??;
        ensure!(got == line.as_bytes(), "{:?}", String::from_utf8_lossy(&got));
        Ok(())
    }

    async fn next(&mut self, line: &str) -> Result<()> {
        self.stdin.write_all(b"\n").await?;
        self.shown(line).await
    }

    async fn end(mut self) -> Result<()> {
        let status = timeout(PATIENCE, self.ssh.wait()).await.context("it does not end")??;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

/// The session of the steps, which has ended: complete, in order, and not longer than it was.
async fn in_order(stand: &Stand, before: &Before) -> Result<(String, Vec<Stamped>)> {
    let entries = stand.ended_since(before, 1).await?;
    let entry = entries.iter().find(|entry| entry["workspace"] == "devenv-0");
    let id = session(entry.context("no entry")?)?.to_owned();
    let verdict = stand.verdict(&id).await?;
    ensure!(verdict == "complete", "{verdict}");
    ensure!(stand.replayed(&id).await? == b"one\ntwo\nthree\nfour\nfive\n");
    let segment = fs::read(stand.stored(&id)?.join("segment-000000.dwr"))?;
    let all = events(&segment[..]).collect::<Result<Vec<Stamped>, _>>()?;
    let times: Vec<u64> = all.iter().map(|stamped| stamped.at).collect();
    ensure!(times.is_sorted(), "{times:?}");
    let last = i64::try_from(times.last().context("no event")? / 1_000_000)?;
    ensure!(last < HOUR, "the session seems to have lasted for {last} ms");
    // What somebody watches has the same times.
    let cast = stand.doorward(&["export", &id, "--format", "asciicast"]).await?;
    ensure!(cast.code == Some(0), "{}", cast.said());
    let text = String::from_utf8(cast.stdout)?;
    let shown = text.lines().skip(1).map(|line| {
        let event: Value = serde_json::from_str(line)?;
        event[0].as_f64().context("no time")
    });
    let shown = shown.collect::<Result<Vec<f64>>>()?;
    ensure!(
        shown.len() >= 5 && shown.is_sorted() && shown.iter().all(|at| (0.0..3600.0).contains(at)),
        "{shown:?}"
    );
    Ok((id, all))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_whose_clock_jumps_is_recorded_in_order() -> Result<()> {
    let Some(clock) = Clock::new("agent", name_of(&|| {}))? else {
        return Ok(());
    };
    let options = Options {
        agent_env: clock.variables(),
        ..Options::default()
    };
    let stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-clocks-agent", options).await?;
    let before = stand.before().await?;
    let mut steps = Steps::begin(&stand).await?;
    let jumps = [
        ("+3600", "two\n"),
        ("-86400", "three\n"),
        ("+90000", "four\n"),
        ("-86400", "five\n"),
    ];
    for (offset, line) in jumps {
        clock.set(offset)?;
        steps.next(line).await?;
    }
    steps.end().await?;
    let (id, all) = in_order(&stand, &before).await?;
    // The clock did jump: the last head was signed long before the session began.
    let Some(Event::Opened(opened)) = all.first().map(|first| &first.event) else {
        anyhow::bail!("no beginning")
    };
    let segment = fs::read(stand.stored(&id)?.join("segment-000000.dwr"))?;
    let head = blocks(&segment[..])
        .filter_map(|block| block.ok()?.seen.head)
        .last()
        .context("no head")?;
    let signed = i64::try_from(head.statement().unix_ms)? - i64::try_from(opened.started_unix_ms)?;
    ensure!(signed < -23 * HOUR, "the agent's clock did not jump: {signed} ms");

    // Who enters now shows a certificate of another day, or would be given one.
    for (offset, word) in [
        ("-86400", "no host certificate that is good now"),
        ("+3600", "has expired"),
    ] {
        clock.set(offset)?;
        let outcome = stand.run(&[], "devenv-0", "echo inside", b"").await?;
        ensure!(
            outcome.code == Some(255) && outcome.stdout.is_empty(),
            "{offset}: {:?}: {}",
            outcome.code,
            outcome.said()
        );
        until("the journal says why", async || {
            let denied = journal(&stand.stack.state_dir())?.into_iter().any(|event| {
                matches!(event, Event::Denied(denied) if denied.detail.contains(word) && denied.detail.contains("clock"))
            });
            Ok(denied.then_some(()))
        })
        .await
        .with_context(|| format!("{offset}: {}", outcome.said()))?;
    }
    clock.set("+0")?;
    let outcome = stand.run(&[], "devenv-0", "echo inside", b"").await?;
    ensure!(outcome.stdout == b"inside\n", "{:?}: {}", outcome.code, outcome.said());
    stand.stack.stop().await;
    Ok(())
}

/// What a gateway signs while its clock is wrong is no less true: receipts, the journal's heads, the log's checkpoints.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_whose_clock_jumps_signs_is_believed() -> Result<()> {
    let Some(clock) = Clock::new("gateway", name_of(&|| {}))? else {
        return Ok(());
    };
    let options = Options {
        gateway_env: clock.variables(),
        ..Options::default()
    };
    let mut stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-clocks-gateway", options).await?;
    let state = stand.stack.state_dir();
    let before = stand.before().await?;
    let mut known = certificates(&state)?;
    let mut steps = Steps::begin(&stand).await?;
    // A step right after each jump, and one once the gateway has a certificate of that time. Further ahead the login would be over.
    for (offset, [at_once, later]) in [("-86400", ["two\n", "three\n"]), ("+420", ["four\n", "five\n"])] {
        clock.set(offset)?;
        steps.next(at_once).await?;
        known = renewed(&stand, known).await?;
        if offset == "-86400" {
            // Nobody enters by such a clock, and is told why.
            let outcome = stand.run(&[], "devenv-1", "echo inside", b"").await?;
            ensure!(
                outcome.code == Some(255) && outcome.stdout.is_empty() && outcome.said().contains("clock"),
                "{:?}: {}",
                outcome.code,
                outcome.said()
            );
        }
        steps.next(later).await?;
    }
    steps.end().await?;
    clock.set("+0")?;
    renewed(&stand, known).await?;
    let (id, _) = in_order(&stand, &before).await?;
    let outcome = stand.run(&[], "devenv-0", "echo inside", b"").await?;
    ensure!(outcome.stdout == b"inside\n", "{:?}: {}", outcome.code, outcome.said());
    believed(&mut stand, &id).await?;
    stand.stack.stop().await;
    Ok(())
}

/// A jump that its certificate does not outlive; and starts by a clock that is behind and by one that is ahead, which is put right later. All of
/// that is believed, nobody enters meanwhile, and afterwards everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_outlives_its_certificate_and_a_start_by_a_wrong_clock() -> Result<()> {
    let Some(clock) = Clock::new("start", name_of(&|| {}))? else {
        return Ok(());
    };
    let options = Options {
        gateway_env: clock.variables(),
        ..Options::default()
    };
    let mut stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-clocks-start", options).await?;
    // So far ahead every login is over. That the open session is ended for it is not what is looked at here.
    stand.stack.add_to_gateway("[session]\nrecheck-interval = \"1h\"\n");
    stand.stack.restart_gateway().await?;
    let state = stand.stack.state_dir();
    let before = stand.before().await?;
    let mut known = certificates(&state)?;
    let mut steps = Steps::begin(&stand).await?;
    for (offset, [at_once, later]) in [("+172800", ["two\n", "three\n"]), ("+0", ["four\n", "five\n"])] {
        clock.set(offset)?;
        steps.next(at_once).await?;
        known = renewed(&stand, known).await?;
        steps.next(later).await?;
    }
    steps.end().await?;
    let (id, _) = in_order(&stand, &before).await?;

    for (offset, word) in [("-3600", "clock"), ("+3600", "expired")] {
        stand.stack.stop_gateway().await;
        clock.set(offset)?;
        let config = stand.stack.ssh_config();
        let meanwhile = async {
            until("its journal begins by the wrong clock", async || {
                Ok((certificates(&state)? > known).then_some(()))
            })
            .await?;
            until("nobody enters, and is told why", async || {
                let mut ssh = Command::new("ssh");
                ssh.arg("-F")
                    .arg(&config)
                    .args(["devenv-0", "echo inside"])
                    .kill_on_drop(true);
                let outcome = feed(ssh, b"").await?;
                ensure!(outcome.stdout.is_empty(), "{offset}: let in");
                Ok(outcome.said().contains(word).then_some(()))
            })
            .await?;
            clock.set("+0")
        };
        let (started, corrected) = tokio::join!(stand.stack.restart_gateway(), meanwhile);
        corrected.with_context(|| format!("started at {offset}"))?;
        started.with_context(|| format!("started at {offset}"))?;
        until("everybody enters again", async || {
            let outcome = stand.run(&[], "devenv-0", "echo inside", b"").await?;
            Ok((outcome.stdout == b"inside\n").then_some(()))
        })
        .await?;
        known = certificates(&state)?;
    }
    believed(&mut stand, &id).await?;
    stand.stack.stop().await;
    Ok(())
}

/// Every recording, the session's among them, the log and the journal stand up, asked for and offline. Stops the gateway.
async fn believed(stand: &mut Stand, id: &str) -> Result<()> {
    let state = stand.stack.state_dir();
    let all = stand.doorward(&["verify", "--all"]).await?;
    let said = String::from_utf8_lossy(&all.stdout).into_owned();
    ensure!(
        all.code == Some(0) && said.contains(id),
        "{:?}: {said}{}",
        all.code,
        all.said()
    );
    stand.stack.stop_gateway().await;
    for part in ["log", "journal"] {
        let offline = stand.doorward(&["verify", &state.join(part).to_string_lossy()]).await?;
        let said = String::from_utf8_lossy(&offline.stdout).into_owned();
        ensure!(
            offline.code == Some(0),
            "{part}: {:?}: {said}{}",
            offline.code,
            offline.said()
        );
    }
    Ok(())
}

/// Waits until the journal names a further certificate. It says so when it has something else to write: that somebody comes.
async fn renewed(stand: &Stand, known: usize) -> Result<usize> {
    until("a certificate of the other time is in the journal", async || {
        stand.run(&[], "devenv-1", "true", b"").await?;
        let now = certificates(&stand.stack.state_dir())?;
        Ok((now > known).then_some(now))
    })
    .await
}

/// How often the journal has named a certificate.
fn certificates(state: &Path) -> Result<usize> {
    let named = journal(state)?.into_iter().filter(|event| match event {
        Event::GatewayStarted(started) => started.certificate.is_some(),
        _ => false,
    });
    Ok(named.count())
}
