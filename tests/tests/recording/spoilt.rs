//! The store's disk is full, read-only, or fails its fsync: nobody is told that something is kept which is not, and all goes on
//! without a restart once the disk works.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_dev::stack::Options;
use serde_json::Value;
use tests::parts::name_of;
use tests::stored::session;
use tests::tmpfs::Tmpfs;
use tests::{PATIENCE, Stand, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Nothing is shown that is not stored; and the other way round.
const POLICY: &str = r#"
[[role]]
name = "strict"
groups = ["developers"]
workspaces = ["devenv-0"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { unacked = 0 }

[[role]]
name = "best-effort"
groups = ["developers"]
workspaces = ["devenv-1"]
allow = ["shell", "exec", "pty"]
recordings = "own"
recording = { mode = "best-effort", unacked = "64KiB" }
"#;
const STRICT: &str = "devenv-0";
const BEST_EFFORT: &str = "devenv-1";
const SIZE: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_honest_and_recovers() -> Result<()> {
    let test = name_of(&|| {});
    let records = Path::new(crate::TMP).join("recording-spoilt/stack/state/records");
    Tmpfs::clear(&records);
    let options = Options {
        policy: Some(POLICY.to_owned()),
        ..Options::default()
    };
    let mut stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-spoilt", options).await?;
    let Some(disk) = Tmpfs::mount(&records, SIZE, test)? else {
        return Ok(());
    };
    let mut strict = vec![full(&stand, &disk).await.context("a full disk")?];
    read_only(&stand, &disk).await.context("a read-only disk")?;
    if let Some(one) = failing_sync(&stand, test).await.context("EIO on fsync")? {
        strict.push(one);
    }
    stand.stack.restart_gateway().await?;
    for (id, shown) in strict {
        // Complete, if the agent could bring what it still held.
        stand.verdict(&id).await?;
        let replayed = stand.replayed(&id).await?;
        ensure!(
            replayed.starts_with(&shown),
            "{} bytes were shown, {} are recorded",
            shown.len(),
            replayed.len()
        );
    }
    stand.stack.stop().await;
    Ok(())
}

/// Both kinds of session meet a disk that becomes full. Returns the strict one, and what it had shown.
async fn full(stand: &Stand, disk: &Tmpfs) -> Result<(String, Vec<u8>)> {
    let before = stand.before().await?;
    let mut other = Open::new(
        stand,
        BEST_EFFORT,
        "echo ready; read x; seq 1 300000; read y; echo after",
    )
    .await?;
    disk.fill(1 << 20)?;
    let strict = stand
        .run(&["-tt"], STRICT, "stty -opost; head -c 20000000 /dev/urandom", b"")
        .await?;
    told(strict.code, &strict.said())?;
    ensure!(!strict.stdout.is_empty() && strict.stdout.len() < 20_000_000);
    disk.fill(0)?;
    refused(stand).await?;
    other.stdin.write_all(b"\n").await?;
    let numbers: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    let mut shown = vec![0; numbers.len()];
    timeout(PATIENCE, other.stdout.read_exact(&mut shown))
        .await
        .context("best-effort waits for the disk")??;
    ensure!(shown == numbers.as_bytes(), "best-effort shows something else");
    disk.free()?;
    works(stand).await?;
    other.stdin.write_all(b"\n").await?;
    ensure!(other.end().await? == b"after\n", "best-effort ends early");
    let entries = stand.ended_since(&before, 3).await?;
    let of = |host: &str| {
        entries
            .iter()
            .rfind(|entry| entry["workspace"] == host)
            .context("no entry")
    };
    gap(
        stand,
        session(of(BEST_EFFORT)?)?,
        "ready\n".len() + numbers.len() + "after\n".len(),
    )
    .await?;
    Ok((session(of(STRICT)?)?.to_owned(), strict.stdout))
}

/// No strict session begins; a best-effort one does, and is recorded afterwards.
async fn read_only(stand: &Stand, disk: &Tmpfs) -> Result<()> {
    let before = stand.before().await?;
    until("nothing is open for writing", async || {
        Ok(disk.remount("ro")?.then_some(()))
    })
    .await?;
    refused(stand).await?;
    let outcome = stand.run(&[], BEST_EFFORT, "echo unstored", b"").await?;
    ensure!(
        outcome.stdout == b"unstored\n",
        "{:?}: {}",
        outcome.code,
        outcome.said()
    );
    ensure!(disk.remount("rw")?);
    works(stand).await?;
    let entries = stand.ended_since(&before, 2).await?;
    let late = entries
        .iter()
        .find(|entry| entry["workspace"] == BEST_EFFORT)
        .context("no entry")?;
    ensure!(stand.replayed(session(late)?).await? == b"unstored\n");
    let verdict = stand.verdict(session(late)?).await?;
    ensure!(verdict == "complete", "{verdict}");
    Ok(())
}

/// Each fsync of a session's segment fails, and the store's own probe.
async fn failing_sync(stand: &Stand, test: &str) -> Result<Option<(String, Vec<u8>)>> {
    let before = stand.before().await?;
    let mut strict = Open::new(stand, STRICT, "echo ready; exec cat").await?;
    let open = until("the session's entry", async || {
        let list = stand.sessions().await?;
        Ok(list.into_iter().find(|entry| entry["ended"].is_null()))
    });
    let open = open.await?;
    let id = session(&open)?.to_owned();
    let segment = stand.stored(&id)?.canonicalize()?.join("segment-000000.dwr");
    let probe = stand.stack.records_dir().canonicalize()?.join(".probe");
    let gateway = stand.stack.gateway_pid().context("no gateway")?;
    let Some(strace) = Injected::attach(gateway, &[&segment, &probe], test).await? else {
        return Ok(None);
    };
    strict.stdin.write_all(b"never shown\n").await?;
    let shown = strict.rest().await?;
    told(shown.0, &shown.2)?;
    ensure!(
        shown.1.is_empty(),
        "what is not durable was shown: {:?}",
        String::from_utf8_lossy(&shown.1)
    );
    refused(stand).await?;
    strace.detach().await?;
    works(stand).await?;
    stand.ended_since(&before, 2).await?;
    Ok(Some((id, b"ready\n".to_vec())))
}

/// The sentence of a strict session that ended for its recording.
fn told(code: Option<i32>, said: &str) -> Result<()> {
    ensure!(code == Some(254), "ended with {code:?}: {said}");
    ensure!(
        said.contains("must be recorded and the recording cannot be stored"),
        "no sentence: {said}"
    );
    Ok(())
}

async fn refused(stand: &Stand) -> Result<()> {
    let outcome = stand.run(&[], STRICT, "echo unrecorded", b"").await?;
    ensure!(
        outcome.code == Some(255) && outcome.stdout.is_empty() && outcome.said().contains("recording store"),
        "{:?}: {}",
        outcome.code,
        outcome.said()
    );
    Ok(())
}

/// New strict sessions are let in again by the same gateway.
async fn works(stand: &Stand) -> Result<()> {
    until("the store works again", async || {
        let outcome = stand.run(&[], STRICT, "echo recorded", b"").await?;
        Ok((outcome.stdout == b"recorded\n").then_some(()))
    })
    .await
}

/// The record of a best-effort session says what is missing, and is else whole.
async fn gap(stand: &Stand, id: &str, shown: usize) -> Result<()> {
    let outcome = stand.doorward(&["sessions", "show", "--json", id]).await?;
    let account: Value = serde_json::from_slice(&outcome.stdout)?;
    let acts = account["channels"][0]["acts"].as_array().context("no acts")?;
    let waited = |act: &&Value| {
        act["why"]
            .as_str()
            .is_some_and(|why| why.contains("waited to be stored"))
    };
    let missing: Vec<&Value> = acts.iter().filter(|act| act["act"] == "gap").filter(waited).collect();
    let missing: u64 = missing.iter().filter_map(|one| one["bytes"].as_u64()).sum();
    ensure!(missing > 0, "no gap in {account}");
    let verdict = stand.verdict(id).await?;
    ensure!(verdict == "complete", "{verdict}");
    let replayed = stand.replayed(id).await?;
    let recorded = replayed.len() as u64;
    ensure!(
        replayed.starts_with(b"ready\n") && recorded + missing == shown as u64,
        "{shown} bytes were shown, {recorded} are recorded, {missing} are said to be missing"
    );
    Ok(())
}

/// A session on a terminal that has shown `ready`.
struct Open {
    ssh: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Open {
    async fn new(stand: &Stand, host: &str, script: &str) -> Result<Self> {
        let mut ssh = stand.ssh(&["-tt"], host);
        let mut ssh = ssh
            .arg(format!("stty -opost -echo; {script}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = ssh.stdin.take().context("no stdin")?;
        let mut stdout = ssh.stdout.take().context("no stdout")?;
        let mut ready = [0; 6];
        timeout(PATIENCE, stdout.read_exact(&mut ready))
            .await
            .context("no session")??;
        ensure!(&ready == b"ready\n");
        Ok(Self { ssh, stdin, stdout })
    }

    /// Its exit code, what else it showed, and what the person was told.
    async fn rest(mut self) -> Result<(Option<i32>, Vec<u8>, String)> {
        let (mut shown, mut said) = (Vec::new(), String::new());
        let mut stderr = self.ssh.stderr.take().context("no stderr")?;
        let all = async {
            self.stdout.read_to_end(&mut shown).await?;
            stderr.read_to_string(&mut said).await?;
            anyhow::Ok(self.ssh.wait().await?)
        };
        let status = timeout(PATIENCE, all).await.context("it does not end")??;
        Ok((status.code(), shown, said))
    }

    /// What else it showed, for one that must end well.
    async fn end(self) -> Result<Vec<u8>> {
        let (code, shown, said) = self.rest().await?;
        ensure!(code == Some(0), "ended with {code:?}: {said}");
        Ok(shown)
    }
}

/// `strace` that answers each fsync of some files of a process with EIO.
struct Injected {
    strace: Child,
    /// What it says: kept, so that it may say it.
    _lines: Lines<BufReader<ChildStderr>>,
}

impl Injected {
    /// `None` where there is no strace or it may not trace, which is said with the test's name.
    async fn attach(pid: u32, files: &[&Path], test: &str) -> Result<Option<Self>> {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-e",
            "trace=fsync,fdatasync",
            "-e",
            "inject=fsync,fdatasync:error=EIO",
        ]);
        for file in files {
            command.arg("-P").arg(file);
        }
        command
            .args(["-o", "/dev/null", "-p", &pid.to_string()])
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let why = match command.spawn() {
            Err(error) => error.to_string(),
            Ok(mut strace) => {
                let mut lines = BufReader::new(strace.stderr.take().context("no stderr")?).lines();
                loop {
                    match timeout(PATIENCE, lines.next_line()).await.context("strace hangs")?? {
                        Some(line) if line.contains("attached") => {
                            return Ok(Some(Self { strace, _lines: lines }));
                        }
                        Some(line) if line.contains("resolved") => {}
                        Some(line) => break line,
                        None => break "it ended".to_owned(),
                    }
                }
            }
        };
        eprintln!("skipped {test}, EIO on fsync: strace: {why}");
        Ok(None)
    }

    /// Lets the process go on by itself.
    async fn detach(mut self) -> Result<()> {
        let pid = self.strace.id().context("strace ended by itself")?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(pid)?),
            nix::sys::signal::Signal::SIGINT,
        )?;
        timeout(PATIENCE, self.strace.wait())
            .await
            .context("strace does not let go")??;
        Ok(())
    }
}
