//! Starts the program in a folder of its own.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// How long any one run may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A folder of the program, and a home folder around it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("door ward").tempdir().unwrap())
    }

    /// What `DOORWARD_HOME` is.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.0.path().join("settings")
    }

    /// What `HOME` is.
    pub(crate) fn home(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path().join(file)).unwrap()
    }

    pub(crate) fn tokens(&self) -> Value {
        serde_json::from_str(&self.read("tokens.json")).unwrap()
    }

    pub(crate) fn write_tokens(&self, gateway: &str, issuer: &str, life: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let tokens = json!({
            "version": 1, "gateway": gateway, "issuer": issuer, "client-id": "doorward",
            "token-endpoint": format!("{issuer}/token"), "revocation-endpoint": format!("{issuer}/revoke"),
            "user": "bob", "subject": "sub-bob", "access-token": "access-0",
            "expires-at": now.saturating_add_signed(life), "refresh-token": "refresh-0",
        });
        self.store_tokens(&tokens);
    }

    /// Changes one member of the stored tokens.
    pub(crate) fn write_token(&self, name: &str, value: Value) {
        let mut tokens = self.tokens();
        tokens[name] = value;
        self.store_tokens(&tokens);
    }

    fn store_tokens(&self, tokens: &Value) {
        std::fs::create_dir_all(self.path()).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path().join("tokens.json"));
        serde_json::to_writer(file.unwrap(), tokens).unwrap();
    }

    /// A command of the program that knows nothing of this machine's own settings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        // Another build of the program, for a look at it from outside.
        let other = std::env::var_os("DOORWARD_PROGRAM");
        let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_doorward").into()));
        command
            .args(args)
            .env_clear()
            .env("DOORWARD_HOME", self.path())
            .env("HOME", self.home());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("TZ", "UTC");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args).spawn().unwrap()).await
    }
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

pub(crate) async fn finish(child: Child) -> Ran {
    let output = timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the program ends in time")
        .unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: status.code(),
        out: text(stdout),
        err: text(stderr),
    }
}

/// The lines on standard error of a program that goes on.
pub(crate) struct Said(Lines<BufReader<ChildStderr>>);

impl Said {
    pub(crate) fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stderr.take().unwrap()).lines())
    }

    /// What follows `prefix` in the next line that begins with it.
    pub(crate) async fn after(&mut self, prefix: &str) -> String {
        let find = async {
            while let Some(line) = self.0.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(prefix) {
                    return rest.to_owned();
                }
            }
            panic!("no line begins with {prefix:?}");
        };
        timeout(LIMIT, find).await.expect("the line comes in time")
    }

    /// Everything that follows.
    pub(crate) async fn rest(mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = timeout(LIMIT, self.0.next_line()).await.unwrap().unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }
}
