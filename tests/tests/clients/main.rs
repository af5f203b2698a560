//! The matrix: every client that can be had, against a stock sshd and against Doorward, with the same probe.
//!
//! The probes lie in `tests/clients`, and `tests/clients/install` gets what they need. What passes with sshd must pass
//! with Doorward. A client that is not there is named, and fails the run where `CI` is set. The table is printed, and
//! written to `docs/clients.md` when `DOORWARD_REGENERATE` is set.

mod probe;
mod table;

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
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
        let Some((sshd, stock)) = both::stock(stand, "sshd", "")? else {
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
        let places = [place(stock, sshd.port()), place(Server::doorward(stand), bridge.port())];
        let (mut rows, mut absent) = (Vec::new(), Vec::new());
        let only = std::env::var("DOORWARD_CLIENT").ok();
        for probe in PROBES
            .iter()
            .filter(|probe| only.as_ref().is_none_or(|only| only == probe.client))
        {
            if probe.is_there() {
                let (theirs, ours) = tokio::join!(probe.run(&places[0]), probe.run(&places[1]));
                let pairs = Row::pair(probe.client, theirs?, ours?);
                println!("{pairs:#?}");
                rows.extend(pairs);
            } else {
                absent.push(probe.client);
            }
        }
        let table = table::written(&rows, &absent);
        println!("{table}");
        if std::env::var_os("DOORWARD_REGENERATE").is_some() && only.is_none() {
            let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/clients.md");
            std::fs::write(page, &table).context(page)?;
        }
        let worse: Vec<_> = rows.iter().filter(|row| row.is_worse()).collect();
        ensure!(worse.is_empty(), "works with sshd and not with doorward: {worse:#?}");
        ensure!(
            !everything_is_wanted() || absent.is_empty(),
            "not tried, for want of the program: {absent:?}; tests/clients/install gets them"
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
