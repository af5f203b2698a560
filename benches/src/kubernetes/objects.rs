//! Many objects written fast: the API server as its administrator, over connections that are kept.

use std::fs;

use anyhow::{Result, ensure};
use doorward_dev::parts::Cluster;
use reqwest::{Certificate, Client, Identity, Method, redirect::Policy};
use serde_json::{Value, json};

/// A writer of objects. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    client: Client,
    url: String,
}

impl Writer {
    pub(super) fn new(cluster: &Cluster) -> Result<Self> {
        let pair = [fs::read(cluster.admin_certificate())?, fs::read(cluster.admin_key())?].concat();
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .tls_certs_only([Certificate::from_pem(&fs::read(cluster.ca_file())?)?])
            .identity(Identity::from_pem(&pair)?)
            .build()?;
        Ok(Self {
            client,
            url: cluster.url(),
        })
    }

    /// Makes a pod that runs, as far as the API server is told; nothing listens at its address.
    pub(super) async fn run_pod(&self, namespace: &str, name: &str, address: &str) -> Result<()> {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "bench"}},
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "example.test/bench:1"}],
            },
        });
        self.send(Method::POST, &pods, "application/json", &pod).await?;
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        self.merge(&format!("{pods}/{name}/status"), &status).await
    }

    /// Says whose pod it is.
    pub(super) async fn give(&self, namespace: &str, name: &str, owner: &str) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {OWNER: owner}}});
        self.merge(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), &patch)
            .await
    }

    async fn merge(&self, path: &str, patch: &Value) -> Result<()> {
        self.send(Method::PATCH, path, "application/merge-patch+json", patch)
            .await
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<()> {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let answer = request
            .header("content-type", kind)
            .body(body.to_string())
            .send()
            .await?;
        let status = answer.status();
        // To the end, or the connection is of no more use.
        let said = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status}: {said}");
        Ok(())
    }
}

/// The annotation that says whose a pod is.
pub(super) const OWNER: &str = "bench.doorward.dev/person";
