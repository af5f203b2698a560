//! The gateway as a process: what it refuses to start with, how it stops, what it never writes down, and how it bears having
//! too few file descriptors. Its identity provider and its agents are away, which it must bear as well.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_doorward-gateway");

struct Gateway {
    folder: Arc<TempDir>,
    child: Option<Child>,
    listen: SocketAddr,
    admin: SocketAddr,
}

fn folder(listen: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(path.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(path.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(path.join("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
    doorward_certs::Local::create_files(&path.join("user-ca"), &path.join("host-ca")).unwrap();
    fs::write(path.join("policy.toml"), "").unwrap();
    let text = format!(
        r#"state-directory = "state"
[listen]
address = "{listen}"
certificate = "tls.crt"
key = "tls.key"
[admin]
address = "127.0.0.1:0"
[oidc]
issuer = "http://127.0.0.1:1"
client-id = "doorward"
audience = "doorward-gateway"
[authority.local]
user-ca = "user-ca"
host-ca = "host-ca"
[link]
key = "gateway.key"
[records]
directory = "records"
[policy]
file = "policy.toml"
"#
    );
    fs::write(path.join("gateway.toml"), text).unwrap();
    folder
}

fn wait_for<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the condition never came");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

impl Gateway {
    /// Starts the program, through a shell that may set limits first.
    fn start(before: &str) -> Self {
        let folder = Arc::new(folder("127.0.0.1:0"));
        let announce = folder.path().join("announced.json");
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "{before} exec \"$0\" run --config \"$1\" --announce \"$2\" --log-format json 2>\"$3\""
            ))
            .arg(PROGRAM)
            .args([
                folder.path().join("gateway.toml"),
                announce.clone(),
                folder.path().join("log"),
            ])
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let text = wait_for(|| fs::read_to_string(&announce).ok());
        let announced: serde_json::Value = serde_json::from_str(&text).unwrap();
        let address = |name: &str| announced[name].as_str().unwrap().parse().unwrap();
        Self {
            child: Some(child),
            listen: address("listen"),
            admin: address("admin"),
            folder,
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.as_ref().unwrap().id()).unwrap())
    }

    fn probe(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    /// One request over TLS; empty if the connection broke.
    fn request(&self, request: &str) -> String {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.folder.path().join("tls.crt")).unwrap())
            .unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let session =
            rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let tcp = TcpStream::connect(self.listen).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = rustls::StreamOwned::new(session, tcp);
        let mut text = String::new();
        if stream.write_all(request.as_bytes()).is_ok() {
            let _ = stream.read_to_string(&mut text);
        }
        text
    }

    /// SIGTERM, then the end; the log.
    fn stop(mut self) -> (std::process::ExitStatus, String) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let mut child = self.child.take().unwrap();
        let status = wait_for(|| child.try_wait().unwrap());
        (status, fs::read_to_string(self.folder.path().join("log")).unwrap())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(arguments: &[&str], config: &Path) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[test]
fn it_serves_and_stops_on_a_signal() {
    let gateway = Gateway::start("");
    assert!(gateway.probe("/healthz").starts_with("HTTP/1.1 200 "));
    assert!(gateway.probe("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(
        gateway
            .request("GET /v1/trust HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .starts_with("HTTP/1.1 200 ")
    );
    let (listen, admin) = (gateway.listen, gateway.admin);
    let (status, log) = gateway.stop();
    assert!(status.success(), "{log}");
    for address in [listen, admin] {
        assert!(log.contains(&address.to_string()), "{log}");
        assert!(TcpStream::connect(address).is_err());
    }
    assert!(log.contains("every session had ended"), "{log}");
}

/// H5: refused with its place, before a port is bound; the port is taken, and nobody says so.
#[test]
fn a_bad_configuration_is_refused_before_a_port_is_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = folder(&taken.local_addr().unwrap().to_string());
    let file = folder.path().join("gateway.toml");
    fs::set_permissions(folder.path().join("tls.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let text = fs::read_to_string(&file).unwrap().replace("audience", "audiense");
    fs::write(&file, text).unwrap();
    for arguments in [&["check-config"][..], &["run"]] {
        let output = run(arguments, &file);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("gateway.toml:5: `key`") && said.contains("mode 0644"),
            "{said}"
        );
        assert!(said.contains("gateway.toml:11: unknown key `audiense`"), "{said}");
        assert!(said.contains("`audience` is missing in [oidc]"), "{said}");
        assert!(!said.contains("cannot listen"), "{said}");
    }
    assert!(!folder.path().join("state").exists());
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = folder(&address);
    let output = run(&["run"], &folder.path().join("gateway.toml"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

/// A8: at the most talkative level, and in everything that is kept, no part of a token.
#[test]
fn no_part_of_a_token_is_written_down() {
    let gateway = Gateway::start("");
    let part = |number: u64| -> String {
        (0..60)
            .map(|at| char::from(b'A' + ((number * 31 + at * at * 7) % 26) as u8))
            .collect()
    };
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", part(1), part(2));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, lines) in [
        ("/v1/workspaces", format!("Authorization: Bearer {token}\r\n")),
        ("/v1/workspaces", format!("Authorization: Basic {token}\r\n")),
        ("/v1/workspaces", format!("Authorization: Bearer {token} {token}\r\n")),
        (
            "/v1/connect/devenv-0",
            format!("Authorization: Bearer {token}\r\n{upgrade}"),
        ),
        ("/v1/connect/devenv-0", format!("Authorization: Bearer {token}\r\n")),
        (&format!("/v1/workspaces?access_token={token}"), String::new()),
        (&format!("/{token}"), String::new()),
        ("/v1/trust", format!("X-Other: {token}\r\nBad Header: {token}\r\n")),
    ] {
        let answer = gateway.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 503"),
            "{answer}"
        );
        assert!(!answer.contains(&token[30..46]), "{answer}");
    }
    let numbers = gateway.probe("/metrics");
    let folder = Arc::clone(&gateway.folder);
    gateway.stop();
    let kept = files(folder.path())
        .into_iter()
        .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned());
    for text in kept.chain([numbers]) {
        for secret in [part(1), part(2)] {
            for begin in (0..secret.len() - 16).step_by(4) {
                assert!(!text.contains(&secret[begin..begin + 16]), "{text}");
            }
        }
    }
}

/// H1: with few file descriptors and a flood, probes are answered, nothing spins, and people get in again afterwards.
#[test]
fn a_flood_that_takes_all_file_descriptors_is_survived() {
    let gateway = Gateway::start("ulimit -n 64;");
    let flood: Vec<_> = (0..300)
        .filter_map(|_| TcpStream::connect(gateway.listen).ok())
        .collect();
    assert!(flood.len() > 64, "the flood was not one");
    let before = cpu(gateway.pid());
    let begun = Instant::now();
    let mut answered = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        answered += u32::from(gateway.probe("/healthz").starts_with("HTTP/1.1 200 "));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(answered > 0, "no probe was answered in the flood");
    let spent = cpu(gateway.pid()) - before;
    assert!(
        spent < begun.elapsed().as_secs_f64() * 0.5,
        "{spent} s of CPU in {:?}",
        begun.elapsed()
    );
    drop(flood);
    wait_for(|| {
        gateway
            .request("GET /v1/trust HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .starts_with("HTTP/1.1 200 ")
            .then_some(())
    });
    let (status, log) = gateway.stop();
    assert!(status.success());
    assert!(log.contains("cannot take a connection"), "the flood was never felt");
}

/// Seconds of CPU that the process has used.
fn cpu(pid: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = [11, 12]
        .iter()
        .map(|field| fields[*field].parse::<u32>().unwrap())
        .sum();
    f64::from(ticks) / 100.0
}

#[test]
fn two_gateways_do_not_share_a_state_folder() {
    let gateway = Gateway::start("");
    let output = run(&["run"], &gateway.folder.path().join("gateway.toml"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another gateway's"), "{said}");
    assert!(gateway.probe("/healthz").starts_with("HTTP/1.1 200 "));
}
