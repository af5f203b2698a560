//! The matrix: every client that can be had, against a stock sshd and against Doorward, with the same probe.
//!
//! The probes lie in `tests/clients`, and `tests/clients/install` gets what they need. What passes with sshd must pass
//! with Doorward. A client that is not there is named, and fails the run where `CI` is set. The table is printed, and
//! written to `docs/clients.md` when `DOORWARD_REGENERATE` is set.
//!
//! A client with a row that fails with Doorward alone is tried once more, against one server after the other; what works
//! then is told as unsteady. The matrix claims what is possible with a client, whose own races are not ours to mend; that
//! it works every time is what the other suites claim, of clients that we know.

mod probe;
mod table;

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use probe::{PROBES, Place, Probe, Row};
use tests::both::{self, Server};
use tests::bridge::Bridge;
use tests::echo_port::EchoPort;
use tests::{Shared, feed};

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        Shared::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "clients",
        )
    })
}

#[test]
fn what_works_with_sshd_works_with_doorward() -> Result<()> {
    stand().run(|stand| async move {
        let folder = stand.folder();
        let Some((sshd, server)) = both::stock(stand, "sshd", "")? else {
            ensure!(!everything_is_wanted(), "the matrix needs openssh-server");
            return Ok(());
        };
        let bridge = Bridge::start(stand.stack.client(), "devenv-0").await?;
        let echo = EchoPort::start().await?;
        let place = |server, port| Place {
            server,
            port,
            account: stand.stack.account().to_owned(),
            key: folder.join("sshd/user"),
            echo: echo.port(),
        };
        let places = [
            place(server, sshd.port()),
            place(Server::doorward(stand), bridge.port()),
        ];
        let only = std::env::var("DOORWARD_CLIENT").ok();
        let wanted = |probe: &&Probe| only.as_ref().is_none_or(|only| only == probe.client);
        let (there, absent): (Vec<_>, Vec<_>) = PROBES.iter().filter(wanted).partition(|probe| probe.is_there());
        let absent: Vec<_> = absent.into_iter().map(|probe| probe.client).collect();
        // One side often waits for the other, so there are two clients at a time.
        let [stock, doorward] = &places;
        let first = |probe: &'static Probe| async move {
            let (theirs, ours) = tokio::join!(probe.run(stock), probe.run(doorward));
            anyhow::Ok((probe, Row::pair(probe.client, theirs?, ours?)))
        };
        let first: Vec<_> = stream::iter(there).map(first).buffered(2).try_collect().await?;
        let (mut rows, mut unsteady) = (Vec::new(), Vec::new());
        for (probe, mut tried) in first {
            if tried.iter().any(Row::is_worse) {
                let (theirs, ours) = (probe.run(stock).await?, probe.run(doorward).await?);
                let both = Row::of_both_tries(tried, Row::pair(probe.client, theirs, ours));
                tried = both.0;
                unsteady.extend(both.1);
            }
            rows.extend(tried);
        }
        let table = table::written(&rows, &absent);
        println!("{table}");
        if std::env::var_os("DOORWARD_REGENERATE").is_some() && only.is_none() {
            let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/clients.md");
            std::fs::write(page, &table).context(page)?;
        }
        for row in &unsteady {
            println!("unsteady: {}", table::line(row));
        }
        // last, and short: whoever has only the end of a log has this
        let worse = rows.iter().filter(|row| row.is_worse()).map(table::line);
        let not_tried = absent.iter().filter(|_| everything_is_wanted());
        let not_tried = not_tried.map(|client| format!("{client}: not there; tests/clients/install gets it"));
        let wrong: Vec<_> = not_tried.chain(worse).collect();
        ensure!(
            wrong.is_empty(),
            "worse than with sshd, or not tried:\n{}",
            wrong.join("\n")
        );
        Ok(())
    })
}

fn everything_is_wanted() -> bool {
    std::env::var_os("CI").is_some()
}

/// Mosh starts a server by ssh and then speaks UDP to it, which no gateway carries: the person hears so at once.
#[test]
fn mosh_is_refused_with_the_reason() -> Result<()> {
    if !Probe::program_is_there("mosh") {
        ensure!(!everything_is_wanted(), "mosh is not installed");
        eprintln!("skipped: mosh is not installed");
        return Ok(());
    }
    stand().run(|stand| async move {
        let mut mosh = tokio::process::Command::new("mosh");
        mosh.arg(format!("--ssh=ssh -F {}", stand.stack.ssh_config().display()))
            .args(["--experimental-remote-ip=remote", "devenv-0"])
            .env("LC_ALL", "C.UTF-8");
        let outcome = feed(mosh, b"").await?;
        let said = outcome.said() + &String::from_utf8_lossy(&outcome.stdout);
        ensure!(outcome.code != Some(0), "mosh says that it worked: {said}");
        ensure!(said.contains("UDP"), "the reason is not told: {said}");
        Ok(())
    })
}
