//! Many `ssh HOST true` at once: how long each takes, and that none fails.

use std::process::{Output, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::Bench;
use crate::report::{Goal, Row};
use crate::target::Target;

/// How many at once each round of [`per_second`] starts.
const PARALLEL: usize = 100;

/// So many logins at once, in turn on both: logins per second.
///
/// # Errors
/// When one fails.
pub fn per_second(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let (mut direct, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..bench.args.rounds {
        for (targets, rates) in [
            (std::slice::from_ref(&bench.direct), &mut direct),
            (bench.people.as_slice(), &mut ours),
        ] {
            let start = Instant::now();
            at_once(targets, PARALLEL)?;
            rates.push(PARALLEL as f64 / start.elapsed().as_secs_f64());
        }
    }
    let name = format!("{PARALLEL} parallel `ssh H true`");
    Ok(vec![Row::new(
        name,
        "logins/s",
        &direct,
        &ours,
        Some(Goal::AtLeast(1.5)),
    )])
}

/// Starts `count` connects at once, dealt out over the targets; the milliseconds that each took.
///
/// # Errors
/// When one fails, with what it said.
pub fn at_once(targets: &[Target], count: usize) -> Result<Vec<f64>> {
    let one = |target: &Target| -> Result<(f64, Output)> {
        let start = Instant::now();
        let output = target.ssh(&[]).arg("true").stdout(Stdio::null()).output()?;
        Ok((start.elapsed().as_secs_f64() * 1e3, output))
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let waiting: Vec<_> = targets
            .iter()
            .cycle()
            .take(count)
            .map(|target| scope.spawn(move || one(target)))
            .collect();
        waiting.into_iter().map(|thread| thread.join()).collect()
    });
    let (mut times, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of ours panicked"))) {
            Ok((millis, output)) if output.status.success() => times.push(millis),
            Ok((_, output)) => failed.push(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    ensure!(
        failed.is_empty(),
        "{} of {count} logins failed, one of them with: {}",
        failed.len(),
        failed[0]
    );
    Ok(times)
}
