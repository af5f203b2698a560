//! The same certificates shown to a stock sshd and to us: what it refuses, we refuse.
//!
//! sshd runs as whoever runs the tests, on a free port of 127.0.0.1, with a configuration of its own that trusts the
//! test's user authority and lets a person in as the principal's account.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use doorward_certs::Login;
use ssh_key::LineEnding;

use crate::{
    cases::{HOST_CA, LINK, STRANGER, USER_CA, good_session, vector, with},
    draft::{Draft, key, options, strings},
    vectors::Judge,
};

/// A stock sshd, ended with its value.
struct Sshd {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Sshd {
    /// Starts it, or says what is missing.
    fn start() -> Result<Self, String> {
        let program = std::env::var_os("DOORWARD_SSHD").map_or_else(|| PathBuf::from("/usr/sbin/sshd"), PathBuf::from);
        if !program.exists() {
            return Err(format!("no {}", program.display()));
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        write_key(&folder.path().join("host"), 9);
        write_key(&folder.path().join("link"), LINK);
        let authority = key(USER_CA).public_key().to_openssh().unwrap();
        fs::write(folder.path().join("user-ca.pub"), authority + "\n").unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|socket| socket.local_addr())
            .unwrap()
            .port();
        let config = folder.path().join("sshd_config");
        // sshd 9.8 and later lets an address wait that failed often.
        if configure(&program, &config, port, "PerSourcePenalties no").is_err() {
            configure(&program, &config, port, "")?;
        }
        let mut child = Command::new(&program)
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        // The line comes, or sshd ends and its stderr with it.
        while !log.contains("Server listening") {
            if lines.read_line(&mut log).map_err(|error| error.to_string())? == 0 {
                let _ = child.wait();
                panic!("sshd did not start:\n{log}");
            }
        }
        let log = Arc::new(Mutex::new(log));
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || drain(lines, &log)
        });
        Ok(Self {
            child,
            port,
            folder,
            log,
            reader: Some(reader),
        })
    }

    /// Whether sshd lets the certificate in.
    fn accepts(&self, login: &str, line: &str) -> bool {
        let folder = self.folder.path();
        fs::write(folder.join("link-cert.pub"), line).unwrap();
        let options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=20",
            "ServerAliveInterval=10",
        ];
        let output = Command::new("ssh")
            .args(["-F", "/dev/null", "-p", &self.port.to_string(), "-i"])
            .arg(folder.join("link"))
            .arg("-o")
            .arg(format!("CertificateFile={}", folder.join("link-cert.pub").display()))
            .args(options.iter().flat_map(|option| ["-o", option]))
            .args([&format!("{login}@127.0.0.1"), "true"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        // 255 is ssh's own; anything else was answered by the other side.
        output.status.code() != Some(255)
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn drain(lines: BufReader<ChildStderr>, log: &Mutex<String>) {
    for line in lines.lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap();
        log.push_str(&line);
        log.push('\n');
    }
}

fn configure(program: &Path, config: &Path, port: u16, more: &str) -> Result<(), String> {
    let folder = config.parent().unwrap().display();
    let text = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n\
         PermitRootLogin yes\nPubkeyAuthentication yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         AuthorizedKeysFile none\nTrustedUserCAKeys {folder}/user-ca.pub\nLogLevel VERBOSE\nMaxAuthTries 10\n{more}\n"
    );
    fs::write(config, text).map_err(|error| error.to_string())?;
    let tried = Command::new(program)
        .arg("-t")
        .arg("-f")
        .arg(config)
        .output()
        .map_err(|error| error.to_string())?;
    if tried.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned())
    }
}

fn write_key(path: &Path, seed: u8) {
    let private = key(seed);
    fs::write(path, private.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(
        path.with_extension("pub"),
        private.public_key().to_openssh().unwrap() + "\n",
    )
    .unwrap();
}

type Case = (&'static str, u8, fn(&mut Draft));

/// What is shown to both. The first is the good one.
const CASES: [Case; 32] = [
    ("good", USER_CA, |_| ()),
    ("every capability", USER_CA, |d| {
        d.extensions = with(&[
            ("permit-X11-forwarding", ""),
            ("permit-agent-forwarding", ""),
            ("permit-port-forwarding", ""),
            ("remote-forward@doorward", ""),
            ("sftp@doorward", "read-write"),
        ]);
    }),
    ("a foreign extension", USER_CA, |d| {
        d.extensions = with(&[("a@example.com", "x")])
    }),
    ("no extension", USER_CA, |d| d.extensions.clear()),
    ("expired", USER_CA, |d| d.before = d.after + 10),
    ("not yet valid", USER_CA, |d| {
        (d.after, d.before) = (d.before, d.before + 60)
    }),
    ("ends before it begins", USER_CA, |d| {
        (d.after, d.before) = (d.before, d.after)
    }),
    ("forever", USER_CA, |d| d.before = u64::MAX),
    ("always", USER_CA, |d| d.after = 0),
    ("type host", USER_CA, |d| d.kind = 2),
    ("signed by a stranger", STRANGER, |_| ()),
    ("signed by the host authority", HOST_CA, |_| ()),
    ("signed by itself", LINK, |_| ()),
    ("no principal", USER_CA, |d| d.principals.clear()),
    ("another principal", USER_CA, |d| {
        d.principals = strings(&["somebody-else"])
    }),
    ("a second principal", USER_CA, |d| {
        d.principals.extend(strings(&["somebody-else"]))
    }),
    ("any principal", USER_CA, |d| d.principals = strings(&["*"])),
    ("a principal with a comma", USER_CA, |d| {
        d.principals = strings(&["somebody,else"])
    }),
    ("a principal with a space", USER_CA, |d| d.principals = strings(&[" "])),
    ("an empty principal", USER_CA, |d| d.principals = strings(&[""])),
    ("a forced command", USER_CA, |d| {
        d.critical = options(&[("force-command", "exit 3")])
    }),
    ("an address that fits", USER_CA, |d| {
        d.critical = options(&[("source-address", "127.0.0.1/32")])
    }),
    ("an address that does not fit", USER_CA, |d| {
        d.critical = options(&[("source-address", "10.0.0.0/8")])
    }),
    ("no address", USER_CA, |d| {
        d.critical = options(&[("source-address", "")])
    }),
    ("a malformed address", USER_CA, |d| {
        d.critical = options(&[("source-address", "everywhere")])
    }),
    ("an unknown option", USER_CA, |d| {
        d.critical = options(&[("nobody-knows@example.com", "")])
    }),
    ("permit-pty with a value", USER_CA, |d| {
        d.extensions = with(&[("permit-pty", "no")])
    }),
    ("permit-user-rc with a value", USER_CA, |d| {
        d.extensions = with(&[("permit-user-rc", "x")])
    }),
    ("no-touch-required with a value", USER_CA, |d| {
        d.extensions = with(&[("no-touch-required", "x")])
    }),
    ("an extension with a stray byte", USER_CA, |d| d.extensions.push(0)),
    ("a NUL in the key id", USER_CA, |d| d.key_id.extend(b"\0x")),
    ("a byte behind the end", USER_CA, |d| d.tail.push(0)),
];

#[test]
fn what_sshd_refuses_is_refused() {
    let skip = |why: &str| println!("skip: what_sshd_refuses_is_refused: {why}");
    let login = match Command::new("id").arg("-un").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return skip(&format!("id: {error}")),
    };
    if Login::try_from(login.as_str()).is_err() {
        return skip("the account that runs the tests has a name that is no login");
    }
    if let Err(error) = Command::new("ssh").arg("-V").output() {
        return skip(&format!("ssh: {error}"));
    }
    let sshd = match Sshd::start() {
        Ok(sshd) => sshd,
        Err(why) => return skip(&why),
    };
    let mut refused = 0;
    for (name, signer, change) in CASES {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut draft = good_session();
        draft.principals = strings(&[&login]);
        (draft.after, draft.before) = (now - 30, now + 180);
        change(&mut draft);
        let mut made = vector(Judge::Session, "sshd", name, "accepted", draft.sign(signer));
        made.now = now;
        let theirs = sshd.accepts(&login, &made.line());
        // Whoever opens a session also compares the account that is asked for with the one that is granted.
        let ours = match made.session() {
            Ok(verified) if verified.terms().login.as_str() == login => Ok(()),
            Ok(verified) => Err(format!("granted: {}", verified.terms().login)),
            Err(refusal) => Err(refusal.to_string()),
        };
        println!(
            "{name}: sshd {}, we {ours:?}",
            if theirs { "accepts" } else { "refuses" }
        );
        if name == "good" {
            assert!(theirs, "sshd refuses the good certificate:\n{}", sshd.log());
            assert_eq!(ours, Ok(()));
        }
        assert!(
            theirs || ours.is_err(),
            "{name}: sshd refuses it, we do not:\n{}",
            sshd.log()
        );
        refused += usize::from(!theirs);
    }
    assert!(refused >= 15, "sshd refused only {refused} of them");
}
