//! How a process ends when its channel or session does.
//!
//! `hang-up` is what people know from a terminal: the leader hears SIGHUP; what ignores it (`nohup`) or was put into
//! the background lives on (an editor's server waits there for its user to come back). `leave` is what sshd does: only
//! a terminal hangs up, a command without one goes on until it writes to nobody. `kill` leaves nothing of the channel.

use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use super::Awaited;
use super::family::{Mark, family, signal_family};

/// What becomes of processes that still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// SIGHUP to the leader.
    #[default]
    HangUp,
    /// Nothing, beyond what the kernel tells those on a terminal that is gone.
    Leave,
    /// SIGHUP to everything of the channel, wherever it went; SIGKILL to all that is left of it after a grace.
    Kill,
}

/// Ends a process that may still run, and what came of it; waits for that, no longer than the grace before and after
/// a kill.
pub(crate) async fn end(mut child: Child, leader: Pid, _awaited: Awaited, mark: Mark, ending: Ending, grace: Duration) {
    match ending {
        Ending::HangUp => {
            if matches!(child.try_wait(), Ok(None)) {
                // It may have ended in this moment, which is what was wanted.
                let _ = signal::kill(leader, Signal::SIGHUP);
            }
        }
        Ending::Leave => {}
        Ending::Kill => {
            // The leader is waited for at the end only: until then its number is its own.
            put_down(Some(leader), mark, grace).await;
        }
    }
    // One that goes on is reaped by the runtime when it ends.
    let _ = timeout(grace, child.wait()).await;
}

/// Ends every process that carries the mark, and what came of it.
pub(crate) async fn end_all(mark: Mark, grace: Duration) {
    put_down(None, mark, grace).await;
}

/// SIGHUP, a grace, SIGKILL until nobody is left: who forks in that moment is found in the next round.
async fn put_down(leader: Option<Pid>, mark: Mark, grace: Duration) {
    if told(leader, mark, Some(Signal::SIGHUP)).await == 0 {
        return;
    }
    // A stopped process hears nothing else.
    told(leader, mark, Some(Signal::SIGCONT)).await;
    let kill_at = Instant::now() + grace;
    let give_up = kill_at + grace.max(AT_LEAST);
    loop {
        let now = Instant::now();
        let signal = (now >= kill_at).then_some(Signal::SIGKILL);
        if told(leader, mark, signal).await == 0 {
            return;
        }
        if now >= give_up {
            tracing::warn!("processes of an ended session cannot be killed");
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Signals the family, or only looks; gives how many are there. `/proc` is read where blocking is allowed.
async fn told(leader: Option<Pid>, mark: Mark, signal: Option<Signal>) -> usize {
    let look = move || match signal {
        Some(signal) => signal_family(leader, &mark, signal),
        None => family(leader, &mark).len(),
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// How often `/proc` is looked at while a session is ending.
const POLL: Duration = Duration::from_millis(50);
/// The least time that killing is tried for.
const AT_LEAST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use nix::unistd::{Uid, User};
    use tokio::io::AsyncReadExt;
    use uuid::Uuid;

    use super::*;
    use crate::process::{Account, Launched, Overrides, Program, launch};

    async fn started(line: &str) -> (Launched, Mark, Vec<Pid>) {
        let me = User::from_uid(Uid::effective()).unwrap().unwrap();
        let overrides = Overrides {
            home: Some("/".into()),
            shell: Some("/bin/sh".into()),
            login: None,
        };
        let account = Account::find(&me.name, &overrides).unwrap();
        let mark = Mark::channel(Uuid::new_v4(), 0);
        let mut env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        env.extend(mark.variables());
        let program = Program::Command(line.as_bytes().to_vec());
        let mut launched = launch(&account, &program, env, None).unwrap();
        let mut said = String::new();
        while !said.ends_with("ready\n") {
            let mut byte = [0; 1];
            assert_eq!(launched.stdout.read(&mut byte).await.unwrap(), 1, "{said}");
            said.push(byte[0].into());
        }
        let pids = said
            .lines()
            .filter_map(|line| line.parse().ok())
            .map(Pid::from_raw)
            .collect();
        (launched, mark, pids)
    }

    async fn ended(launched: Launched, mark: Mark, ending: Ending, grace: Duration) {
        end(launched.child, launched.leader, launched.awaited, mark, ending, grace).await;
    }

    fn alive(pid: Pid) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn a_hang_up_ends_the_leader_and_spares_the_background() {
        let line = "trap '' HUP; sleep 60 & echo $!; trap - HUP; echo ready; while :; do sleep 1; done";
        let (launched, mark, pids) = started(line).await;
        let leader = launched.leader;
        ended(launched, mark, Ending::HangUp, Duration::from_secs(5)).await;
        assert!(!alive(leader) && alive(pids[0]));
        signal::kill(pids[0], Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn what_is_left_goes_on() {
        let (launched, mark, _) = started("echo ready; exec sleep 60").await;
        let leader = launched.leader;
        ended(launched, mark, Ending::Leave, Duration::from_millis(100)).await;
        assert!(alive(leader));
        signal::kill(leader, Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn a_kill_leaves_nothing_even_of_what_ignores_the_hang_up() {
        let line = "trap '' HUP; sleep 60 & echo $!; echo ready; while :; do sleep 1; done";
        let (launched, mark, pids) = started(line).await;
        let leader = launched.leader;
        ended(launched, mark, Ending::Kill, Duration::from_millis(200)).await;
        assert!(!alive(leader) && !alive(pids[0]));
    }

    /// Two forks and a session of its own, an environment that a child has cleared, a process that is stopped.
    #[tokio::test]
    async fn a_kill_finds_who_left_parent_and_session() {
        let line = "(setsid sh -c 'trap \"\" HUP; echo $$; env -i sh -c \"echo \\$\\$; sleep 60\" & wait' &); \
            sh -c 'echo $$; kill -STOP $$' & while ! grep -q '(stopped)' /proc/$!/status; do sleep 0.02; done; \
            sleep 0.5; echo ready; sleep 60";
        let (launched, mark, pids) = started(line).await;
        assert_eq!(pids.len(), 3, "{pids:?}");
        assert!(pids.iter().all(|pid| alive(*pid)));
        ended(launched, mark, Ending::Kill, Duration::from_millis(300)).await;
        assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
    }

    #[tokio::test]
    async fn all_of_a_session_ends_though_its_leader_has_long_ended() {
        let (mut launched, mark, pids) = started("(setsid sleep 60 >/dev/null 2>&1 & echo $!); echo ready").await;
        launched.child.wait().await.unwrap();
        let other = Mark::channel(Uuid::new_v4(), 0);
        end_all(other, Duration::from_millis(100)).await;
        assert!(alive(pids[0]));
        end_all(mark, Duration::from_millis(100)).await;
        assert!(!alive(pids[0]));
    }
}
