//! Tokens that are bound to a key (RFC 9449): what a thief copies opens nothing, here or at Keycloak.

use std::fs;

use anyhow::{Result, ensure};
use doorward_audit::Event;
use doorward_dev::stack::{Flow, Stack};
use serde_json::Value;
use tests::folder::{Open, copy, doorward, token, tokens};
use tests::front::remote;
use tests::journal::journal;
use tests::raw::{Door, get};
use tests::until;

use crate::{client, developer, folder, on, realm, set};

#[test]
fn a_copied_token_without_its_key_opens_nothing() -> Result<()> {
    on(async |stack: &mut Stack| {
        let required = |config: &mut toml::Table| set(config, "oidc", "dpop", "required");
        stack.restart_gateway_with(required).await?;
        client(stack, &[(BIND, "true")]).await?;
        let done = bound(stack).await;
        client(stack, &[(BIND, "false")]).await?;
        done
    })
}

async fn bound(stack: &Stack) -> Result<()> {
    let nina = developer(stack, "nina").await?;
    stack.log_in(&nina, "nina", Flow::Code).await?;
    let status = doorward(&nina, &["status", "--json"]).await?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    ensure!(status["bound"] == true && status["user"] == "nina", "{status}");
    let outcome = remote(&nina, &[], "echo in", b"").await?;
    ensure!(outcome.stdout == b"in\n", "{}", outcome.said());

    // The token alone, in every way in which it can be shown.
    let stolen = token(nina.home(), "access-token")?;
    let door = Door::new(stack.gateway_address(), &stack.ca_file())?;
    for scheme in ["Bearer", "DPoP"] {
        let request = get("/v1/me", &format!("Authorization: {scheme} {stolen}\r\n"));
        let (_, reply) = door.ask(request).await?;
        ensure!(reply.status() == 401, "{scheme}: {}", reply.text());
        ensure!(reply.problem("code") == "proof-missing", "{scheme}: {}", reply.text());
    }
    // The refresh token alone: Keycloak wants the key as well.
    let refused = realm(stack)?
        .redeem("doorward", &token(nina.home(), "refresh-token")?)
        .await;
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("400"), "{refused}");

    // The whole file, without the key beside it.
    let loot = copy(stack, &nina, &folder("nina's loot"))?;
    let key = format!("dpop-{}.key", token(loot.home(), "dpop-key")?);
    fs::remove_file(loot.home().join(key))?;
    let late = doorward(&loot, &["ls", "--json"]).await?;
    ensure!(late.code == Some(77), "{:?}: {}", late.code, late.said());

    // With a key, which is the thief's own.
    let thief = developer(stack, "otto").await?;
    stack.log_in(&thief, "otto", Flow::Device).await?;
    let mut own: Value = serde_json::from_str(&tokens(thief.home())?)?;
    own["access-token"] = stolen.into();
    if let Some(own) = own.as_object_mut() {
        own.remove("refresh-token");
    }
    fs::write(thief.home().join("tokens.json"), own.to_string())?;
    let refused = doorward(&thief, &["ls", "--json"]).await?;
    ensure!(refused.code != Some(0), "{}", String::from_utf8_lossy(&refused.stdout));
    // The answer does not wait for the journal.
    for code in ["proof-missing", "proof-invalid"] {
        until(&format!("{code} on record"), async || {
            let denied = |event: &Event| matches!(event, Event::Denied(denied) if denied.code == code);
            Ok(journal(&stack.state_dir())?.iter().any(denied).then_some(()))
        })
        .await?;
    }

    // Her own login still works, and is refreshed by the key; open sessions are looked at through Keycloak as ever.
    for round in 0..2 {
        let before = token(nina.home(), "access-token")?;
        let mut stale: Value = serde_json::from_str(&tokens(nina.home())?)?;
        stale["expires-at"] = 1.into();
        fs::write(nina.home().join("tokens.json"), stale.to_string())?;
        let listed = doorward(&nina, &["ls", "--json"]).await?;
        ensure!(listed.code == Some(0), "round {round}: {}", listed.said());
        ensure!(token(nina.home(), "access-token")? != before, "nothing was refreshed");
    }
    let open = Open::start(&nina).await?;
    realm(stack)?.leave("nina", "developers").await?;
    let (code, said, _) = open.cut().await?;
    ensure!(
        code == Some(255) && said.contains("may no longer enter"),
        "{code:?}: {said}"
    );
    Ok(())
}

/// Keycloak's setting for a client whose tokens must be bound.
const BIND: &str = "dpop.bound.access.tokens";
