//! Figures beside direct OpenSSH: `cargo run --release -p benches`.
//!
//! Every measure runs on a stock sshd and on Doorward in turn, in the same minutes on the same machine; what counts is the
//! ratio. The table goes to stdout, JSON to `target/benches.json`.

mod away;
mod connect;
mod day;
mod echo;
mod files;
mod kubernetes;
mod logins;
mod memory;
mod mounted;
mod proc;
mod recording;
mod report;
mod sshd;
mod stuck;
mod target;
mod transfer;
mod trees;
mod vault;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use doorward_dev::parts::Vault;
use doorward_dev::stack::{Options, Real, Stack};

use crate::report::{Goal, Row};
use crate::target::Target;
use crate::transfer::{Payload, Way};
use crate::vault::Watch;

/// Measures Doorward beside a direct OpenSSH server in the same run.
#[derive(Debug, Parser)]
struct Args {
    /// Only these groups of measures.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "memory,stuck,transfer,files,trees,mounted,connect,parallel,logins,echo,recording,verify,size"
    )]
    only: Vec<String>,
    /// Only those of a large cluster (churn, links, wake), on a real Kubernetes API server.
    #[arg(long, conflicts_with = "only")]
    kubernetes: bool,
    /// Pods of the large cluster.
    #[arg(long, default_value_t = 2_000)]
    pods: usize,
    /// Changes of them in a minute.
    #[arg(long, default_value_t = 10_000)]
    changes: u32,
    /// How long they change, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Workspaces with a link and a session each.
    #[arg(long, default_value_t = 500)]
    workspaces: usize,
    /// How often a workspace is woken.
    #[arg(long, default_value_t = 11)]
    wakes: usize,
    /// Rounds of each transfer.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Cold connects on each side.
    #[arg(long, default_value_t = 21)]
    connects: usize,
    /// Mebibytes of each transfer.
    #[arg(long, default_value_t = 512)]
    size: u64,
    /// Files of the tree for rsync.
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Mebibytes of the repository for git.
    #[arg(long, default_value_t = 200)]
    repository: usize,
    /// Mebibytes of the repository for git whose objects are not packed.
    #[arg(long, default_value_t = 32)]
    loose: usize,
    /// Random operations on the mounted folder.
    #[arg(long, default_value_t = 2_000)]
    operations: usize,
    /// Numbers of idle sessions to measure memory at.
    #[arg(long, value_delimiter = ',', default_value = "1,50,200")]
    sessions: Vec<usize>,
    /// How many logins at once.
    #[arg(long, default_value_t = 200)]
    logins: usize,
    /// Sign with a real Vault; with --keycloak, as the person.
    #[arg(long)]
    vault: bool,
    /// Log people in at a real Keycloak.
    #[arg(long)]
    keycloak: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/benches.json")]
    json: PathBuf,
}

const AES_GCM: &[&str] = &["-c", "aes128-gcm@openssh.com"];
const CURVE25519: &[&str] = &["-o", "KexAlgorithms=curve25519-sha256"];

fn main() -> ExitCode {
    if let Some(code) = doorward_dev::act_as_program() {
        return code;
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sshd = sshd::Sshd::start(&folder.path().join("sshd"))?;
    let direct = Target {
        name: "direct",
        config: sshd.config().to_owned(),
        host: "direct".to_owned(),
        daemons: vec![sshd.pid()],
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let stack = runtime.block_on(Stack::start(Options {
        dir: folder.path().join("stack"),
        program: None,
        login: Some("bob".to_owned()),
        real: Real {
            vault: args.vault,
            keycloak: args.keycloak,
        },
        ..Options::default()
    }))?;
    let alice = runtime.block_on(stack.login("alice", &folder.path().join("alice")))?;
    let doorward = Target {
        name: "doorward",
        config: stack.ssh_config(),
        host: "devenv-0".to_owned(),
        daemons: [stack.gateway_pid(), stack.agent_pid()].into_iter().flatten().collect(),
    };
    let people = vec![
        doorward.clone(),
        Target {
            config: alice.ssh_config(),
            ..doorward.clone()
        },
    ];
    let bench = Bench {
        args,
        direct,
        doorward,
        people,
        vault: stack.vault(),
        folder: folder.path(),
    };
    let mut rows = Vec::new();
    let mut whole = true;
    for (name, measure) in MEASURES {
        if match args.kubernetes {
            true => KUBERNETES.contains(name),
            false => args.only.iter().any(|wanted| wanted == name),
        } {
            eprintln!("benches: {name}");
            match measure(&bench) {
                Ok(measured) => {
                    // Also at once: who interrupts a long run has what it has measured.
                    eprint!("{}", report::table(&measured));
                    rows.extend(measured);
                }
                Err(error) => {
                    eprintln!("benches: {name}: {error:#}\n{}", stack.log_tail("gateway"));
                    whole = false;
                }
            }
        }
    }
    runtime.block_on(stack.stop());
    print!("{}", report::table(&rows));
    std::fs::create_dir_all(args.json.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(&args.json, serde_json::to_vec_pretty(&rows)?).context("writing the JSON")?;
    anyhow::ensure!(whole, "not every measure could be taken");
    Ok(())
}

/// What every measure is given.
struct Bench<'a> {
    args: &'a Args,
    direct: Target,
    doorward: Target,
    /// The same host for several people: what is limited per person is not met by one alone.
    people: Vec<Target>,
    vault: Option<&'a Vault>,
    folder: &'a Path,
}

type Measure = fn(&Bench<'_>) -> Result<Vec<Row>>;

const MEASURES: &[(&str, Measure)] = &[
    // first, while the daemons are fresh: what an earlier measure left in their heaps would hide what a session takes
    ("memory", memories),
    ("stuck", stuck::measure),
    ("transfer", transfers),
    ("files", files),
    ("trees", trees::measure),
    ("mounted", mounted::measure),
    ("connect", connects),
    ("parallel", logins::per_second),
    ("logins", logins_at_once),
    ("echo", echoes),
    ("recording", recording::measure),
    ("verify", verifies),
    ("size", sizes),
    ("churn", kubernetes::churn),
    ("links", kubernetes::links),
    ("wake", kubernetes::wake),
];
const KUBERNETES: [&str; 3] = ["churn", "links", "wake"];

fn transfers(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let payload = Payload::make(bench.folder, bench.args.size << 20)?;
    let mut rows = Vec::new();
    let default = ("default ciphers", &[] as &[&str], Some(Goal::AtLeast(0.6)));
    for (cipher, options, goal) in [default, ("aes128-gcm", AES_GCM, None)] {
        for way in [Way::Up, Way::Down] {
            let (mut direct, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..bench.args.rounds {
                direct.push(payload.run(&bench.direct, way, options)?);
                ours.push(payload.run(&bench.doorward, way, options)?);
            }
            let name = match way {
                Way::Up => "upload",
                Way::Down => "download",
            };
            let rates = |list: &[transfer::Transfer]| list.iter().map(|one| one.rate).collect::<Vec<_>>();
            let costs = |list: &[transfer::Transfer]| list.iter().map(|one| one.cpu).collect::<Vec<_>>();
            rows.push(Row::new(
                format!("{name}, {cipher}"),
                "MB/s",
                &rates(&direct),
                &rates(&ours),
                goal,
            ));
            rows.push(Row::new(
                format!("{name}, {cipher}: whole machine"),
                "CPU s/GB",
                &costs(&direct),
                &costs(&ours),
                None,
            ));
        }
    }
    Ok(rows)
}

fn files(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let payload = Payload::make(bench.folder, bench.args.size << 20)?;
    let mut rows = Vec::new();
    for (name, way) in [("sftp put", Way::Up), ("sftp get", Way::Down)] {
        let (mut direct, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..bench.args.rounds {
            direct.push(files::run(&bench.direct, &payload, bench.folder, way)?);
            ours.push(files::run(&bench.doorward, &payload, bench.folder, way)?);
        }
        let column = |list: &[transfer::Transfer], pick: fn(&transfer::Transfer) -> f64| {
            list.iter().map(pick).collect::<Vec<_>>()
        };
        for (name, unit, pick, goal) in [
            (
                name.to_owned(),
                "MB/s",
                (|one| one.rate) as fn(&transfer::Transfer) -> f64,
                Some(Goal::AtLeast(0.8)),
            ),
            (format!("{name}: whole machine"), "CPU s/GB", |one| one.cpu, None),
        ] {
            rows.push(Row::new(name, unit, &column(&direct, pick), &column(&ours, pick), goal));
        }
    }
    Ok(rows)
}

fn connects(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    // Vault on the same two cores has its price.
    let goal = if bench.vault.is_some() { 0.45 } else { 0.35 };
    for (name, options, goal) in [
        ("ssh H true", &[] as &[&str], Goal::AtMost(goal)),
        ("ssh H true, curve25519 on both", CURVE25519, Goal::AtMost(0.55)),
    ] {
        let (mut direct, mut ours) = (Vec::new(), Vec::new());
        let watch = bench.vault.map(Watch::begin).transpose()?;
        for _ in 0..bench.args.connects {
            direct.push(connect::run(&bench.direct, options)?);
            ours.push(connect::run(&bench.doorward, options)?);
        }
        let column =
            |list: &[connect::Connect], pick: fn(&connect::Connect) -> f64| list.iter().map(pick).collect::<Vec<_>>();
        rows.push(Row::new(
            name,
            "ms",
            &column(&direct, |c| c.millis),
            &column(&ours, |c| c.millis),
            Some(goal),
        ));
        rows.push(Row::new(
            format!("{name}: whole machine"),
            "CPU ms",
            &column(&direct, |c| c.machine),
            &column(&ours, |c| c.machine),
            None,
        ));
        let mean = column(&ours, |c| c.daemons).iter().sum::<f64>() / ours.len().max(1) as f64;
        rows.push(Row::new(
            format!("{name}: gateway and agent, mean"),
            "CPU ms",
            &[],
            &[mean],
            None,
        ));
        if let Some(watch) = watch {
            let share = watch.end()?;
            let each = share.millis / ours.len().max(1) as f64;
            let total = column(&ours, |c| c.millis).iter().sum::<f64>();
            let signings = share.signings as f64 / ours.len().max(1) as f64;
            let per_cent = 100.0 * share.millis / total.max(1.0);
            rows.push(Row::new(
                format!("{name}: of it in Vault, mean"),
                "ms",
                &[],
                &[each],
                None,
            ));
            rows.push(Row::new(format!("{name}: share of Vault"), "%", &[], &[per_cent], None));
            let once = Some(Goal::AtMost(1.0));
            rows.push(Row::new(
                format!("{name}: signings per session"),
                "",
                &[],
                &[signings],
                once,
            ));
        }
    }
    Ok(rows)
}

fn logins_at_once(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let count = bench.args.logins;
    let direct = logins::at_once(std::slice::from_ref(&bench.direct), count)?;
    let watch = bench.vault.map(Watch::begin).transpose()?;
    let ours = logins::at_once(&bench.people, count)?;
    let quantile = |times: &[f64], q| report::quantile(times, q).into_iter().collect::<Vec<_>>();
    let mut rows: Vec<Row> = [("p50", 0.5), ("p99", 0.99)]
        .map(|(name, q)| {
            let name = format!("{count} logins at once, {name}");
            Row::new(name, "ms", &quantile(&direct, q), &quantile(&ours, q), None)
        })
        .into();
    if let Some(watch) = watch {
        let signings = watch.end()?.signings as f64 / count.max(1) as f64;
        let name = format!("{count} logins at once: signings per session");
        rows.push(Row::new(name, "", &[], &[signings], Some(Goal::AtMost(1.0))));
    }
    Ok(rows)
}

fn echoes(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let (mut direct, mut ours) = (
        echo::Echo::open(&bench.direct, &[])?,
        echo::Echo::open(&bench.doorward, &[])?,
    );
    direct.run(200)?;
    ours.run(200)?;
    let mut quantiles: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..10 {
        for (side, times) in [direct.run(500)?, ours.run(500)?].iter().enumerate() {
            for (index, q) in [0.5, 0.99].into_iter().enumerate() {
                quantiles[index][side].extend(report::quantile(times, q));
            }
        }
    }
    let [[direct50, ours50], [direct99, ours99]] = &quantiles;
    Ok(vec![
        Row::new(
            "echo on a terminal, p50",
            "ms",
            direct50,
            ours50,
            Some(Goal::AtMost(1.8)),
        ),
        Row::new("echo on a terminal, p99", "ms", direct99, ours99, None),
    ])
}

fn memories(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut direct = memory::Idle::default();
    let mut ours = memory::Idle::default();
    let base = [memory::daemons(&bench.direct), memory::daemons(&bench.doorward)];
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    rows.push(Row::new(
        "daemons without a session",
        "KiB PSS",
        &[kib(base[0])],
        &[kib(base[1])],
        None,
    ));
    for count in &bench.args.sessions {
        direct.grow(&bench.direct, *count)?;
        let direct_each = kib(memory::daemons(&bench.direct).saturating_sub(base[0])) / *count as f64;
        ours.grow(&bench.doorward, *count)?;
        let ours_each = kib(memory::daemons(&bench.doorward).saturating_sub(base[1])) / *count as f64;
        rows.push(Row::new(
            format!("an idle session, {count} open, beside direct"),
            "KiB PSS",
            &[direct_each],
            &[ours_each],
            None,
        ));
        let goal = (*count >= 50).then_some(Goal::AtMost(250.0));
        rows.push(Row::new(
            format!("an idle session, {count} open: gateway and agent"),
            "KiB PSS",
            &[],
            &[ours_each],
            goal,
        ));
    }
    Ok(rows)
}

fn sizes(_: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, path, goal) in [
        (
            "agent, static (musl), stripped",
            "target/x86_64-unknown-linux-musl/release/doorward-agent",
            Some(Goal::AtMost(15.0)),
        ),
        ("gateway, stripped", "target/release/doorward-gateway", None),
        ("doorward, stripped", "target/release/doorward", None),
    ] {
        match std::fs::metadata(path) {
            Ok(file) => rows.push(Row::new(name, "MB", &[], &[file.len() as f64 / 1e6], goal)),
            Err(error) => eprintln!("benches: {path}: {error}; build it to see its size"),
        }
    }
    Ok(rows)
}

fn verifies(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, shown) in [("noise", verify::Shown::Noise), ("text", verify::Shown::Text)] {
        let folder = bench.folder.join(format!("recording-of-{name}"));
        let large = verify::Large::write(&folder, shown, bench.args.size << 20)?;
        let seconds = (0..bench.args.rounds)
            .map(|_| large.verify(&folder))
            .collect::<Result<Vec<_>>>()?;
        let rate = |bytes: u64| seconds.iter().map(|one| bytes as f64 / 1e6 / one).collect::<Vec<_>>();
        // What was shown is what people wait for; of text little is stored, and a rate of those says little.
        for (bytes, what, goal) in [
            (large.shown, "shown", Some(Goal::AtLeast(300.0))),
            (large.stored, "stored", None),
        ] {
            rows.push(Row::new(
                format!("verify, {name}, {what}"),
                "MB/s",
                &[],
                &rate(bytes),
                goal,
            ));
        }
    }
    Ok(rows)
}
