//! Agents that enrol at Vault themselves: a real Vault, a real Kubernetes, and a gateway that has no right to sign host certificates.

mod middle;
mod pods;
mod renewal;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use doorward_dev::kube::{Kubelet, Set, allow_gateway, gateway_section};
use doorward_dev::parts::kube::{Identity, TokenRequest};
use doorward_dev::parts::vault::AppRole;
use doorward_dev::parts::{Cluster, Error as PartError, Vault};
use doorward_dev::stack::{ClientFolder, Options, Real, Stack};
use serde_json::{Value, json};
use tests::parts::fresh;
use tests::{feed, until};
use tokio::process::Command;

use super::PLACE;
use super::pods::kubelet;

/// A stack on Vault, and a set of pods in a cluster whose agents enrol at that Vault.
struct Bench {
    stack: Stack,
    kubelet: Kubelet,
    set: &'static str,
    namespace: &'static str,
}

impl Bench {
    /// Begins as it is by default: the gateway signs host certificates. [`Bench::hand_over`] changes that. `vault` is where agents find
    /// Vault, itself if nothing is said; `more` stands in their section.
    async fn start(cluster: &Cluster, set: &'static str, vault: Option<String>, more: &str) -> Result<Self> {
        let namespace = set;
        let kubelet = kubelet(cluster, namespace).await?;
        let options = Options {
            dir: fresh(PLACE, &format!("{set}-stack"))?,
            program: Some(PLACE.program.into()),
            login: Some("bob".to_owned()),
            real: Real {
                vault: true,
                keycloak: false,
            },
            ..Options::default()
        };
        let mut stack = Stack::start(options).await?;
        know_pods(cluster, stack.vault().context("no Vault")?).await?;
        let read = |name: &str| fs::read_to_string(stack.ca_file().with_file_name(name));
        let (login, user_ca, host_ca) = (stack.account().to_owned(), read("user-ca.pub")?, read("host-ca.pub")?);
        let pods = Set {
            namespace,
            name: set,
            annotations: &json!({}),
            user_ca: &user_ca,
            host_ca: &host_ca,
            login: Some(&login),
        };
        pods.apply(cluster.admin()).await?;
        let there = stack.vault().context("no Vault")?;
        let ca = fs::read_to_string(there.ca_file())?;
        at_vault(cluster, &pods, &vault.unwrap_or_else(|| there.url()), &ca, more).await?;
        allow_gateway(cluster.admin(), namespace).await?;
        let wanted = TokenRequest {
            namespace,
            account: "gateway",
            audience: None,
            pod: None,
            seconds: 3600,
        };
        let file = stack.ca_file().with_file_name("kubeconfig");
        cluster.write_kubeconfig(&file, &Identity::Token(cluster.token(wanted).await?))?;
        let section = gateway_section(&pods, &file, 2);
        let change = |config: &mut toml::Table| hand_over(config, section);
        stack.restart_gateway_with(change).await?;
        Ok(Self {
            stack,
            kubelet,
            set,
            namespace,
        })
    }

    /// Has Vault hold what this layout needs, as people do it. Says what was done.
    async fn hand_over(&self) -> Result<String> {
        let token = self.file("admin-token");
        fs::write(&token, self.vault()?.root().token().context("a token")?)?;
        fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let output = self
            .gateway(&["vault", "apply", "--yes", "--token-file"])
            .arg(&token)
            .output()
            .await?;
        let said = text(&output);
        ensure!(output.status.success(), "{said}");
        Ok(said)
    }

    /// A command of the gateway's program with its configuration.
    fn gateway(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PLACE.program);
        let (first, rest) = words.split_at(1);
        command.arg("gateway").args(first);
        // What `vault` is to do stands before the options.
        command.args(&rest[..rest.len().min(1)]);
        command.arg("--config").arg(self.file("gateway.toml"));
        command.args(rest.get(1..).unwrap_or_default()).kill_on_drop(true);
        command
    }

    fn vault(&self) -> Result<&Vault> {
        self.stack.vault().context("no Vault")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.stack.ca_file().with_file_name(name)
    }

    fn workspace(&self) -> String {
        format!("{}-0", self.set)
    }

    fn pod(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.workspace())
    }

    /// A session that says `in`, or fails.
    async fn enter(&self, options: &[&str]) -> Result<tests::Outcome> {
        feed(self.ssh(options, "echo in"), b"").await
    }

    async fn entered(&self) -> Result<()> {
        let outcome = self.enter(&[]).await?;
        ensure!(outcome.stdout == b"in\n", "{}\n{}", outcome.said(), self.logs());
        Ok(())
    }

    fn ssh(&self, options: &[&str], command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.stack.ssh_config()).args(options);
        ssh.args([self.workspace().as_str(), command]).kill_on_drop(true);
        ssh
    }

    /// Waits until bob's list has the workspace, and has it written into his configuration of ssh.
    async fn known(&self) -> Result<()> {
        let client: &ClientFolder = self.stack.client();
        until("the workspace in the list", async || {
            let listed = feed(client.command(["ls", "--json"]), b"").await?;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            Ok(listed.contains(&self.workspace()).then_some(()))
        })
        .await?;
        client.run(&["config", "--write", "--no-include"]).await?;
        Ok(())
    }

    /// What happens when whoever has the gateway's own login at Vault asks for a workspace's host certificate: the HTTP status, and the answer.
    async fn sign_as_gateway(&self, public_key: &str) -> Result<(u16, String)> {
        let root = self.vault()?.root();
        let role = AppRole::hand_out(root, "doorward-gateway").await?;
        let login = json!({"role_id": role.role_id, "secret_id": role.secret_id});
        let token = root.write("auth/approle/login", &login).await?["auth"]["client_token"].clone();
        let gateway = root.with_token(token.as_str().context("a token")?);
        let request = json!({
            "public_key": public_key, "cert_type": "host", "key_id": "thief", "ttl": "60s",
            "valid_principals": "devenv-0", "extensions": {"workspace@doorward": "thief"},
        });
        answer(gateway.write("ssh-host/sign/doorward-host", &request).await)
    }

    fn logs(&self) -> String {
        let pod = self.kubelet.log(&self.workspace());
        format!("agent:\n{pod}\ngateway:\n{}", self.stack.log_tail("gateway"))
    }

    async fn stop(self) {
        self.stack.stop().await;
        self.kubelet.stop().await;
    }
}

/// The gateway follows the pods, and has no right to sign host certificates: so it gives out none for join tokens either.
fn hand_over(config: &mut toml::Table, kubernetes: toml::Table) {
    config.insert("kubernetes".to_owned(), kubernetes.into());
    let vault = config
        .get_mut("authority")
        .and_then(|authority| authority.get_mut("vault"));
    if let Some(vault) = vault.and_then(toml::Value::as_table_mut) {
        vault.insert("host-certificates".to_owned(), "agents".into());
    }
    let workspaces = config.get_mut("workspace").and_then(toml::Value::as_array_mut);
    for one in workspaces.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
        one.remove("join-token-file");
    }
}

/// Makes Vault's JWT method believe the cluster's tokens: by its key, as people do whose API server shows its key set to nobody.
async fn know_pods(cluster: &Cluster, vault: &Vault) -> Result<()> {
    let root = vault.root();
    root.write("sys/auth/doorward-agents", &json!({"type": "jwt"})).await?;
    let believes = json!({
        "jwt_validation_pubkeys": [fs::read_to_string(cluster.token_key())?],
        "jwt_supported_algs": ["ES256"],
        "bound_issuer": cluster.issuer(),
    });
    root.write("auth/doorward-agents/config", &believes).await?;
    Ok(())
}

/// Has the agents of a set enrol at Vault, with a token for it.
async fn at_vault(cluster: &Cluster, set: &Set<'_>, vault: &str, ca: &str, more: &str) -> Result<()> {
    let admin = cluster.admin();
    let path = format!("/api/v1/namespaces/{}/configmaps/{}-agent", set.namespace, set.name);
    let found = admin.read(&path).await?["data"]["agent.toml"].clone();
    let found = found.as_str().context("no configuration")?;
    let section = format!(
        "[enrol.vault]\naddress = '{vault}'\nca = 'vault-ca.pem'\nmethod = 'jwt'\n{more}\nservice-account-token-file"
    );
    let agent = found.replace("[enrol]\nservice-account-token-file", &section);
    ensure!(agent != found, "{found}");
    admin
        .merge(&path, &json!({"data": {"agent.toml": agent, "vault-ca.pem": ca}}))
        .await?;
    let path = format!("/apis/apps/v1/namespaces/{}/statefulsets/{}", set.namespace, set.name);
    let mut volumes = admin.read(&path).await?["spec"]["template"]["spec"]["volumes"].clone();
    let token = volumes
        .as_array_mut()
        .into_iter()
        .flatten()
        .find(|volume| volume["name"] == "token");
    let token = token.context("no token")?;
    token["projected"]["sources"][0]["serviceAccountToken"]["audience"] = json!("vault");
    let patch = json!({"spec": {"template": {"spec": {"volumes": volumes}}}});
    admin.merge(&path, &patch).await?;
    Ok(())
}

/// Vault's answer, whether it says yes or no: the HTTP status, and what it says.
fn answer(answered: Result<Value, PartError>) -> Result<(u16, String)> {
    match answered {
        Ok(yes) => Ok((200, yes.to_string())),
        Err(PartError::Refused { status, said, .. }) => Ok((status, said)),
        Err(error) => Err(error.into()),
    }
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}
