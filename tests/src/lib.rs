//! The harness: a whole Doorward on loopback for one test file, and OpenSSH's own client against it.
//!
//! Programs run as processes of the executable `doorward-all`, so that they can be killed; they end with the test run.

pub mod both;
pub mod bridge;
pub mod early;
pub mod echo;
pub mod echo_port;
pub mod faulty;
pub mod folder;
pub mod front;
pub mod impostor;
pub mod journal;
pub mod parts;
pub mod random;
pub mod raw;
pub mod reviewer;
pub mod second;
pub mod side;
pub mod signing;
pub mod sshd;
pub mod store;
pub mod stored;
pub mod stranger;
pub mod tmpfs;
pub mod windows;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_dev::stack::{ClientFolder, Options, Real, Stack};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// How long is waited before a condition is looked at again: what is waited for needs the processors as well.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(10);
/// How long a single step of a test may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A stack in a folder of its own, with bob logged in.
#[derive(Debug)]
pub struct Stand {
    /// The running programs.
    pub stack: Stack,
    folder: PathBuf,
}

/// One stand for all tests of a file. The tests run at the same time, and must not mind one another.
#[derive(Debug)]
pub struct Shared {
    runtime: tokio::runtime::Runtime,
    stand: Stand,
}

impl Shared {
    /// Starts the stand that a test file shares: keep it in a `OnceLock`.
    ///
    /// # Panics
    /// When the stand does not come up: no test of the file can run then.
    #[must_use]
    pub fn start(program: &str, target_tmp: &str, name: &str) -> Self {
        Self::start_on(program, target_tmp, name, Real::default())
    }

    /// The same on real servers.
    ///
    /// # Panics
    /// When the stand does not come up: no test of the file can run then.
    #[must_use]
    pub fn start_on(program: &str, target_tmp: &str, name: &str, real: Real) -> Self {
        let options = Options {
            real,
            ..Options::default()
        };
        Self::start_with(program, target_tmp, name, options)
    }

    /// The same with options; folder, program and person are the stand's own.
    ///
    /// # Panics
    /// When the stand does not come up: no test of the file can run then.
    #[must_use]
    #[expect(clippy::panic, reason = "a test file without its stand has nothing to say")]
    pub fn start_with(program: &str, target_tmp: &str, name: &str, options: Options) -> Self {
        let started = tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| {
                let stand = runtime.block_on(Stand::start_with(program, target_tmp, name, options))?;
                Ok(Self { runtime, stand })
            });
        started.unwrap_or_else(|error| panic!("the stand did not come up: {error:#}"))
    }

    /// Runs one test on the stand.
    ///
    /// # Errors
    /// The test's own.
    pub fn run<'a, F: Future<Output = Result<()>>>(&'a self, test: impl FnOnce(&'a Stand) -> F) -> Result<()> {
        self.runtime.block_on(test(&self.stand))
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Standard error as text, for messages and searches.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl Stand {
    /// Starts a stack in a fresh folder `name` below `target_tmp` (`env!("CARGO_TARGET_TMPDIR")`); `program` is
    /// `env!("CARGO_BIN_EXE_doorward-all")`. The folder stays until the next run, for a look at what went wrong.
    ///
    /// # Errors
    /// When a program does not come up; its log is in the error.
    pub async fn start(program: &str, target_tmp: &str, name: &str) -> Result<Self> {
        Self::start_on(program, target_tmp, name, Real::default()).await
    }

    /// The same on real servers; a test asks first whether they can be had ([`parts::can_be_had`]).
    ///
    /// # Errors
    /// When a program does not come up; its log is in the error.
    pub async fn start_on(program: &str, target_tmp: &str, name: &str, real: Real) -> Result<Self> {
        let options = Options {
            real,
            ..Options::default()
        };
        Self::start_with(program, target_tmp, name, options).await
    }

    /// The same with options; folder, program and person are the stand's own.
    ///
    /// # Errors
    /// When a program does not come up; its log is in the error.
    pub async fn start_with(program: &str, target_tmp: &str, name: &str, options: Options) -> Result<Self> {
        let folder = Path::new(target_tmp).join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder)?;
        let stack = Stack::start(Options {
            dir: folder.join("stack"),
            program: Some(PathBuf::from(program)),
            login: Some("bob".to_owned()),
            ..options
        })
        .await?;
        Ok(Self { stack, folder })
    }

    /// A folder for the tests' own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `ssh -F … OPTIONS HOST`, as bob.
    #[must_use]
    pub fn ssh(&self, options: &[&str], host: &str) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(self.stack.ssh_config())
            .args(options)
            .arg(host)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a remote command with `input` as its standard input, and waits for its end.
    ///
    /// # Errors
    /// When ssh cannot be run, or hangs.
    pub async fn run(&self, options: &[&str], host: &str, remote: &str, input: &[u8]) -> Result<Outcome> {
        let mut command = self.ssh(options, host);
        command.arg(remote);
        feed(command, input).await
    }

    /// Everything that `doorward sessions --json` lists for bob, newest first.
    ///
    /// # Errors
    /// When the client fails or prints no JSON.
    pub async fn sessions(&self) -> Result<Vec<Value>> {
        sessions_of(self.stack.client()).await
    }

    /// `doorward ARGS` as bob, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be run, or hangs.
    pub async fn doorward(&self, args: &[&str]) -> Result<Outcome> {
        feed(self.stack.client().command(args), b"").await
    }
}

/// The sessions that a client folder's person may see, newest first.
///
/// # Errors
/// When the client fails or prints no JSON.
pub async fn sessions_of(client: &ClientFolder) -> Result<Vec<Value>> {
    let output = feed(client.command(["sessions", "--json"]), b"").await?;
    ensure!(
        output.code == Some(0),
        "doorward sessions: {:?}: {}",
        output.code,
        output.said()
    );
    serde_json::from_slice(&output.stdout).context("doorward sessions --json printed no list")
}

/// Runs a command to its end with `input` as its standard input.
///
/// # Errors
/// When it cannot be run, or hangs.
pub async fn feed(mut command: Command, input: &[u8]) -> Result<Outcome> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let write = async move {
        // a command may end without reading everything: that is its right
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (_, output) = timeout(PATIENCE, async { tokio::join!(write, child.wait_with_output()) })
        .await
        .context("the command hung")?;
    let output = output?;
    Ok(Outcome {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: output.stderr,
    })
}

/// The SHA-256 of some bytes, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Deterministic bytes that do not compress.
#[must_use]
pub fn noise(length: usize) -> Vec<u8> {
    static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
    let block = BLOCK.get_or_init(|| {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        (0..1 << 20)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect()
    });
    block.iter().copied().cycle().take(length).collect()
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When there is none within the time, naming `what`; or the question's own.
pub async fn until<T>(what: &str, mut question: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let asking = async {
        loop {
            if let Some(answer) = question().await? {
                return Ok(answer);
            }
            tokio::time::sleep(BETWEEN_QUESTIONS).await;
        }
    };
    timeout(PATIENCE, asking)
        .await
        .with_context(|| format!("waited in vain: {what}"))?
}

/// Keeps the tests of a file that hold it from running at the same time.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
