//! What a profile stands on in a test: its objects and rights in the cluster that all share, a kubelet for its pods, and a gateway
//! with its files.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_dev::issuer::{Circle, Person};
use doorward_dev::kube::{Kubelet, Settings};
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::{Api, Identity, TokenRequest};
use doorward_dev::stack::{ClientFolder, Options, Stack};
use serde_json::Value;
use tests::parts::{Had, fresh, shared_cluster};
use tests::{Outcome, PATIENCE, feed, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::super::PLACE;
use super::{file, objects, patch};

/// A profile that runs.
pub(super) struct Ground {
    pub(super) cluster: &'static Cluster,
    pub(super) stack: Stack,
    kubelets: Vec<Kubelet>,
    profile: &'static str,
    rights: Vec<Value>,
    /// How long the audit log was.
    before: usize,
}

impl Ground {
    /// A stack whose issuer knows these people; the gateway is told of nothing yet. Nothing where there is no cluster to be had.
    pub(super) async fn prepare(profile: &'static str, people: Vec<Person>) -> Result<Option<Self>> {
        let Had::Here(cluster) = shared_cluster(PLACE, profile).await? else {
            return Ok(None);
        };
        let config = config(profile)?;
        // Where the cluster knows people, the stack's own issuer is nobody's.
        let said = |key: &str| match config.get("oidc") {
            Some(oidc) => oidc.get(key).and_then(toml::Value::as_str).map(str::to_owned),
            None => Some("doorward".to_owned()),
        };
        let stack = Stack::start(Options {
            dir: fresh(PLACE, &format!("{profile}-stack"))?,
            program: Some(PLACE.program.into()),
            policy: Some(file(profile, "policy.toml")?),
            circle: Some(Circle {
                client_id: said("client-id").context("no client")?,
                audience: said("audience").context("no audience")?,
                people,
            }),
            ..Options::default()
        })
        .await?;
        let mut ground = Self {
            cluster,
            stack,
            kubelets: Vec::new(),
            profile,
            rights: Vec::new(),
            before: cluster.audit()?.len(),
        };
        // A namespace first: what is in it comes later, and rights are given in it.
        for object in objects(profile, "objects.yaml")? {
            if ["Namespace", "ServiceAccount"]
                .iter()
                .any(|kind| object["kind"] == *kind)
            {
                ground.admin().apply(&object).await?;
            }
        }
        ground.give_rights().await?;
        for mut object in objects(profile, "agent.yaml")? {
            ground.localise(&mut object)?;
            ground.admin().apply(&object).await?;
        }
        Ok(Some(ground))
    }

    /// Runs the gateway with the profile's files, `change`d in what is an address.
    pub(super) async fn enter(&mut self, change: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<()> {
        let account = self.account();
        let wanted = TokenRequest {
            namespace: "doorward",
            account: &account,
            audience: None,
            pod: None,
            seconds: 3600,
        };
        let token = self.cluster.token(wanted).await?;
        let folder = self.stack.state_dir().parent().context("no folder")?.to_owned();
        let kubeconfig = folder.join("kubeconfig");
        self.cluster.write_kubeconfig(&kubeconfig, &Identity::Token(token))?;
        let mut config = config(self.profile)?;
        change(&mut config)?;
        let cluster = table(&mut config, "kubernetes")?;
        cluster.insert("kubeconfig".to_owned(), kubeconfig.display().to_string().into());
        for rule in cluster["workspaces"].as_array_mut().context("no rules")? {
            let rule = rule.as_table_mut().context("no rule")?;
            rule.insert("login".to_owned(), self.stack.account().into());
        }
        self.stack.restart_gateway_with(|own| overlay(own, config)).await?;
        Ok(())
    }

    /// Runs the pods of a namespace from now on.
    pub(super) async fn run_pods(&mut self, namespace: &str) -> Result<()> {
        let settings = Settings {
            api: self.admin().clone(),
            namespace: namespace.to_owned(),
            folder: fresh(PLACE, &format!("{}-{namespace}", self.profile))?,
            program: Some(PLACE.program.into()),
        };
        self.kubelets.push(Kubelet::start(settings).await?);
        Ok(())
    }

    /// The profile's object of this kind and name as the platform has it, with the agent in it if it is what the snippet is for.
    pub(super) fn object(&self, kind: &str, name: &str) -> Result<Value> {
        let all = objects(self.profile, "objects.yaml")?;
        let found = all
            .into_iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        let mut found = found.with_context(|| format!("no {kind} {name}"))?;
        let snippet = objects(self.profile, "agent-snippet.yaml")?.swap_remove(0);
        if snippet["kind"] == kind {
            ensure!(snippet["metadata"]["name"] == name, "the snippet is for another object");
            patch(&mut found, &snippet);
        }
        Ok(found)
    }

    /// The agents' configuration and network policy, for another namespace.
    pub(super) async fn configure_agents(&self, namespace: &str) -> Result<()> {
        for mut object in objects(self.profile, "agent.yaml")? {
            self.localise(&mut object)?;
            object["metadata"]["namespace"] = namespace.into();
            self.admin().apply(&object).await?;
        }
        Ok(())
    }

    pub(super) fn admin(&self) -> &'static Api {
        self.cluster.admin()
    }

    /// Somebody's client, logged in.
    pub(super) async fn login(&self, person: &str) -> Result<ClientFolder> {
        let folder = fresh(PLACE, &format!("{}-{person}", self.profile))?;
        Ok(self.stack.login(person, &folder).await?)
    }

    /// The client of somebody whom the cluster knows by this token.
    pub(super) async fn login_by(&self, person: &str, token: &str) -> Result<ClientFolder> {
        let folder = fresh(PLACE, &format!("{}-{person}", self.profile))?;
        let file = self.token_file(person, token)?;
        Ok(self.stack.login_by(&["cat", &file], &folder).await?)
    }

    /// The file that somebody's token is in.
    pub(super) fn token_file(&self, person: &str, token: &str) -> Result<String> {
        let state = self.stack.state_dir();
        let file = state.parent().context("no folder")?.join(format!("token-of-{person}"));
        std::fs::write(&file, format!("{token}\n"))?;
        Ok(file.display().to_string())
    }

    /// Waits until somebody's list says this of a workspace: its state; nothing if it is not to be in the list.
    pub(super) async fn listed(&self, client: &ClientFolder, name: &str, wanted: Option<&str>) -> Result<()> {
        let asking = until("the list", async || {
            let listed = feed(client.command(["ls", "--json"]), b"").await?;
            let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
            Ok((state(&listed, name) == wanted).then_some(()))
        });
        asking
            .await
            .with_context(|| format!("{name} is not {wanted:?}\n{}", self.stack.log_tail("gateway")))
    }

    /// Runs a command in a workspace by plain ssh, and gives what it wrote.
    pub(super) async fn run(&self, client: &ClientFolder, name: &str, command: &str) -> Result<String> {
        let ran = feed(ssh(client, name, &[], command), b"").await?;
        let tails = || {
            let logs: Vec<String> = self.kubelets.iter().map(|kubelet| kubelet.log(name)).collect();
            format!(
                "{}\n{}\n{}",
                ran.said(),
                self.stack.log_tail("gateway"),
                logs.join("\n")
            )
        };
        ensure!(ran.code == Some(0), "{name}, {command}: {:?}: {}", ran.code, tails());
        Ok(String::from_utf8(ran.stdout)?)
    }

    /// That somebody hears of a workspace what they would hear of one that is not there.
    pub(super) async fn kept_out(&self, client: &ClientFolder, name: &str) -> Result<()> {
        const MISSING: &str = "no-such-workspace";
        let (refused, missing) = (self.attempt(client, name).await?, self.attempt(client, MISSING).await?);
        ensure!(refused.code == Some(255), "{name}: {:?}", refused.code);
        let said = refused.said().replace(name, MISSING);
        ensure!(
            said.contains("there is no such workspace, or you may not enter it") && said == missing.said(),
            "{name}: {}\n{}",
            refused.said(),
            missing.said()
        );
        Ok(())
    }

    /// What comes of an attempt to run something.
    pub(super) async fn attempt(&self, client: &ClientFolder, name: &str) -> Result<Outcome> {
        feed(ssh(client, name, &[], "true"), b"").await
    }

    /// A session that stays until something ends it.
    pub(super) async fn stay(&self, client: &ClientFolder, name: &str) -> Result<Session> {
        let mut child = ssh(client, name, &[], "echo here; exec sleep 86400")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut line = String::new();
        timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await??;
        if line != "here\n" {
            let (_, said) = Session(child).ends().await?;
            anyhow::bail!("{line:?}: {said}");
        }
        Ok(Session(child))
    }

    /// Waits until the gateway has used every right that the profile gives it; fails if it wanted another, or has one that it
    /// never uses. `vain` are those that it tries and can do without.
    pub(super) async fn used_its_rights(&self, vain: &[&str]) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for rule in self
            .rights
            .iter()
            .filter_map(|right| right["rules"].as_array())
            .flatten()
        {
            for verb in rule["verbs"].as_array().into_iter().flatten() {
                for resource in rule["resources"].as_array().into_iter().flatten() {
                    wanted.insert(format!("{} {}", text(verb), text(resource)));
                }
            }
        }
        let me = format!("system:serviceaccount:doorward:{}", self.account());
        let mut seen = String::new();
        let asked = until("every right is used", async || {
            let (mut asked, mut refused) = (BTreeSet::new(), BTreeSet::new());
            let all = self.cluster.audit()?;
            for event in all
                .iter()
                .skip(self.before)
                .filter(|event| event["user"]["username"] == me.as_str())
            {
                let (resource, sub) = (
                    text(&event["objectRef"]["resource"]),
                    text(&event["objectRef"]["subresource"]),
                );
                let what = match sub {
                    "" => format!("{} {resource}", text(&event["verb"])),
                    sub => format!("{} {resource}/{sub}", text(&event["verb"])),
                };
                match event["responseStatus"]["code"].as_u64() {
                    Some(403) => drop(refused.insert(what)),
                    _ if resource.is_empty() => {}
                    _ => drop(asked.insert(what)),
                }
            }
            // A new binding reaches the authoriser by a watch: a refusal is one only where it stays the answer.
            let missing: Vec<_> = refused
                .difference(&asked)
                .filter(|what| !vain.contains(&what.as_str()))
                .collect();
            seen = format!("it asked {asked:?}, was refused {missing:?}, and may {wanted:?}");
            Ok((missing.is_empty() && asked.is_superset(&wanted)).then_some(asked))
        })
        .await
        .with_context(|| seen.clone())?;
        ensure!(asked == wanted, "it asked {asked:?}, and may {wanted:?}");
        Ok(())
    }

    /// Ends everything but the cluster, and takes the rights back.
    pub(super) async fn stop(self) -> Result<()> {
        self.stack.stop().await;
        for kubelet in self.kubelets {
            kubelet.stop().await;
        }
        Ok(())
    }

    async fn give_rights(&mut self) -> Result<()> {
        // One service account for each profile, since one cluster has all five at the same time.
        let all = file(self.profile, "rbac.yaml")?.replace("doorward-gateway", &self.account());
        self.rights = serde_saphyr::from_multiple(&all)?;
        for object in &self.rights {
            self.admin().apply(object).await.with_context(|| object.to_string())?;
        }
        Ok(())
    }

    fn account(&self) -> String {
        format!("doorward-gateway-{}", self.profile)
    }

    /// An object of the agents with the keys and the account of this stack.
    fn localise(&self, object: &mut Value) -> Result<()> {
        if object["kind"] != "ConfigMap" {
            return Ok(());
        }
        let folder = self.stack.state_dir().parent().context("no folder")?.to_owned();
        for name in ["user-ca.pub", "host-ca.pub"] {
            object["data"][name] = std::fs::read_to_string(folder.join(name))?.into();
        }
        let mut agent: toml::Table = text(&object["data"]["agent.toml"]).parse()?;
        for workspace in agent["workspace"].as_array_mut().context("no workspace")? {
            let workspace = workspace.as_table_mut().context("no table")?;
            workspace.insert("login".to_owned(), self.stack.account().into());
        }
        object["data"]["agent.toml"] = toml::to_string(&agent)?.into();
        Ok(())
    }
}

/// A session that somebody is in.
pub(super) struct Session(Child);

impl Session {
    /// Waits for its end, which its person reads of: the agent that is stopped says so, or the gateway that has seen it.
    pub(super) async fn ends_with_its_workspace(self) -> Result<()> {
        let (code, said) = self.ends().await?;
        ensure!(
            code == Some(255) && said.contains("doorward: ") && said.contains("the workspace"),
            "{code:?}: {said}"
        );
        Ok(())
    }

    /// Waits for its end: exit code, and what was said.
    pub(super) async fn ends(mut self) -> Result<(Option<i32>, String)> {
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().context("no stderr")?;
        timeout(PATIENCE, stderr.read_to_string(&mut said))
            .await
            .context("the session goes on")??;
        let status = timeout(PATIENCE, self.0.wait()).await??;
        Ok((status.code(), said))
    }
}

/// The profile's configuration of the gateway.
fn config(profile: &str) -> Result<toml::Table> {
    Ok(file(profile, "gateway.toml")?.parse()?)
}

/// A section of a configuration.
pub(super) fn table<'a>(config: &'a mut toml::Table, name: &str) -> Result<&'a mut toml::Table> {
    let found = config.get_mut(name).and_then(toml::Value::as_table_mut);
    found.with_context(|| format!("no section {name}"))
}

/// The profile in place of the stack's own configuration, which keeps its addresses, keys, issuer and folders.
fn overlay(own: &mut toml::Table, mut profile: toml::Table) {
    for section in [
        "state-directory",
        "listen",
        "admin",
        "authority",
        "link",
        "records",
        "policy",
    ] {
        if let Some(value) = own.remove(section) {
            profile.insert(section.to_owned(), value);
        }
    }
    if let (Some(issuer), Some(oidc)) = (
        own.remove("oidc"),
        profile.get_mut("oidc").and_then(toml::Value::as_table_mut),
    ) {
        for key in ["issuer", "algorithms"] {
            oidc.insert(key.to_owned(), issuer[key].clone());
        }
        // It is spoken to without TLS, and its tokens can be read.
        for key in ["ca", "introspection"] {
            oidc.remove(key);
        }
        if oidc.get("token").and_then(toml::Value::as_str) == Some("opaque") {
            oidc.remove("token");
        }
    }
    *own = profile;
}

fn ssh(client: &ClientFolder, name: &str, options: &[&str], command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F")
        .arg(client.ssh_config())
        .args(options)
        // Also for whoever has it in no list: then there is no block of its own for it.
        .args([&format!("{name}.doorward"), command])
        .kill_on_drop(true);
    ssh
}

fn state<'a>(listed: &'a Value, name: &str) -> Option<&'a str> {
    let all = listed["workspaces"].as_array().or(listed.as_array())?;
    all.iter().find(|one| one["name"] == name)?["state"].as_str()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
