//! A StatefulSet of environments with an agent in each pod, as the devenv platform has it, and the kubelet that runs them.

use anyhow::Result;
use doorward_dev::kube::{Kubelet, Settings};
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::Api;
use serde_json::{Value, json};
use tests::parts::fresh;

use super::PLACE;

/// One set; it begins without replicas.
pub struct Set<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Of its pods.
    pub annotations: &'a Value,
    /// What the agents trust, as OpenSSH writes public keys.
    pub user_ca: &'a str,
    pub host_ca: &'a str,
    /// Lines of their configuration, after the workspace's own.
    pub more: &'a str,
}

impl Set<'_> {
    /// Has the API server know it.
    pub async fn apply(&self, admin: &Api) -> Result<()> {
        let Self {
            namespace, name, more, ..
        } = self;
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

/// A namespace, and a kubelet that runs its pods.
pub async fn kubelet(cluster: &Cluster, namespace: &str) -> Result<Kubelet> {
    cluster.namespace(namespace).await?;
    let settings = Settings {
        api: cluster.admin().clone(),
        namespace: namespace.to_owned(),
        folder: fresh(PLACE, namespace)?,
        program: Some(PLACE.program.into()),
    };
    Ok(Kubelet::start(settings).await?)
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Ready" && one["status"] == "True")
}
