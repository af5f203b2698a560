//! The program itself: what it says of its configuration, what it announces, how it ends.

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
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
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
