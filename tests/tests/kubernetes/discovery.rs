//! The gateway's directory follows a real cluster, with exactly the permissions that the document names.

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use doorward_certs::WorkspaceName;
use doorward_dev::parts::kube::{Api, Cluster, Identity, TokenRequest};
use doorward_gateway::config::{Kubernetes, KubernetesAccess};
use doorward_gateway::kube::connect;
use doorward_gateway::kube::discover::rule::{AssignedBy, Kept, Namespaces, Port};
use doorward_gateway::kube::discover::template::Template;
use doorward_gateway::kube::discover::{Discovery, Rule};
use doorward_gateway::workspace::{Directory, State, Workspace};
use serde_json::{Value, json};
use tests::parts::{Had, name_of, own_cluster, shared_cluster};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PLACE;
use super::access::Two;

/// A directory that follows a cluster as a service account of its own.
struct Follower {
    discovery: Discovery,
    directory: Directory,
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

impl Follower {
    async fn start(cluster: &Cluster, namespace: &str, rule: Rule) -> Result<Self> {
        provider();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gateway", "namespace": namespace}});
        cluster.admin().apply(&account).await?;
        let token = cluster
            .token(TokenRequest {
                namespace,
                account: "gateway",
                audience: None,
                pod: None,
                seconds: 3600,
            })
            .await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("kubeconfig");
        cluster.write_kubeconfig(&file, &Identity::Token(token))?;
        let settings = Kubernetes {
            access: KubernetesAccess::Kubeconfig(file),
            timeout: Duration::from_secs(2),
            max_age: Duration::from_secs(3600),
            audience: "doorward".to_owned(),
            workspaces: vec![rule],
            wakes: BTreeMap::new(),
            usage: BTreeMap::new(),
        };
        let client = connect(&settings).await?.client();
        let discovery = Discovery::new(client, &settings.workspaces, settings.max_age);
        let (directory, stop, tasks) = (Directory::default(), CancellationToken::new(), TaskTracker::new());
        tasks.spawn(discovery.clone().run(directory.clone(), stop.clone()));
        Ok(Self {
            discovery,
            directory,
            stop,
            tasks,
            _folder: folder,
        })
    }

    fn find(&self, name: &str) -> Result<Option<Workspace>> {
        let name = WorkspaceName::try_from(name).context("a name")?;
        Ok(self.directory.find(&name).map(|found| Workspace::clone(&found)))
    }

    /// Waits until the workspace is as wanted.
    async fn is(&self, name: &str, wanted: impl Fn(Option<&Workspace>) -> bool) -> Result<Option<Workspace>> {
        let mut changes = self.directory.changes();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                let found = self.find(name)?;
                if wanted(found.as_ref()) {
                    return Ok(found);
                }
                changes.changed().await?;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("{name} is {:?}, {:?}", self.find(name), self.discovery.current()))?
    }

    async fn running(&self, name: &str) -> Result<Workspace> {
        let found = self
            .is(name, |one| one.is_some_and(|one| one.state == State::Running))
            .await?;
        found.context("it was there")
    }

    /// Waits until what is said of how current the directory is holds.
    async fn says(&self, wanted: impl Fn(Result<(), String>) -> bool) -> Result<()> {
        let waiting = async {
            while !wanted(self.discovery.current()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("it says {:?}", self.discovery.current()))
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Installs the one TLS provider.
pub(super) fn provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

fn rule(namespaces: Namespaces, owner_kind: Option<&str>) -> Result<Rule> {
    let template = |text: &str| Template::parse(text).map_err(anyhow::Error::msg);
    Ok(Rule {
        name: "test".to_owned(),
        namespaces,
        pods: "app=devenv".to_owned(),
        owners: "app=devenv".to_owned(),
        owner_kind: owner_kind.map(str::to_owned),
        workspace: template("{pod}")?,
        owner: None,
        login: template("node")?,
        agent_port: Port::Number(7022),
        assigned_by: None,
        ordinals: 0,
        claims: None,
        kept: Kept::default(),
        up_time: None,
    })
}

/// Lets the gateway's account list and watch these, in its namespace.
async fn allow(api: &Api, namespace: &str, rules: Value) -> Result<()> {
    let meta = json!({"name": "gateway", "namespace": namespace});
    let rbac = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta, "rules": rules}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
            "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": namespace}],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "gateway"}}),
    ] {
        api.apply(&object).await?;
    }
    Ok(())
}

fn meta(namespace: &str, name: &str) -> Value {
    json!({"name": name, "namespace": namespace, "labels": {"app": "devenv"}})
}

fn bare(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta(namespace, name),
        "spec": {"containers": [{"name": "main", "image": "none"}], "automountServiceAccountToken": false}})
}

/// Does as a kubelet would: the pod runs.
async fn run(api: &Api, namespace: &str, pod: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    let found = api
        .await_state(&path, |pod| pod["metadata"]["deletionTimestamp"].is_null())
        .await?;
    let ready = json!({"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    api.merge(&format!("{path}/status"), &ready).await?;
    Ok(found["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_set_is_followed_as_it_scales_and_a_pod_made_anew_is_another_life() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let (namespace, admin) = ("discovered", cluster.admin());
    cluster.namespace(namespace).await?;
    let here = Namespaces::These(vec![namespace.to_owned()]);
    let rule = Rule {
        assigned_by: Some(AssignedBy::ConfigMap("people".to_owned())),
        ..rule(here, Some("StatefulSet"))?
    };
    let follower = Follower::start(cluster, namespace, rule).await?;
    // Nothing is allowed yet: the permission that is missing is named.
    follower
        .says(|said| said.is_err_and(|why| why.contains("cannot list resource")))
        .await?;
    ensure!(follower.directory.list().is_empty(), "{:?}", follower.directory.list());

    let people = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "people", "namespace": namespace},
        "data": {"devenv-0": "alice@example.com", "devenv-1": "bob@example.com"}});
    admin.apply(&people).await?;
    let set = |replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta(namespace, "devenv"),
            "spec": {"replicas": replicas, "serviceName": "devenv", "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "devenv"}},
                "template": {"metadata": {"labels": {"app": "devenv"}},
                    "spec": {"containers": [{"name": "main", "image": "none"}], "terminationGracePeriodSeconds": 0}}}})
    };
    admin.apply(&set(0)).await?;
    allow(
        admin,
        namespace,
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["people"], "verbs": ["list", "watch"]},
        ]),
    )
    .await?;
    follower.says(|said| said.is_ok()).await?;
    let asleep = |owner: &'static str| {
        move |one: Option<&Workspace>| {
            one.is_some_and(|one| one.state == State::Asleep && one.owner.as_deref() == Some(owner))
        }
    };
    follower.is("devenv-0", asleep("alice@example.com")).await?;
    follower.is("devenv-1", asleep("bob@example.com")).await?;

    admin.apply(&set(1)).await?;
    follower
        .is("devenv-0", |one| {
            one.is_some_and(|one| matches!(one.state, State::Starting(_)))
        })
        .await?;
    let first = run(admin, namespace, "devenv-0").await?;
    let life = follower.running("devenv-0").await?.life.context("a life")?;
    ensure!(
        (life.uid.as_str(), life.address.as_str()) == (first.as_str(), "127.0.0.1:7022"),
        "{life:?}"
    );
    ensure!(
        follower.find("devenv-1")?.is_some_and(|one| one.state == State::Asleep),
        "it was not scaled"
    );

    // One that takes the labels, and even the owner, is not the set's own.
    let mut evil = bare(namespace, "evil");
    let path = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/devenv");
    let owner = admin.read(&path).await?;
    evil["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "devenv",
        "uid": owner["metadata"]["uid"], "controller": true}]);
    let _ = admin.apply(&evil).await?;

    admin
        .delete(&format!("/api/v1/namespaces/{namespace}/pods/devenv-0"))
        .await?;
    follower
        .is("devenv-0", |one| one.is_some_and(|one| one.life.is_none()))
        .await?;
    let second = run(admin, namespace, "devenv-0").await?;
    ensure!(first != second, "the pod is the same");
    let life = follower.running("devenv-0").await?.life.context("a life")?;
    ensure!(life.uid.as_str() == second, "{life:?}");
    ensure!(follower.find("evil")?.is_none(), "a stranger's pod became a workspace");

    admin.apply(&set(0)).await?;
    follower.is("devenv-0", asleep("alice@example.com")).await?;
    follower.stop().await;
    Ok(())
}

#[tokio::test]
async fn selected_namespaces_are_followed_as_they_appear_and_vanish() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let (home, admin) = ("discovery-home", cluster.admin());
    cluster.namespace(home).await?;
    let rbac = "rbac.authorization.k8s.io";
    let name = json!({"name": "discovery-home"});
    for object in [
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": name,
            "rules": [{"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]}]}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": name,
            "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": home}],
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "discovery-home"}}),
    ] {
        admin.apply(&object).await?;
    }
    let rule = rule(Namespaces::Selected("project=discovery".to_owned()), None)?;
    let follower = Follower::start(cluster, home, rule).await?;
    follower.says(|said| said.is_ok()).await?;
    let project = "project-alpha";
    cluster.namespace(project).await?;
    admin.apply(&bare(project, "quiet-fox")).await?;
    run(admin, project, "quiet-fox").await?;
    ensure!(follower.find("quiet-fox")?.is_none(), "its namespace is not selected");
    let label = |value: Value| json!({"metadata": {"labels": {"project": value}}});
    let path = format!("/api/v1/namespaces/{project}");
    admin.merge(&path, &label(json!("discovery"))).await?;
    follower.running("quiet-fox").await?;
    admin.merge(&path, &label(Value::Null)).await?;
    follower.is("quiet-fox", |one| one.is_none()).await?;
    admin.merge(&path, &label(json!("discovery"))).await?;
    follower.running("quiet-fox").await?;
    admin.delete(&path).await?;
    follower.is("quiet-fox", |one| one.is_none()).await?;
    follower.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_hangs_or_is_gone_leaves_what_was_known_and_says_so() -> Result<()> {
    let Had::Here(mut cluster) = own_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let (namespace, admin) = ("outage", cluster.admin().clone());
    cluster.namespace(namespace).await?;
    let rule = rule(Namespaces::These(vec![namespace.to_owned()]), None)?;
    let lenders = Two::start(&cluster, namespace, &rule, Duration::from_secs(3600)).await?;
    let follower = Follower::start(&cluster, namespace, rule).await?;
    lenders.kind_comes(&cluster).await?;
    allow(
        &admin,
        namespace,
        json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]),
    )
    .await?;
    admin.apply(&bare(namespace, "one")).await?;
    run(&admin, namespace, "one").await?;
    let before = follower.running("one").await?;

    cluster.pause_api().await;
    follower
        .says(|said| said.is_err_and(|why| why.contains("behind since") && why.contains("no answer")))
        .await?;
    ensure!(
        follower.find("one")?.as_ref() == Some(&before),
        "what was known is gone"
    );
    ensure!(follower.discovery.ready() == Ok(()), "it is not too old");
    cluster.resume_api();
    follower.says(|said| said.is_ok()).await?;

    cluster.kill_api().await;
    follower
        .says(|said| said.is_err_and(|why| why.contains("cannot be reached")))
        .await?;
    lenders.server_is_gone().await?;
    ensure!(
        follower.find("one")?.as_ref() == Some(&before),
        "what was known is gone"
    );
    cluster.restart_api().await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/one");
    admin.delete_with(&path, &json!({"gracePeriodSeconds": 0})).await?;
    follower.is("one", |one| one.is_none()).await?;
    follower.says(|said| said.is_ok()).await?;
    follower.stop().await;
    lenders.goes_on(&cluster).await?;
    cluster.stop().await;
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(120);
