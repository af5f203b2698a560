//! The program itself: what it says of its configuration, what it announces, how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn agent(args: &[&str]) -> Command {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_doorward-agent"));
    agent
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    agent
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with the sample and the keys that it names.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["user-ca.pub", "host-ca.pub"] {
        let key = doorward_certs::HostKey::generate().unwrap();
        std::fs::write(folder.path().join(name), key.public_key().to_openssh().unwrap()).unwrap();
    }
    let sample = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("sample.toml")).unwrap();
    std::fs::write(
        folder.path().join("agent.toml"),
        sample.replace("127.0.0.1:7001", "127.0.0.1:0"),
    )
    .unwrap();
    folder
}

#[test]
fn the_sample_is_good_and_a_bad_one_is_told_with_all_its_lines() {
    let folder = folder();
    let file = folder.path().join("agent.toml");
    let good = agent(&["check-config", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    assert!(!folder.path().join("host-key").exists(), "checking makes no key");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("sessions = 512", "sesions = 512")
        .replace("\"5s\"", "5");
    std::fs::write(&file, text).unwrap();
    for command in ["check-config", "run"] {
        let bad = agent(&[command, "--config", file.to_str().unwrap()]).output().unwrap();
        assert_eq!(bad.status.code(), Some(78));
        let said = said(&bad);
        assert!(said.contains("agent.toml:11: unknown key 'sesions'"), "{said}");
        assert!(said.contains("agent.toml:13: grace: must be a string"), "{said}");
    }
    assert_eq!(agent(&["--nonsense"]).output().unwrap().status.code(), Some(64));
    assert_eq!(
        agent(&["run", "--config", "/no/such/file"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(78)
    );
}

#[test]
fn it_announces_its_addresses_and_stops_on_a_signal() {
    let folder = folder();
    let announce = folder.path().join("bound.json");
    let file = folder.path().join("agent.toml");
    let mut child = agent(&[
        "run",
        "--config",
        file.to_str().unwrap(),
        "--announce",
        announce.to_str().unwrap(),
    ])
    .spawn()
    .unwrap();
    let began = Instant::now();
    let bound: serde_json::Value = loop {
        match std::fs::read(&announce) {
            Ok(text) => break serde_json::from_slice(&text).unwrap(),
            Err(_) => std::thread::yield_now(),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nothing is announced");
    };
    assert_eq!(bound["workspaces"][0]["name"], "devenv-0");
    let listen: std::net::SocketAddr = bound["workspaces"][0]["listen"].as_str().unwrap().parse().unwrap();
    std::net::TcpStream::connect(listen).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("host-key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The agent with a container's command; `more` stands before it.
fn beside(folder: &tempfile::TempDir, more: &[&str], command: &[&str]) -> Command {
    let file = folder.path().join("agent.toml");
    let args = ["run", "--config", file.to_str().unwrap_or_default()];
    let args: Vec<&str> = args.iter().chain(more).chain(&["--"]).chain(command).copied().collect();
    agent(&args)
}

#[test]
fn it_ends_as_the_container_s_command_does() {
    let folder = folder();
    for (line, code) in [
        ("echo out; echo err >&2; exit 7", 7),
        ("echo out; kill -KILL $$", 137),
        ("echo out; kill -TERM $$", 143),
        ("echo out", 0),
    ] {
        let ended = beside(&folder, &[], &["sh", "-c", line]).output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{line}: {}", said(&ended));
        assert_eq!(ended.stdout, b"out\n");
    }
    for (program, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        let ended = beside(&folder, &[], &[program]).output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{}", said(&ended));
        assert!(
            said(&ended).contains("cannot start the container's command"),
            "{}",
            said(&ended)
        );
    }
}

#[test]
fn signals_are_passed_on_to_the_command() {
    use std::io::{BufRead as _, BufReader};
    let folder = folder();
    let line = "trap 'exit 3' USR1; trap 'exit 4' HUP; trap 'exit 5' TERM; trap 'exit 6' WINCH; trap 'exit 8' RTMIN+3; \
        echo ready; while :; do sleep 0.05; done";
    let real_time = nix::libc::SIGRTMIN() + 3;
    for (signal, code) in [
        (Signal::SIGUSR1 as i32, 3),
        (Signal::SIGHUP as i32, 4),
        (Signal::SIGTERM as i32, 5),
        (Signal::SIGWINCH as i32, 6),
        (real_time, 8),
    ] {
        let mut child = beside(&folder, &[], &["bash", "-c", line]).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert_eq!(first, "ready\n");
        let told = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(child.id().to_string())
            .status()
            .unwrap();
        assert!(told.success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "signal {signal}");
    }
}

#[test]
fn what_is_wrong_with_the_agent_leaves_the_command_alone_unless_it_is_required() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = folder.path().join("agent.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (text, code, sentence) in [
        ("nonsense".to_owned(), 78, "nobody can enter this workspace"),
        (
            good.replace("127.0.0.1:0", &address),
            1,
            "nobody can enter this workspace",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let ran = beside(&folder, &[], &["sh", "-c", "sleep 0.3; echo ran; exit 7"])
            .output()
            .unwrap();
        assert_eq!(
            (ran.status.code(), &ran.stdout[..]),
            (Some(7), &b"ran\n"[..]),
            "{}",
            said(&ran)
        );
        assert!(said(&ran).contains(sentence), "{}", said(&ran));
        let refused = beside(&folder, &["--required"], &["echo", "ran"]).output().unwrap();
        assert_eq!(
            (refused.status.code(), refused.stdout.len()),
            (Some(code), 0),
            "{}",
            said(&refused)
        );
    }
    std::fs::write(&file, good).unwrap();
    let ran = beside(&folder, &["--required"], &["echo", "ran"]).output().unwrap();
    assert_eq!(
        (ran.status.code(), &ran.stdout[..]),
        (Some(0), &b"ran\n"[..]),
        "{}",
        said(&ran)
    );
}

/// A terminal is passed through: the command is in its foreground, and Ctrl-C is for it.
#[test]
fn on_a_terminal_the_command_is_in_the_foreground() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let folder = folder();
    let pair = nix::pty::openpty(None, None).unwrap();
    let file = folder.path().join("agent.toml");
    let line = "trap 'exit 9' INT; echo ready; read x; echo got $x; while :; do sleep 0.05; done";
    let mut child = Command::new("setsid")
        .args([
            "--ctty",
            "--wait",
            env!("CARGO_BIN_EXE_doorward-agent"),
            "run",
            "--config",
        ])
        .args([file.to_str().unwrap(), "--", "bash", "-c", line])
        .stdin(pair.slave.try_clone().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut terminal = std::fs::File::from(pair.master);
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(out.next().unwrap().unwrap(), "ready");
    terminal.write_all(b"hello\n").unwrap();
    assert_eq!(out.next().unwrap().unwrap(), "got hello");
    terminal.write_all(&[3]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn sessions_may_go_on_for_a_while_after_the_command() {
    let folder = folder();
    let announce = folder.path().join("bound.json");
    let ran = folder.path().join("ran");
    let options = ["--announce", announce.to_str().unwrap(), "--required", "--linger", "1h"];
    let mut child = beside(
        &folder,
        &options,
        &["sh", "-c", "touch \"$0\"; exit 7", ran.to_str().unwrap()],
    )
    .spawn()
    .unwrap();
    let began = Instant::now();
    let address: std::net::SocketAddr = loop {
        if let Ok(text) = std::fs::read(&announce) {
            let bound: serde_json::Value = serde_json::from_slice(&text).unwrap();
            break bound["workspaces"][0]["listen"].as_str().unwrap().parse().unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nothing is announced");
        std::thread::yield_now();
    };
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    while !ran.exists() || !std::fs::read_to_string(&children).unwrap().trim().is_empty() {
        std::thread::yield_now();
    }
    std::net::TcpStream::connect(address).unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}
