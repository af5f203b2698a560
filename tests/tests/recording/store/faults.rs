//! Stores and networks that are slow, cut off, refuse, lie, or lose their answers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use doorward_dev::parts::s3::Kind;
use doorward_dev::parts::{TOXIPROXY, Toxiproxy};
use doorward_gateway::config::{Acknowledge, S3Credentials};
use serde_json::json;
use tests::faulty::{Fault, Faulty};
use tests::parts::{Had, can_be_had, fresh, name_of, shared_s3};
use tests::store::{Author, Replica, closing, settings, stream};
use tests::until;

use super::{PLACE, acknowledged, append};

#[tokio::test(flavor = "multi_thread")]
async fn slow_cut_and_dead_connections_lose_nothing() -> Result<()> {
    let test = name_of(&|| {});
    if !can_be_had(&[&TOXIPROXY], PLACE, test).await? {
        return Ok(());
    }
    let Had::Here(s3) = shared_s3(PLACE, test, Kind::Versitygw).await? else {
        return Ok(());
    };
    s3.api().make_bucket("toxic", false).await?;
    let dir = fresh(PLACE, test)?;
    let proxy = Toxiproxy::start(dir.join("proxy"), PLACE.program.into(), s3.address()).await?;
    let mut config = settings(s3, &format!("http://{}", proxy.address()), "toxic");
    config.acknowledge = Acknowledge::Stored;
    config.timeout = Duration::from_secs(1);
    let replica = Replica::open(&dir.join("gateway"), Some(config)).await?;
    for (kind, stream_of, attributes, works) in [
        ("latency", "upstream", json!({"latency": 50, "jitter": 20}), true),
        ("bandwidth", "upstream", json!({"rate": 200}), true),
        ("limit_data", "upstream", json!({"bytes": 1500}), false),
        ("limit_data", "downstream", json!({"bytes": 20}), false),
        ("reset_peer", "upstream", json!({"timeout": 0}), false),
        ("timeout", "upstream", json!({"timeout": 0}), false),
    ] {
        proxy.add(kind, stream_of, attributes).await?;
        let mut author = Author::new()?;
        let recording = replica.begin(author.session()).await?;
        let whole = author.whole()?;
        let all = append(&recording, whole.clone())?;
        if works {
            acknowledged(&recording, all).await?;
        } else {
            until("it waits for the store", async || {
                Ok(replica.store.backlog().filter(|backlog| backlog.bytes > 0))
            })
            .await?;
        }
        proxy.remove(kind).await?;
        acknowledged(&recording, all)
            .await
            .with_context(|| format!("after {kind}"))?;
        recording.finish(closing(), tests::PATIENCE).await?;
        let served = Replica::open(
            &dir.join(format!("{kind}-{stream_of}")),
            Some(settings(s3, s3.url(), "toxic")),
        )
        .await?;
        let copy = dir.join(format!("copy-{kind}-{stream_of}"));
        served.download(author.session(), &copy).await?;
        ensure!(stream(&copy)? == whole, "{kind}");
        served.store.close().await;
    }
    replica.store.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_lies_and_lost_answers_acknowledge_nothing_falsely() -> Result<()> {
    let test = name_of(&|| {});
    let Had::Here(s3) = shared_s3(PLACE, test, Kind::Versitygw).await? else {
        return Ok(());
    };
    s3.api().make_bucket("spoilt", false).await?;
    let dir = fresh(PLACE, test)?;
    let proxy = Faulty::start(s3.address()).await?;
    let mut config = settings(s3, &proxy.url(), "spoilt");
    config.acknowledge = Acknowledge::Stored;
    config.timeout = Duration::from_secs(1);
    let replica = Replica::open(&dir.join("gateway"), Some(config)).await?;
    for (at, fault) in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(403),
        Fault::Status(307),
        Fault::Lie,
        Fault::LoseAnswer,
        Fault::HalveAnswer,
        Fault::HalveRequest,
    ]
    .into_iter()
    .enumerate()
    {
        let mut author = Author::new()?;
        let recording = replica.begin(author.session()).await?;
        let mut sent = author.open().to_vec();
        let good = append(&recording, sent.clone().into())?;
        acknowledged(&recording, good).await?;
        proxy.spoil("PUT", fault);
        let more = author.output(2000);
        sent.extend_from_slice(&more);
        let all = append(&recording, more)?;
        until("requests are spoilt", async || Ok((proxy.spoilt() >= 2).then_some(()))).await?;
        let carried_out = matches!(fault, Fault::LoseAnswer | Fault::HalveAnswer);
        ensure!(
            carried_out || recording.progress().borrow().durable == good,
            "{fault:?} was taken for a good answer"
        );
        proxy.spoil("", Fault::None);
        acknowledged(&recording, all)
            .await
            .with_context(|| format!("after {fault:?}"))?;
        sent.extend_from_slice(&author.end()?);
        append(&recording, Bytes::from(sent.clone()).slice(usize::try_from(all)?..))?;
        recording.finish(closing(), tests::PATIENCE).await?;
        let direct = Replica::open(
            &dir.join(format!("direct-{at}")),
            Some(settings(s3, s3.url(), "spoilt")),
        )
        .await?;
        let copy = dir.join(format!("copy-{at}"));
        until("the bucket has all of it", async || {
            direct.download(author.session(), &copy).await?;
            Ok((stream(&copy)? == sent).then_some(()))
        })
        .await
        .with_context(|| format!("after {fault:?}"))?;
        direct.store.close().await;
    }
    replica.store.close().await;
    Ok(())
}

/// Keys that end while a session goes on: nothing more is acknowledged, and all goes on once there are others, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_end_and_are_exchanged_lose_nothing() -> Result<()> {
    let test = name_of(&|| {});
    let Had::Here(s3) = shared_s3(PLACE, test, Kind::Versitygw).await? else {
        return Ok(());
    };
    s3.api().make_bucket("keys", false).await?;
    let dir = fresh(PLACE, test)?;
    let mut config = settings(s3, s3.url(), "keys");
    config.acknowledge = Acknowledge::Stored;
    let (access_key, good_key) = s3.key_files();
    let secret_key = dir.join("secret");
    std::fs::copy(&good_key, &secret_key)?;
    config.credentials = S3Credentials::Files {
        access_key,
        secret_key: secret_key.clone(),
    };
    let replica = Replica::open(&dir.join("gateway"), Some(config)).await?;
    let mut author = Author::new()?;
    let recording = replica.begin(author.session()).await?;
    let good = append(&recording, author.open())?;
    acknowledged(&recording, good).await?;

    std::fs::write(&secret_key, "ended")?;
    let all = until("the store refuses the old keys", async || {
        let at = append(&recording, author.output(100))?;
        let refused = replica.store.backlog().is_some_and(|backlog| backlog.age >= REFUSED);
        Ok(refused.then_some(at))
    })
    .await?;
    ensure!(recording.progress().borrow().durable < all, "acknowledged without keys");
    std::fs::copy(&good_key, &secret_key)?;
    acknowledged(&recording, all).await?;
    append(&recording, author.end()?)?;
    recording.finish(closing(), tests::PATIENCE).await?;
    let copy = dir.join("copy");
    replica.download(author.session(), &copy).await?;
    let report = replica.verify(&copy, &author);
    ensure!(report.findings.is_empty(), "{report:?}");
    replica.store.close().await;
    Ok(())
}

/// So long nothing waits for a store that takes everything.
const REFUSED: Duration = Duration::from_secs(1);
