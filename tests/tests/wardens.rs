//! An admin's word on open sessions: kill, lock, unlock; with the real programs, felt at the person's terminal.

use std::process::Stdio;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::stack::ClientFolder;
use tests::front::{remote, ssh};
use tests::journal::journal;
use tests::{Outcome, PATIENCE, Shared, Stand, feed, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::timeout;

/// One at a time: a lock meets every session of the stand.
#[expect(clippy::panic, reason = "a test file without its stand has nothing to say")]
fn on<F: Future<Output = Result<()>>>(test: impl FnOnce(&'static Stand, &'static ClientFolder) -> F) -> Result<()> {
    static STAND: OnceLock<(Shared, ClientFolder)> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (shared, alice) = STAND.get_or_init(|| {
        let program = env!("CARGO_BIN_EXE_doorward-all");
        let shared = Shared::start(program, env!("CARGO_TARGET_TMPDIR"), "wardens");
        let mut alice = None;
        let logged_in = shared.run(|stand| {
            let alice = &mut alice;
            async move {
                *alice = Some(stand.stack.login("alice", &stand.folder().join("alice")).await?);
                Ok(())
            }
        });
        match (logged_in, alice) {
            (Ok(()), Some(alice)) => (shared, alice),
            (failed, _) => panic!("alice cannot log in: {failed:?}"),
        }
    });
    shared.run(|stand| test(stand, alice))
}

/// A session of bob's that is open, and its name.
struct Open {
    ssh: Child,
    session: String,
}

impl Open {
    async fn begin(stand: &Stand) -> Result<Self> {
        let mut ssh = ssh(stand.stack.client(), &[])
            .arg("echo $DOORWARD_SESSION; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut name = [0; 37];
        let stdout = ssh.stdout.as_mut().context("no stdout")?;
        timeout(PATIENCE, stdout.read_exact(&mut name)).await??;
        let session = std::str::from_utf8(&name)?.trim().to_owned();
        Ok(Self { ssh, session })
    }

    async fn goes_on(&mut self) -> Result<()> {
        let stdin = self.ssh.stdin.as_mut().context("no stdin")?;
        stdin.write_all(b"here\n").await?;
        let mut back = [0; 5];
        let stdout = self.ssh.stdout.as_mut().context("no stdout")?;
        timeout(PATIENCE, stdout.read_exact(&mut back)).await??;
        ensure!(&back == b"here\n");
        Ok(())
    }

    /// Waits for its end, which its person did not choose, and returns what they read.
    async fn cut(mut self) -> Result<String> {
        let mut said = String::new();
        let mut stderr = self.ssh.stderr.take().context("no stderr")?;
        let end = async {
            stderr.read_to_string(&mut said).await?;
            self.ssh.wait().await
        };
        let status = timeout(PATIENCE, end).await.context("the session goes on")??;
        ensure!(status.code() == Some(255), "{status}: {said}");
        Ok(said)
    }
}

async fn doorward(client: &ClientFolder, args: &[&str], code: i32) -> Result<Outcome> {
    let outcome = feed(client.command(args), b"").await?;
    ensure!(
        outcome.code == Some(code),
        "{args:?}: {:?}: {}",
        outcome.code,
        outcome.said()
    );
    Ok(outcome)
}

async fn enters(stand: &Stand, workspace: &str) -> Result<Outcome> {
    stand.run(&[], workspace, "echo in", b"").await
}

/// Waits until the journal says with which code a session ended.
async fn ended_with(stand: &Stand, session: &str, code: &str) -> Result<()> {
    until("the session's end on record", async || {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let all = journal(&stand.stack.state_dir())?;
        let ended = |event: &Event| matches!(event, Event::SessionEnded(it) if it.session.to_string() == session && it.code == code);
        Ok(all.iter().any(ended).then_some(()))
    })
    .await
}

#[test]
fn an_admin_ends_a_session_and_nobody_else_can() -> Result<()> {
    on(async |stand, alice| {
        let mut open = Open::begin(stand).await?;
        let other = Open::begin(stand).await?;
        let carol = stand.stack.login("carol", &stand.folder().join("carol")).await?;
        let refused = feed(carol.command(["kill", &open.session]), b"").await?;
        ensure!(refused.code != Some(0), "carol may kill");
        ensure!(
            refused.said().contains("nothing that you may see"),
            "{}",
            refused.said()
        );
        open.goes_on().await?;
        doorward(alice, &["kill", &open.session, "--reason", "wrong window"], 0).await?;
        let (session, said) = (open.session.clone(), open.cut().await?);
        ensure!(said.contains("alice") && said.contains("wrong window"), "{said}");
        ended_with(stand, &session, "killed").await?;
        // One's own needs no right.
        stand.doorward(&["kill", &other.session]).await?;
        let session = other.session.clone();
        other.cut().await?;
        ended_with(stand, &session, "killed").await
    })
}

#[test]
fn a_lock_ends_sessions_and_lets_nobody_in_until_it_is_taken_off() -> Result<()> {
    on(async |stand, alice| {
        for (kind, name, free) in [("user", "bob", None), ("workspace", "devenv-0", Some("devenv-1"))] {
            let open = Open::begin(stand).await?;
            doorward(alice, &["lock", kind, name, "--reason", "under review"], 0).await?;
            let (session, said) = (open.session.clone(), open.cut().await?);
            ensure!(said.contains("under review"), "{kind}: {said}");
            ended_with(stand, &session, "locked").await?;
            let refused = enters(stand, "devenv-0").await?;
            ensure!(
                refused.code == Some(255) && refused.said().contains("locked"),
                "{kind}: {}",
                refused.said()
            );
            if let Some(free) = free {
                let outcome = enters(stand, free).await?;
                ensure!(outcome.stdout == b"in\n", "{}", outcome.said());
            }
            doorward(alice, &["unlock", kind, name], 0).await?;
            let outcome = enters(stand, "devenv-0").await?;
            ensure!(outcome.stdout == b"in\n", "{kind}: {}", outcome.said());
        }
        Ok(())
    })
}

#[test]
fn whoever_has_no_right_locks_nothing() -> Result<()> {
    on(async |stand, alice| {
        let mut open = Open::begin(stand).await?;
        let refused = feed(stand.stack.client().command(["lock", "user", "alice"]), b"").await?;
        ensure!(refused.code == Some(77), "{:?}: {}", refused.code, refused.said());
        let outcome = remote(alice, &[], "echo in", b"").await?;
        ensure!(outcome.stdout == b"in\n", "{}", outcome.said());
        open.goes_on().await
    })
}
