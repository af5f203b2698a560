//! Readers that are stuck: what a channel beside one of them feels, and what twenty of them cost the daemons.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::report::{Goal, Row, quantile};
use crate::target::Target;
use crate::{Bench, echo, memory};

/// The echo beside a stuck reader, then the memory of many.
///
/// # Errors
/// When ssh fails.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = beside(bench)?;
    rows.extend(held(bench)?);
    Ok(rows)
}

fn beside(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let targets = [&bench.direct, &bench.doorward];
    let mut idle = [Vec::new(), Vec::new()];
    let mut stuck = [Vec::new(), Vec::new()];
    let mut open = Vec::new();
    for (side, target) in targets.into_iter().enumerate() {
        let master = Master::start(bench, target)?;
        let mut echo = echo::Echo::open(target, &master.options())?;
        echo.run(200)?;
        open.push((side, master, echo));
    }
    // In turn, so that both sides and both states meet the same machine.
    for _ in 0..5 {
        for (side, master, echo) in &mut open {
            idle[*side].extend(quantile(&echo.run(400)?, 0.5));
            let reader = Stuck::start(targets[*side], &master.options())?;
            echo.run(200)?;
            stuck[*side].extend(quantile(&echo.run(400)?, 0.5));
            drop(reader);
            echo.run(100)?;
        }
    }
    let ratio = |side: usize| {
        let (stuck, idle) = (quantile(&stuck[side], 0.5)?, quantile(&idle[side], 0.5)?);
        (idle > 0.0).then_some(stuck / idle)
    };
    let ratios = [0, 1].map(|side| ratio(side).into_iter().collect::<Vec<_>>());
    Ok(vec![
        Row::new("echo on a second channel, p50", "ms", &idle[0], &idle[1], None),
        Row::new("echo beside a stuck reader, p50", "ms", &stuck[0], &stuck[1], None),
        Row::new(
            "echo beside a stuck reader, over idle: direct",
            "",
            &[],
            &ratios[0],
            None,
        ),
        Row::new(
            "echo beside a stuck reader, over idle: doorward",
            "",
            &[],
            &ratios[1],
            Some(Goal::AtMost(2.0)),
        ),
    ])
}

fn held(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for shared in [false, true] {
        let mut figures = [Vec::new(), Vec::new()];
        for (side, target) in [&bench.direct, &bench.doorward].into_iter().enumerate() {
            let master = shared.then(|| Master::start(bench, target)).transpose()?;
            let options = master.as_ref().map(Master::options).unwrap_or_default();
            let before = memory::daemons(target);
            let mut readers = Vec::new();
            for _ in 0..READERS {
                readers.push(Stuck::start(target, &options)?);
            }
            let after = settled(target)?;
            figures[side].push(after.saturating_sub(before) as f64 / f64::from(1 << 20));
        }
        let how = if shared { "on one connection" } else { "each on its own" };
        let name = format!("{READERS} stuck readers of `yes`, {how}");
        rows.push(Row::new(name, "MiB PSS", &figures[0], &figures[1], None));
    }
    Ok(rows)
}

/// The memory once it no longer grows.
#[expect(
    clippy::disallowed_methods,
    reason = "growth is seen between two looks, and there is nothing to wait for in between"
)]
fn settled(target: &Target) -> Result<u64> {
    let mut last = 0;
    let mut steady = 0;
    for _ in 0..300 {
        let now = memory::daemons(target);
        steady = if now <= last + last / 200 { steady + 1 } else { 0 };
        if steady == 10 {
            return Ok(now);
        }
        last = last.max(now);
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the memory of {} grows without end: {last} bytes", target.name)
}

/// `ssh HOST yes` whose output nobody reads after the first bytes; ended when dropped.
struct Stuck(Child);

impl Stuck {
    fn start(target: &Target, options: &[String]) -> Result<Self> {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let child = target
            .ssh(&options)
            .arg("yes")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stuck = Self(child);
        let output = stuck.0.stdout.as_mut().context("no stdout")?;
        ensure!(
            output.read(&mut [0; 2])? > 0,
            "`yes` through {} says nothing",
            target.name
        );
        Ok(stuck)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection that others use; ended when dropped.
struct Master {
    child: Child,
    socket: PathBuf,
}

impl Master {
    fn start(bench: &Bench<'_>, target: &Target) -> Result<Self> {
        let socket = bench.folder.join(format!("m-{}", target.name));
        let child = target
            .ssh(&["-N", "-M", "-S", &socket.to_string_lossy()])
            .stdout(Stdio::null())
            .spawn()?;
        let mut master = Self { child, socket };
        while !master.socket.exists() {
            if let Some(status) = master.child.try_wait()? {
                bail!("the shared connection through {} ended with {status}", target.name);
            }
            std::thread::yield_now();
        }
        Ok(master)
    }

    fn options(&self) -> Vec<String> {
        vec!["-S".to_owned(), self.socket.to_string_lossy().into_owned()]
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

const READERS: usize = 20;
