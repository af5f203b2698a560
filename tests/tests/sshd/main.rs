//! What people know from a stock sshd, asked of it and of Doorward in the same words.

mod bulk;
mod connection;
mod display;
mod sessions;

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use tests::{Shared, feed};
use tokio::process::Command;

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| Shared::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), "sshd"))
}

/// Whether a program is there; says by name what is left out if not.
fn has(program: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}

async fn succeeds(command: Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let outcome = feed(command, b"").await?;
    ensure!(
        outcome.code == Some(0),
        "{shown}: {:?}: {}",
        outcome.code,
        outcome.said()
    );
    Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
}

/// A folder that was not there before.
fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(std::fs::create_dir_all(folder)?)
}
