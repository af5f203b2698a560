//! A gateway on a real cluster, and pods that no kubelet runs: the test says what their agents have and when they are there.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::kube::allow_gateway;
use doorward_dev::parts::kube::{Identity, TokenRequest};
use doorward_dev::parts::{Cluster, Error as PartError};
use doorward_dev::stack::{Options, Stack};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tests::journal::journal;
use tests::parts::fresh;
use tests::{Outcome, feed, until};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::super::PLACE;

/// A gateway that follows the pods of a namespace by their label, and pods that the test itself plays.
#[derive(Clone)]
pub(super) struct Bench<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'static str,
    pub(super) stack: std::sync::Arc<Stack>,
    pub(super) state: PathBuf,
    pub(super) made: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

/// A pod as the API server has it, and the address that it gets.
pub(super) struct Pod {
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
    pub(super) uid: String,
    pub(super) address: Ipv4Addr,
}

impl Pod {
    pub(super) fn wanted<'a>(&'a self, audience: Option<&'a str>) -> TokenRequest<'a> {
        TokenRequest {
            namespace: self.namespace,
            account: "default",
            audience,
            pod: Some((self.name, &self.uid)),
            seconds: 600,
        }
    }

    pub(super) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

impl<'a> Bench<'a> {
    pub(super) async fn start(cluster: &'a Cluster, namespace: &'static str) -> Result<Self> {
        cluster.namespace(namespace).await?;
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "nowhere"}});
        cluster.admin().apply(&node).await?;
        allow_gateway(cluster.admin(), namespace).await?;
        let options = Options {
            dir: fresh(PLACE, &format!("{namespace}-stack"))?,
            program: Some(PLACE.program.into()),
            login: Some("bob".to_owned()),
            ..Options::default()
        };
        let mut stack = Stack::start(options).await?;
        let file = stack.ca_file().with_file_name("kubeconfig");
        let token = cluster.token(gateways(namespace)).await?;
        cluster.write_kubeconfig(&file, &Identity::Token(token))?;
        let section = json!({
            "kubeconfig": file,
            "workspaces": [{
                "name": "boxes", "namespaces": [namespace], "pods": "app=box", "agent-port": PORT, "login": stack.account(),
            }],
        });
        let section: toml::Value = serde_json::from_value(section)?;
        let change = |config: &mut toml::Table| drop(config.insert("kubernetes".to_owned(), section));
        stack.restart_gateway_with(change).await?;
        Ok(Self {
            cluster,
            namespace,
            state: stack.state_dir(),
            stack: std::sync::Arc::new(stack),
            made: std::sync::Arc::default(),
        })
    }

    /// A pod that is bound to a node where nothing runs it.
    pub(super) async fn pod(&self, name: &'static str) -> Result<Pod> {
        let (admin, namespace) = (self.cluster.admin(), self.namespace);
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "box"}},
            "spec": {"nodeName": "nowhere", "containers": [{"name": "main", "image": "example.test/box:1"}]},
        });
        let made = admin
            .create(&format!("/api/v1/namespaces/{namespace}/pods"), &object)
            .await?;
        if let Ok(mut all) = self.made.lock() {
            all.push(name.to_owned());
        }
        Ok(Pod {
            namespace,
            name,
            uid: made["metadata"]["uid"].as_str().context("no uid")?.to_owned(),
            address: Ipv4Addr::new(
                127,
                rand::random_range(64..=254),
                rand::random(),
                rand::random_range(1..=254),
            ),
        })
    }

    pub(super) async fn delete(&self, pod: &Pod) -> Result<()> {
        let admin = self.cluster.admin();
        admin
            .delete_with(&pod.path(), &json!({"gracePeriodSeconds": 0}))
            .await?;
        Ok(admin.await_gone(&pod.path()).await?)
    }

    /// Tells that the pod runs, as a kubelet would.
    pub(super) async fn shown(&self, pod: &Pod) -> Result<()> {
        let status = json!({"status": {
            "phase": "Running", "podIP": pod.address.to_string(), "podIPs": [{"ip": pod.address.to_string()}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        self.cluster
            .admin()
            .merge(&format!("{}/status", pod.path()), &status)
            .await?;
        Ok(())
    }

    /// Starts an agent at a pod's address that calls itself by another's name and uid, or by its own.
    pub(super) async fn serve(&self, at: &Pod, called: &Pod, token: &str) -> Result<Child> {
        let folder = fresh(PLACE, &agent(at))?;
        fs::write(folder.join("token"), token)?;
        let ca = |name: &str| self.stack.ca_file().with_file_name(name).display().to_string();
        let config = format!(
            "user-ca-file = '{}'\nhost-ca-file = '{}'\n[enrol]\nservice-account-token-file = 'token'\n[[workspace]]\n\
             name = '{}'\nuid = '{}'\nlisten = '{}:{PORT}'\nhost-key = 'host-key'\nhost-certificate = 'host-key-cert.pub'\n\
             login = '{}'\nhome = '{}'\n",
            ca("user-ca.pub"),
            ca("host-ca.pub"),
            called.name,
            called.uid,
            at.address,
            self.stack.account(),
            folder.display(),
        );
        fs::write(folder.join("agent.toml"), config)?;
        let log = File::create(folder.join("log"))?;
        let agent = Command::new(PLACE.program)
            .arg("tethered")
            .arg(folder.join("lock"))
            .args(["agent", "run", "--announce"])
            .arg(folder.join("announced"))
            .arg("--config")
            .arg(folder.join("agent.toml"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        until("the agent listens", async || {
            Ok(folder.join("announced").exists().then_some(()))
        })
        .await
        .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
        Ok(agent)
    }

    /// An agent, and then word of its pod: it is there when the gateway dials.
    pub(super) async fn run(&self, at: &Pod, called: &Pod, token: &str) -> Result<Child> {
        let agent = self.serve(at, called, token).await?;
        self.shown(at).await?;
        Ok(agent)
    }

    pub(super) async fn token(&self, pod: &Pod, audience: Option<&str>) -> Result<String> {
        Ok(self.cluster.token(pod.wanted(audience)).await?)
    }

    /// A token as the API server gives them to pods, good from and until so many seconds from now.
    pub(super) async fn signed(&self, pod: &Pod, from: i64, until: i64) -> Result<String> {
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/default", pod.namespace);
        let account = self.cluster.admin().read(&path).await?["metadata"]["uid"].clone();
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let claims = json!({
            "iss": self.cluster.issuer(), "aud": ["doorward"], "sub": format!("system:serviceaccount:{}:default", pod.namespace),
            "iat": now + from, "nbf": now + from, "exp": now + until, "jti": uuid::Uuid::now_v7(),
            "kubernetes.io": {
                "namespace": pod.namespace, "pod": {"name": pod.name, "uid": pod.uid},
                "serviceaccount": {"name": "default", "uid": account},
            },
        });
        let key = EncodingKey::from_ec_pem(&fs::read(self.cluster.token_signing_key())?)?;
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key)?)
    }

    pub(super) async fn review(&self, token: &str) -> Result<Value> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": ["doorward"]},
        });
        Ok(self.cluster.admin().create(REVIEWS, &review).await?["status"].clone())
    }

    /// The reasons in the journal for which this life was not enrolled.
    pub(super) fn codes(&self, pod: &Pod) -> Result<Vec<String>> {
        let of_pod = |event| match event {
            Event::EnrolRefused(refused) if refused.uid == pod.uid => Some(refused.code),
            _ => None,
        };
        Ok(journal(&self.state)?.into_iter().filter_map(of_pod).collect())
    }

    /// Waits until the pod was refused, and holds the reason against what it may be.
    pub(super) async fn refused(&self, pod: &Pod, due: &[&str]) -> Result<()> {
        let codes = until("it is refused", async || {
            Ok(Some(self.codes(pod)?).filter(|codes| !codes.is_empty()))
        });
        let codes = codes
            .await
            .with_context(|| format!("{}: {}", pod.name, self.tail().unwrap_or_default()))?;
        ensure!(
            codes.iter().all(|code| due.contains(&code.as_str())),
            "{}: {codes:?}",
            pod.name
        );
        // Whoever looks after the pod reads the same in its agent's log.
        until("the agent says why", async || {
            let log = fs::read_to_string(Path::new(PLACE.tmp).join(PLACE.file).join(agent(pod)).join("log"))?;
            Ok(log.contains("the gateway refused us").then_some(()))
        })
        .await
    }

    pub(super) async fn enrolled(&self, pod: &Pod) -> Result<()> {
        until("it is enrolled", async || {
            let mut all = journal(&self.state)?.into_iter();
            let found = all.any(|event| matches!(event, Event::Enrolled(enrolled) if enrolled.uid == pod.uid));
            Ok(found.then_some(()))
        })
        .await
        .with_context(|| format!("{}: {}", pod.name, self.tail().unwrap_or_default()))
    }

    /// Gives the gateway's service account one seat for lists and reviews together, and waits until that holds (API Priority and
    /// Fairness: a level without a share serves one request at a time).
    pub(super) async fn narrow(&self) -> Result<()> {
        let admin = self.cluster.admin();
        let version = "flowcontrol.apiserver.k8s.io/v1";
        let level = json!({
            "apiVersion": version, "kind": "PriorityLevelConfiguration", "metadata": {"name": "one-seat"},
            "spec": {"type": "Limited", "limited": {
                "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"},
            }},
        });
        admin.apply(&level).await?;
        let rule = |group: &str, verb: &str, resource: &str| {
            json!({
                "verbs": [verb], "apiGroups": [group], "resources": [resource], "clusterScope": true, "namespaces": ["*"],
            })
        };
        let flow = json!({
            "apiVersion": version, "kind": "FlowSchema", "metadata": {"name": "narrow"},
            "spec": {
                "priorityLevelConfiguration": {"name": "one-seat"}, "matchingPrecedence": 100,
                "rules": [{
                    "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": self.namespace, "name": "gateway"}}],
                    "resourceRules": [rule("authentication.k8s.io", "create", "tokenreviews"), rule("", "list", "pods")],
                }],
            },
        });
        admin.apply(&flow).await?;
        let holds = |flow: &Value| {
            let conditions = flow["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|one| one["type"] == "Dangling" && one["status"] == "False")
        };
        admin.await_state(FLOW, holds).await?;
        Ok(())
    }

    /// Takes that seat, while the store does not answer, for as long as what is returned lives; waits until nobody else gets one.
    pub(super) async fn sit(&self, token: String) -> Result<JoinSet<()>> {
        let gateway = self.cluster.admin().acting_as(Identity::Token(token));
        let (sitter, list) = (gateway.clone(), format!("/api/v1/namespaces/{}/pods", self.namespace));
        let mut sits = JoinSet::new();
        sits.spawn(async move {
            loop {
                // Longer than a client waits: then again.
                let _ = sitter.read(&list).await;
            }
        });
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "x", "audiences": ["doorward"]},
        });
        until("the API server throttles", async || {
            let asked = gateway.create(REVIEWS, &review).await;
            Ok(matches!(asked, Err(PartError::Refused { status: 429, .. })).then_some(()))
        })
        .await?;
        Ok(sits)
    }

    /// Waits until bob's list has the workspace, and has it written into his configuration of ssh.
    pub(super) async fn known(&self, workspace: &str) -> Result<()> {
        let client = self.stack.client();
        until("the workspace in the list", async || {
            let listed = feed(client.command(["ls", "--json"]), b"").await?;
            Ok(String::from_utf8_lossy(&listed.stdout)
                .contains(workspace)
                .then_some(()))
        })
        .await?;
        client.run(&["config", "--write", "--no-include"]).await?;
        Ok(())
    }

    pub(super) async fn enter(&self, workspace: &str) -> Result<Outcome> {
        feed(self.ssh(workspace, "echo in"), b"").await
    }

    pub(super) fn ssh(&self, workspace: &str, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(self.stack.ssh_config())
            .args([workspace, command])
            .kill_on_drop(true);
        ssh
    }

    pub(super) fn log(&self) -> PathBuf {
        self.stack.log_file("gateway")
    }

    pub(super) fn tail(&self) -> Result<String> {
        Ok(self.stack.log_tail("gateway"))
    }

    pub(super) async fn stop(self) {
        if let Some(stack) = std::sync::Arc::into_inner(self.stack) {
            stack.stop().await;
        }
    }
}

/// The folder of a pod's agent.
fn agent(pod: &Pod) -> String {
    format!("agent-{}-{}", pod.namespace, pod.name)
}

/// The gateway's own token for the API server.
pub(super) fn gateways(namespace: &str) -> TokenRequest<'_> {
    TokenRequest {
        namespace,
        account: "gateway",
        audience: None,
        pod: None,
        seconds: 3600,
    }
}

const PORT: u16 = 7022;
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
pub(super) const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/narrow";
