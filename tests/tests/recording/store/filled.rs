//! The spool's own disk fills up while the store is away.

use std::time::Duration;

use anyhow::{Result, ensure};
use doorward_dev::parts::s3::Kind;
use doorward_dev::parts::{TOXIPROXY, Toxiproxy};
use tests::parts::{Had, can_be_had, fresh, name_of, shared_s3};
use tests::store::{Author, Replica, closing, settings, stream};
use tests::tmpfs::Tmpfs;
use tests::until;

use super::{PLACE, append};

/// Once the store is back it is full of what the bucket has: room is made at once, and nothing is restarted.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_room_once_the_store_is_back() -> Result<()> {
    let test = name_of(&|| {});
    if !can_be_had(&[&TOXIPROXY], PLACE, test).await? {
        return Ok(());
    }
    let Had::Here(s3) = shared_s3(PLACE, test, Kind::Versitygw).await? else {
        return Ok(());
    };
    let records = std::path::Path::new(PLACE.tmp).join("spool-filled");
    Tmpfs::clear(&records);
    let Some(_disk) = Tmpfs::mount(&records.join("records"), 4 << 20, test)? else {
        return Ok(());
    };
    s3.api().make_bucket("filled", false).await?;
    let dir = fresh(PLACE, test)?;
    let proxy = Toxiproxy::start(dir.join("proxy"), PLACE.program.into(), s3.address()).await?;
    let mut config = settings(s3, &format!("http://{}", proxy.address()), "filled");
    config.spool_keep = Duration::from_secs(3600);
    config.timeout = Duration::from_secs(1);
    let mut replica = Replica::open(&records, Some(config)).await?;
    proxy.set_open(false).await?;
    let mut whole = Vec::new();
    while replica.store.ready().is_ok() {
        ensure!(whole.len() < 100, "the disk has no end");
        let mut author = Author::new()?;
        let Ok(recording) = replica.begin(author.session()).await else {
            break;
        };
        let sent = [author.open(), author.output(300_000), author.end()?].concat();
        append(&recording, sent.clone().into())?;
        if recording.finish(closing(), tests::PATIENCE).await.is_ok() {
            whole.push((author.session(), sent));
        }
    }
    ensure!(!whole.is_empty(), "nothing fitted");
    let why = replica.store.ready().err().unwrap_or_default();
    ensure!(why.contains("No space left"), "{why}");

    proxy.set_open(true).await?;
    until("the store works again", async || Ok(replica.store.ready().ok())).await?;
    let mut author = Author::new()?;
    whole.push((author.session(), replica.record(&mut author).await?.to_vec()));
    for (session, sent) in &whole {
        let copy = dir.join(session.to_string());
        until("it is served whole", async || {
            let served = replica.download(*session, &copy).await.is_ok();
            Ok((served && stream(&copy)? == *sent).then_some(()))
        })
        .await?;
    }

    // One that was killed in the middle of that leaves something aside.
    let day = std::fs::read_dir(records.join("records"))?.filter_map(|day| Some(day.ok()?.path()));
    let day = day.filter(|path| path.is_dir()).max().unwrap_or_default();
    let aside = day.join(format!(".{}.gone", author.session()));
    std::fs::create_dir(&aside)?;
    std::fs::write(aside.join("segment-000000.dwr"), "x")?;
    replica.reopen().await?;
    until("it is gone", async || Ok((!aside.exists()).then_some(()))).await?;
    replica.store.close().await;
    Ok(())
}
