//! What goes on without a person: an offline login after Keycloak's session, an open session after its token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use doorward_dev::stack::{ClientFolder, Flow, Stack};
use serde_json::Value;
use tests::Outcome;
use tests::folder::{Open, copy, doorward, token, tokens};
use tests::front::remote;
use tests::until;
use tokio::time::sleep;

use crate::{client, developer, folder, on, realm, set};

/// With an access token that lives for so long every command refreshes.
async fn short_lived(stack: &Stack) -> Result<()> {
    client(stack, &[(LIFE, "10")]).await
}

async fn as_before(stack: &Stack) -> Result<()> {
    client(stack, &[(LIFE, "300")]).await
}

#[test]
fn an_offline_login_outlives_the_session_at_keycloak_until_it_is_revoked() -> Result<()> {
    on(async |stack: &mut Stack| {
        stack.restart_gateway().await?;
        short_lived(stack).await?;
        let done = offline(stack).await;
        as_before(stack).await?;
        done
    })
}

async fn offline(stack: &Stack) -> Result<()> {
    let (lasting, usual) = (developer(stack, "olga").await?, developer(stack, "olaf").await?);
    stack
        .log_in_with(&lasting, "olga", Flow::Device, &["--offline"])
        .await?;
    stack.log_in(&usual, "olaf", Flow::Device).await?;
    for (client, offline) in [(&lasting, true), (&usual, false)] {
        let status = doorward(client, &["status", "--json"]).await?;
        let status: Value = serde_json::from_slice(&status.stdout)?;
        ensure!(status["offline"] == offline, "{status}");
    }
    for name in ["olga", "olaf"] {
        realm(stack)?.delete_sessions(name).await?;
        ensure!(realm(stack)?.logins_of(name).await? == 0, "{name} has a session");
    }
    let over = until_refused(&usual).await?;
    ensure!(over.said().contains("doorward login"), "{}", over.said());

    // What was issued before Keycloak said that the session is over is refused; what is fetched after that is not.
    let before = token(lasting.home(), "access-token")?;
    let listed = until("a fresh token opens the gateway", async || {
        sleep(Duration::from_millis(200)).await;
        let listed = doorward(&lasting, &["ls", "--json"]).await?;
        Ok((listed.code == Some(0) && token(lasting.home(), "access-token")? != before).then_some(listed))
    });
    let listed = String::from_utf8(listed.await?.stdout)?;
    ensure!(listed.contains("devenv-0"), "{listed}");
    let outcome = remote(&lasting, &[], "echo in", b"").await?;
    ensure!(outcome.stdout == b"in\n", "{}", outcome.said());

    ensure!(realm(stack)?.offline_logins_of("olga", "doorward").await? == 1);
    let stolen = copy(stack, &lasting, &folder("olga's stolen tokens"))?;
    let out = doorward(&lasting, &["logout"]).await?;
    ensure!(out.code == Some(0), "{}", out.said());
    ensure!(
        realm(stack)?.offline_logins_of("olga", "doorward").await? == 0,
        "Keycloak still has the offline login"
    );
    let refresh_token = token(stolen.home(), "refresh-token")?;
    let refused = realm(stack)?.redeem("doorward", &refresh_token).await;
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("400"), "{refused}");
    let over = until_refused(&stolen).await?;
    ensure!(over.said().contains("doorward login"), "{}", over.said());
    Ok(())
}

async fn until_refused(client: &ClientFolder) -> Result<Outcome> {
    until("the login is over", async || {
        sleep(Duration::from_millis(200)).await;
        let outcome = doorward(client, &["ls", "--json"]).await?;
        Ok((outcome.code == Some(77)).then_some(outcome))
    })
    .await
}

/// Without introspection: then fresh tokens from the laptop are all that keeps a session open.
#[test]
fn an_open_session_outlives_its_token_by_fresh_ones_and_not_by_more() -> Result<()> {
    on(async |stack: &mut Stack| {
        let strict = |config: &mut toml::Table| {
            set(config, "session", "recheck-interval", "1s");
            set(config, "session", "renew-grace", "2s");
            if let Some(oidc) = config.get_mut("oidc").and_then(toml::Value::as_table_mut) {
                oidc.remove("introspection");
            }
        };
        stack.restart_gateway_with(strict).await?;
        short_lived(stack).await?;
        let done = renewed(stack).await;
        as_before(stack).await?;
        done
    })
}

async fn renewed(stack: &Stack) -> Result<()> {
    let rita = developer(stack, "rita").await?;
    stack.log_in(&rita, "rita", Flow::Device).await?;
    let mut open = Open::start(&rita).await?;
    let all: Value = serde_json::from_str(&tokens(rita.home())?)?;
    let end = all["expires-at"].as_u64().context("no end")?;
    let first = token(rita.home(), "access-token")?;
    // Past its end, the grace and a look.
    until("the first token's end, and more", async || {
        open.echoes().await?;
        sleep(Duration::from_millis(200)).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok((now > end + 2 + 1 + 2).then_some(()))
    })
    .await?;
    ensure!(token(rita.home(), "access-token")? != first, "nothing was renewed");

    // Another program of hers logs out: the refresh token is gone at Keycloak, and nobody tells the gateway.
    let other = copy(stack, &rita, &folder("rita's other"))?;
    let out = doorward(&other, &["logout"]).await?;
    ensure!(out.code == Some(0), "{}", out.said());
    let (code, said, _) = open.cut().await?;
    ensure!(code == Some(255), "{code:?}: {said}");
    ensure!(
        said.contains("your login was not renewed for 2s after its end; connect again"),
        "{said}"
    );
    ensure!(
        said.contains("this session's right was not renewed: the login at"),
        "{said}"
    );
    Ok(())
}

/// Keycloak's setting for the life of a client's access tokens, in seconds.
const LIFE: &str = "access.token.lifespan";
