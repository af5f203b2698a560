//! The spool is full while the bucket is away: what sessions of each kind do, with the real programs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::parts::s3::Kind;
use doorward_dev::parts::{TOXIPROXY, Toxiproxy};
use tests::journal::{journal, recorded};
use tests::parts::{Had, can_be_had, fresh, name_of, shared_s3};
use tests::raw::plain;
use tests::{Outcome, Stand, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::PLACE;
use super::gate::{Behind, doorward, gate, local, ssh};

const ROLES: &str = r#"
[[role]]
name = "strict"
groups = ["developers"]
workspaces = ["devenv-0"]
allow = ["exec"]
recordings = "own"
recording = { stall = "3s", unacked = "256KiB" }

[[role]]
name = "best-effort"
groups = ["developers"]
workspaces = ["devenv-1"]
allow = ["exec"]
recordings = "own"
recording = { mode = "best-effort", unacked = "256KiB" }

[[role]]
name = "patient"
groups = ["readonly"]
workspaces = ["devenv-1"]
allow = ["exec"]
recordings = "own"
recording = { stall = "30s", unacked = "256KiB" }
"#;

/// A session that says so once it is open, and shows so many bytes that do not compress once it is told to go.
struct Waiting(Child);

impl Waiting {
    async fn start(client: &doorward_dev::stack::ClientFolder, workspace: &str, bytes: usize) -> Result<Self> {
        let script = format!("echo ready; read go; head -c {bytes} /dev/urandom");
        let mut child = ssh(client, workspace, &script).spawn()?;
        let mut ready = [0; 6];
        let stdout = child.stdout.as_mut().context("no stdout")?;
        tokio::time::timeout(tests::PATIENCE, stdout.read_exact(&mut ready)).await??;
        Ok(Self(child))
    }

    async fn go(&mut self) -> Result<()> {
        let stdin = self.0.stdin.as_mut().context("no stdin")?;
        stdin.write_all(b"go\n").await?;
        Ok(stdin.flush().await?)
    }

    async fn end(self) -> Result<Outcome> {
        let ended = tokio::time::timeout(tests::PATIENCE, self.0.wait_with_output()).await;
        let ended = ended.context("the session hangs")??;
        Ok(Outcome {
            code: ended.status.code(),
            stdout: ended.stdout,
            stderr: ended.stderr,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_sessions_wait_and_end_by_their_rule_and_the_others_go_on() -> Result<()> {
    let test = name_of(&|| {});
    if !can_be_had(&[&TOXIPROXY], PLACE, test).await? {
        return Ok(());
    }
    let Had::Here(s3) = shared_s3(PLACE, test, Kind::Minio).await? else {
        return Ok(());
    };
    s3.api().make_bucket("full", false).await?;
    let stand = Stand::start(PLACE.program, PLACE.tmp, "spool-full").await?;
    let proxy = Toxiproxy::start(fresh(PLACE, test)?, PLACE.program.into(), s3.address()).await?;
    let behind = Behind {
        s3,
        url: format!("https://{}", proxy.address()),
        bucket: "full",
        more: "spool-limit = '1MiB'\ntimeout = '2s'",
    };
    let gateway = gate(&stand, "gate", ROLES, Some(behind)).await?;
    let bob = gateway.client(&stand, "bob", "bob", gateway.address).await?;
    let carol = gateway.client(&stand, "carol", "carol", gateway.address).await?;
    proxy.set_open(false).await?;
    let mut strict = Waiting::start(&bob, "devenv-0", 3_000_000).await?;
    let mut lax = Waiting::start(&bob, "devenv-1", 3_000_000).await?;
    let mut patient = Waiting::start(&carol, "devenv-1", 600_000).await?;

    strict.go().await?;
    let ended = strict.end().await?;
    ensure!(ended.code == Some(254), "{:?}: {}", ended.code, ended.said());
    ensure!(
        ended
            .said()
            .contains("the recording cannot be stored: nothing was acknowledged since"),
        "{}",
        ended.said()
    );
    ensure!(
        ended.stdout.len() < 2_000_000,
        "{} bytes were shown",
        ended.stdout.len()
    );
    let ready = plain(gateway.admin, "/readyz")
        .await
        .err()
        .context("ready with a full spool")?;
    ensure!(ready.to_string().contains("holds its limit"), "{ready}");
    let refused = ssh(&bob, "devenv-0", "true").output().await?;
    ensure!(
        refused.status.code() == Some(255) && String::from_utf8_lossy(&refused.stderr).contains("recording store"),
        "{refused:?}"
    );

    lax.go().await?;
    let ended = lax.end().await?;
    ensure!(
        ended.code == Some(0) && ended.stdout.len() == 3_000_000,
        "{:?} after {} bytes: {}",
        ended.code,
        ended.stdout.len(),
        ended.said()
    );

    patient.go().await?;
    let stdout = patient.0.stdout.as_mut().context("no stdout")?;
    let mut shown = vec![0; 100_000];
    tokio::time::timeout(tests::PATIENCE, stdout.read_exact(&mut shown)).await??;
    proxy.set_open(true).await?;
    let ended = patient.end().await?;
    ensure!(
        ended.code == Some(0) && ended.stdout.len() == 500_000,
        "{:?} after {} bytes: {}",
        ended.code,
        ended.stdout.len(),
        ended.said()
    );

    // All three are whole, and the one that went on says what it lacks.
    let sessions = until("three sessions end", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let ended = journal(&gateway.state())?.into_iter().filter_map(|event| match event {
            Event::SessionEnded(ended) => Some(ended),
            _ => None,
        });
        let ended: Vec<_> = ended.collect();
        Ok((ended.len() == 3).then_some(ended))
    })
    .await?;
    for (ended, (client, gap)) in sessions.iter().zip([(&bob, false), (&bob, true), (&carol, false)]) {
        let session = ended.session.to_string();
        let verified = doorward(client, &["verify", &session]).await?;
        ensure!(verified.code == Some(0), "{ended:?}: {}", verified.said());
        let folder = local(&gateway, &session)?.context("not in the spool")?;
        let lacks = recorded(&folder)?.into_iter().any(|event| match event {
            Event::Gap(gap) => gap.from.is_some() && gap.bytes > 1_000_000,
            _ => false,
        });
        ensure!(lacks == gap, "{ended:?}");
    }
    until("nothing waits", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let backlog = tests::raw::metric(gateway.admin, "doorward_records_backlog_bytes").await?;
        Ok((backlog == 0.0 && plain(gateway.admin, "/readyz").await.is_ok()).then_some(()))
    })
    .await?;
    stand.stack.stop().await;
    Ok(())
}
