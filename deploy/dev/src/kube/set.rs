//! A StatefulSet of environments with an agent in each pod, as the devenv platform has it, and how a gateway follows it.

use std::path::Path;

use serde_json::{Value, json};
use toml::{Table, toml};

use crate::parts::Error;
use crate::parts::kube::Api;

/// One set; it begins without replicas.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name: pods are called `NAME-0`, `NAME-1`.
    pub name: &'a str,
    /// Annotations of its pods.
    pub annotations: &'a Value,
    /// The user CA's public key, as OpenSSH writes it.
    pub user_ca: &'a str,
    /// The host CA's.
    pub host_ca: &'a str,
    /// The account that its pods are entered as, once their agents have enrolled by the pod's token. Without it they listen, and
    /// wait for a certificate.
    pub login: Option<&'a str>,
}

impl Set<'_> {
    /// Has the API server know it, and the configuration of its agents.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn apply(&self, admin: &Api) -> Result<(), Error> {
        let Self { namespace, name, .. } = self;
        let enrolled = |login| {
            format!(
                "login = '{login}'\nhome = '/var/lib/doorward'\n\
                 [enrol]\nservice-account-token-file = '/var/run/secrets/doorward/token'\n"
            )
        };
        let more = self.login.map(enrolled).unwrap_or_default();
        let agent = format!(
            "user-ca-file = 'user-ca.pub'\nhost-ca-file = 'host-ca.pub'\n\
             [[workspace]]\nname = '$POD_NAME'\nuid = '$POD_UID'\nlisten = '0.0.0.0:7022'\n\
             host-key = '/var/lib/doorward/host-key'\nhost-certificate = '/var/lib/doorward/host-key-cert.pub'\n{more}"
        );
        let config = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("{name}-agent"), "namespace": namespace},
            "data": {"agent.toml": agent, "user-ca.pub": self.user_ca, "host-ca.pub": self.host_ca},
        });
        admin.apply(&config).await?;
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {
                "replicas": 0, "serviceName": name, "template": self.pod(),
                "selector": {"matchLabels": {"app": name}},
            },
        });
        admin.apply(&set).await?;
        Ok(())
    }

    fn pod(&self) -> Value {
        let from = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        json!({
            "metadata": {"labels": {"app": self.name}, "annotations": self.annotations},
            "spec": {
                "containers": [
                    {"name": "devenv", "image": "example.test/devenv:1"},
                    {
                        "name": "doorward",
                        "image": "example.test/doorward-agent:0.1",
                        "args": ["run", "--config", "/etc/doorward/agent.toml"],
                        "ports": [{"name": "doorward", "containerPort": 7022}],
                        "env": [
                            {"name": "POD_NAME", "valueFrom": from("metadata.name")},
                            {"name": "POD_UID", "valueFrom": from("metadata.uid")},
                        ],
                        "volumeMounts": [
                            {"name": "config", "mountPath": "/etc/doorward"},
                            {"name": "state", "mountPath": "/var/lib/doorward"},
                            {"name": "token", "mountPath": "/var/run/secrets/doorward"},
                        ],
                    },
                ],
                "volumes": [
                    {"name": "config", "configMap": {"name": format!("{}-agent", self.name)}},
                    {"name": "state", "emptyDir": {}},
                    {"name": "token", "projected": {"sources": [
                        {"serviceAccountToken": {"audience": "doorward", "expirationSeconds": 600, "path": "token"}},
                    ]}},
                ],
            },
        })
    }
}

/// Gives the service account `gateway` of the namespace, made if missing, what a gateway needs there: to read pods and sets, to
/// write on pods how they are used, to scale sets and tell why that takes long, and to have agents' tokens reviewed.
///
/// # Errors
/// No answer, or a refusal.
pub async fn allow_gateway(admin: &Api, namespace: &str) -> Result<(), Error> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let version = format!("{GROUP}/v1");
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    let everywhere = format!("{namespace}-gateway");
    let subjects = json!([{"kind": "ServiceAccount", "name": "gateway", "namespace": namespace}]);
    let role = |kind: &str, name: &str| json!({"apiGroup": GROUP, "kind": kind, "name": name});
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gateway", "namespace": namespace}}),
        json!({
            "apiVersion": version, "kind": "Role", "metadata": {"name": "gateway", "namespace": namespace},
            "rules": [
                rule("", "pods", &["get", "list", "watch", "patch"]),
                rule("apps", "statefulsets", &["list", "watch"]),
                rule("apps", "statefulsets/scale", &["patch"]),
                rule("", "events", &["list"]),
            ],
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRole", "metadata": {"name": everywhere},
            "rules": [rule("authentication.k8s.io", "tokenreviews", &["create"])],
        }),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "gateway", "namespace": namespace},
            "subjects": subjects, "roleRef": role("Role", "gateway"),
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": everywhere},
            "subjects": subjects, "roleRef": role("ClusterRole", &everywhere),
        }),
    ] {
        admin.apply(&object).await?;
    }
    Ok(())
}

/// The section `[kubernetes]` of a gateway that follows a set of so many ordinals and wakes them.
#[must_use]
pub fn gateway_section(set: &Set<'_>, kubeconfig: &Path, ordinals: u32) -> Table {
    let mut rule = Table::from_iter([
        ("name".to_owned(), set.name.into()),
        ("namespaces".to_owned(), vec![set.namespace].into()),
        ("pods".to_owned(), format!("app={}", set.name).into()),
        ("owner-kind".to_owned(), "StatefulSet".into()),
        ("agent-port".to_owned(), "doorward".into()),
        ("ordinals".to_owned(), ordinals.into()),
    ]);
    if let Some(login) = set.login {
        rule.insert("login".to_owned(), login.into());
    }
    let mut wake = toml! {
        kind = "scale"
        within = "3m"
    };
    wake.insert("rule".to_owned(), set.name.into());
    Table::from_iter([
        (
            "kubeconfig".to_owned(),
            kubeconfig.to_string_lossy().into_owned().into(),
        ),
        ("workspaces".to_owned(), vec![rule].into()),
        ("wake".to_owned(), vec![wake].into()),
    ])
}
