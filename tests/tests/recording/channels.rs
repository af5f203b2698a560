//! Many small channels in one session, and a session without any.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tests::journal::recorded;
use tests::stored::session;
use tests::{PATIENCE, feed, until};
use tokio::time::timeout;

use crate::stand;

const MANY: usize = 100;

#[test]
fn each_of_many_small_channels_is_on_record_and_so_is_none() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let place = tempfile::tempdir()?;
        let socket = place.path().join("master");
        let socket = socket.to_str().context("a path in UTF-8")?;
        for many in [MANY, 0] {
            let before = stand.before().await?;
            let mut master = stand.ssh(&["-M", "-S", socket, "-N"], "devenv-1");
            let mut master = master.stderr(Stdio::null()).spawn()?;
            until("the session is open", async || {
                let check = stand.ssh(&["-S", socket, "-O", "check"], "devenv-1");
                Ok((feed(check, b"").await?.code == Some(0)).then_some(()))
            })
            .await?;
            let shown = stream::iter(0..many).map(async |number| {
                let told = stand
                    .run(&["-S", socket], "devenv-1", &format!("echo {number}"), b"")
                    .await?;
                ensure!(
                    told.stdout == format!("{number}\n").as_bytes(),
                    "{number}: {:?}: {}",
                    told.code,
                    told.said()
                );
                anyhow::Ok(())
            });
            shown.buffer_unordered(8).try_collect::<Vec<()>>().await?;
            feed(stand.ssh(&["-S", socket, "-O", "exit"], "devenv-1"), b"").await?;
            timeout(PATIENCE, master.wait()).await.context("it does not end")??;
            let entries = stand.ended_since(&before, 1).await?;
            ensure!(entries.len() == 1, "{entries:?}");
            let id = session(&entries[0])?;
            let verdict = stand.verdict(id).await?;
            ensure!(verdict == "complete", "{verdict}");
            let events = recorded(&stand.stored(id)?)?;
            let mut told: Vec<String> = events
                .iter()
                .filter_map(|event| match event {
                    Event::Output(output) => Some(String::from_utf8_lossy(&output.bytes).into_owned()),
                    _ => None,
                })
                .collect();
            told.sort_unstable();
            let mut expected: Vec<String> = (0..many).map(|number| format!("{number}\n")).collect();
            expected.sort_unstable();
            ensure!(told == expected, "{told:?}");
            let covered = events.iter().find_map(|event| match event {
                Event::Coverage(covered) => Some(covered),
                _ => None,
            });
            let covered = covered.context("no coverage")?;
            let bytes: usize = expected.iter().map(String::len).sum();
            ensure!(
                covered.channels as usize == many && covered.bytes_recorded == bytes as u64,
                "{covered:?}"
            );
        }
        Ok(())
    })
}
