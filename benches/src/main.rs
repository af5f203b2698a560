//! Figures beside direct OpenSSH: `cargo run --release -p benches`.
//!
//! Every measure runs on a stock sshd and on Doorward in turn, in the same minutes on the same machine; what counts is the
//! ratio. The table goes to stdout, JSON to `target/benches.json`.

mod connect;
mod echo;
mod files;
mod memory;
mod proc;
mod report;
mod sshd;
mod target;
mod transfer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use doorward_dev::stack::{Options, Real, Stack};

use crate::report::{Goal, Row};
use crate::target::Target;
use crate::transfer::{Payload, Way};

/// Measures Doorward beside a direct OpenSSH server in the same run.
#[derive(Debug, Parser)]
struct Args {
    /// Only these groups of measures.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "memory,transfer,files,connect,echo,size"
    )]
    only: Vec<String>,
    /// Rounds of each transfer.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Cold connects on each side.
    #[arg(long, default_value_t = 21)]
    connects: usize,
    /// Mebibytes of each transfer.
    #[arg(long, default_value_t = 512)]
    size: u64,
    /// Numbers of idle sessions to measure memory at.
    #[arg(long, value_delimiter = ',', default_value = "1,50,200")]
    sessions: Vec<usize>,
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
        host: "direct",
        daemons: vec![sshd.pid()],
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let stack = runtime.block_on(Stack::start(Options {
        dir: folder.path().join("stack"),
        program: None,
        login: Some("bob".to_owned()),
        real: Real::default(),
    }))?;
    let doorward = Target {
        name: "doorward",
        config: stack.ssh_config(),
        host: "devenv-0",
        daemons: [stack.gateway_pid(), stack.agent_pid()].into_iter().flatten().collect(),
    };
    let bench = Bench {
        args,
        direct,
        doorward,
        folder: folder.path(),
    };
    let mut rows = Vec::new();
    let mut whole = true;
    for (name, measure) in MEASURES {
        if args.only.iter().any(|wanted| wanted == name) {
            eprintln!("benches: {name}");
            match measure(&bench) {
                Ok(measured) => rows.extend(measured),
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
    folder: &'a Path,
}

type Measure = fn(&Bench<'_>) -> Result<Vec<Row>>;

const MEASURES: &[(&str, Measure)] = &[
    // first, while the daemons are fresh: what an earlier measure left in their heaps would hide what a session takes
    ("memory", memories),
    ("transfer", transfers),
    ("files", files),
    ("connect", connects),
    ("echo", echoes),
    ("size", sizes),
];

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
    for (name, options, goal) in [
        ("ssh H true", &[] as &[&str], Goal::AtMost(0.35)),
        ("ssh H true, curve25519 on both", CURVE25519, Goal::AtMost(0.55)),
    ] {
        let (mut direct, mut ours) = (Vec::new(), Vec::new());
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
    }
    Ok(rows)
}

fn echoes(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let (mut direct, mut ours) = (echo::Echo::open(&bench.direct)?, echo::Echo::open(&bench.doorward)?);
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
