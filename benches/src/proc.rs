//! What the kernel says of processes: CPU seconds and proportional set size.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

/// CPU seconds (user and system) that the whole machine has spent since it booted.
pub fn machine_cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal: idle, iowait and steal are not work
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum();
    Ok(busy as f64 / ticks_per_second())
}

/// CPU seconds of the processes themselves and of the children they have reaped.
pub fn cpu_of(pids: &[u32]) -> f64 {
    pids.iter()
        .filter_map(|pid| fields(*pid))
        .map(|stat| stat.ticks as f64 / ticks_per_second())
        .sum()
}

/// Proportional set size, in bytes, of the processes.
pub fn pss(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .filter_map(|text| {
            let line = text.lines().find(|line| line.starts_with("Pss:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map(|kib| kib * 1024)
        .sum()
}

/// Resident set size of a process, in bytes.
pub fn rss(pid: u32) -> Option<u64> {
    of_status(pid, "VmRSS:")
}

/// The largest that it ever was.
pub fn peak(pid: u32) -> Option<u64> {
    of_status(pid, "VmHWM:")
}

fn of_status(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// `roots` and all of their descendants whose command name is `name`.
pub fn family(roots: &[u32], name: &str) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut names = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<u32>().ok()) else {
            continue;
        };
        let Some(stat) = fields(pid) else { continue };
        children.entry(stat.parent).or_default().push(pid);
        names.insert(pid, stat.name);
    }
    let mut found = roots.to_vec();
    let mut open = roots.to_vec();
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            open.push(*child);
            if names.get(child).is_some_and(|given| given == name) {
                found.push(*child);
            }
        }
    }
    found
}

struct Stat {
    name: String,
    parent: u32,
    ticks: u64,
}

fn fields(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let rest: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| rest.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name,
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

fn ticks_per_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .map_or(100.0, |ticks| ticks as f64)
}
