//! `--kubernetes`: the stack's workspaces as pods of a StatefulSet in a real cluster, with none of them running.

use std::future::pending;

use anyhow::{Context, Result};
use doorward_dev::kube::{Kubelet, START_AFTER, Set, Settings, allow_gateway, gateway_section};
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::{self, Identity, TokenRequest};
use doorward_dev::stack::{Stack, WORKSPACES};
use serde_json::json;

/// The namespace, and the set: pods are called `devenv-0`, `devenv-1`.
const DEVENV: &str = "devenv";
/// How long the gateway's token is good, in seconds: as long as anybody plays with a stack.
const TOKEN_LIFE: u32 = 7 * 86400;

/// A cluster whose pods are the stack's workspaces.
#[derive(Debug)]
pub(crate) struct Land {
    cluster: Cluster,
    kubelet: Kubelet,
    kubeconfig: String,
}

impl Land {
    /// Starts a cluster and a kubelet, makes the set, and has the gateway follow it in place of its list of workspaces.
    pub(crate) async fn start(stack: &mut Stack, start_after: u32) -> Result<Self> {
        eprintln!("bringing a Kubernetes up …");
        let folder = stack.state_dir().parent().context("no folder")?.to_owned();
        let place = folder.join("kubernetes");
        if place.exists() {
            std::fs::remove_dir_all(&place).with_context(|| format!("cannot clear {}", place.display()))?;
        }
        let settings = kube::Settings {
            folder: place.clone(),
            program: None,
            people: Vec::new(),
        };
        let cluster = Cluster::start(settings).await?;
        let admin = cluster.admin();
        cluster.namespace(DEVENV).await?;
        let settings = Settings {
            api: admin.clone(),
            namespace: DEVENV.to_owned(),
            folder: place.join("kubelet"),
            program: None,
        };
        let kubelet = Kubelet::start(settings).await?;
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
        let login = stack.account().to_owned();
        let set = Set {
            namespace: DEVENV,
            name: DEVENV,
            annotations: &json!({START_AFTER: start_after.to_string()}),
            user_ca: &read("user-ca.pub")?,
            host_ca: &read("host-ca.pub")?,
            login: Some(&login),
        };
        set.apply(admin).await?;
        allow_gateway(admin, DEVENV).await?;
        let wanted = TokenRequest {
            namespace: DEVENV,
            account: "gateway",
            audience: None,
            pod: None,
            seconds: TOKEN_LIFE,
        };
        let file = place.join("gateway.kubeconfig");
        cluster.write_kubeconfig(&file, &Identity::Token(cluster.token(wanted).await?))?;
        let own = place.join("admin.kubeconfig");
        cluster.write_kubeconfig(&own, &Identity::Admin)?;
        let mut section = gateway_section(&set, &file, WORKSPACES.len().try_into()?);
        // Without it nobody could be told to leave a pod awake (`doorward keep`).
        section.insert("usage".to_owned(), vec![toml::toml! { rule = "devenv" }].into());
        let change = |config: &mut toml::Table| {
            config.remove("workspace");
            config.insert("kubernetes".to_owned(), section.into());
        };
        stack.restart_gateway_with(change).await?;
        Ok(Self {
            kubeconfig: own.display().to_string(),
            cluster,
            kubelet,
        })
    }

    /// Where it is, and how it is looked at.
    pub(crate) fn describe(&self) -> String {
        format!("{}   kubectl --kubeconfig {}", self.cluster.url(), self.kubeconfig)
    }

    /// Waits for the end of a server of the cluster, which nobody wanted.
    pub(crate) async fn fell(land: &mut Option<Self>) -> anyhow::Error {
        match land {
            Some(land) => land.cluster.fell().await.into(),
            None => pending().await,
        }
    }

    /// Ends the pods, then the cluster.
    pub(crate) async fn stop(self) {
        self.kubelet.stop().await;
        self.cluster.stop().await;
    }
}
