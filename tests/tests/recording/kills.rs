//! kill -9 of the agent, of the gateway, and of both, at random places of what a person is shown.
//!
//! What the client received is the beginning of what is recorded. For both programs at once that holds where nothing is shown
//! before it is durable (`unacked = 0`); otherwise up to `unacked` bytes are in no memory but theirs.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use doorward_audit::Event;
use doorward_dev::stack::Options;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::journal::recorded;
use tests::random::Random;
use tests::stored::{Before, session};
use tests::{PATIENCE, Stand, feed, until};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Agent,
    Gateway,
    Both,
}

/// In one workspace as usual, in the other nothing is shown that is not stored.
const POLICY: &str = r#"
[[role]]
name = "usual"
groups = ["developers"]
workspaces = ["devenv-0"]
allow = ["shell", "exec", "pty"]
recordings = "own"

[[role]]
name = "durable"
groups = ["developers"]
workspaces = ["devenv-1"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { unacked = 0 }
"#;

/// How many the long form shall have.
fn asked() -> Option<usize> {
    std::env::var("DOORWARD_KILLS").ok()?.parse().ok()
}

/// Kills of each kind: a few, or as many in all as `DOORWARD_KILLS` says.
fn series(random: &mut Random) -> Vec<Victim> {
    let each = match asked() {
        Some(all) => [all * 2 / 5, all * 2 / 5, all - 2 * (all * 2 / 5)],
        None => [4, 4, 2],
    };
    let mut series: Vec<Victim> = [Victim::Agent, Victim::Gateway, Victim::Both]
        .into_iter()
        .zip(each)
        .flat_map(|(victim, count)| std::iter::repeat_n(victim, count))
        .collect();
    random.shuffle(&mut series);
    series
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_received_is_recorded_whoever_is_killed() -> Result<()> {
    let options = Options {
        policy: Some(POLICY.to_owned()),
        ..Options::default()
    };
    let mut stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-kills", options).await?;
    let mut random = Random::seeded("kills");
    let begun = Instant::now();
    let series = series(&mut random);
    for (number, victim) in series.iter().enumerate() {
        let told = round(&mut stand, &mut random, *victim).await;
        let told = told.with_context(|| {
            format!(
                "kill {number} ({victim:?}); agent:\n{}gateway:\n{}",
                stand.stack.log_tail("agent"),
                stand.stack.log_tail("gateway")
            )
        })?;
        if asked().is_some() {
            eprintln!("{number} {victim:?}: {told}");
        }
    }
    eprintln!("{} kills in {:.0} s", series.len(), begun.elapsed().as_secs_f64());
    stand.stack.stop().await;
    Ok(())
}

async fn round(stand: &mut Stand, random: &mut Random, victim: Victim) -> Result<String> {
    let mut parts = Parts::begin();
    let host = match victim {
        Victim::Both => "devenv-1",
        _ if random.below(4) == 0 => "devenv-1",
        _ => "devenv-0",
    };
    let before = stand.before().await?;
    let terminal = random.coin();
    let mut lead = Shown::open(stand, random, host, terminal)?;
    let other = Shown::open(stand, random, host, !terminal)?;
    // Up to a quarter of a megabyte where each piece waits for the disk, up to two otherwise. A line at a time takes a while.
    let bits = match host {
        _ if lead.in_lines => 15,
        "devenv-1" => 17,
        _ => 20,
    };
    let at = random.magnitude(bits);
    lead.read(at).await?;
    parts.ended("stream");
    let mut pids = match victim {
        Victim::Agent => vec![stand.stack.agent_pid()],
        Victim::Gateway => vec![stand.stack.gateway_pid()],
        Victim::Both => vec![stand.stack.agent_pid(), stand.stack.gateway_pid()],
    };
    if random.coin() {
        pids.reverse();
    }
    for pid in pids {
        kill(
            Pid::from_raw(i32::try_from(pid.context("not running")?)?),
            Signal::SIGKILL,
        )?;
    }
    let shown = [lead.rest().await?, other.rest().await?];
    parts.ended("kill");
    if victim != Victim::Gateway {
        stand.stack.kill_agent().await;
    }
    if victim != Victim::Agent {
        stand.stack.kill_gateway().await;
    }
    // Before the gateway, which waits for its links.
    if victim != Victim::Gateway {
        restart_agent(stand).await?;
    }
    if victim != Victim::Agent {
        stand.stack.restart_gateway().await?;
    }
    parts.ended("start");
    // An agent that lived hands over what it still holds when it has ended the session, which may be after the new link is up.
    let lacks = std::sync::Mutex::new(String::new());
    let recorded = until("what was shown is recorded", async || {
        let told = match lacking(stand, &before, &shown).await {
            Ok(None) => return Ok(Some(())),
            Ok(Some(lacking)) => lacking,
            Err(error) => format!("{error:#}"),
        };
        *lacks.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = told;
        Ok(None)
    });
    let recorded = recorded.await;
    let lacks = lacks.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    recorded.with_context(|| format!("{victim:?} in {host} after {at} bytes: {lacks}"))?;
    parts.ended("verify");
    until("the workspace can be entered again", async || {
        let outcome = stand.run(&[], host, "echo again", b"").await?;
        Ok((outcome.stdout == b"again\n").then_some(()))
    })
    .await?;
    parts.ended("enter");
    Ok(format!("{host}, {at} bytes: {}", parts.0.join(", ")))
}

/// Starts the agent, and knocks at its workspaces until the gateway has links to them: links that break as soon as they stand make it dial
/// ever more seldom, unless somebody wants to enter.
async fn restart_agent(stand: &mut Stand) -> Result<()> {
    let config = stand.stack.ssh_config();
    let knock = async {
        loop {
            for host in ["devenv-0", "devenv-1"] {
                let mut ssh = Command::new("ssh");
                ssh.arg("-F").arg(&config).args([host, "true"]);
                if let Err(error) = feed(ssh, b"").await {
                    return error;
                }
            }
        }
    };
    tokio::select! {
        started = stand.stack.restart_agent() => Ok(started?),
        error = knock => Err(error),
    }
}

/// How long each part of a round took, in words.
struct Parts(Vec<String>, Instant);

impl Parts {
    fn begin() -> Self {
        Self(Vec::new(), Instant::now())
    }

    fn ended(&mut self, part: &str) {
        let ended = Instant::now();
        let took = ended.duration_since(std::mem::replace(&mut self.1, ended));
        self.0.push(format!("{part} {:.2} s", took.as_secs_f64()));
    }
}

/// What was shown and is in no record, in words; `None` if there is nothing.
async fn lacking(stand: &Stand, before: &Before, shown: &[Shown]) -> Result<Option<String>> {
    let entries = stand.ended_since(before, 1).await?;
    let mut records = Vec::with_capacity(entries.len());
    for entry in &entries {
        records.push(record(stand, entry).await?);
    }
    let is_in = |shown: &Shown, record: &Vec<u8>| record.starts_with(&shown.bytes) && shown.is_of(record);
    let missing = shown
        .iter()
        .find(|shown| !shown.bytes.is_empty() && !records.iter().any(|record| is_in(shown, record)));
    Ok(missing.map(|shown| {
        format!(
            "of the {} bytes that were shown from {} on, the records {entries:?} lack some",
            shown.bytes.len(),
            shown.first
        )
    }))
}

/// What is recorded of a session, which is whole in itself.
async fn record(stand: &Stand, entry: &Value) -> Result<Vec<u8>> {
    let id = session(entry)?;
    let verdict = stand.verdict(id).await?;
    ensure!(entry["outcome"] == verdict.as_str(), "{entry} against {verdict}");
    // A session that was killed before its command ran has nothing to be replayed.
    let events = recorded(&stand.stored(id)?)?;
    let ran = events
        .iter()
        .any(|event| matches!(event, Event::Exec(_) | Event::Output(_)));
    if ran { stand.replayed(id).await } else { Ok(Vec::new()) }
}

/// A session that shows numbers, one a line, from a random one on.
struct Shown {
    first: usize,
    /// Or in blocks.
    in_lines: bool,
    ssh: Child,
    stdout: ChildStdout,
    bytes: Vec<u8>,
}

impl Shown {
    fn open(stand: &Stand, random: &mut Random, host: &str, terminal: bool) -> Result<Self> {
        let first = 10_000_000 + random.below(50_000_000);
        let in_lines = random.coin();
        let numbers = match in_lines {
            false => format!("seq {first} 99999999"),
            true => format!("i={first}; while :; do echo $i; i=$((i+1)); done"),
        };
        let mut ssh = stand.ssh(if terminal { &["-tt"] } else { &[] }, host);
        if terminal {
            ssh.arg(format!("stty -opost; {numbers}"));
        } else {
            ssh.arg(numbers);
        }
        let mut ssh = ssh.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = ssh.stdout.take().context("no stdout")?;
        Ok(Self {
            first,
            in_lines,
            ssh,
            stdout,
            bytes: Vec::new(),
        })
    }

    /// Reads exactly so many bytes.
    async fn read(&mut self, count: usize) -> Result<()> {
        self.bytes.resize(count, 0);
        timeout(PATIENCE, self.stdout.read_exact(&mut self.bytes))
            .await
            .context("nothing more is shown")??;
        Ok(())
    }

    /// All that the client still printed before it ended.
    async fn rest(mut self) -> Result<Self> {
        let ended = async {
            self.stdout.read_to_end(&mut self.bytes).await?;
            anyhow::Ok(self.ssh.wait().await?)
        };
        let status = timeout(PATIENCE, ended)
            .await
            .context("ssh outlives what it talked to")??;
        if status.code() != Some(255) {
            bail!("ssh ended with {status}");
        }
        ensure!(self.is_of(&self.bytes), "something else was shown than is printed");
        Ok(self)
    }

    /// Whether these bytes are the beginning of what this session prints.
    fn is_of(&self, bytes: &[u8]) -> bool {
        // Each number has eight digits.
        bytes
            .chunks(9)
            .zip(self.first..)
            .all(|(line, number)| format!("{number}\n").as_bytes().starts_with(line))
    }
}
