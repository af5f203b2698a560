//! The executable as a process: what it acts as, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward-dev"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Polls a condition: where another process acts there is no event to wait for.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let last = Instant::now() + Duration::from_secs(40);
    while !holds() {
        assert!(Instant::now() < last, "{what} did not happen");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_for("the end of the program", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// What a program that has ended said on its standard error.
fn said(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

/// Processes whose command line names the folder.
fn running_in(dir: &Path) -> usize {
    let dir = dir.to_str().unwrap();
    let lines = std::fs::read_dir("/proc").unwrap();
    let lines = lines.filter_map(|process| std::fs::read(process.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(dir)).count()
}

/// Starts a stack and waits until it says that somebody is logged in.
fn start_stack(dir: &Path) -> Child {
    let mut stack = program(&["--dir"]);
    stack.arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut stack = stack.spawn().unwrap();
    let mut lines = BufReader::new(stack.stdout.take().unwrap()).lines();
    let up = lines.any(|line| line.unwrap().contains("is logged in"));
    assert!(up, "{}", said(&mut stack));
    stack
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn nonsense_is_a_usage_error() {
    for args in [
        &["nonsense"][..],
        &["--as", "nobody"],
        &["issuer", "--listen", "nowhere"],
    ] {
        assert_eq!(program(args).status().unwrap().code(), Some(64), "{args:?}");
    }
}

#[test]
fn the_issuer_listens_on_loopback_only() {
    let output = program(&["issuer", "--listen", "0.0.0.0:0"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("loopback only"));
}

#[test]
fn a_tethered_program_ends_in_order_with_its_pipe_and_the_next_one_waits_for_that() {
    let dir = tempfile::tempdir().unwrap();
    let announcement = dir.path().join("issuer.json");
    let start = || {
        let mut issuer = program(&["tethered"]);
        issuer
            .arg(dir.path().join("lock"))
            .args(["issuer", "--announce"])
            .arg(&announcement);
        issuer.stdin(Stdio::piped()).spawn().unwrap()
    };
    let mut issuer = start();
    wait_for("the announcement", || announcement.exists());
    let first = std::fs::read(&announcement).unwrap();
    let mut next = start();
    assert!(issuer.try_wait().unwrap().is_none());
    drop(issuer.stdin.take());
    assert!(ended(&mut issuer).success());
    wait_for("the next one", || std::fs::read(&announcement).unwrap() != first);
    drop(next.stdin.take());
    assert!(ended(&mut next).success());
}

#[test]
fn sigterm_ends_a_stack_in_order_and_a_second_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut stack = start_stack(dir.path());
    assert_eq!(running_in(dir.path()), 4, "issuer, agent, gateway, stack");

    let mut second = program(&["--dir"])
        .arg(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(!ended(&mut second).success());
    let mut said = String::new();
    second.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("another stack is running"), "{said}");

    signal(&stack, Signal::SIGTERM);
    assert!(ended(&mut stack).success());
    assert_eq!(running_in(dir.path()), 0);
}

#[test]
fn a_stack_that_is_killed_leaves_no_process_and_its_folder_can_be_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut stack = start_stack(dir.path());
    stack.kill().unwrap();
    stack.wait().unwrap();
    let mut again = start_stack(dir.path());
    assert_eq!(running_in(dir.path()), 4, "nothing of the first one runs beside it");
    signal(&again, Signal::SIGINT);
    assert!(ended(&mut again).success());
    assert_eq!(running_in(dir.path()), 0);
}

#[test]
fn a_program_that_dies_ends_the_stack_which_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut stack = program(&["--dir"])
        .arg(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("somebody's login", || dir.path().join("client/ssh_config").exists());
    kill(agent_in(dir.path()), Signal::SIGKILL).unwrap();
    assert!(!ended(&mut stack).success());
    let said = said(&mut stack);
    assert!(said.contains("agent ended (signal: 9"), "{said}");
    assert_eq!(running_in(dir.path()), 0);
}

fn agent_in(dir: &Path) -> Pid {
    let config = dir.canonicalize().unwrap().join("agent.toml");
    let config = config.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let agent = processes.filter(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(config))
    });
    let ids = agent.filter_map(|process| process.file_name().to_str()?.parse().ok());
    Pid::from_raw(ids.into_iter().next().unwrap())
}
