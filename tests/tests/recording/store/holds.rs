//! Holds, the end of a recording's time, and who sees what, with the real programs: on a directory and on a bucket.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use doorward_audit::{Event, SessionIndex, Tombstone};
use doorward_dev::parts::s3::Kind;
use doorward_dev::stack::ClientFolder;
use serde_json::Value;
use tests::journal::{denial, journal};
use tests::parts::{Had, name_of, shared_s3};
use tests::raw::get;
use tests::second::Second;
use tests::{Stand, until};
use tokio::io::AsyncReadExt as _;

use super::PLACE;
use super::gate::{Behind, doorward, gate, local, newest, ssh};

const ROLES: &str = r#"
[[role]]
name = "developer"
groups = ["developers"]
workspaces = ["devenv-*"]
allow = ["exec"]
recordings = "own"
recording = { keep = "2s" }

[[role]]
name = "auditor"
groups = ["admins"]
workspaces = ["*"]
allow = []
recordings = "all"
may = ["hold"]

[[role]]
name = "readonly"
groups = ["readonly"]
workspaces = ["devenv-1"]
allow = ["exec"]
recordings = "own"
"#;

/// A gateway with its people.
struct At {
    gateway: Second,
    alice: ClientFolder,
    bob: ClientFolder,
    carol: ClientFolder,
}

impl At {
    async fn start(stand: &Stand, name: &str, behind: Option<Behind<'_>>) -> Result<Self> {
        let gateway = gate(stand, name, ROLES, behind).await?;
        let address = gateway.address;
        Ok(Self {
            alice: gateway.client(stand, "alice", "alice", address).await?,
            bob: gateway.client(stand, "bob", "bob", address).await?,
            carol: gateway.client(stand, "carol", "carol", address).await?,
            gateway,
        })
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> Result<usize> {
        Ok(journal(&self.gateway.state())?
            .iter()
            .filter(|event| wanted(event))
            .count())
    }

    async fn until(&self, what: &str, least: usize, wanted: impl Fn(&Event) -> bool) -> Result<()> {
        until(what, async || {
            pause().await;
            Ok((self.count(&wanted)? >= least).then_some(()))
        })
        .await
    }

    /// A request as somebody, who is refused, and the refusal is in the journal.
    async fn refused(&self, who: &str, path: &str) -> Result<()> {
        let token = self.gateway.issuer.access_token(who)?;
        let request = get(path, &format!("Authorization: Bearer {token}\r\nConnection: close\r\n"));
        let (us, reply) = self.gateway.door()?.ask(request).await?;
        ensure!([400, 404].contains(&reply.status()), "{who} {path}: {}", reply.text());
        let denied = denial(&self.gateway.state(), us).await?;
        ensure!(denied.user.as_deref().is_none_or(|user| user == who), "{denied:?}");
        Ok(())
    }
}

/// Between two looks at what takes a while.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn succeeds(client: &ClientFolder, args: &[&str]) -> Result<String> {
    let outcome = doorward(client, args).await?;
    ensure!(
        outcome.code == Some(0),
        "doorward {args:?}: {:?}: {}",
        outcome.code,
        outcome.said()
    );
    Ok(String::from_utf8(outcome.stdout)?)
}

async fn fails(client: &ClientFolder, args: &[&str], says: &str) -> Result<()> {
    let outcome = doorward(client, args).await?;
    ensure!(
        outcome.code.is_some_and(|code| code != 0 && code != 101) && outcome.stdout.is_empty(),
        "doorward {args:?}: {:?}",
        outcome.code
    );
    ensure!(outcome.said().contains(says), "doorward {args:?}: {}", outcome.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_holds_a_recording_in_a_directory() -> Result<()> {
    let stand = Stand::start(PLACE.program, PLACE.tmp, "holds-directory").await?;
    held_and_expired(&At::start(&stand, "gate", None).await?, false).await?;
    stand.stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_holds_a_recording_in_a_bucket() -> Result<()> {
    let Had::Here(s3) = shared_s3(PLACE, name_of(&|| {}), Kind::Minio).await? else {
        return Ok(());
    };
    s3.api().make_bucket("holds", false).await?;
    let stand = Stand::start(PLACE.program, PLACE.tmp, "holds-bucket").await?;
    let behind = Behind {
        s3,
        url: s3.url().to_owned(),
        bucket: "holds",
        more: "spool-keep = '0s'",
    };
    let at = At::start(&stand, "gate", Some(behind)).await?;
    let gone = held_and_expired(&at, true).await?;
    let left: Vec<String> = s3.api().names("holds").await?;
    let left: Vec<_> = left.iter().filter(|name| name.contains(&gone)).collect();
    ensure!(left.len() == 1 && left[0].ends_with("/tombstone.json"), "{left:?}");
    stand.stack.stop().await;
    Ok(())
}

/// Returns the session that expired without ever being held.
async fn held_and_expired(at: &At, bucket: bool) -> Result<String> {
    // Held while it is open: its time cannot be over before.
    let mut open = ssh(&at.bob, "devenv-0", "echo ready; cat").spawn()?;
    let mut ready = [0; 6];
    open.stdout
        .as_mut()
        .context("no stdout")?
        .read_exact(&mut ready)
        .await?;
    let entry = newest(&at.alice).await?.context("no session")?;
    let held = entry["session"].as_str().context("no id")?.to_owned();
    for client in [&at.bob, &at.carol] {
        fails(client, &["hold", &held, "--reason", "mine"], "").await?;
        fails(client, &["holds"], "").await?;
    }
    let denied = |event: &Event| matches!(event, Event::Denied(denied) if denied.user.as_deref() == Some("carol"));
    at.until("carol's refusals are in the journal", 2, denied).await?;
    succeeds(&at.alice, &["hold", &held, "--reason", "case 4711"]).await?;
    let listed: Value = serde_json::from_str(&succeeds(&at.alice, &["holds", "--json"]).await?)?;
    ensure!(
        listed[0]["session"] == held.as_str() && listed[0]["by"] == "alice" && listed[0]["reason"] == "case 4711",
        "{listed}"
    );
    ensure!(succeeds(&at.alice, &["holds"]).await?.contains(&held));
    drop(open.stdin.take());
    let ended = tokio::time::timeout(tests::PATIENCE, open.wait()).await??;
    ensure!(ended.success(), "{ended}");
    let entry = until("its entry closes", async || {
        Ok(newest(&at.alice).await?.filter(|entry| !entry["ended"].is_null()))
    })
    .await?;
    ensure!(entry["session"] == held.as_str());

    // Another of the same age goes.
    let mut short = ssh(&at.bob, "devenv-0", "echo it was here").spawn()?;
    ensure!(tokio::time::timeout(tests::PATIENCE, short.wait()).await??.success());
    let gone = until("the second session", async || {
        let found = journal(&at.gateway.state())?.into_iter().find_map(|event| match event {
            Event::SessionEnded(ended) if ended.session.to_string() != held => Some(ended.session.to_string()),
            _ => None,
        });
        Ok(found)
    })
    .await?;
    until("it is deleted, and nobody lists it", async || {
        pause().await;
        let left = tests::sessions_of(&at.alice).await?;
        Ok((!left.iter().any(|entry| entry["session"] == gone.as_str())).then_some(()))
    })
    .await?;
    let token = at.gateway.issuer.access_token("alice")?;
    let lines = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
    let path = format!("/v1/sessions/{gone}/files/tombstone.json");
    let (_, reply) = at.gateway.door()?.ask(get(&path, &lines)).await?;
    let stone = Tombstone::parse(&reply.body())?;
    ensure!(
        stone.statement().session.to_string() == gone && stone.statement().workspace == "devenv-0",
        "{stone:?}"
    );
    // How it is put is another matter; nothing is printed that could be taken for the recording.
    for what in ["replay", "verify"] {
        let asked = doorward(&at.alice, &[what, &gone]).await?;
        ensure!(asked.code.is_some_and(|code| code != 101), "{what}: {}", asked.said());
        let said = String::from_utf8_lossy(&asked.stdout).into_owned() + &asked.said();
        ensure!(!said.is_empty() && !said.contains("it was here"), "{what}: {said}");
    }
    fails(&at.alice, &["sessions", "show", &gone], "").await?;

    // The held one is past its time, and whole.
    let entry: SessionIndex = serde_json::from_value(entry)?;
    let over = entry.keep_until.context("it is kept for ever")?;
    until("its time is over", async || {
        pause().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok((now > u128::from(over) + 1500).then_some(()))
    })
    .await?;
    if bucket {
        until("the directory lets go of it", async || {
            pause().await;
            Ok(local(&at.gateway, &held)?.is_none().then_some(()))
        })
        .await?;
    }
    somebody_elses(at, &held).await?;
    let viewed = |event: &Event| matches!(event, Event::RecordingViewed(viewed) if viewed.session.to_string() == held && viewed.user == "alice");
    ensure!(at.count(viewed)? == 0);
    succeeds(&at.alice, &["verify", &held]).await?;
    // Its segment and its receipts, at the least.
    at.until("the look is in the journal", 2, viewed).await?;

    fails(&at.carol, &["release", &held], "").await?;
    succeeds(&at.alice, &["release", &held]).await?;
    fails(&at.alice, &["release", &held], "").await?;
    until("it goes once it is released", async || {
        pause().await;
        Ok(tests::sessions_of(&at.alice).await?.is_empty().then_some(()))
    })
    .await?;
    let acts = journal(&at.gateway.state())?
        .into_iter()
        .filter_map(|event| match event {
            Event::HoldPlaced(placed) => Some(format!(
                "held by {} for {}: {}",
                placed.by, placed.reason, placed.session
            )),
            Event::HoldReleased(released) => Some(format!("released by {}: {}", released.by, released.session)),
            Event::RecordingDeleted(deleted) => Some(format!("deleted: {}", deleted.session)),
            _ => None,
        });
    let acts: Vec<String> = acts.collect();
    let expected = [
        format!("held by alice for case 4711: {held}"),
        format!("deleted: {gone}"),
        format!("released by alice: {held}"),
        format!("deleted: {held}"),
    ];
    ensure!(acts == expected, "{acts:?}");
    Ok(gone)
}

/// Another person's recording is not to be had by its id, and nobody leaves its folder by any name.
async fn somebody_elses(at: &At, session: &str) -> Result<()> {
    fails(&at.carol, &["replay", "--raw", session], "").await?;
    let file = |name: &str| format!("/v1/sessions/{session}/files/{name}");
    for path in [
        format!("/v1/sessions/{session}"),
        file("segment-000000.dwr"),
        file("receipts.jsonl"),
        file("session.json"),
    ] {
        at.refused("carol", &path).await?;
    }
    // Even whoever may see all of it.
    for name in [
        "..%2f..%2fpolicy.toml",
        "%2e%2e%2fsession.json",
        "..",
        ".shipped",
        "segment-000000.dwr%00",
        "segment-000000.dwr.tail-000000000000",
        "SEGMENT-000000.DWR",
    ] {
        at.refused("alice", &file(name)).await?;
    }
    for id in ["..", "%2e%2e", &session.to_uppercase(), &format!("{session}%2f..")] {
        at.refused("alice", &format!("/v1/sessions/{id}/files/session.json"))
            .await?;
        at.refused("alice", &format!("/v1/sessions/{id}")).await?;
    }
    Ok(())
}
