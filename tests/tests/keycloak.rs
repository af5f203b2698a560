//! A real Keycloak: people log in on its pages, and what is changed or broken there is felt at the gateway.
//!
//! One Keycloak for the file. Access tokens live for seconds here, so that every command refreshes; each test has people of
//! its own. Tests that stop the server are alone while they do.

use std::process::Stdio;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::parts::KEYCLOAK;
use doorward_dev::parts::keycloak::Realm;
use doorward_dev::stack::{ClientFolder, Flow, Real};
use futures_util::future::join_all;
use tests::folder::{Open, copy, doorward, tokens};
use tests::front::{remote, ssh};
use tests::journal::journal;
use tests::parts::{Place, can_be_had, name_of};
use tests::{Shared, Stand, feed, until};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "keycloak",
};
/// The life of an access token.
const LIFE: Duration = Duration::from_secs(10);
/// How long the gateway may take to see that somebody is out: its interval and an answer; and a slow machine.
const BOUND: Duration = Duration::from_secs(1 + 4 + 15);

/// A person is told within 5 s what is down; a loaded machine needs more for starting ssh alone.
const TOLD: Duration = Duration::from_secs(5 + 5);

/// Whether a test minds when Keycloak stops.
enum Weather {
    Fair,
    Stormy,
}

fn on<F: Future<Output = Result<()>>>(weather: Weather, test: impl FnOnce(&'static Stand) -> F) -> Result<()> {
    static STAND: OnceLock<Option<Shared>> = OnceLock::new();
    static CALM: RwLock<()> = RwLock::new(());
    let name = name_of(&test);
    let runtime = tokio::runtime::Runtime::new()?;
    if !runtime.block_on(can_be_had(&[&KEYCLOAK], PLACE, name))? {
        return Ok(());
    }
    let start = || {
        let real = Real {
            keycloak: true,
            ..Real::default()
        };
        let shared = Shared::start_on(PLACE.program, PLACE.tmp, PLACE.file, real);
        shared.run(shorten).ok()?;
        Some(shared)
    };
    let shared = STAND
        .get_or_init(start)
        .as_ref()
        .context("the realm cannot be changed")?;
    match weather {
        Weather::Fair => {
            let _fair = CALM.read().unwrap_or_else(PoisonError::into_inner);
            shared.run(test)
        }
        Weather::Stormy => {
            let _alone = CALM.write().unwrap_or_else(PoisonError::into_inner);
            shared.run(test)
        }
    }
}

async fn shorten(stand: &Stand) -> Result<()> {
    let life = LIFE.as_secs().to_string();
    let client = realm(stand)?.change_client("doorward", |client| {
        client["attributes"]["access.token.lifespan"] = life.into();
    });
    Ok(client.await?)
}

fn realm(stand: &Stand) -> Result<&Realm> {
    stand.stack.realm().context("no realm")
}

/// The second that it is, of this machine's clock and so of Keycloak's.
fn second() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// Somebody new in `developers`, logged in.
async fn developer(stand: &Stand, name: &str) -> Result<ClientFolder> {
    realm(stand)?.add_person(name).await?;
    realm(stand)?.join(name, "developers").await?;
    Ok(stand.stack.login(name, &stand.folder().join(name)).await?)
}

#[test]
fn people_log_in_on_its_pages_and_their_groups_come_along() -> Result<()> {
    on(Weather::Fair, |stand| async move {
        let stack = &stand.stack;
        let dora = developer(stand, "dora").await?;
        // Once more with the browser, in the same folder: another login of the same person.
        stack.log_in(&dora, "dora", Flow::Code).await?;
        let listed = doorward(&dora, &["ls", "--json"]).await?;
        let listed = String::from_utf8(listed.stdout)?;
        ensure!(listed.contains("devenv-0") && listed.contains("devenv-1"), "{listed}");
        let outcome = remote(&dora, &[], "echo in", b"").await?;
        ensure!(outcome.stdout == b"in\n", "{}", outcome.said());
        let wrong = stack.client_folder(&stand.folder().join("nobody"))?;
        ensure!(
            stack.log_in(&wrong, "nobody", Flow::Device).await.is_err(),
            "there is no such person"
        );

        // In no group: the token has no such claim at all.
        let mallory = stack.login("mallory", &stand.folder().join("mallory")).await?;
        let listed = doorward(&mallory, &["ls", "--json"]).await?;
        ensure!(!String::from_utf8_lossy(&listed.stdout).contains("devenv"));
        let mut texts = Vec::new();
        for workspace in ["devenv-0", "devenv-9"] {
            let refused = doorward(&mallory, &["connect", workspace]).await?;
            ensure!(refused.code == Some(77), "{:?}: {}", refused.code, refused.said());
            texts.push(refused.said().replace(workspace, "NAME"));
        }
        ensure!(texts[0] == texts[1], "{texts:?}");
        Ok(())
    })
}

/// Keycloak takes the newest refresh token away as well when an old one is used again: what many processes do at once
/// must be one refresh after the other.
#[test]
fn many_refresh_at_once_and_nobody_is_logged_out() -> Result<()> {
    on(Weather::Fair, |stand| async move {
        let erin = developer(stand, "erin").await?;
        let before = tokens(erin.home())?;
        let old = copy(&stand.stack, &erin, &stand.folder().join("erin's old tokens"))?;
        let copied = second();
        for round in 0..2 {
            let many = join_all((0..6).map(|_| doorward(&erin, &["ls", "--json"]))).await;
            for outcome in many {
                let outcome = outcome?;
                ensure!(outcome.code == Some(0), "round {round}: {}", outcome.said());
            }
        }
        ensure!(
            tokens(erin.home())? != before,
            "nothing was refreshed: this proves nothing"
        );
        let logins = realm(stand)?.logins_of("erin").await?;
        ensure!(logins == 1, "{logins} logins");

        // The same with the old token: Keycloak means it, but counts in seconds; a token of the second in which another was
        // used last is still good.
        until("a refresh in a later second", async || {
            let later = second() > copied;
            let outcome = doorward(&erin, &["ls", "--json"]).await?;
            ensure!(outcome.code == Some(0), "{}", outcome.said());
            Ok(later.then_some(()))
        })
        .await?;
        // What is left of the old access token still serves.
        let late = until("the old access token's end", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let outcome = doorward(&old, &["ls", "--json"]).await?;
            Ok((outcome.code == Some(77)).then_some(outcome))
        });
        let late = late.await?;
        ensure!(late.said().contains("doorward login"), "{}", late.said());
        Ok(())
    })
}

#[test]
fn logout_takes_the_login_away_at_keycloak() -> Result<()> {
    on(Weather::Fair, |stand| async move {
        let frank = developer(stand, "frank").await?;
        let stolen = copy(&stand.stack, &frank, &stand.folder().join("frank's stolen tokens"))?;
        ensure!(realm(stand)?.logins_of("frank").await? == 1);
        let out = doorward(&frank, &["logout"]).await?;
        ensure!(out.code == Some(0), "{}", out.said());
        ensure!(
            realm(stand)?.logins_of("frank").await? == 0,
            "Keycloak still has the login"
        );
        until("the end of the copied tokens", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok((doorward(&stolen, &["ls", "--json"]).await?.code == Some(77)).then_some(()))
        })
        .await
    })
}

#[test]
fn who_leaves_the_group_or_is_disabled_loses_open_sessions_with_a_sentence() -> Result<()> {
    on(Weather::Fair, |stand| async move {
        for (name, disable) in [("gina", false), ("hugo", true)] {
            let client = developer(stand, name).await?;
            let mut open = Open::start(&client).await?;
            open.echoes().await?;
            if disable {
                realm(stand)?.enable(name, false).await?;
            } else {
                realm(stand)?.leave(name, "developers").await?;
            }
            let (code, said, took) = open.cut().await?;
            ensure!(code == Some(255), "{name}: {code:?}: {said}");
            ensure!(said.contains("the session was ended"), "{name}: {said}");
            ensure!(took < BOUND, "{name}: after {took:?}");
            let on_record = until("the entry in the journal", async || {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let journal = journal(&stand.stack.state_dir())?;
                let opened = journal.iter().find_map(|event| match event {
                    Event::SessionOpened(it) if it.user == name => Some(it.session),
                    _ => None,
                });
                let ended = |event: &Event| matches!(event, Event::SessionEnded(it) if Some(it.session) == opened && it.code == "revoked");
                Ok(journal.iter().any(ended).then_some(()))
            });
            on_record.await?;
            // A new session is refused with the end of the token, which lives for seconds here.
            until("the end of the last token", async || {
                let mut again = ssh(&client, &[]);
                again.arg("true").env("DOORWARD_NO_LOGIN", "1");
                Ok((feed(again, b"").await?.code == Some(255)).then_some(()))
            })
            .await?;
        }
        Ok(())
    })
}

#[test]
fn new_signing_keys_are_believed_without_a_restart() -> Result<()> {
    on(Weather::Stormy, |stand| async move {
        let ivan = developer(stand, "ivan").await?;
        let key = realm(stand)?.add_key(200).await?;
        realm(stand)?.remove_other_keys(&key).await?;
        // Unknown keys are asked for once in a while, not at once.
        until("a token of the new key is good", async || {
            let outcome = remote(&ivan, &[], "echo in", b"").await?;
            Ok((outcome.stdout == b"in\n").then_some(()))
        })
        .await
    })
}

#[test]
fn while_keycloak_hangs_or_is_gone_sessions_go_on_and_new_ones_are_told_whom_to_ask() -> Result<()> {
    on(Weather::Stormy, |stand| async move {
        let keycloak = stand.stack.keycloak().context("no Keycloak")?;
        let judy = developer(stand, "judy").await?;
        let mut open = Open::start(&judy).await?;
        let address = keycloak.url().trim_start_matches("http://").to_owned();
        for hang in [true, false] {
            if hang {
                keycloak.pause().await;
            } else {
                keycloak.kill().await;
            }
            // Until then the old token is good, and so is the gateway's knowledge of the keys.
            tokio::time::sleep(LIFE).await;
            let told = first_word(&judy).await;
            let went_on = open.echoes().await;
            if hang {
                keycloak.resume().await;
            } else {
                keycloak.restart().await?;
            }
            went_on?;
            let (said, after, mut waiting) = told?;
            ensure!(said.contains(&address), "hang {hang}: {said}");
            ensure!(after < TOLD, "hang {hang}: told after {after:?}: {said}");
            // Who waited for a server that hung gets in once it goes on; nobody waits for one that is gone.
            let ended = timeout(tests::PATIENCE, waiting.wait()).await.context("ssh hangs")??;
            ensure!(ended.success() == hang, "hang {hang}: {ended}");
            until("ssh works again", async || {
                let outcome = remote(&judy, &[], "echo in", b"").await?;
                Ok((outcome.stdout == b"in\n").then_some(()))
            })
            .await?;
            open.echoes().await?;
        }
        Ok(())
    })
}

/// What a new ssh says first, and when.
async fn first_word(client: &ClientFolder) -> Result<(String, Duration, Child)> {
    let begun = Instant::now();
    let mut child = ssh(client, &[])
        .arg("true")
        .env("DOORWARD_NO_LOGIN", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
    let line = timeout(tests::PATIENCE, lines.next_line())
        .await
        .context("not a word")??;
    child.stderr = Some(lines.into_inner().into_inner());
    Ok((line.unwrap_or_default(), begun.elapsed(), child))
}
