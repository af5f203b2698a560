//! The store is away: nothing is acknowledged falsely, nothing is lost, and what waits has a bound.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use doorward_audit::Verdict;
use doorward_dev::parts::s3::Kind;
use doorward_dev::parts::{TOXIPROXY, Toxiproxy};
use doorward_gateway::config::Acknowledge;
use tests::parts::{Had, can_be_had, fresh, name_of, shared_s3};
use tests::store::{Author, Replica, closing, settings, stream};
use tests::until;

use super::{KINDS, PLACE, acknowledged, append};

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_means_stored_and_another_gateway_goes_on_from_there() -> Result<()> {
    let test = name_of(&|| {});
    if !can_be_had(&[&TOXIPROXY], PLACE, test).await? {
        return Ok(());
    }
    for (kind, name) in KINDS {
        let Had::Here(s3) = shared_s3(PLACE, test, kind).await? else {
            continue;
        };
        s3.api().make_bucket("stored", false).await?;
        let dir = fresh(PLACE, &format!("{test}-{name}"))?;
        let proxy = Toxiproxy::start(dir.join("proxy"), PLACE.program.into(), s3.address()).await?;
        let scheme = s3.url().split("://").next().context("a scheme")?;
        let mut config = settings(s3, &format!("{scheme}://{}", proxy.address()), "stored");
        config.acknowledge = Acknowledge::Stored;
        config.timeout = Duration::from_secs(1);

        let first = Replica::open(&dir.join("one"), Some(config.clone())).await?;
        let mut author = Author::new()?;
        let session = author.session();
        let recording = first.begin(session).await?;
        let mut sent = author.open().to_vec();
        let good = append(&recording, sent.clone().into())?;
        acknowledged(&recording, good).await?;

        proxy.set_open(false).await?;
        let lost = author.output(4000);
        append(&recording, lost.clone())?;
        let spool = dir.join("one/records");
        let whole = sent.len() + lost.len();
        until("the spool has it", async || {
            Ok((spool_bytes(&spool, session)? >= whole).then_some(()))
        })
        .await?;
        until("the store is missed", async || {
            Ok(first
                .store
                .backlog()
                .filter(|backlog| backlog.bytes >= lost.len() as u64))
        })
        .await?;
        ensure!(
            recording.progress().borrow().durable == good,
            "acknowledged, and nobody has it but this disk"
        );

        // The disk is gone with its pod. Whatever was acknowledged is in the bucket; the agent sends the rest again.
        drop(recording);
        proxy.set_open(true).await?;
        let aside = dir.join("lost");
        first.store.close().await;
        std::fs::rename(&spool, &aside)?;
        let mut second = Replica::open(&dir.join("two"), Some(config)).await?;
        second.take_over(&first).await?;
        let recording = second.store.resume(session, "uid-0").await?;
        ensure!(
            recording.received() >= good,
            "{} of {good} are left",
            recording.received()
        );
        let known = usize::try_from(recording.received())?;
        sent.extend_from_slice(&lost);
        for _ in 0..5 {
            sent.extend_from_slice(&author.output(70_000));
        }
        sent.extend_from_slice(&author.head(false)?);
        sent.extend_from_slice(&author.end()?);
        let sent = Bytes::from(sent);
        let all = append(&recording, sent.slice(known..))?;
        acknowledged(&recording, all).await?;
        recording.finish(closing(), tests::PATIENCE).await?;
        until("the bucket has it all", async || {
            let names = s3.api().names("stored").await?;
            let pieces = names.iter().any(|name| name.contains(".tail-"));
            let receipts = names.iter().any(|name| name.ends_with("/receipts.jsonl"));
            Ok((receipts && !pieces).then_some(()))
        })
        .await?;
        let third = Replica::open(&dir.join("three"), Some(settings(s3, s3.url(), "stored"))).await?;
        third.download(session, &dir.join("copy")).await?;
        ensure!(stream(&dir.join("copy"))? == sent, "{name} has other bytes");
        let report = second.verify(&dir.join("copy"), &author);
        ensure!(
            report.findings.is_empty() && report.verdict() == Verdict::Complete,
            "{report:?}"
        );
        second.store.close().await;
        third.store.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_away_gets_everything_and_its_spool_has_a_bound() -> Result<()> {
    let test = name_of(&|| {});
    if !can_be_had(&[&TOXIPROXY], PLACE, test).await? {
        return Ok(());
    }
    let Had::Here(s3) = shared_s3(PLACE, test, Kind::Minio).await? else {
        return Ok(());
    };
    s3.api().make_bucket("away", false).await?;
    let dir = fresh(PLACE, test)?;
    let proxy = Toxiproxy::start(dir.join("proxy"), PLACE.program.into(), s3.address()).await?;
    proxy.set_open(false).await?;
    let mut config = settings(s3, &format!("https://{}", proxy.address()), "away");
    config.spool_limit = 64 * 1024;
    let mut replica = Replica::open(&dir.join("gateway"), Some(config)).await?;
    let mut recorded = Vec::new();
    for _ in 0..3 {
        let mut author = Author::new()?;
        let whole = replica.record(&mut author).await?;
        recorded.push((author.session(), whole));
    }
    // What waits is remembered over a restart.
    replica.reopen().await?;
    let backlog = until("what waits is counted", async || {
        let sum: u64 = recorded.iter().map(|(_, whole)| whole.len() as u64).sum();
        Ok(replica.store.backlog().filter(|backlog| backlog.bytes == sum))
    });
    ensure!(backlog.await?.conflicts == 0);
    replica.store.ready().map_err(anyhow::Error::msg)?;

    let (mut waits, mut ends) = (Author::new()?, Author::new()?);
    let (waiting, ending) = (
        replica.begin(waits.session()).await?,
        replica.begin(ends.session()).await?,
    );
    let mut sent = waits.open().to_vec();
    let mut kept = append(&waiting, sent.clone().into())?;
    acknowledged(&waiting, kept).await?;
    while replica.store.ready().is_ok() {
        let more = waits.output(20_000);
        sent.extend_from_slice(&more);
        kept = append(&waiting, more)?;
        ensure!(kept < 1 << 20, "the spool has no bound");
        acknowledged(&waiting, kept).await?;
    }
    let why = replica.store.ready().err().context("ready with a full spool")?;
    ensure!(why.contains("holds its limit") && why.contains("object store"), "{why}");
    let refused = replica.begin(Author::new()?.session()).await;
    ensure!(refused.is_err(), "a session begins on a full spool");

    // An open recording waits, and has not failed; of one that ends nothing is lost.
    let more = waits.output(20_000);
    sent.extend_from_slice(&more);
    let asked = append(&waiting, more)?;
    let last = ends.whole()?;
    append(&ending, last.clone())?;
    let closed = ending.finish(closing(), tests::PATIENCE).await?;
    ensure!(closed.record_bytes == last.len() as u64);
    recorded.push((ends.session(), last));
    let now = waiting.progress().borrow().clone();
    ensure!(
        now.durable == kept && now.failure.is_none(),
        "what waits was acknowledged, or given up: {now:?}"
    );
    ensure!(spool_bytes(&dir.join("gateway/records"), waits.session())? as u64 == kept);

    proxy.set_open(true).await?;
    until("the store works again", async || Ok(replica.store.ready().ok())).await?;
    acknowledged(&waiting, asked).await?;
    let end = waits.end()?;
    sent.extend_from_slice(&end);
    append(&waiting, end)?;
    waiting.finish(closing(), tests::PATIENCE).await?;
    recorded.push((waits.session(), sent.into()));
    until("nothing waits", async || {
        Ok(replica.store.backlog().filter(|backlog| backlog.bytes == 0))
    })
    .await?;
    let other = Replica::open(&dir.join("other"), Some(settings(s3, s3.url(), "away"))).await?;
    for (session, whole) in &recorded {
        let copy = dir.join(session.to_string());
        other.download(*session, &copy).await?;
        ensure!(stream(&copy)? == *whole);
    }
    replica.store.close().await;
    other.store.close().await;
    Ok(())
}

/// How many bytes of a session's stream a spool has.
fn spool_bytes(records: &Path, session: uuid::Uuid) -> Result<usize> {
    for day in std::fs::read_dir(records)? {
        let folder = day?.path().join(session.to_string());
        if folder.is_dir() {
            return Ok(stream(&folder)?.len());
        }
    }
    Ok(0)
}
