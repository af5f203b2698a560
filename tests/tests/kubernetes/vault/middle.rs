//! A stolen gateway: it has the gateway's keys, its login at Vault and its place on the network, and is refused by a plain `ssh`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_certs::{HostKey, Local};
use doorward_dev::parts::{KUBERNETES, VAULT};
use doorward_dev::stack::Stack;
use serde_json::{Value, json};
use tests::journal::journal;
use tests::parts::{Had, can_be_had, name_of, shared_cluster};
use tests::{feed, until};
use tokio::process::{Child, Command};

use super::super::PLACE;
use super::super::pods::is_ready;
use super::{Bench, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_enrols_at_vault_and_a_gateway_in_the_middle_is_refused() -> Result<()> {
    let name = name_of(&|| ());
    if !can_be_had(&[&KUBERNETES, &VAULT], PLACE, name).await? {
        return Ok(());
    }
    let Had::Here(cluster) = shared_cluster(PLACE, name).await? else {
        return Ok(());
    };
    let mut bench = Bench::start(cluster, "devenv-v", None, "").await?;
    let thief = HostKey::generate()?.public_key().to_openssh()?;

    // As Vault is set up by default, whoever has the gateway's login can pass for a workspace.
    let (status, answer) = bench.sign_as_gateway(&thief).await?;
    ensure!(status == 200, "{status} {answer}");
    let broken = doctor(&bench).await?;
    ensure!(
        broken.contains("vault-no-hosts") && broken.contains("ssh-host/sign/doorward-host: update"),
        "{broken}"
    );
    let done = bench.hand_over().await?;
    ensure!(done.contains("ssh-host/roles/doorward-host"), "{done}");
    let (status, answer) = bench.sign_as_gateway(&thief).await?;
    ensure!(status == 403, "{status} {answer}");
    let well = doctor(&bench).await?;
    ensure!(well.contains("it cannot pass for a workspace"), "{well}");
    ensure!(
        bench.hand_over().await?.contains("nothing to do"),
        "a second time changes something"
    );

    bench.known().await?;
    bench.entered().await?;
    signed_for_the_pod_alone(&bench, cluster).await?;

    // Deleted and made anew: another life, another certificate.
    let first = cluster.admin().read(&bench.pod()).await?["metadata"]["uid"].clone();
    cluster.admin().delete(&bench.pod()).await?;
    let another = |object: &Value| is_ready(object) && object["metadata"]["uid"] != first;
    cluster.admin().await_state(&bench.pod(), another).await?;
    bench.entered().await?;

    let evil = Middle::step_in(&mut bench.stack, bench.set).await?;
    let refused = bench.enter(&[]).await?;
    ensure!(
        refused.code == Some(255) && refused.said().contains("Host key verification failed"),
        "{}\n{}",
        refused.said(),
        bench.logs()
    );
    // Nor can he talk people's computers into his CA, though it is the gateway that names the CAs: a new one is left out.
    let client = bench.stack.client();
    let written = feed(client.command(["config", "--write", "--no-include"]), b"").await?;
    ensure!(
        written
            .said()
            .contains("a host authority that this computer does not know"),
        "{}",
        written.said()
    );
    let refused = bench.enter(&[]).await?;
    ensure!(
        refused.said().contains("Host key verification failed"),
        "{}",
        refused.said()
    );
    // It was the man in the middle who was refused, and nothing but his certificate that was wrong: whoever trusts his CA is in.
    let trusting = format!("UserKnownHostsFile={}", evil.known_hosts);
    let fooled = bench.enter(&["-o", &trusting]).await?;
    ensure!(fooled.stdout == b"in\n", "{}\n{}", fooled.said(), bench.logs());
    until("each session of the man in the middle on record", async || {
        let opened = journal(&bench.stack.state_dir())?
            .into_iter()
            .filter(|event| matches!(event, Event::SessionOpened(opened) if opened.workspace_uid == EVIL));
        Ok((opened.count() == 3).then_some(()))
    })
    .await?;
    drop(evil);
    bench.stop().await;
    Ok(())
}

/// Vault's log says who had host certificates signed: the pod, for its own names, and nobody else since the change.
async fn signed_for_the_pod_alone(bench: &Bench, cluster: &doorward_dev::parts::Cluster) -> Result<()> {
    let uid = cluster.admin().read(&bench.pod()).await?["metadata"]["uid"].clone();
    let uid = uid.as_str().context("no uid")?;
    let audit = bench.vault()?.audit()?;
    let of_pod = |entry: &&Value| {
        entry["type"] == "response"
            && entry["request"]["path"] == "ssh-host/sign/doorward-host"
            && entry["auth"]["display_name"] == format!("doorward-agents-{uid}")
    };
    let signed: Vec<&Value> = audit.iter().filter(of_pod).collect();
    ensure!(signed.len() == 1, "{} signings by the pod", signed.len());
    let workspace = bench.workspace();
    let asked = &signed[0]["request"]["data"]["valid_principals"];
    ensure!(*asked == format!("{workspace},{workspace}.doorward"), "{asked}");
    ensure!(
        signed[0]["auth"]["metadata"]["pod_name"] == workspace,
        "{}",
        signed[0]["auth"]
    );
    ensure!(signed[0]["auth"]["token_type"] == "batch", "{}", signed[0]["auth"]);
    let log = bench.kubelet.log(&workspace);
    ensure!(log.contains("host certificate taken from Vault"), "{log}");
    ensure!(
        !log.contains("eyJ") && !log.contains("hvs.") && !log.contains("hvb."),
        "a token in the agent's log"
    );
    Ok(())
}

async fn doctor(bench: &Bench) -> Result<String> {
    Ok(text(&bench.gateway(&["doctor"]).output().await?))
}

/// The uid that the man in the middle gives his workspace.
const EVIL: &str = "evil";

/// An agent with a key of its own, which the stolen gateway leads people to.
struct Middle {
    /// A `known_hosts` that trusts its CA.
    known_hosts: String,
    _agent: Child,
}

impl Middle {
    /// Takes the gateway over: its listener and its person-facing keys stay, and everything behind it is somebody else's.
    async fn step_in(stack: &mut Stack, set: &str) -> Result<Self> {
        let folder = stack.ca_file().with_file_name("evil");
        fs::create_dir(&folder)?;
        let (user_ca, host_ca) = (folder.join("user-ca"), folder.join("host-ca"));
        Local::create_files(&user_ca, &host_ca)?;
        let public = |file: &Path| -> Result<String> {
            let key = ssh_key::PrivateKey::from_openssh(fs::read_to_string(file)?)?;
            Ok(key.public_key().to_openssh()?)
        };
        for file in [&user_ca, &host_ca] {
            fs::write(file.with_extension("pub"), public(file)?)?;
        }
        let known_hosts = folder.join("known_hosts");
        fs::write(&known_hosts, format!("@cert-authority * {}\n", public(&host_ca)?))?;
        let join = folder.join("join");
        fs::write(&join, "0123456789abcdef0123456789abcdef\n")?;
        fs::set_permissions(&join, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let login = stack.account().to_owned();
        let agent = format!(
            "user-ca-file = 'user-ca.pub'\nhost-ca-file = 'host-ca.pub'\n[[workspace]]\nname = '{set}-0'\nuid = '{EVIL}'\n\
             listen = '{listen}'\nhost-key = 'host-key'\nhost-certificate = 'host-key-cert.pub'\njoin-token-file = 'join'\n\
             login = '{login}'\nhome = '{}'\n",
            folder.display()
        );
        fs::write(folder.join("agent.toml"), agent)?;
        let log = fs::File::create(folder.join("agent.log"))?;
        let agent = Command::new(PLACE.program)
            .arg("tethered")
            .arg(folder.join("agent.lock"))
            .args(["agent", "run", "--config"])
            .arg(folder.join("agent.toml"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let evil = json!([{
            "name": format!("{set}-0"), "uid": EVIL, "address": listen.to_string(), "login": login, "join-token-file": join,
        }]);
        let workspace: toml::Value = serde_json::from_value(evil)?;
        let authority: toml::Value =
            serde_json::from_value(json!({"local": {"user-ca": user_ca, "host-ca": host_ca}}))?;
        let change = |config: &mut toml::Table| {
            config.remove("kubernetes");
            config.insert("workspace".to_owned(), workspace);
            config.insert("authority".to_owned(), authority);
        };
        stack.restart_gateway_with(change).await?;
        Ok(Self {
            known_hosts: known_hosts.display().to_string(),
            _agent: agent,
        })
    }
}
