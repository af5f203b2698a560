//! Recordings in real object stores: kept, served back, and true to their word when the store fails.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use doorward_audit::Verdict;
use doorward_dev::parts::s3::Kind;
use doorward_dev::parts::{TOXIPROXY, Toxiproxy};
use doorward_gateway::config::Acknowledge;
use doorward_gateway::record::{Filter, Hold, Recording};
use serde_json::json;
use tests::faulty::{Fault, Faulty};
use tests::parts::{Had, Place, can_be_had, fresh, name_of, shared_s3};
use tests::store::{Author, Replica, closing, settings, stream};
use tests::until;

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "recording_store",
};

const KINDS: [(Kind, &str); 2] = [(Kind::Minio, "minio"), (Kind::Versitygw, "versitygw")];

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_records_another_serves_when_the_first_is_gone() -> Result<()> {
    let test = name_of(&|| {});
    for (kind, name) in KINDS {
        let Had::Here(s3) = shared_s3(PLACE, test, kind).await? else {
            continue;
        };
        s3.api().make_bucket("served", false).await?;
        let dir = fresh(PLACE, &format!("{test}-{name}"))?;
        let mut config = settings(s3, s3.url(), "served");
        config.spool_keep = Duration::ZERO;
        let first = Replica::open(&dir.join("one"), Some(config.clone())).await?;
        let mut author = Author::new()?;
        let session = author.session();
        let whole = first.record(&mut author).await?;
        let local = first.dir.join("records");
        until("the spool lets go of it", async || Ok((!holds(&local)?).then_some(()))).await?;
        ensure!(first.store.backlog().is_some_and(|backlog| backlog.bytes == 0));

        let second = Replica::open(&dir.join("two"), Some(config)).await?;
        for (replica, copy) in [(&first, "of-one"), (&second, "of-two")] {
            let listed = || {
                replica.store.list(&Filter {
                    limit: 10,
                    ..Filter::default()
                })
            };
            let entry = until("it is listed", async || {
                Ok(listed().into_iter().find(|entry| entry.session == session))
            });
            ensure!(entry.await?.record_bytes == whole.len() as u64);
            let copy = dir.join(copy);
            let names = replica.download(session, &copy).await?;
            ensure!(names.iter().any(|name| name == "receipts.jsonl"), "{names:?}");
            ensure!(stream(&copy)? == whole, "{name} serves other bytes");
            let report = first.verify(&copy, &author);
            ensure!(
                report.verdict() == Verdict::Complete && report.findings.is_empty(),
                "{report:?}"
            );
        }
        first.store.close().await;
        second.store.close().await;
    }
    Ok(())
}

/// Hands in the next bytes.
fn append(recording: &Recording, bytes: Bytes) -> Result<u64> {
    recording.append(recording.received(), bytes)?;
    Ok(recording.received())
}

/// Waits until so much may be acknowledged.
async fn acknowledged(recording: &Recording, offset: u64) -> Result<()> {
    let mut progress = recording.progress();
    let reached = progress.wait_for(|now| now.durable >= offset || now.failure.is_some());
    let now = tokio::time::timeout(tests::PATIENCE, reached)
        .await
        .context("never acknowledged")??;
    match &now.failure {
        Some(failure) => Err(failure.clone().into()),
        None => Ok(()),
    }
}

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

    let mut author = Author::new()?;
    let recording = replica.begin(author.session()).await?;
    let mut asked = append(&recording, author.open())?;
    let full = loop {
        match acknowledged(&recording, asked).await {
            Ok(()) => asked = append(&recording, author.output(20_000))?,
            Err(error) => break error.to_string(),
        }
        ensure!(asked < 1 << 20, "the spool has no bound");
    };
    ensure!(full.contains("holds its limit"), "{full}");
    let durable = recording.progress().borrow().durable;
    ensure!(durable < asked, "what is not kept was acknowledged");
    let why = replica.store.ready().err().context("ready with a full spool")?;
    ensure!(why.contains("object store"), "{why}");
    ensure!(
        replica.begin(Author::new()?.session()).await.is_err(),
        "a session begins on a full spool"
    );
    drop(recording);

    proxy.set_open(true).await?;
    until("the store works again", async || Ok(replica.store.ready().ok())).await?;
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
    // The one that was cut short is there as far as it was acknowledged.
    until("the last one is sent", async || {
        let copy = dir.join("last");
        other.download(author.session(), &copy).await?;
        Ok((stream(&copy)?.len() as u64 == durable).then_some(()))
    })
    .await?;
    replica.store.close().await;
    other.store.close().await;
    Ok(())
}

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

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_that_write_one_recording_one_is_refused() -> Result<()> {
    let test = name_of(&|| {});
    for (kind, name) in KINDS {
        let Had::Here(s3) = shared_s3(PLACE, test, kind).await? else {
            continue;
        };
        s3.api().make_bucket("raced", false).await?;
        let dir = fresh(PLACE, &format!("{test}-{name}"))?;
        let mut config = settings(s3, s3.url(), "raced");
        config.acknowledge = Acknowledge::Stored;
        let one = Replica::open(&dir.join("one"), Some(config.clone())).await?;
        let two = Replica::open(&dir.join("two"), Some(config.clone())).await?;
        for round in 0..5 {
            let mut author = Author::new()?;
            let session = author.session();
            let opened = author.open();
            let (mine, theirs) = (one.begin(session).await?, two.begin(session).await?);
            // The same beginning, and then two stories.
            let story = author.output(900 + round);
            let mut other = opened.to_vec();
            other.extend_from_slice(&author.second_story(session)?);
            let whole = [opened.as_ref(), story.as_ref()].concat();
            let (a, b) = (
                append(&mine, whole.clone().into())?,
                append(&theirs, other.clone().into())?,
            );
            let (a, b) = tokio::join!(acknowledged(&mine, a), acknowledged(&theirs, b));
            ensure!(a.is_ok() != b.is_ok(), "both, or none: {a:?} {b:?}");
            let refused = a.err().or(b.err()).context("one was refused")?.to_string();
            ensure!(refused.contains("other content"), "{refused}");
        }
        let conflicts = [&one, &two].map(|replica| replica.store.backlog().map_or(0, |backlog| backlog.conflicts));
        ensure!(conflicts.iter().sum::<usize>() == 5, "{conflicts:?}");
        one.store.close().await;
        two.store.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_recording_leaves_a_tombstone_and_a_held_one_stays() -> Result<()> {
    let test = name_of(&|| {});
    for (kind, name) in KINDS {
        let Had::Here(s3) = shared_s3(PLACE, test, kind).await? else {
            continue;
        };
        s3.api().make_bucket("expired", false).await?;
        let dir = fresh(PLACE, &format!("{test}-{name}"))?;
        let config = settings(s3, s3.url(), "expired");
        let mut replica = Replica::open(&dir.join("gateway"), Some(config.clone())).await?;
        replica.keep = Some(Duration::from_secs(2));
        let (mut gone, mut held) = (Author::new()?, Author::new()?);
        let whole = replica.record(&mut held).await?;
        replica.store.hold(hold(held.session())).await?;
        let lost = replica.record(&mut gone).await?;
        let tombstone = until("it expires", async || {
            Ok(replica.store.tombstone(gone.session()).await?)
        })
        .await?
        .0;
        let statement = tombstone.statement();
        ensure!(tombstone.verify(replica.credential.public_key()));
        ensure!((statement.session, statement.offset) == (gone.session(), lost.len() as u64));
        let of = |session: uuid::Uuid| async move {
            let names = s3.api().names("expired").await?;
            anyhow::Ok(
                names
                    .into_iter()
                    .filter(move |name| name.contains(&session.to_string()))
                    .collect::<Vec<_>>(),
            )
        };
        until("its objects are gone", async || {
            let left = of(gone.session()).await?;
            Ok((left.len() == 1 && left[0].ends_with("/tombstone.json")).then_some(()))
        })
        .await?;
        until("nobody finds it", async || {
            Ok(replica.store.session(gone.session()).await.is_none().then_some(()))
        })
        .await?;
        // The same age, and a second gateway that never heard of the hold.
        let other = Replica::open(&dir.join("other"), Some(config)).await?;
        until("the other gateway sees the hold", async || {
            Ok(other
                .store
                .holds()
                .into_iter()
                .find(|one| one.session == held.session()))
        })
        .await?;
        ensure!(of(held.session()).await?.len() > 2);
        ensure!(other.store.release(held.session()).await?, "nothing was held");
        until("it goes once it is released", async || {
            Ok(other.store.tombstone(held.session()).await?)
        })
        .await?;
        ensure!(!whole.is_empty());
        replica.store.close().await;
        other.store.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_object_cannot_be_deleted_before_its_time_nor_while_it_is_held() -> Result<()> {
    let test = name_of(&|| {});
    let Had::Here(s3) = shared_s3(PLACE, test, Kind::Minio).await? else {
        return Ok(());
    };
    s3.api().make_bucket("locked", true).await?;
    let dir = fresh(PLACE, test)?;
    let mut config = settings(s3, s3.url(), "locked");
    config.object_lock = true;
    config.acknowledge = Acknowledge::Stored;
    let mut replica = Replica::open(&dir.join("gateway"), Some(config)).await?;
    replica.keep = Some(Duration::from_secs(6));
    let mut author = Author::new()?;
    let session = author.session();
    replica.record(&mut author).await?;
    until("the bucket has it", async || {
        Ok(replica.store.backlog().filter(|backlog| backlog.bytes == 0))
    })
    .await?;
    let first = |name: &str| name.contains(&session.to_string()) && name.ends_with("segment-000000.dwr");
    let object = until("its first segment is there", async || {
        Ok(s3.api().names("locked").await?.into_iter().find(|name| first(name)))
    })
    .await?;
    let version = async || {
        let about = s3.api().call("HEAD", &format!("locked/{object}"), &[]).await?;
        let version = about
            .headers
            .get("x-amz-version-id")
            .context("a version")?
            .to_str()?
            .to_owned();
        anyhow::Ok((version, about))
    };
    let (id, about) = version().await?;
    let header = |name: &str| {
        about
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    ensure!(
        header("x-amz-object-lock-mode").as_deref() == Some("COMPLIANCE"),
        "{:?}",
        about.headers
    );
    let target = format!("locked/{object}?versionId={id}");
    let refused = s3
        .api()
        .call("DELETE", &target, &[("x-amz-bypass-governance-retention", "true")])
        .await?;
    ensure!(refused.status >= 400, "deleted before its time: {}", refused.status);

    replica.store.hold(hold(session)).await?;
    let (_, about) = version().await?;
    ensure!(
        about
            .headers
            .get("x-amz-object-lock-legal-hold")
            .is_some_and(|value| value == "ON")
    );
    // Past its time, and still held.
    let index = replica.store.session(session).await.context("an index")?;
    let until_when = index.keep_until.context("it is kept for ever")?;
    until("its time is over", async || {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_millis();
        Ok((now > u128::from(until_when) + 1500).then_some(()))
    })
    .await?;
    let refused = s3.api().call("DELETE", &target, &[]).await?;
    ensure!(refused.status >= 400, "deleted while it was held: {}", refused.status);
    ensure!(replica.store.tombstone(session).await?.is_none());

    ensure!(replica.store.release(session).await?);
    until("it goes once it is released", async || {
        Ok(replica.store.tombstone(session).await?)
    })
    .await?;
    until("no version of it is left", async || {
        let versions = s3.api().call("GET", "locked?versions", &[]).await?;
        let left: Vec<String> = versions.elements("Key");
        let left = left.into_iter().filter(|name| name.contains(&session.to_string()));
        Ok(left.clone().all(|name| name.ends_with("/tombstone.json")).then_some(()))
    })
    .await?;
    replica.store.close().await;
    Ok(())
}

fn hold(session: uuid::Uuid) -> Hold {
    Hold {
        session,
        by: "carol".to_owned(),
        at: "2026-01-01T00:00:00Z".to_owned(),
        reason: "case 4711".to_owned(),
    }
}

/// How many bytes of a session's stream a spool has.
fn spool_bytes(records: &std::path::Path, session: uuid::Uuid) -> Result<usize> {
    for day in std::fs::read_dir(records)? {
        let folder = day?.path().join(session.to_string());
        if folder.is_dir() {
            return Ok(stream(&folder)?.len());
        }
    }
    Ok(0)
}

/// Whether any session lies in a spool.
fn holds(records: &std::path::Path) -> Result<bool> {
    for day in std::fs::read_dir(records)? {
        let day = day?.path();
        if day.is_dir() && std::fs::read_dir(day)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
