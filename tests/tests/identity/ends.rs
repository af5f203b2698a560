//! What ends open sessions: who leaves the group, is disabled, or logs out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::stack::{Flow, Stack};
use tests::folder::{Open, doorward, token};
use tests::journal::journal;
use tests::until;

use crate::{developer, on, realm, set};

#[test]
fn whoever_leaves_or_is_disabled_loses_the_open_session() -> Result<()> {
    on(async |stack: &mut Stack| {
        stack.restart_gateway().await?;
        let lena = developer(stack, "lena").await?;
        stack.log_in(&lena, "lena", Flow::Device).await?;
        let state = stack.state_dir();
        let suspended = || {
            let all = journal(&state)?;
            let count = all.iter().filter(|event| matches!(event, Event::RecheckSuspended(_)));
            anyhow::Ok(count.count())
        };
        let before = suspended()?;

        // Out of the group: seen by the next look, though the token still has it.
        let open = Open::start(&lena).await?;
        realm(stack)?.leave("lena", "developers").await?;
        let (code, said, _) = open.cut().await?;
        ensure!(code == Some(255), "{code:?}: {said}");
        ensure!(said.contains("may no longer enter"), "{said}");
        realm(stack)?.join("lena", "developers").await?;

        // Keycloak away: nothing ends, until it is back and says so.
        let mut open = Open::start(&lena).await?;
        let keycloak = stack.keycloak().context("no Keycloak")?;
        keycloak.pause().await;
        let on_record = until("the outage is on record", async || {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok((suspended()? > before).then_some(()))
        });
        let on_record = on_record.await;
        let goes_on = open.echoes().await;
        keycloak.resume().await;
        on_record?;
        goes_on.context("the outage ended the session")?;
        realm(stack)?.enable("lena", false).await?;
        let (code, said, _) = open.cut().await?;
        ensure!(code == Some(255), "{code:?}: {said}");
        ensure!(said.contains("disabled"), "{said}");

        // The last recording is closed before its session's end is on record.
        let endings = until("both ends are on record", async || {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let codes = ends(stack, "lena")?;
            Ok((codes.len() == 2).then_some(codes))
        });
        let endings = endings.await?;
        ensure!(endings == ["revoked", "revoked"], "{endings:?}");
        ensure!(suspended()? == before + 1, "the outage is on record more than once");
        Ok(())
    })
}

/// Nobody asks Keycloak here: it says so itself, over TLS, to the gateway's own door.
#[test]
fn keycloak_says_who_logged_out_and_their_session_ends_at_once() -> Result<()> {
    on(async |stack: &mut Stack| {
        let seldom = |config: &mut toml::Table| set(config, "session", "recheck-interval", "1h");
        stack.restart_gateway_with(seldom).await?;
        let bystander = developer(stack, "tilda").await?;
        stack.log_in(&bystander, "tilda", Flow::Device).await?;
        let mut untouched = Open::start(&bystander).await?;
        for (name, by_admin) in [("sara", true), ("sven", false)] {
            let client = developer(stack, name).await?;
            stack.log_in(&client, name, Flow::Device).await?;
            let open = Open::start(&client).await?;
            if by_admin {
                realm(stack)?.delete_sessions(name).await?;
            } else {
                let refresh_token = token(client.home(), "refresh-token")?;
                realm(stack)?.log_out_by("doorward", &refresh_token).await?;
            }
            let (code, said, _) = open.cut().await?;
            ensure!(code == Some(255), "{name}: {code:?}: {said}");
            ensure!(
                said.contains("you were logged out at the identity provider"),
                "{name}: {said}"
            );
            let on_record = until("the end on record", async || {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok((ends(stack, name)? == ["revoked"]).then_some(()))
            });
            on_record.await?;
            // Its dates say that the token is good for minutes; and there is none to be had for it.
            let late = doorward(&client, &["ls", "--json"]).await?;
            ensure!(late.code == Some(77), "{name}: {:?}: {}", late.code, late.said());
            ensure!(late.said().contains("doorward login"), "{name}: {}", late.said());
        }
        untouched.echoes().await.context("somebody else's session ended")?;
        let ended: Vec<u64> = journal(&stack.state_dir())?
            .into_iter()
            .filter_map(|event| match event {
                Event::LoggedOut(it) if it.sessions > 0 => Some(it.sessions),
                _ => None,
            })
            .collect();
        ensure!(ended == [1, 1], "{ended:?}");
        Ok(())
    })
}

/// The codes with which a person's sessions ended, as the journal has them.
fn ends(stack: &Stack, name: &str) -> Result<Vec<String>> {
    let all = journal(&stack.state_dir())?;
    let own: Vec<_> = all
        .iter()
        .filter_map(|event| match event {
            Event::SessionOpened(it) if it.user == name => Some(it.session),
            _ => None,
        })
        .collect();
    let codes = all.into_iter().filter_map(|event| match event {
        Event::SessionEnded(it) if own.contains(&it.session) => Some(it.code),
        _ => None,
    });
    Ok(codes.collect())
}
