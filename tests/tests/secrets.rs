//! Tokens are shown to the gateway, and to nobody and nothing else.

use std::collections::HashSet;
use std::future::Future;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::front::{At, Front, remote, ssh, token};
use tests::journal::recorded;
use tests::raw::{UPGRADE, get, metric, plain, tunnel};
use tests::{Stand, until};

fn on<F: Future<Output = Result<()>>>(test: impl FnOnce(&'static Stand, &'static At) -> F) -> Result<()> {
    static FRONT: OnceLock<Front> = OnceLock::new();
    let start = || {
        Front::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "secrets",
        )
    };
    FRONT.get_or_init(start).run(test)
}

/// All pieces of a secret that are long enough to be of use.
struct Secrets(HashSet<Vec<u8>>);

const PIECE: usize = 16;

impl Secrets {
    fn add(&mut self, secret: &str) {
        self.0.extend(secret.as_bytes().windows(PIECE).map(<[u8]>::to_vec));
    }

    fn found_in(&self, bytes: &[u8]) -> Option<String> {
        let found = bytes.windows(PIECE).find(|window| self.0.contains(*window));
        found.map(|piece| String::from_utf8_lossy(piece).into_owned())
    }

    fn nowhere_below(&self, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink() || KEEPERS.contains(&name.as_str()) || name.ends_with(".join") {
                continue;
            }
            if path.is_dir() {
                self.nowhere_below(&path)?;
                if path.join("segment-000000.dwr").exists() {
                    let events = format!("{:?}", recorded(&path)?);
                    ensure!(
                        self.found_in(events.as_bytes()).is_none(),
                        "a secret is recorded in {}",
                        path.display()
                    );
                }
            } else if let Ok(bytes) = std::fs::read(&path) {
                let found = self.found_in(&bytes);
                ensure!(
                    found.is_none(),
                    "{} holds a piece of a secret: {found:?}",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

/// Files whose purpose is to keep a secret.
const KEEPERS: [&str; 1] = ["tokens.json"];

#[test]
fn a_token_stands_in_no_log_journal_metric_record_or_argument() -> Result<()> {
    on(|stand, At { second, bob, carol }| async move {
        let mut secrets = Secrets(HashSet::new());
        let kept = std::fs::read_to_string(bob.home().join("tokens.json"))?;
        for name in ["access-token", "refresh-token"] {
            let tokens: Value = serde_json::from_str(&kept)?;
            secrets.add(tokens[name].as_str().context(name)?);
        }
        ensure!(
            secrets.found_in(kept.as_bytes()).is_some(),
            "the search does not find what is there"
        );
        let good = second.issuer.access_token("bob")?;
        let expired = token(second, "bob", |claims| claims["exp"] = json!(1_000_000_000))?;
        let forged = good[..good.rfind('.').context("no signature")?].to_owned() + "." + &"QUJDRGZn".repeat(10);
        let garbage = "c2VjcmV0LWdhcmJhZ2Ut".repeat(8);
        let door = second.door()?;
        let mut answers = String::new();
        for token in [&good, &expired, &forged, &garbage] {
            secrets.add(token);
            for request in [
                tunnel("devenv-9", token),
                get("/v1/workspaces", &format!("Authorization: Bearer {token}\r\n")),
                get(&format!("/v1/connect/devenv-0?access_token={token}"), UPGRADE),
                get(&format!("/v1/connect/{token}"), UPGRADE),
                get(
                    "/v1/workspaces",
                    &format!("Authorization: Bearer {token}\r\n").repeat(2),
                ),
                get("/v1/workspaces", &format!("Authorization: Bearer {token}\0\r\n")),
            ] {
                answers += &door.ask(request).await?.1.text();
            }
        }
        let outcome = remote(carol, &["-v"], "true", b"").await?;
        answers += &outcome.said();
        let mut running = ssh(bob, &["-v"]);
        let mut running = running
            .arg("cat")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        until("bob's session", async || {
            Ok((metric(second.admin, "doorward_sessions").await? >= 1.0).then_some(()))
        })
        .await?;
        for arguments in std::fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path().join("cmdline"))) {
            let arguments = std::fs::read(arguments).unwrap_or_default();
            ensure!(
                secrets.found_in(&arguments).is_none(),
                "{}",
                String::from_utf8_lossy(&arguments)
            );
        }
        drop(running.stdin.take());
        answers += &String::from_utf8_lossy(&running.wait_with_output().await?.stderr);
        answers += &plain(second.admin, "/metrics").await?;
        answers += &plain(stand.stack.admin_address(), "/metrics").await?;
        ensure!(
            secrets.found_in(answers.as_bytes()).is_none(),
            "an answer shows {:?}",
            secrets.found_in(answers.as_bytes())
        );
        secrets.nowhere_below(stand.folder())
    })
}
