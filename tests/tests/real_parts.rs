//! The last word of `cargo test` on real servers: which were used, and which tests had to do without, in one line.
//!
//! No test of its own (`harness = false`): what it says has to be seen when all is well, too.

use std::collections::BTreeSet;
use std::fs;

fn main() {
    // Asked for a list of tests, as tools do: there is none.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let ledger = tests::parts::ledger(env!("CARGO_TARGET_TMPDIR"));
    let text = fs::read_to_string(&ledger).unwrap_or_default();
    let _ = fs::remove_file(&ledger);
    let lines = |kind: &str| {
        let lines: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix(kind)).collect();
        let lines: Vec<&str> = lines.into_iter().collect();
        if lines.is_empty() {
            "none".to_owned()
        } else {
            lines.join(", ")
        }
    };
    println!(
        "real parts used: {}; tests skipped for want of one: {}",
        lines("used "),
        lines("skipped ")
    );
}
