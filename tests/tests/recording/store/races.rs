//! Two gateways on one bucket.

use anyhow::{Context, Result, ensure};
use doorward_gateway::config::Acknowledge;
use tests::parts::{Had, fresh, name_of, shared_s3};
use tests::store::{Author, Replica, settings};

use super::{KINDS, PLACE, acknowledged, append};

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
