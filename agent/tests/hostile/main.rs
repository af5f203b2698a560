//! Clients that break the protocol's rules: the client at fault is refused or cut off, memory stays where it was, and
//! a session beside it hears nothing of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../rig/mod.rs"]
mod rig;

mod edges;
mod floods;
mod state;
mod windows;

use tokio::sync::{Mutex, MutexGuard};

/// Held by tests that look at this process's memory, and by those that would disturb them.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Resident memory of this process, agent and client together, in kilobytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
