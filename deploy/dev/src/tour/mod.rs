//! `cargo run -- try`: the whole tour without a person. Each step must hold; the first that does not ends it.

mod real;
mod recordings;
mod report;
mod ssh;
mod steps;
mod terminal;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use doorward_dev::parts;
use doorward_dev::stack::{Options, Real, Stack};
use tokio::time::{Instant, sleep};

use report::Report;

use crate::up::Stop;

#[tokio::main]
pub(crate) async fn run(real: Real) -> Result<ExitCode> {
    let mut stop = Stop::new()?;
    let report = Report::new();
    let folder = tempfile::Builder::new().prefix("doorward-try-").tempdir()?;
    let toured = tokio::select! {
        toured = Box::pin(tour(&report, folder.path(), real)) => toured,
        () = stop.wanted() => {
            // The stack was dropped, which cut the tethers; the folder goes when nobody writes there any more.
            wait_for_ends(folder.path()).await;
            Err(anyhow::anyhow!("interrupted"))
        }
    };
    report.end(toured.is_ok());
    if let Err(error) = toured {
        eprintln!("\n{error:#}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

async fn tour(report: &Report, folder: &Path, real: Real) -> Result<()> {
    for (wanted, part) in [(real.vault, &parts::VAULT), (real.keycloak, &parts::KEYCLOAK)] {
        if wanted {
            // Made here, it may take minutes; a step may not.
            part.have().await.with_context(|| format!("no real {}", part.name))?;
        }
    }
    let options = Options {
        dir: folder.join("stack"),
        program: None,
        login: None,
        real,
        ..Options::default()
    };
    let start = async { Ok(Stack::start(options).await?) };
    let what = match real {
        Real {
            vault: true,
            keycloak: true,
        } => "Vault, Keycloak, agent and gateway come up",
        Real { vault: true, .. } => "issuer, Vault, agent and gateway come up",
        Real { keycloak: true, .. } => "Keycloak, agent and gateway come up",
        Real { .. } => "issuer, agent and gateway come up",
    };
    let mut stack = report.step(what, Box::pin(start)).await?;
    let walked = Box::pin(steps::walk(report, &mut stack, folder)).await;
    if walked.is_err() {
        for program in ["issuer", "agent", "gateway"] {
            eprintln!("\nthe log of {program} ends:\n{}", stack.log_tail(program));
        }
    }
    let end = async {
        stack.stop().await;
        let left = left_over(folder);
        ensure!(left.is_empty(), "these processes are left: {}", left.join("; "));
        Ok(())
    };
    let ended = report.step("everything ends and no process is left", end).await;
    walked.and(ended)
}

async fn wait_for_ends(folder: &Path) {
    let last = Instant::now() + GRACE;
    while !left_over(folder).is_empty() && Instant::now() < last {
        sleep(ASK_AGAIN).await;
    }
}

/// The command lines that still name our folder, where the system lists processes in /proc.
fn left_over(folder: &Path) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ours = folder.to_string_lossy();
    processes
        .filter_map(|process| std::fs::read(process.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&*ours))
        .collect()
}

const GRACE: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);
