//! The agent's program inherits every orphan below it, as PID 1 of a container or because it asks to
//! ([`adopt_orphans`]: in many a container PID 1 is a `sleep` that takes nobody away), and takes away those that have
//! ended.
//!
//! Its own children are left to those who wait for them. A zombie is an orphan's when nobody of ours waits for it and
//! it was there a second ago already: a child that was only just forked may not be on the list yet.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

/// Children that somebody in this program waits for.
static AWAITED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A child is awaited for as long as this lives.
#[derive(Debug)]
pub(crate) struct Awaited(Pid);

impl Awaited {
    /// Marks a child.
    pub(crate) fn mark(child: Pid) -> Self {
        awaited().insert(child.as_raw());
        Self(child)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        awaited().remove(&self.0.as_raw());
    }
}

/// Has this process inherit the orphans below it (PR_SET_CHILD_SUBREAPER). For the program, not for the library: who
/// runs an agent inside another process may have children of its own.
pub(crate) fn adopt_orphans() {
    if let Err(error) = prctl::set_child_subreaper(true) {
        tracing::debug!(%error, "orphans go to somebody else");
    }
}

/// Reaps orphans for good, if this process is the one that inherits them; else ends at once. For the program, like
/// [`adopt_orphans`].
pub(crate) async fn reap() {
    if std::process::id() != 1 && !prctl::get_child_subreaper().unwrap_or(false) {
        return;
    }
    let Ok(mut ended) = signal(SignalKind::child()) else {
        return;
    };
    let mut seen = BTreeSet::new();
    loop {
        tokio::select! {
            heard = ended.recv() => if heard.is_none() { return },
            // What was seen once is looked at again.
            () = tokio::time::sleep(AGAIN), if !seen.is_empty() => {}
        }
        tokio::time::sleep(AGAIN).await;
        seen = sweep(Pid::this(), &seen);
    }
}

/// Reaps the zombies that were seen before; gives those that are seen now.
fn sweep(parent: Pid, seen: &BTreeSet<i32>) -> BTreeSet<i32> {
    let now = orphans(parent);
    for pid in now.intersection(seen) {
        // Gone already is as good.
        let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
    }
    now.difference(seen).copied().collect()
}

/// Zombies of this parent that nobody waits for.
fn orphans(parent: Pid) -> BTreeSet<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    let zombies: BTreeSet<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_zombie_of(&stat, parent))
        })
        .collect();
    zombies.difference(&awaited()).copied().collect()
}

fn is_zombie_of(stat: &str, parent: Pid) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    fields.next() == Some("Z") && fields.next().and_then(|field| field.parse().ok()) == Some(parent.as_raw())
}

fn awaited() -> MutexGuard<'static, BTreeSet<i32>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_zombies_that_nobody_awaits_are_reaped_and_only_the_second_time() {
        let spawn = || Pid::from_raw(i32::try_from(Command::new("true").spawn().unwrap().id()).unwrap());
        let (ours, orphan) = (spawn(), spawn());
        let mark = Awaited::mark(ours);
        let both = BTreeSet::from([ours.as_raw(), orphan.as_raw()]);
        let zombies = || {
            let is = |pid: &i32| {
                std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_zombie_of(&stat, Pid::this()))
            };
            both.iter().copied().filter(is).collect::<BTreeSet<i32>>()
        };
        while zombies() != both {
            std::thread::yield_now();
        }
        let mut seen = sweep(Pid::this(), &BTreeSet::new());
        seen.retain(|pid| both.contains(pid));
        assert_eq!(seen, BTreeSet::from([orphan.as_raw()]));
        assert_eq!(zombies(), both);
        sweep(Pid::this(), &seen);
        assert_eq!(zombies(), BTreeSet::from([ours.as_raw()]));
        drop(mark);
        waitpid(ours, None).unwrap();
    }
}
