//! Unsafe code: what a child does between fork and exec, one thread's identity and rights, and the terminal's size. The agent has no
//! other but that of `visit`.
//!
//! The child's part calls nothing but system calls that are safe after a fork (signal-safety(7)): no allocation, no
//! lock, no name look-up. Everything that it needs is prepared by the parent.

#![expect(
    unsafe_code,
    reason = "fork hooks and one ioctl have no safe form in the libraries at hand"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::libc;
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, Gid, Uid};

use super::root::Root;

/// Who a child becomes.
pub(crate) struct Identity {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

/// What a child does before it runs its program.
pub(super) struct Preparation {
    /// The container to enter, and to be no stronger than.
    pub(super) root: Option<Arc<Root>>,
    /// Switch to this identity; `None` stays who we are.
    pub(super) identity: Option<Identity>,
    /// Make standard input the controlling terminal.
    pub(super) terminal: bool,
    /// Where it starts; `/` if it cannot go there, after saying so on standard error.
    pub(super) home: CString,
    /// What is said then.
    pub(super) homeless: Vec<u8>,
}

/// Has the command make its own session (setsid), take the terminal, enter the container, become the account and go home, in that
/// order.
pub(super) fn prepare(command: &mut Command, preparation: Preparation) {
    // SAFETY: the closure only makes system calls through thin wrappers; it neither allocates nor locks.
    unsafe {
        command.pre_exec(move || prepared(&preparation));
    }
}

/// Gives the command a process group of its own, and, where standard input is our terminal, that terminal's foreground: what is
/// typed there, and Ctrl-C, is for the command alone. Everything else stays as it is.
pub(crate) fn to_foreground(command: &mut Command) {
    command.process_group(0);
    // What is in the background itself has nothing to give.
    if unistd::tcgetpgrp(io::stdin()).ok() != Some(unistd::getpgrp()) {
        return;
    }
    // SAFETY: the closure only makes system calls; it neither allocates nor locks.
    unsafe {
        command.pre_exec(|| {
            // Taking the foreground from the background is answered with this signal, which is of no use here.
            let before = libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            // No terminal, or one that is not ours, is no reason not to start.
            libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid());
            libc::signal(libc::SIGTTOU, before);
            Ok(())
        });
    }
}

/// Sends a signal by its number, also a real-time one. A process that is gone needs none.
pub(crate) fn send(to: unistd::Pid, number: libc::c_int) {
    // SAFETY: kill(2) takes integers and touches no memory of ours.
    unsafe { libc::kill(to.as_raw(), number) };
}

fn prepared(preparation: &Preparation) -> io::Result<()> {
    seal_descriptors()?;
    forget_ignored_signals();
    unistd::setsid()?;
    if preparation.terminal {
        // SAFETY: TIOCSCTTY takes an integer and touches no memory of ours.
        nix::Error::result(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) })?;
    }
    stat::umask(Mode::from_bits_truncate(UMASK));
    let lowered = match &preparation.root {
        Some(root) => {
            root.cross()?;
            Some((root, root.bounds.lower()))
        }
        None => None,
    };
    if let Some(identity) = &preparation.identity {
        become_identity(identity)?;
    }
    if let Some((root, lowered)) = lowered {
        root.bounds.settle(&lowered)?;
    }
    if unistd::chdir(preparation.home.as_c_str()).is_err() {
        let stderr = io::stderr();
        // Said by the child itself, so that it goes the way of everything that it prints.
        let _ = unistd::write(stderr.as_fd(), &preparation.homeless);
        unistd::chdir(ROOT)?;
    }
    Ok(())
}

/// Has every descriptor above standard error closed when the program starts, whoever left it open.
fn seal_descriptors() -> io::Result<()> {
    let first: libc::c_uint = 3;
    // SAFETY: close_range(2) takes integers and touches no memory of ours; with this flag it closes nothing yet.
    let sealed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match nix::Error::result(sealed) {
        // Kernels before 5.11: what we open ourselves is marked one by one.
        Ok(_) | Err(nix::Error::ENOSYS | nix::Error::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives every signal its default effect again: whoever started the agent with `nohup` or in a shell's background had
/// some ignored, and a program keeps that over exec. A shell that cannot hear SIGHUP outlives its terminal.
fn forget_ignored_signals() {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: signal(2) with SIG_DFL takes no memory of ours. What cannot be changed (SIGKILL, those of the C
        // library) is refused, and needs no change.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Gives up what no process of ours shall ever gain (capabilities(7), the bounding set); says whether nothing but this is left. It needs
/// CAP_SETPCAP, unless nothing is to be given up.
pub(super) fn drop_bounding(keep: u64) -> bool {
    let may = |capability: u32, what: libc::c_int| {
        // SAFETY: prctl(2) with these takes integers and touches no memory of ours.
        unsafe { libc::prctl(what, libc::c_ulong::from(capability), 0, 0, 0) }
    };
    (0..u64::BITS)
        .filter(|capability| keep >> capability & 1 == 0)
        .fold(true, |all, capability| {
            // What the kernel does not know is an error, and nothing to give up.
            all & (may(capability, libc::PR_CAPBSET_READ) != 1 || may(capability, libc::PR_CAPBSET_DROP) == 0)
        })
}

/// Keeps of the calling task's capabilities only these, and has it pass none on.
pub(super) fn keep_capabilities(keep: u64) -> io::Result<()> {
    let header = [CAPABILITIES, 0];
    // Twice effective, permitted, inheritable: the lower 32 of each, then the upper.
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: capget(2) reads a header and writes two times three words, as this version of it says; both live for the call.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    for ([effective, permitted, inheritable], keep) in sets.iter_mut().zip([keep, keep >> 32]) {
        *permitted &= keep as u32;
        *effective = *permitted;
        *inheritable = 0;
    }
    // SAFETY: capset(2) reads a header and two times three words; both live for the call.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })?;
    Ok(())
}

/// Has the calling task join a mount namespace. It must have a root of its own.
pub(super) fn join_mounts(namespace: impl AsFd) -> io::Result<()> {
    // SAFETY: setns(2) takes integers and touches no memory of ours.
    nix::Error::result(unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNS) })?;
    Ok(())
}

/// Groups, group, user, then a proof that there is no way back.
pub(crate) fn become_identity(identity: &Identity) -> io::Result<()> {
    unistd::setgroups(&identity.groups)?;
    unistd::setresgid(identity.gid, identity.gid, identity.gid)?;
    unistd::setresuid(identity.uid, identity.uid, identity.uid)?;
    let became = Uid::current() == identity.uid
        && Uid::effective() == identity.uid
        && Gid::current() == identity.gid
        && Gid::effective() == identity.gid;
    let stayed = identity.uid.is_root() || unistd::setuid(Uid::from_raw(0)).is_err();
    if became && stayed {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Takes the identity for what the calling thread does from now on, and for no other thread: groups, effective group,
/// effective user. The C library's functions of these names would change every thread.
pub(super) fn take_rights(identity: &Identity) -> io::Result<()> {
    let keep = -1 as libc::c_long;
    let groups: Vec<libc::gid_t> = identity.groups.iter().map(|group| group.as_raw()).collect();
    // SAFETY: setgroups(2) reads as many ids as it is told, from a vector that lives for the call.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    let gid = libc::c_long::from(identity.gid.as_raw());
    // SAFETY: setresgid(2) takes integers and touches no memory of ours.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_setresgid, keep, gid, keep) })?;
    let uid = libc::c_long::from(identity.uid.as_raw());
    // SAFETY: setresuid(2) takes integers and touches no memory of ours.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_setresuid, keep, uid, keep) })?;
    if Uid::effective() == identity.uid && Gid::effective() == identity.gid {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Tells a terminal its size in columns, rows and pixels.
pub(super) fn set_window_size(terminal: impl AsFd, size: libc::winsize) -> nix::Result<()> {
    // SAFETY: TIOCSWINSZ reads one winsize, which lives for the call.
    nix::Error::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}

/// Version 3 of capget(2) and capset(2).
const CAPABILITIES: u32 = 0x2008_0522;
const UMASK: libc::mode_t = 0o022;
const ROOT: &CStr = c"/";
const LAST_SIGNAL: libc::c_int = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_the_agent_ignores_is_not_ignored_by_its_children() {
        // SAFETY: SIG_IGN runs no code of ours; nothing else in this process expects a SIGQUIT.
        unsafe { libc::signal(libc::SIGQUIT, libc::SIG_IGN) };
        let mut command = Command::new("grep");
        command.args(["SigIgn", "/proc/self/status"]);
        let preparation = Preparation {
            root: None,
            identity: None,
            terminal: false,
            home: ROOT.to_owned(),
            homeless: Vec::new(),
        };
        prepare(&mut command, preparation);
        let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let mask = u64::from_str_radix(out.trim_start_matches("SigIgn:").trim(), 16).unwrap();
        assert_eq!(mask & (1 << (libc::SIGQUIT - 1)), 0, "{out}");
    }
}
