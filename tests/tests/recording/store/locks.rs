//! What keeps recordings: their time, holds, and the bucket's own locks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_dev::parts::s3::Kind;
use doorward_gateway::config::Acknowledge;
use doorward_gateway::record::Hold;
use tests::parts::{Had, fresh, name_of, shared_s3};
use tests::store::{Author, Replica, settings};
use tests::until;

use super::{KINDS, PLACE};

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
