//! What an agent holds while there is no store for an hour: what the configuration lets it hold, and no more.
//!
//! Nobody waits an hour. What is held grows with what is shown and not with time, so that each session shows what an hour would
//! bring: a mebibyte a minute, a hundred times what the day of [`crate::day`] has in an hour. The sessions are best-effort, because strict
//! ones end long before the hour does.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use doorward_dev::stack::Stack;

use crate::report::{Goal, Row};
use crate::target::Target;
use crate::{day, proc};

/// Bytes that are unacknowledged at most, by the policy of these sessions.
pub const UNACKED: &str = "1MiB";

/// Opens sessions, takes the store away, and looks at the agent after the output of twenty minutes and of an hour.
///
/// # Errors
/// When ssh fails, or the store cannot be moved.
pub fn measure(stack: &Stack, target: &Target) -> Result<Vec<Row>> {
    let agent: Vec<u32> = stack.agent_pid().into_iter().collect();
    let mib = || proc::pss(&agent) as f64 / MIB as f64;
    let mut open = Vec::new();
    for _ in 0..SESSIONS {
        let mut terminal = day::Terminal::open(target)?;
        // What a session that prints holds by itself is not the store's doing.
        print(&mut terminal, 1)?;
        open.push(terminal);
    }
    let there = mib();
    let row = |name: &str, value, goal| {
        let name = format!("agent, {SESSIONS} sessions, unacked = {UNACKED}, {name}");
        Row::new(name, "MiB PSS", &[], &[value], goal)
    };
    let mut rows = vec![row("store there", there, None)];
    let _away = Away::of(&stack.records_dir())?;
    let mut shown = 0;
    for minutes in [20, 60] {
        for terminal in &mut open {
            print(terminal, minutes - shown)?;
        }
        shown = minutes;
        let goal = Goal::AtMost(there + SESSIONS as f64 * (1.0 + BESIDE));
        rows.push(row(
            &format!("store away for {minutes} minutes' output"),
            mib(),
            Some(goal),
        ));
    }
    Ok(rows)
}

fn print(terminal: &mut day::Terminal, mebibytes: usize) -> Result<()> {
    let bytes = mebibytes * MIB;
    terminal.command(&format!(
        "head -c {bytes} /dev/urandom | od -v -A n -t x1 | head -c {bytes}"
    ))
}

/// The folder of records with something else in its place; put back when dropped.
struct Away {
    records: PathBuf,
    aside: PathBuf,
}

impl Away {
    fn of(records: &Path) -> Result<Self> {
        let (records, aside) = (records.to_owned(), records.with_extension("aside"));
        fs::rename(&records, &aside)?;
        fs::write(&records, "in the way")?;
        Ok(Self { records, aside })
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.records);
        let _ = fs::rename(&self.aside, &self.records);
    }
}

const SESSIONS: usize = 20;
const MIB: usize = 1 << 20;
/// What a session may hold beside what is not acknowledged, in mebibytes: the frame that packs its blocks, and what is on its way.
const BESIDE: f64 = 0.5;
