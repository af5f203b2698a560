//! What recording costs: throughput, keystrokes while nothing is shown that is not durable, and bytes in the store.
//!
//! Recording cannot be switched off. What stands for "off" is the digest alone (`bulk-limit = 0`), where output is hashed and
//! counted; the record of what is not bulk is still written.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use doorward_audit::{Output, Recorder, Stamped};
use doorward_dev::stack::{Options, Stack};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::report::{Goal, Row, quantile};
use crate::target::Target;
use crate::transfer::{Payload, Transfer, Way};
use crate::{Bench, away, day, echo};

/// Everything is recorded, and nothing but digests.
const HOW_MUCH: &str = r#"
[[role]]
name = "everything"
groups = ["developers"]
workspaces = ["devenv-0"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { bulk-limit = "64GiB" }

[[role]]
name = "digest"
groups = ["developers"]
workspaces = ["devenv-1"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { bulk-limit = 0 }
"#;
/// Nothing is shown before it is durable, and all is shown whatever is durable.
const HOW_STRICT: &str = r#"
[[role]]
name = "durable"
groups = ["developers"]
workspaces = ["devenv-0"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { unacked = 0, bulk-limit = "64GiB" }

[[role]]
name = "best-effort"
groups = ["developers"]
workspaces = ["devenv-1"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { mode = "best-effort", unacked = "1MiB" }
"#;

/// All of it, on stacks of its own beside the usual one.
///
/// # Errors
/// When a stack does not come up or ssh fails.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let runtime = Runtime::new()?;
    let much = Side::start(&runtime, bench, "how-much", HOW_MUCH)?;
    let strict = Side::start(&runtime, bench, "how-strict", HOW_STRICT)?;
    let mut rows = throughput(bench, &much, &strict)?;
    rows.extend(echoes(bench, &much, &strict)?);
    rows.push(packing());
    rows.push(stored(bench, &much)?);
    rows.extend(away::measure(&strict.stack, &strict.targets[1])?);
    runtime.block_on(async {
        much.stack.stop().await;
        strict.stack.stop().await;
    });
    Ok(rows)
}

/// A stack with a policy of its own.
struct Side {
    stack: Stack,
    targets: [Target; 2],
}

impl Side {
    fn start(runtime: &Runtime, bench: &Bench<'_>, name: &'static str, policy: &str) -> Result<Self> {
        let stack = runtime.block_on(Stack::start(Options {
            dir: bench.folder.join(name),
            login: Some("bob".to_owned()),
            policy: Some(policy.to_owned()),
            ..Options::default()
        }))?;
        let targets = ["devenv-0", "devenv-1"].map(|host| Target {
            name,
            config: stack.ssh_config(),
            host: host.to_owned(),
            daemons: [stack.gateway_pid(), stack.agent_pid()].into_iter().flatten().collect(),
        });
        Ok(Self { stack, targets })
    }
}

fn throughput(bench: &Bench<'_>, much: &Side, strict: &Side) -> Result<Vec<Row>> {
    // A gibibyte that is recorded whole is as much in the store.
    let payload = Payload::make(bench.folder, bench.args.size.min(256) << 20)?;
    let ways = [
        ("digest alone", &much.targets[1]),
        ("as usual", &bench.doorward),
        ("all of it", &much.targets[0]),
        ("all of it, unacked = 0", &strict.targets[0]),
    ];
    let (mut direct, mut moved): (Vec<Transfer>, [Vec<Transfer>; 4]) = Default::default();
    for _ in 0..bench.args.rounds {
        direct.push(payload.run(&bench.direct, Way::Down, &[])?);
        for (moved, (_, target)) in moved.iter_mut().zip(ways) {
            moved.push(payload.run(target, Way::Down, &[])?);
        }
    }
    let rates = |all: &[Transfer]| all.iter().map(|one| one.rate).collect::<Vec<_>>();
    let costs = |all: &[Transfer]| all.iter().map(|one| one.cpu).collect::<Vec<_>>();
    let median = |index: usize| quantile(&rates(&moved[index]), 0.5).unwrap_or(0.0);
    let mut rows = Vec::new();
    for (index, (name, _)) in ways.into_iter().enumerate() {
        let name = format!("download, recorded: {name}");
        rows.push(Row::new(
            name.clone(),
            "MB/s",
            &rates(&direct),
            &rates(&moved[index]),
            None,
        ));
        rows.push(Row::new(
            format!("{name}: whole machine"),
            "CPU s/GB",
            &costs(&direct),
            &costs(&moved[index]),
            None,
        ));
        if index > 0 && median(0) > 0.0 {
            let goal = (index < 3).then_some(Goal::AtLeast(0.9));
            let share = [median(index) / median(0)];
            rows.push(Row::new(format!("{name}, over digest alone"), "", &[], &share, goal));
        }
    }
    Ok(rows)
}

/// A key through direct sshd, as usual, and only once it is durable; and what the disk alone takes for that.
fn echoes(bench: &Bench<'_>, much: &Side, strict: &Side) -> Result<Vec<Row>> {
    let mut direct = echo::Echo::open(&bench.direct, &[])?;
    let mut disk = Disk::open(&strict.stack.records_dir())?;
    let mut usual = echo::Echo::open(&much.targets[0], &[])?;
    let mut durable = echo::Echo::open(&strict.targets[0], &[])?;
    usual.run(100)?;
    durable.run(100)?;
    direct.run(100)?;
    let mut medians: [Vec<f64>; 4] = Default::default();
    for _ in 0..5 {
        medians[0].extend(quantile(&usual.run(300)?, 0.5));
        medians[1].extend(quantile(&durable.run(300)?, 0.5));
        medians[2].extend(quantile(&direct.run(300)?, 0.5));
        medians[3].extend(quantile(&disk.run(300)?, 0.5));
    }
    let [usual, durable, ..] = medians.each_ref().map(|all| quantile(all, 0.5).unwrap_or(0.0));
    let share: Vec<f64> = (usual > 0.0).then_some(durable / usual).into_iter().collect();
    Ok(vec![
        Row::new("echo, p50, as usual", "ms", &medians[2], &medians[0], None),
        Row::new("echo, p50, unacked = 0", "ms", &medians[2], &medians[1], None),
        Row::new(
            "the disk alone: 64 bytes made durable, p50",
            "ms",
            &[],
            &medians[3],
            None,
        ),
        Row::new(
            "echo, p50, unacked = 0 over as usual",
            "",
            &[],
            &share,
            Some(Goal::AtMost(3.0)),
        ),
    ])
}

/// The disk below the records.
struct Disk(fs::File, PathBuf);

impl Disk {
    fn open(records: &Path) -> Result<Self> {
        let path = records.with_extension("disk");
        Ok(Self(fs::File::create(&path)?, path))
    }

    /// Milliseconds of so many appended pieces, each made durable as a record is.
    fn run(&mut self, count: usize) -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.0.write_all(&[7; 64])?;
            self.0.sync_data()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.1);
    }
}

/// What an agent holds for a session that prints.
fn packing() -> Row {
    let mut recorder = Recorder::new(Uuid::now_v7());
    let shown = Output {
        bytes: "a line of a terminal\r\n".repeat(2000).into(),
        ..Output::default()
    };
    recorder.append(&[Stamped::new(0, shown)]);
    let held = recorder.memory() as f64 / 1024.0;
    Row::new("memory to pack a session that prints", "KiB", &[], &[held], None)
}

/// The files of a day-like session against what its terminal printed.
fn stored(bench: &Bench<'_>, much: &Side) -> Result<Row> {
    let records = much.stack.records_dir();
    let before = sessions(&records)?;
    let printed = day::type_through(&much.targets[0], &bench.folder.join("day"))?;
    let session = sessions(&records)?
        .into_iter()
        .find(|session| !before.contains(session));
    let session = session.context("the session is not in the store")?;
    // Closed once the last receipt is there, which the gateway writes within seconds.
    while !fs::read_to_string(session.join("session.json"))?.contains("\"ended\"") {
        std::thread::yield_now();
    }
    let mut bytes = 0;
    for file in fs::read_dir(&session)? {
        bytes += file?.metadata()?.len();
    }
    let share = 100.0 * bytes as f64 / printed as f64;
    let name = format!("a day's terminal of {:.1} MB: stored", printed as f64 / 1e6);
    Ok(Row::new(name, "%", &[], &[share], Some(Goal::AtMost(15.0))))
}

fn sessions(records: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for day in fs::read_dir(records)? {
        let day = day?.path();
        if day.is_dir() {
            for session in fs::read_dir(day)? {
                all.push(session?.path());
            }
        }
    }
    Ok(all)
}
