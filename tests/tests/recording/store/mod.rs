//! Recordings in real object stores: kept, served back, and true to their word when the store fails.

mod canary;
mod faults;
mod filled;
mod full;
mod gate;
mod holds;
mod locks;
mod outage;
mod races;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use doorward_audit::Verdict;
use doorward_dev::parts::s3::Kind;
use doorward_gateway::record::{Filter, Recording};
use tests::parts::{Had, Place, fresh, name_of, shared_s3};
use tests::store::{Author, Replica, settings, stream};
use tests::until;

const PLACE: Place = Place {
    program: crate::PROGRAM,
    tmp: crate::TMP,
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

/// Whether any session lies in a spool.
fn holds(records: &Path) -> Result<bool> {
    for day in std::fs::read_dir(records)? {
        let day = day?.path();
        if day.is_dir() && std::fs::read_dir(day)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
