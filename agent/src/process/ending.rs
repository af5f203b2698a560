//! How a process ends when its channel or session does.
//!
//! `hang-up` is what people know from a terminal and from sshd: the leader hears SIGHUP; what ignores it (`nohup`) or
//! was put into the background lives on (an editor's server waits there for its user to come back). `kill` leaves
//! nothing of the process's session.

use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::process::Child;
use tokio::time::timeout;

use super::Awaited;

/// What becomes of processes that still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// SIGHUP to the leader.
    #[default]
    HangUp,
    /// SIGHUP to everything in the leader's session, SIGKILL to all of it after a grace.
    Kill,
}

/// Ends a process that may still run; waits for that, no longer than the grace before and after a kill.
pub(crate) async fn end(mut child: Child, leader: Pid, _awaited: Awaited, ending: Ending, grace: Duration) {
    match ending {
        Ending::HangUp => {
            if matches!(child.try_wait(), Ok(None)) {
                send(leader, Signal::SIGHUP);
            }
        }
        Ending::Kill => {
            if signal_session(leader, Signal::SIGHUP) > 0 {
                let _ = timeout(grace, gone(&mut child, leader)).await;
                signal_session(leader, Signal::SIGKILL);
            }
        }
    }
    // One that goes on is reaped by the runtime when it ends.
    let _ = timeout(grace, child.wait()).await;
}

/// Resolves when the leader and all of its session have ended.
async fn gone(child: &mut Child, leader: Pid) {
    let _ = child.wait().await;
    while !members(leader).is_empty() {
        tokio::time::sleep(POLL).await;
    }
}

fn signal_session(leader: Pid, signal: Signal) -> usize {
    let members = members(leader);
    for member in &members {
        send(*member, signal);
    }
    members.len()
}

fn send(to: Pid, signal: Signal) {
    // It may have ended in this moment, which is what was wanted.
    let _ = signal::kill(to, signal);
}

/// Every process whose session is that of the leader (proc(5), field 6 of stat), zombies left out.
fn members(leader: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return vec![leader];
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| in_session(&stat, leader)))
        .map(Pid::from_raw)
        .collect()
}

fn in_session(stat: &str, leader: Pid) -> bool {
    // The command's name is in brackets and may itself hold brackets and spaces.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    let state = fields.next();
    let session = fields.nth(2).and_then(|field| field.parse::<i32>().ok());
    state != Some("Z") && session == Some(leader.as_raw())
}

/// How often /proc is looked at while a session is ending.
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use nix::unistd::{Uid, User};
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::process::{Account, Overrides, Program, launch};

    async fn started(line: &str) -> (crate::process::Launched, String) {
        let me = User::from_uid(Uid::effective()).unwrap().unwrap();
        let overrides = Overrides {
            home: Some("/".into()),
            shell: Some("/bin/sh".into()),
            login: None,
        };
        let account = Account::find(&me.name, &overrides).unwrap();
        let env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let program = Program::Command(line.as_bytes().to_vec());
        let mut launched = launch(&account, &program, env, None).unwrap();
        let mut said = String::new();
        while !said.ends_with("ready\n") {
            let mut byte = [0; 1];
            assert_eq!(launched.stdout.read(&mut byte).await.unwrap(), 1);
            said.push(byte[0].into());
        }
        (launched, said)
    }

    fn alive(pid: Pid) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn a_hang_up_ends_the_leader_and_spares_the_background() {
        let (launched, said) =
            started("trap '' HUP; sleep 60 & echo $!; trap - HUP; echo ready; while :; do sleep 1; done").await;
        let background = Pid::from_raw(said.lines().next().unwrap().parse().unwrap());
        let leader = launched.leader;
        end(
            launched.child,
            leader,
            launched.awaited,
            Ending::HangUp,
            Duration::from_secs(5),
        )
        .await;
        assert!(!alive(leader) && alive(background));
        signal::kill(background, Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn a_kill_leaves_nothing_even_of_what_ignores_the_hang_up() {
        let (launched, said) = started("trap '' HUP; sleep 60 & echo $!; echo ready; while :; do sleep 1; done").await;
        let background = Pid::from_raw(said.lines().next().unwrap().parse().unwrap());
        let leader = launched.leader;
        end(
            launched.child,
            leader,
            launched.awaited,
            Ending::Kill,
            Duration::from_millis(200),
        )
        .await;
        assert!(!alive(leader));
        for _ in 0..100 {
            if !alive(background) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("the background process lives on");
    }

    #[test]
    fn a_hostile_command_name_does_not_fool_the_search() {
        let leader = Pid::from_raw(7);
        assert!(in_session("99 (a) S 1 2 3) S 1 7 7 0 -1", leader));
        assert!(!in_session("99 (x) Z 1 7 7 0", leader));
        assert!(!in_session("99 (x) S 1 7 8 0", leader));
        assert!(!in_session("", leader));
    }
}
