//! Kubernetes RBAC as an authoriser, by a real one: where both have to agree, where one is enough, and of what has no pod.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use doorward_dev::issuer::{Circle, Person};
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::{Identity, TokenRequest};
use doorward_dev::stack::{ClientFolder, Options, Stack};
use serde_json::{Value, json};
use tests::parts::{Had, fresh, name_of, shared_cluster};
use tests::{feed, until};

use super::PLACE;

const NAMESPACE: &str = "authorize";
const RBAC: &str = "rbac.authorization.k8s.io";

const POLICY: &str = r#"
[[role]]
name = "developer"
groups = ["developers"]
workspaces = ["*"]
allow = ["shell"]

[[role]]
name = "by-rbac"
rbac = true
workspaces = ["*"]
allow = ["exec"]
"#;

/// Sets that sleep: `either-0` and `both-0` are in a role by their names, `either-1` and `both-1` are not. What a Deployment will
/// make has no name yet: `plain` is asked about as a pod, `owned` by its Deployment.
const RULES: &str = r#"
[[workspaces]]
name = "either"
namespaces = ["authorize"]
pods = "app=either"
owner-kind = "StatefulSet"
ordinals = 2
login = "node"
agent-port = 7022

[[workspaces]]
name = "both"
namespaces = ["authorize"]
pods = "app=both"
owner-kind = "StatefulSet"
ordinals = 2
login = "node"
agent-port = 7022

[[workspaces]]
name = "plain"
namespaces = ["authorize"]
pods = "app=plain"
owner-kind = "Deployment"
workspace = "{owner}"
login = "node"
agent-port = 7022

[[workspaces]]
name = "owned"
namespaces = ["authorize"]
pods = "app=owned"
owner-kind = "Deployment"
workspace = "{owner}"
login = "node"
agent-port = 7022

[authorize]
username-prefix = "oidc:"
cache = "0s"

[[authorize.rbac]]
rule = "either"
require = "either"
verb = "create"
resource = "pods"
subresource = "exec"

[[authorize.rbac]]
rule = "both"
require = "both"
verb = "create"
resource = "pods"
subresource = "exec"

[[authorize.rbac]]
rule = "plain"
require = "both"
verb = "create"
resource = "pods"
subresource = "exec"

[[authorize.rbac]]
rule = "owned"
require = "both"
verb = "get"
group = "apps"
resource = "deployments"
name = "owner"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn rbac_decides_with_the_policy_or_beside_it_also_of_what_sleeps() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    prepare(cluster).await?;
    let mut stack = stack().await?;
    follow(cluster, &mut stack).await?;
    let mut clients = BTreeMap::new();
    for person in ["dev", "reb", "duo"] {
        let folder = fresh(PLACE, &format!("authorize-{person}"))?;
        clients.insert(person, stack.login(person, &folder).await?);
    }
    // A developer whom RBAC does not know, somebody whom it alone knows, and somebody who has both.
    lists(&stack, &clients["dev"], &["either-0 shell", "either-1 shell"]).await?;
    lists(&stack, &clients["reb"], &["either-0 exec"]).await?;
    let both = [
        "both-0 shell exec",
        "either-0 shell exec",
        "either-1 shell",
        "owned shell exec",
    ];
    lists(&stack, &clients["duo"], &both).await?;

    // Without names it is about whatever there will be, and so about what has no name yet.
    let all = json!([{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}]);
    role(cluster, "all-pods", &all, &["oidc:duo"]).await?;
    let every = [
        "both-0 shell exec",
        "both-1 shell exec",
        "either-0 shell exec",
        "either-1 shell exec",
        "owned shell exec",
        "plain shell exec",
    ];
    lists(&stack, &clients["duo"], &every).await?;

    // What is taken away there counts here.
    for name in ["all-pods", "some"] {
        let binding = format!("/apis/{RBAC}/v1/namespaces/{NAMESPACE}/rolebindings/{name}");
        cluster.admin().delete(&binding).await?;
    }
    lists(&stack, &clients["duo"], &["either-0 shell", "either-1 shell"]).await?;
    lists(&stack, &clients["reb"], &[]).await?;
    stack.stop().await;
    Ok(())
}

/// What sleeps, and who may do what to some of it by name.
async fn prepare(cluster: &Cluster) -> Result<()> {
    cluster.namespace(NAMESPACE).await?;
    let admin = cluster.admin();
    for (kind, name) in [
        ("StatefulSet", "either"),
        ("StatefulSet", "both"),
        ("Deployment", "plain"),
        ("Deployment", "owned"),
    ] {
        let labels = json!({"app": name});
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "example.test/devenv:1"}]},
            }},
        });
        if kind == "StatefulSet" {
            object["spec"]["serviceName"] = json!(name);
        }
        admin.apply(&object).await?;
    }
    let some = json!([
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"], "resourceNames": ["either-0", "both-0", "plain"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"], "resourceNames": ["owned"]},
    ]);
    role(cluster, "some", &some, &["oidc:reb", "oidc:duo"]).await?;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gateway", "namespace": NAMESPACE}});
    admin.apply(&account).await?;
    let read = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets", "deployments", "replicasets"], "verbs": ["list", "watch"]},
    ]);
    let me = format!("system:serviceaccount:{NAMESPACE}:gateway");
    role(cluster, "gateway", &read, &[&me]).await?;
    let everywhere = format!("{NAMESPACE}-gateway");
    let reviews =
        json!([{"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}]);
    for object in [
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": everywhere}, "rules": reviews}),
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": everywhere},
            "subjects": [{"kind": "User", "apiGroup": RBAC, "name": me}],
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": everywhere}}),
    ] {
        admin.apply(&object).await?;
    }
    Ok(())
}

/// A role of the namespace, and who has it.
async fn role(cluster: &Cluster, name: &str, rules: &Value, users: &[&str]) -> Result<()> {
    let users: Vec<Value> = users
        .iter()
        .map(|user| json!({"kind": "User", "apiGroup": RBAC, "name": user}))
        .collect();
    let meta = json!({"name": name, "namespace": NAMESPACE});
    for object in [
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": meta, "rules": rules}),
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": meta, "subjects": users,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}}),
    ] {
        cluster.admin().apply(&object).await?;
    }
    Ok(())
}

async fn stack() -> Result<Stack> {
    let person = |name: &str, groups: &[&str]| Person::new(name, groups);
    Ok(Stack::start(Options {
        dir: fresh(PLACE, "authorize-stack")?,
        program: Some(PLACE.program.into()),
        policy: Some(POLICY.to_owned()),
        circle: Some(Circle {
            client_id: "doorward".to_owned(),
            audience: "doorward-gateway".to_owned(),
            people: vec![
                person("dev", &["developers"]),
                person("reb", &[]),
                person("duo", &["developers"]),
            ],
        }),
        ..Options::default()
    })
    .await?)
}

async fn follow(cluster: &Cluster, stack: &mut Stack) -> Result<()> {
    let wanted = TokenRequest {
        namespace: NAMESPACE,
        account: "gateway",
        audience: None,
        pod: None,
        seconds: 3600,
    };
    let file = stack.state_dir().parent().context("no folder")?.join("kubeconfig");
    cluster.write_kubeconfig(&file, &Identity::Token(cluster.token(wanted).await?))?;
    let mut kubernetes: toml::Table = RULES.parse()?;
    let authorize = kubernetes.remove("authorize").context("no section")?;
    kubernetes.insert("kubeconfig".to_owned(), file.display().to_string().into());
    let change = |config: &mut toml::Table| {
        // What the development stack has of its own is everybody's who has a role for all.
        config.remove("workspace");
        config.insert("kubernetes".to_owned(), kubernetes.into());
        config.insert("authorize".to_owned(), authorize);
    };
    Ok(stack.restart_gateway_with(change).await?)
}

/// Waits until somebody's list is this: each workspace with what they may do there.
async fn lists(stack: &Stack, client: &ClientFolder, wanted: &[&str]) -> Result<()> {
    let mut seen = String::new();
    let waiting = until("the list", async || {
        let listed = feed(client.command(["ls", "--json"]), b"").await?;
        seen = format!("{}{}", String::from_utf8_lossy(&listed.stdout), listed.said());
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let all = listed["workspaces"].as_array().or(listed.as_array());
        let line = |one: &Value| {
            let words: Vec<&str> = one["capabilities"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            format!("{} {}", one["name"].as_str().unwrap_or_default(), words.join(" "))
        };
        let all: Option<Vec<String>> = all.map(|all| all.iter().map(line).collect());
        Ok((all.as_deref().is_some_and(|all| all == wanted)).then_some(()))
    });
    waiting
        .await
        .with_context(|| format!("not {wanted:?}: {seen}\n{}", stack.log_tail("gateway")))
}
