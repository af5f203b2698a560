//! Which processes belong to a channel, wherever they went.
//!
//! A process leaves its parent by forking twice and its session by setsid(2); what it cannot leave in that way is the
//! environment that it was started with, so each channel's processes carry a [`Mark`] there. They, whoever is in the
//! leader's session, and everything that descends from these are the family. What clears its environment *and*
//! detaches itself, with `sudo` for example, is not found: that would need a control group of one's own.

use std::collections::BTreeSet;
use std::ffi::OsString;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use uuid::Uuid;

/// What tells the processes of a session, or of one channel of it, from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    session: Uuid,
    channel: Option<u32>,
}

impl Mark {
    /// Of every process of a session.
    pub(crate) fn session(session: Uuid) -> Self {
        Self { session, channel: None }
    }

    /// Of the processes of one channel, by its number in the recording.
    pub(crate) fn channel(session: Uuid, channel: u32) -> Self {
        Self {
            session,
            channel: Some(channel),
        }
    }

    /// The variables that carry it. The first is also for people: it names the recording.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let session = (SESSION.into(), self.session.to_string().into());
        let channel = self.channel.map(|channel| (CHANNEL.into(), channel.to_string().into()));
        std::iter::once(session).chain(channel)
    }

    fn is_in(&self, environment: &[u8]) -> bool {
        self.variables().all(|(name, value)| {
            let entry = [name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat();
            environment.split(|byte| *byte == 0).any(|found| found == entry)
        })
    }
}

/// The living processes of a family. `leader` is one that nobody has waited for yet, so that its number is still its
/// own. Reads `/proc`: may block.
pub(super) fn family(leader: Option<Pid>, mark: &Mark) -> Vec<Pid> {
    let all = processes();
    let mut found: BTreeSet<i32> = all
        .iter()
        .filter(|process| {
            leader.is_some_and(|leader| process.session == leader.as_raw())
                || std::fs::read(format!("/proc/{}/environ", process.pid)).is_ok_and(|text| mark.is_in(&text))
        })
        .map(|process| process.pid)
        .collect();
    loop {
        let before = found.len();
        for process in &all {
            if found.contains(&process.parent) {
                found.insert(process.pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    let ended = |pid: &i32| all.iter().any(|process| process.pid == *pid && process.ended);
    found.into_iter().filter(|pid| !ended(pid)).map(Pid::from_raw).collect()
}

/// Sends a signal to every living member; gives how many there were.
pub(super) fn signal_family(leader: Option<Pid>, mark: &Mark, signal: Signal) -> usize {
    let members = family(leader, mark);
    for member in &members {
        // It may have ended in this moment, which is what was wanted.
        let _ = signal::kill(*member, signal);
    }
    members.len()
}

/// What `/proc/PID/stat` says of a process (proc(5)).
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    ended: bool,
}

/// All processes but the first one and ourselves.
fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid > 1 && *pid != Pid::this().as_raw())
        .filter_map(|pid| parsed(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

fn parsed(pid: i32, stat: &str) -> Option<Process> {
    // The command's name is in brackets and may itself hold brackets and spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        session,
        ended: matches!(state, "Z" | "X"),
    })
}

const SESSION: &str = "DOORWARD_SESSION";
const CHANNEL: &str = "DOORWARD_CHANNEL";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_fool_the_search() {
        let process = parsed(99, "99 (a) S 1 2 3) S 1 7 7 0 -1").unwrap();
        assert_eq!((process.parent, process.session, process.ended), (1, 7, false));
        assert!(parsed(99, "99 (x) Z 1 7 7 0").unwrap().ended);
        assert!(parsed(99, "").is_none());
        assert!(parsed(99, "99 (x) S").is_none());
    }

    #[test]
    fn a_mark_is_a_whole_entry_and_names_session_and_channel() {
        let mark = Mark::channel(Uuid::nil(), 3);
        let session = "DOORWARD_SESSION=00000000-0000-0000-0000-000000000000";
        let with = |rest: &str| format!("A=b\0{session}\0{rest}\0").into_bytes();
        assert!(mark.is_in(&with("DOORWARD_CHANNEL=3")));
        for other in ["DOORWARD_CHANNEL=30", "XDOORWARD_CHANNEL=3", "X=DOORWARD_CHANNEL=3", ""] {
            assert!(!mark.is_in(&with(other)), "{other}");
            assert!(Mark::session(Uuid::nil()).is_in(&with(other)), "{other}");
        }
        assert!(!mark.is_in(b""));
    }
}
