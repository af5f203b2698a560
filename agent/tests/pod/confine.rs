//! The seccomp filter that container runtimes put on by default, as the kernel takes it: who becomes a container behind it is
//! refused what that profile refuses without CAP_SYS_ADMIN.

#![expect(unsafe_code, reason = "a filter is handed to the kernel by its address")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc::{self, c_long};

/// No test: the harness runs it between the container's mounts and its program, and it becomes that program.
#[test]
#[ignore = "becomes another program"]
fn becomes() {
    let Some(script) = std::env::var_os(SCRIPT) else { return };
    filter();
    let error = Command::new("sh").arg(script).env_remove(SCRIPT).exec();
    panic!("sh: {error}");
}

/// Names the script to become.
pub const SCRIPT: &str = "DOORWARD_TEST_BECOMES";
/// How this program is told to.
pub const BECOMES: &str = "--exact confine::becomes --ignored --nocapture";

/// What the profile refuses. It lists what is allowed; these are of the rest what a program could think of.
const REFUSED: &[c_long] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_open_by_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_fanotify_init,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];
/// The flags of clone(2) that make a namespace.
const NAMESPACES: u32 = 0x7e02_0000;
/// In `struct seccomp_data`: the number, and the lower half of the first argument on a little-endian machine.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn filter() {
    let stmt = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf: 0,
        k,
    };
    let jump = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        jt,
        jf,
        ..stmt(code, k)
    };
    let load = |at: u32| stmt(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let answer = |what: u32| stmt(libc::BPF_RET | libc::BPF_K, what);
    let error = |number: i32| answer(libc::SECCOMP_RET_ERRNO | u32::try_from(number).unwrap());
    let is = |number: c_long, jt, jf| {
        let number = u32::try_from(number).unwrap();
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, jt, jf)
    };
    let mut program = vec![load(NUMBER)];
    for number in REFUSED {
        program.extend([is(*number, 0, 1), error(libc::EPERM)]);
    }
    // Its flags lie in memory, where a filter does not see them: the C library falls back to clone.
    program.extend([is(libc::SYS_clone3, 0, 1), error(libc::ENOSYS)]);
    program.extend([
        is(libc::SYS_clone, 0, 3),
        load(FIRST_ARGUMENT),
        jump(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, NAMESPACES, 0, 1),
        error(libc::EPERM),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    let mut program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.leak().as_mut_ptr(),
    };
    // SAFETY: the kernel reads the program, which lives for ever.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw mut program) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
