//! One connection for many: shared channels, keepalives, nothing to run, and what an auditor of servers says.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::both::{Server, both};
use tests::{Stand, feed, until};
use tokio::process::{Child, Command};

use crate::{has, stand};

/// A connection that others use.
struct Master {
    socket: PathBuf,
    child: Child,
}

impl Master {
    async fn start(stand: &Stand, server: &Server) -> Result<Self> {
        // A socket's path is short; the stand's folder may not be.
        let folder = tempfile::Builder::new().prefix("mux").tempdir_in("/tmp")?.keep();
        let socket = folder.join(server.name);
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(server.config())
            .args(["-M", "-N", "-o", "RekeyLimit=256K", "-S"])
            .arg(&socket)
            .arg(server.host())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(
                stand.folder().join(format!("master-{}", server.name)),
            )?)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        until("the shared connection", async || {
            ensure!(child.try_wait()?.is_none(), "the master ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(socket.exists().then_some(()))
        })
        .await?;
        Ok(Self { socket, child })
    }

    fn ssh(&self, server: &Server, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(server.config())
            .arg("-S")
            .arg(&self.socket)
            .args(options)
            .arg(server.host());
        command
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Some(folder) = self.socket.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

#[test]
fn fifty_channels_of_one_connection_at_once_each_get_their_own() -> Result<()> {
    stand().run(|stand| async move {
        both(stand, "fifty", "", async |server| {
            let mut master = Master::start(stand, server).await?;
            let checked = feed(master.ssh(server, &["-O", "check"]), b"").await?;
            ensure!(checked.said().contains("Master running"), "{}", checked.said());
            for round in 0..2 {
                let all = (0..50).map(|number| {
                    let mut command = master.ssh(server, &["-o", "ControlMaster=no"]);
                    command.arg(format!("read a; echo $a {number} {round}; exit {number}"));
                    async move { feed(command, b"in\n").await }
                });
                for (number, outcome) in futures_util::future::join_all(all).await.into_iter().enumerate() {
                    let outcome = outcome?;
                    ensure!(
                        outcome.stdout == format!("in {number} {round}\n").as_bytes()
                            && outcome.code == i32::try_from(number).ok(),
                        "{number}: {:?} {}",
                        outcome.code,
                        outcome.said()
                    );
                }
            }
            let stopped = feed(master.ssh(server, &["-O", "exit"]), b"").await?;
            ensure!(stopped.code == Some(0), "{}", stopped.said());
            tokio::time::timeout(tests::PATIENCE, master.child.wait())
                .await
                .context("the master does not end")??;
            Ok(())
        })
        .await
    })
}

/// The shared connection changes its keys every 256 KiB, with data under way in every channel.
#[test]
fn e09_new_keys_under_eight_transfers_lose_nothing() -> Result<()> {
    stand().run(|stand| async move {
        let bytes = tests::noise(1 << 20);
        both(stand, "keys", "", async |server| {
            let master = Master::start(stand, server).await?;
            let all = (0..8).map(|_| {
                let mut command = master.ssh(server, &["-o", "ControlMaster=no"]);
                command.arg("cat");
                feed(command, &bytes)
            });
            for outcome in futures_util::future::join_all(all).await {
                let outcome = outcome?;
                ensure!(
                    outcome.stdout == bytes,
                    "{} bytes: {}",
                    outcome.stdout.len(),
                    outcome.said()
                );
                ensure!(outcome.code == Some(0), "{:?}", outcome.code);
            }
            Ok(())
        })
        .await
    })
}

/// A client that asks whether anybody is there gets an answer, also where nothing runs.
#[test]
fn keepalives_are_answered() -> Result<()> {
    stand().run(|stand| async move {
        both(stand, "alive", "", async |server| {
            let options = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
            let outcome = server.run(&options, "sleep 6; echo there", b"").await?;
            ensure!(
                outcome.stdout == b"there\n" && outcome.code == Some(0),
                "{:?}: {}",
                outcome.code,
                outcome.said()
            );
            Ok(())
        })
        .await
    })
}

#[test]
fn a_connection_without_a_command_stays_until_it_is_ended() -> Result<()> {
    stand().run(|stand| async move {
        both(stand, "nothing", "", async |server| {
            let mut child = server
                .ssh(&["-N"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let early = tokio::time::timeout(Duration::from_secs(3), child.wait()).await;
            ensure!(early.is_err(), "it ended by itself: {early:?}");
            child.kill().await?;
            Ok(())
        })
        .await
    })
}

/// Keys, certificates and passwords are never asked for; a client that has none comes in.
#[test]
fn nobody_is_asked_for_a_password() -> Result<()> {
    stand().run(|stand| async move {
        let server = Server::doorward(stand);
        for methods in [
            "none,password",
            "password",
            "keyboard-interactive",
            "publickey,password",
        ] {
            let preferred = format!("PreferredAuthentications={methods}");
            let options = [
                "-o",
                &preferred,
                "-o",
                "NumberOfPasswordPrompts=1",
                "-o",
                "IdentityFile=none",
            ];
            let outcome = server.run(&options, "echo in", b"").await?;
            ensure!(
                outcome.stdout == b"in\n" && outcome.stderr.is_empty(),
                "{methods}: {:?}: {}",
                outcome.code,
                outcome.said()
            );
        }
        Ok(())
    })
}

/// The auditor finds nothing that it calls a failure.
#[test]
fn an_audit_of_the_algorithms_finds_no_failure() -> Result<()> {
    if !has("ssh-audit") {
        return Ok(());
    }
    stand().run(|stand| async move {
        let bridge = tests::bridge::Bridge::start(stand.stack.client(), "devenv-0").await?;
        let mut audit = Command::new("ssh-audit");
        audit.args([
            "--json",
            "--skip-rate-test",
            "-p",
            &bridge.port().to_string(),
            "127.0.0.1",
        ]);
        let outcome = feed(audit, b"").await?;
        let found: serde_json::Value = serde_json::from_slice(&outcome.stdout)
            .with_context(|| format!("{:?}: {}", outcome.code, outcome.said()))?;
        let mut failures = Vec::new();
        for kind in ["kex", "key", "enc", "mac"] {
            let algorithms = found
                .get(kind)
                .and_then(serde_json::Value::as_array)
                .context("no list")?;
            ensure!(!algorithms.is_empty(), "no {kind} at all");
            for algorithm in algorithms {
                let notes = algorithm.get("notes");
                let fails = notes
                    .and_then(|notes| notes.get("fail"))
                    .and_then(serde_json::Value::as_array);
                if fails.is_some_and(|fails| !fails.is_empty()) {
                    failures.push(algorithm.to_string());
                }
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    })
}
