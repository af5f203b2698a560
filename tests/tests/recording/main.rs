//! Recordings as evidence: what was shown is in them, whatever is killed or fails, and damage to them is named.
//!
//! The kill series is short here; `DOORWARD_KILLS=200` makes it long. Each series prints its seed, and `DOORWARD_SEED` repeats one.
//! In `store` the same holds with real S3-compatible servers behind the gateway.

mod canary;
mod channels;
mod clocks;
mod damage;
mod expiry;
mod injected;
mod kills;
mod owner;
mod shown;
mod spoilt;
mod store;
mod unbegun;

use std::sync::OnceLock;

use anyhow::{Context, Result};
use doorward_dev::stack::Options;
use serde_json::Value;
use tests::{Outcome, Shared, Stand};

const PROGRAM: &str = env!("CARGO_BIN_EXE_doorward-all");
const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// The stand of the tests that kill and spoil nothing. Its workspaces hold a secret.
fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        let options = Options {
            agent_env: vec![(canary::NAME.to_owned(), canary::CANARY.to_owned())],
            ..Options::default()
        };
        Shared::start_with(PROGRAM, TMP, "recording", options)
    })
}

/// Runs a command alone (the caller holds the lock), and returns what it did and its session's entry.
async fn recorded(stand: &Stand, options: &[&str], command: &str) -> Result<(Outcome, Value)> {
    let before = stand.before().await?;
    let outcome = stand.run(options, "devenv-1", command, b"").await?;
    let mut entries = stand.ended_since(&before, 1).await?;
    Ok((outcome, entries.pop().context("no entry")?))
}
