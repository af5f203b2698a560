//! Doing something in a task that has a root folder and rights of its own, and our memory and open files.
//!
//! Threads of a process share one root folder. unshare(2) would give a thread its own, and the seccomp profile that
//! container runtimes apply by default refuses it without CAP_SYS_ADMIN. What that profile allows is a new task that never shared
//! it: clone(2) as posix_spawn(3) uses it, with memory and open files in common and the calling thread stopped until
//! the task has ended. So what it opens is ours, and what it enters or becomes ends with it.

#![expect(
    unsafe_code,
    reason = "the libraries at hand know threads and processes, and nothing between"
)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use nix::libc::{self, c_int, c_void};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Does this in such a task. Blocks, and nobody can interrupt it: it must be short.
///
/// It may do what a thread may, except start threads or processes: those would be the task's children.
pub(super) fn visit<T, F>(act: F) -> io::Result<T>
where
    F: FnOnce() -> io::Result<T>,
{
    let stack = Stack::new()?;
    let mut visit = Visit {
        act: Some(act),
        outcome: None,
    };
    // Handlers of ours are for our threads.
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: with CLONE_VFORK this thread stands still until the task has ended, so that what the task uses (the stack, `visit`, this
    // thread's local storage) is its own for as long as it lives. It ends by returning, and never unwinds.
    let task = unsafe {
        libc::clone(
            run::<T, F>,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK,
            (&raw mut visit).cast(),
        )
    };
    let started = nix::Error::result(task);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    // It sends no signal when it ends, which only these flags wait for.
    waitpid(Pid::from_raw(started?), Some(WaitPidFlag::__WALL))?;
    visit.outcome.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))
}

struct Visit<T, F> {
    act: Option<F>,
    outcome: Option<io::Result<T>>,
}

extern "C" fn run<T, F>(visit: *mut c_void) -> c_int
where
    F: FnOnce() -> io::Result<T>,
{
    // SAFETY: `visit` made it for us, and touches it again when we have ended.
    let visit = unsafe { &mut *visit.cast::<Visit<T, F>>() };
    if let Some(act) = visit.act.take() {
        visit.outcome = catch_unwind(AssertUnwindSafe(act)).ok();
    }
    0
}

/// Memory for a stack, with a page below it that ends whoever runs over.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: this asks for new memory and touches none.
        let lowest = unsafe { libc::mmap(ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(lowest);
        // SAFETY: the first page of what was mapped just now.
        nix::Error::result(unsafe { libc::mprotect(stack.0, GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// Stacks grow down.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of what is mapped.
        unsafe { self.0.byte_add(SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: what was mapped in `new`, and nobody is on it any more.
        unsafe { libc::munmap(self.0, SIZE) };
    }
}

const SIZE: usize = 512 * 1024;
/// Of the largest pages.
const GUARD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    use nix::unistd::{Uid, chroot};

    use super::*;

    #[test]
    fn what_is_opened_in_another_root_is_ours_and_our_root_stays() {
        if !Uid::effective().is_root() {
            return;
        }
        let before = std::fs::metadata("/").unwrap().ino();
        let other = tempfile::tempdir().unwrap();
        let at = other.path().to_owned();
        let mut file = visit(move || {
            std::env::set_current_dir(&at)?;
            chroot(".")?;
            let mut file = std::fs::File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open("/made")?;
            file.write_all(b"there")?;
            Ok(file)
        })
        .unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "there");
        assert!(other.path().join("made").exists());
        assert_eq!(std::fs::metadata("/").unwrap().ino(), before);
    }

    #[test]
    fn errors_and_panics_come_back_and_many_may_visit_at_once() {
        let failed = visit(|| Err::<(), _>(io::ErrorKind::AddrInUse.into())).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::AddrInUse);
        let panicked = visit(|| -> io::Result<()> { panic!("on purpose") }).unwrap_err();
        assert_eq!(panicked.kind(), io::ErrorKind::Interrupted);
        std::thread::scope(|threads| {
            for thread in 0..8_usize {
                threads.spawn(move || {
                    for round in 0..100 {
                        let made = visit(|| Ok(vec![round; 1000 + thread])).unwrap();
                        assert_eq!((made.len(), made[999]), (1000 + thread, round));
                    }
                });
            }
        });
    }
}
