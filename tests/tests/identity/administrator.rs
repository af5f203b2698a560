//! The set-up for Keycloak that is shipped: the script fills an empty realm, and people log in with what it made.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_dev::parts::keycloak::{ADMINISTRATOR, Realm};
use doorward_dev::stack::{Flow, Stack};
use serde_json::json;
use tests::folder::{Open, doorward, token};
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::{folder, on, set};

/// A realm for the script, and what the script is told.
struct Ground {
    realm: Realm,
    keycloak: String,
    gateway: String,
    kcadm: PathBuf,
}

/// Its programs take longer than everything else here, and do not want the gateway: the other tests have the stack then.
#[test]
fn the_script_fills_an_empty_realm_once_and_people_log_in_there() -> Result<()> {
    let mut ground = None;
    on(async |stack: &mut Stack| {
        let keycloak = stack.keycloak().context("no Keycloak")?;
        let empty = json!({"realm": "work", "enabled": true});
        ground = Some(Ground {
            realm: keycloak.add_realm(&empty, None).await?,
            keycloak: keycloak.url(),
            gateway: stack.gateway_url(),
            kcadm: keycloak.found().path.join("bin/kcadm.sh"),
        });
        Ok(())
    })?;
    // Without a Keycloak there is none, which has been said.
    let Some(ground) = ground else { return Ok(()) };
    Runtime::new()?.block_on(filled(&ground))?;
    on(async |stack: &mut Stack| used(stack, &ground).await)
}

async fn filled(ground: &Ground) -> Result<()> {
    let login = folder("kcadm.config");
    let mut credentials = lean(Command::new(&ground.kcadm));
    credentials
        .args(["config", "credentials", "--server", &ground.keycloak])
        .args(["--realm", "master", "--user", ADMINISTRATOR.0])
        .args(["--password", ADMINISTRATOR.1, "--config"])
        .arg(&login);
    let said = run(credentials).await?;
    ensure!(said.status.success(), "{said:?}");

    let script = || {
        let mut script = lean(Command::new(SCRIPT));
        script.args(["--realm", "work", "--gateway", &ground.gateway, "--kcadm"]);
        script.arg(&ground.kcadm).arg("--config").arg(&login);
        script
    };
    let made = run(script()).await?;
    let made = text(&made)?;
    ensure!(
        made.contains("+ client doorward\n") && made.contains("+ group developers\n"),
        "{made}"
    );
    ensure!(!made.contains("! "), "{made}");
    let again = run(script()).await?;
    let again = text(&again)?;
    ensure!(again.ends_with("\nnothing to do\n"), "{again}");
    Ok(())
}

async fn used(stack: &mut Stack, ground: &Ground) -> Result<()> {
    let realm = &ground.realm;
    // Its gateway client has a secret that nobody told us; the tokens are enough for this.
    let issuer = realm.issuer();
    let elsewhere = |config: &mut toml::Table| {
        set(config, "oidc", "issuer", &issuer);
        set(config, "session", "recheck-interval", "1h");
        if let Some(oidc) = config.get_mut("oidc").and_then(toml::Value::as_table_mut) {
            oidc.remove("introspection");
        }
    };
    stack.restart_gateway_with(elsewhere).await?;
    realm.add_person("wanda").await?;
    realm.join("wanda", "developers").await?;
    for (flow, options) in [(Flow::Device, &["--offline"][..]), (Flow::Code, &[][..])] {
        let wanda = stack.client_folder(&folder(&format!("wanda {flow:?}")))?;
        stack.log_in_with(&wanda, "wanda", flow, options).await?;
        let listed = doorward(&wanda, &["ls", "--json"]).await?;
        let listed = String::from_utf8(listed.stdout)?;
        ensure!(listed.contains("devenv-0"), "{flow:?}: {listed}");
        if flow == Flow::Code {
            // It also said where logouts are heard of.
            let open = Open::start(&wanda).await?;
            realm
                .log_out_by("doorward", &token(wanda.home(), "refresh-token")?)
                .await?;
            let (code, said, _) = open.cut().await?;
            ensure!(code == Some(255), "{code:?}: {said}");
            ensure!(said.contains("you were logged out"), "{said}");
        }
    }
    Ok(())
}

/// Each call is a Java program's start, which is most of what it costs.
fn lean(mut command: Command) -> Command {
    command.env("KC_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx128m");
    command
}

async fn run(mut command: Command) -> Result<Output> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await;
    Ok(output.with_context(|| format!("{command:?} hangs"))??)
}

fn text(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(String::from_utf8(output.stdout.clone())?)
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/keycloak/setup.sh");
/// Some forty Java programs, one after the other.
const PATIENCE: Duration = Duration::from_secs(400);
