//! A real Vault signs: what people read when it fails, that what is open goes on, and that nothing has to be restarted.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_certs::vault::setup::GatewayLogin;
use doorward_certs::vault::{Login, Settings, Vault as Authority};
use doorward_certs::{Authority as Signs, HostKey};
use doorward_dev::parts::vault::{AppRole, Storage};
use doorward_dev::parts::{KEYCLOAK, VAULT, Vault};
use doorward_dev::stack::{Options, Real, Stack};
use serde_json::{Value, json};
use ssh_key::LineEnding;
use tests::journal::journal;
use tests::parts::{Had, Place, had, own_vault};
use tests::signing::{code, set_up, settings};
use tests::{Outcome, feed, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "vault",
};

async fn stack(name: &str, real: Real) -> Result<Stack> {
    let dir = std::path::Path::new(PLACE.tmp).join(PLACE.file).join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let options = Options {
        dir,
        program: Some(PLACE.program.into()),
        login: Some("bob".to_owned()),
        real,
        ..Options::default()
    };
    Ok(Stack::start(options).await?)
}

const WITH_VAULT: Real = Real {
    vault: true,
    keycloak: false,
};

fn ssh(stack: &Stack) -> Command {
    let mut command = Command::new("ssh");
    command
        .arg("-F")
        .arg(stack.ssh_config())
        .arg("devenv-0")
        .kill_on_drop(true);
    command
}

async fn enter(stack: &Stack) -> Result<Outcome> {
    let mut command = ssh(stack);
    command.arg("echo in");
    feed(command, b"").await
}

async fn entered(stack: &Stack) -> Result<()> {
    let outcome = enter(stack).await?;
    ensure!(outcome.stdout == b"in\n", "{:?}: {}", outcome.code, outcome.said());
    Ok(())
}

/// A new session is refused with this sentence, and it does not take long to be.
async fn refused(stack: &Stack, sentence: &str) -> Result<()> {
    let begun = Instant::now();
    let outcome = enter(stack).await?;
    let (took, said) = (begun.elapsed(), outcome.said());
    ensure!(
        outcome.code == Some(255),
        "{sentence}: exit code {:?}: {said}",
        outcome.code
    );
    ensure!(said.contains(sentence), "not `{sentence}`: {said}");
    ensure!(said.contains("tell "), "whom to tell is not said: {said}");
    ensure!(!said.contains("hvs."), "{said}");
    // What the gateway allows itself are four seconds; the rest is a busy machine.
    ensure!(took < Duration::from_secs(15), "{sentence}: after {took:?}");
    Ok(())
}

/// Waits until a session can be had again.
async fn back(stack: &Stack) -> Result<()> {
    until("a session can be had again", async || {
        Ok((enter(stack).await?.stdout == b"in\n").then_some(()))
    })
    .await
}

fn vault(stack: &Stack) -> Result<&Vault> {
    stack.vault().context("no Vault")
}

fn vault_mut(stack: &mut Stack) -> Result<&mut Vault> {
    stack.vault_mut().context("no Vault")
}

/// The requests to a path in Vault's audit log.
fn requests(vault: &Vault, path: &str) -> Result<Vec<Value>> {
    let all = vault.audit()?;
    let to_path = |entry: &Value| entry["type"] == "request" && entry["request"]["path"] == path;
    Ok(all.into_iter().filter(to_path).collect())
}

const SIGN: &str = "ssh/sign/doorward-session";

/// A session that answers what it is told.
struct Open {
    ssh: Child,
}

impl Open {
    async fn begin(stack: &Stack) -> Result<Self> {
        let mut command = ssh(stack);
        let piped = command.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut open = Self { ssh: piped.spawn()? };
        open.lives().await?;
        Ok(open)
    }

    async fn lives(&mut self) -> Result<()> {
        let stdin = self.ssh.stdin.as_mut().context("no stdin")?;
        stdin.write_all(b"still here\n").await?;
        let mut heard = [0; 11];
        let stdout = self.ssh.stdout.as_mut().context("no stdout")?;
        tokio::time::timeout(tests::PATIENCE, stdout.read_exact(&mut heard)).await??;
        ensure!(&heard == b"still here\n", "{heard:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_is_signed_once_and_can_be_found_in_both_logs() -> Result<()> {
    if !had(
        &VAULT,
        PLACE,
        "each_session_is_signed_once_and_can_be_found_in_both_logs",
    )
    .await?
    {
        return Ok(());
    }
    let stack = stack("signs", WITH_VAULT).await?;
    entered(&stack).await?;
    let before = requests(vault(&stack)?, SIGN)?.len();
    let logins = requests(vault(&stack)?, "auth/approle/login")?.len();
    for _ in 0..3 {
        entered(&stack).await?;
    }
    let signings = requests(vault(&stack)?, SIGN)?;
    ensure!(
        signings.len() == before + 3,
        "{} signings for 3 sessions",
        signings.len() - before
    );
    ensure!(
        requests(vault(&stack)?, "auth/approle/login")?.len() == logins,
        "the login is kept"
    );
    // One name in both logs: the key id says who and which session.
    let signed: Vec<String> = until("the journal has them", async || {
        let all = journal(&stack.state_dir())?.into_iter();
        let ids: Vec<_> = all
            .filter_map(|event| match event {
                Event::Signed(signed) => Some(signed.key_id),
                _ => None,
            })
            .collect();
        Ok((ids.len() == signings.len()).then_some(ids))
    })
    .await?;
    for entry in &signings {
        let id = entry["request"]["data"]["key_id"].as_str().context("no key id")?;
        ensure!(
            signed.iter().any(|known| known == id),
            "{id} is not in the journal: {signed:?}"
        );
        ensure!(id.starts_with("user=bob session="), "{id}");
    }
    stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_vault_fails_is_one_sentence_and_costs_no_open_session() -> Result<()> {
    let name = "each_way_in_which_vault_fails_is_one_sentence_and_costs_no_open_session";
    if !had(&VAULT, PLACE, name).await? {
        return Ok(());
    }
    let mut stack = stack("fails", WITH_VAULT).await?;
    let mut open = Open::begin(&stack).await?;
    let root = vault(&stack)?.root().clone();

    let role = root.read("ssh/roles/doorward-session").await?["data"].clone();
    root.delete("ssh/roles/doorward-session").await?;
    refused(&stack, "Vault lacks the role").await?;
    let mut narrow = role.clone();
    narrow["allowed_extensions"] = json!("permit-pty");
    root.write("ssh/roles/doorward-session", &narrow).await?;
    refused(&stack, "Vault's role does not allow the SSH certificate").await?;
    root.write("ssh/roles/doorward-session", &role).await?;
    entered(&stack).await?;

    let policy = root.read("sys/policies/acl/doorward-gateway").await?["data"]["policy"].clone();
    let less = json!({"policy": "path \"ssh/sign/doorward-link\" { capabilities = [\"update\"] }"});
    root.write("sys/policies/acl/doorward-gateway", &less).await?;
    refused(&stack, "Vault's policy does not let the gateway sign").await?;
    root.write("sys/policies/acl/doorward-gateway", &json!({ "policy": policy }))
        .await?;
    back(&stack).await?;

    let quota = json!({"path": "ssh/", "rate": 0.001, "interval": "1h", "block_interval": "0s"});
    root.write("sys/quotas/rate-limit/tight", &quota).await?;
    until("the quota is used up", async || {
        let outcome = enter(&stack).await?;
        Ok((outcome.code == Some(255)).then_some(()))
    })
    .await?;
    refused(&stack, "limits its requests").await?;
    root.delete("sys/quotas/rate-limit/tight").await?;
    back(&stack).await?;
    open.lives().await?;

    vault(&stack)?.seal().await?;
    refused(&stack, "Vault, which signs SSH certificates, is sealed").await?;
    open.lives().await?;
    vault_mut(&mut stack)?.unseal().await?;
    back(&stack).await?;

    vault(&stack)?.pause().await;
    refused(&stack, "Vault, which signs SSH certificates, does not answer").await?;
    open.lives().await?;
    vault(&stack)?.resume();
    back(&stack).await?;

    vault_mut(&mut stack)?.stop().await;
    refused(&stack, "Vault, which signs SSH certificates, cannot be reached").await?;
    open.lives().await?;
    vault_mut(&mut stack)?.restart_sealed().await?;
    refused(&stack, "is sealed").await?;
    vault_mut(&mut stack)?.unseal().await?;
    back(&stack).await?;
    open.lives().await?;

    // Each refusal is on record with its reason.
    let codes: Vec<String> = journal(&stack.state_dir())?
        .into_iter()
        .filter_map(|event| match event {
            Event::Denied(denied) => Some(denied.detail.split(':').next().unwrap_or_default().to_owned()),
            _ => None,
        })
        .collect();
    for code in [
        "vault-role-missing",
        "vault-role-refuses",
        "vault-denied",
        "vault-rate-limited",
        "vault-sealed",
        "vault-hanging",
        "vault-unreachable",
    ] {
        ensure!(codes.iter().any(|known| known == code), "no {code} in {codes:?}");
    }
    stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_the_user_ca_refuses_nobody() -> Result<()> {
    if !had(&VAULT, PLACE, "a_rotation_of_the_user_ca_refuses_nobody").await? {
        return Ok(());
    }
    let mut stack = stack("rotates", WITH_VAULT).await?;
    entered(&stack).await?;
    // First the workspaces trust the new key as well, then Vault signs with it.
    let key = HostKey::generate()?.private_key().clone();
    let public = key.public_key().to_openssh()?;
    let trusted = stack.ca_file().with_file_name("user-ca.pub");
    let before = fs::read_to_string(&trusted)?;
    fs::write(&trusted, format!("{}\n{public}\n", before.trim_end()))?;
    stack.restart_agent().await?;
    back(&stack).await?;
    let root = vault(&stack)?.root().clone();
    root.delete("ssh/config/ca").await?;
    let ca = json!({
        "private_key": key.to_openssh(LineEnding::LF)?.as_str(), "public_key": public, "generate_signing_key": false
    });
    root.write("ssh/config/ca", &ca).await?;
    entered(&stack).await?;
    stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_without_its_vault_is_there_once_vault_is() -> Result<()> {
    let name = "a_gateway_that_starts_without_its_vault_is_there_once_vault_is";
    if !had(&VAULT, PLACE, name).await? {
        return Ok(());
    }
    let mut stack = stack("late", WITH_VAULT).await?;
    entered(&stack).await?;
    stack.kill_gateway().await;
    vault_mut(&mut stack)?.stop().await;
    let folder = stack.ca_file().parent().context("no folder")?.to_owned();
    let file = folder.join("gateway.toml");
    let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
    for (section, address) in [("listen", stack.gateway_address()), ("admin", stack.admin_address())] {
        let table = config.get_mut(section).and_then(toml::Value::as_table_mut);
        table
            .context("no such section")?
            .insert("address".into(), address.to_string().into());
    }
    fs::write(&file, toml::to_string(&config)?)?;
    let log = fs::File::create(folder.join("late.log"))?;
    let mut gateway = Command::new(PLACE.program)
        .arg("tethered")
        .arg(folder.join("late.lock"))
        .args(["gateway", "run", "--config"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    let why = until("the gateway says what it lacks", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ensure!(
            gateway.try_wait()?.is_none(),
            "it ended: {}",
            fs::read_to_string(folder.join("late.log"))?
        );
        Ok(readiness(&stack)
            .await
            .filter(|text| text.contains("vault-unreachable")))
    })
    .await?;
    ensure!(why.starts_with("HTTP/1.1 503"), "{why}");
    until("the issuer's keys are there", async || {
        let said = enter(&stack).await?.said();
        Ok((!said.contains("identity provider")).then_some(()))
    })
    .await?;
    refused(&stack, "Vault, which signs SSH certificates, cannot be reached").await?;
    vault_mut(&mut stack)?.restart().await?;
    back(&stack).await?;
    until("the gateway says that it is ready", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(readiness(&stack).await.filter(|text| text.starts_with("HTTP/1.1 200")))
    })
    .await?;
    gateway.kill().await?;
    stack.stop().await;
    Ok(())
}

/// The whole answer of `/readyz`.
async fn readiness(stack: &Stack) -> Option<String> {
    let mut tcp = TcpStream::connect(stack.admin_address()).await.ok()?;
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    tcp.write_all(request).await.ok()?;
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.ok()?;
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_signed_as_the_person_carry_their_name_in_vaults_audit_log() -> Result<()> {
    let name = "sessions_signed_as_the_person_carry_their_name_in_vaults_audit_log";
    if !had(&VAULT, PLACE, name).await? || !had(&KEYCLOAK, PLACE, name).await? {
        return Ok(());
    }
    let both = Real {
        vault: true,
        keycloak: true,
    };
    let stack = stack("as-user", both).await?;
    entered(&stack).await?;
    let signings = requests(vault(&stack)?, SIGN)?;
    ensure!(signings.len() == 1, "{} signings for one session", signings.len());
    let who = signings[0]["auth"]["display_name"].as_str().unwrap_or_default();
    ensure!(
        who.ends_with("-bob"),
        "Vault's audit log says that `{who}` signed: {}",
        signings[0]
    );
    let links = requests(vault(&stack)?, "ssh/sign/doorward-link")?;
    ensure!(!links.is_empty(), "the gateway signs its links");
    for link in &links {
        ensure!(link["auth"]["display_name"] == "approle", "{link}");
    }
    let log = String::from_utf8_lossy(&fs::read(stack.log_file("gateway"))?).into_owned();
    ensure!(
        !log.contains("hvs.") && !log.contains("eyJ"),
        "a token is in the gateway's log"
    );
    stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_hands_on_what_it_is_asked_and_says_so_when_it_cannot() -> Result<()> {
    let name = "a_standby_hands_on_what_it_is_asked_and_says_so_when_it_cannot";
    let Had::Here(mut vault) = own_vault(PLACE, name, Storage::Raft).await? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let (role_id_file, secret_id_file) = (folder.path().join("role-id"), folder.path().join("secret-id"));
    let login = Login::AppRole {
        mount: "approle".into(),
        role_id_file: role_id_file.clone(),
        secret_id_file: secret_id_file.clone(),
    };
    let settings = settings(&vault, login)?;
    let role = GatewayLogin::AppRole {
        mount: "approle".to_owned(),
        role: "doorward-gateway".to_owned(),
    };
    set_up(&vault, &settings, role).await?;
    let role = AppRole::hand_out(vault.root(), "doorward-gateway").await?;
    fs::write(&role_id_file, role.role_id)?;
    fs::write(&secret_id_file, role.secret_id)?;
    let standby = vault.add_standby().await?;
    let signs = Signs::Vault(Authority::new(Settings {
        address: standby.parse()?,
        ..settings
    })?);
    until("the standby hands a signing on", async || {
        Ok((code(&signs).await == "signed").then_some(()))
    })
    .await?;
    vault.stop().await;
    until("the standby has no active node", async || {
        let code = code(&signs).await;
        ensure!(code != "signed", "signed without an active node");
        Ok((code == "vault-standby").then_some(()))
    })
    .await?;
    vault.restart().await?;
    until("there is an active node again", async || {
        Ok((code(&signs).await == "signed").then_some(()))
    })
    .await
}
