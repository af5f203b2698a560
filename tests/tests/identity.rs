//! Identity by a real Keycloak: whoever leaves a group or is disabled there loses what is open here.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::parts::KEYCLOAK;
use doorward_dev::stack::{Options, Real, Stack};
use tests::PATIENCE;
use tests::journal::journal;
use tests::parts::{Place, had};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "identity",
};

/// A session of bob's that has said that it is there.
async fn session(stack: &Stack) -> Result<Child> {
    let mut child = Command::new("ssh")
        .arg("-F")
        .arg(stack.ssh_config())
        .args(["devenv-0", "echo in; sleep 600"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let first = first.context("the session did not begin")??;
    if first.as_deref() != Some("in") {
        let said = ended(child).await?;
        anyhow::bail!("the session did not begin: {said:?}");
    }
    Ok(child)
}

/// The exit code of a session that ends by itself, and what its user read.
async fn ended(mut child: Child) -> Result<(Option<i32>, String)> {
    let mut stderr = child.stderr.take().context("no stderr")?;
    let mut said = String::new();
    let wait = async {
        stderr.read_to_string(&mut said).await?;
        child.wait().await
    };
    let status = tokio::time::timeout(PATIENCE, wait).await;
    let status = status.context("the session goes on")??;
    Ok((status.code(), said))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_or_is_disabled_loses_the_open_session() -> Result<()> {
    if !had(&KEYCLOAK, PLACE, "whoever_leaves_or_is_disabled_loses_the_open_session").await? {
        return Ok(());
    }
    let dir = std::path::Path::new(PLACE.tmp).join(PLACE.file).join("stack");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let stack = Stack::start(Options {
        dir,
        program: Some(PLACE.program.into()),
        login: Some("bob".to_owned()),
        real: Real {
            keycloak: true,
            ..Real::default()
        },
        ..Options::default()
    })
    .await?;

    // Out of the group: seen by the next look, though the token still has it.
    let open = session(&stack).await?;
    stack.realm().context("no realm")?.leave("bob", "developers").await?;
    let (code, said) = ended(open).await?;
    ensure!(code == Some(255), "{code:?}: {said}");
    ensure!(said.contains("may no longer enter"), "{said}");
    stack.realm().context("no realm")?.join("bob", "developers").await?;

    // Keycloak away: nothing ends, until it is back and says so.
    let mut open = session(&stack).await?;
    stack.keycloak().context("no Keycloak")?.pause().await;
    let state = stack.state_dir();
    let suspended = || {
        let all = journal(&state)?;
        let count = all.iter().filter(|event| matches!(event, Event::RecheckSuspended(_)));
        Ok::<_, anyhow::Error>(count.count())
    };
    tests::until("the outage is on record", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok((suspended()? > 0).then_some(()))
    })
    .await?;
    ensure!(open.try_wait()?.is_none(), "the outage ended the session");
    stack.keycloak().context("no Keycloak")?.resume().await;
    stack.realm().context("no realm")?.enable("bob", false).await?;
    let (code, said) = ended(open).await?;
    ensure!(code == Some(255), "{code:?}: {said}");
    ensure!(said.contains("disabled"), "{said}");

    // The last recording is closed before its session's end is on record.
    let endings = tests::until("both ends are on record", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let all = journal(&state)?.into_iter();
        let codes: Vec<String> = all
            .filter_map(|event| match event {
                Event::SessionEnded(ended) => Some(ended.code),
                _ => None,
            })
            .collect();
        Ok((codes.len() == 2).then_some(codes))
    })
    .await?;
    ensure!(endings == ["revoked", "revoked"], "{endings:?}");
    ensure!(suspended()? == 1, "the outage is on record more than once");
    stack.stop().await;
    Ok(())
}
