//! Doorward in a large cluster: a real API server, pods that are many or come and go, and a gateway that keeps up.
//!
//! Nothing here runs a kubelet's work at that scale: where pods are many they are objects alone. Each measure has a gateway of its own.

mod churn;
mod links;
mod objects;
mod wake;

use std::path::Path;

use anyhow::{Context, Result};
use doorward_dev::kube::allow_gateway;
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::{Identity, Settings, TokenRequest};
use doorward_dev::stack::{Options, Stack};

pub use churn::measure as churn;
pub use links::measure as links;
pub use wake::measure as wake;

/// A control plane of its own.
async fn cluster(folder: &Path) -> Result<Cluster> {
    let settings = Settings {
        folder: folder.join("cluster"),
        program: None,
        people: Vec::new(),
    };
    Ok(Cluster::start(settings).await?)
}

/// A stack with somebody logged in.
async fn stack(folder: &Path, policy: Option<&str>) -> Result<Stack> {
    let options = Options {
        dir: folder.join("stack"),
        login: Some("bob".to_owned()),
        policy: policy.map(str::to_owned),
        ..Options::default()
    };
    Ok(Stack::start(options).await?)
}

/// A kubeconfig as a gateway's service account of the namespace, which may do there what a gateway needs.
async fn kubeconfig(cluster: &Cluster, namespace: &str, file: &Path) -> Result<()> {
    allow_gateway(cluster.admin(), namespace).await?;
    let wanted = TokenRequest {
        namespace,
        account: "gateway",
        audience: None,
        pod: None,
        seconds: 3600,
    };
    let token = cluster.token(wanted).await?;
    Ok(cluster.write_kubeconfig(file, &Identity::Token(token))?)
}

fn gateway_of(stack: &Stack) -> Result<u32> {
    stack.gateway_pid().context("the gateway does not run")
}
