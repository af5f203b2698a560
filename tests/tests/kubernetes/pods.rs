//! Pods become processes: the kubelet of the development stack, and what a pod's agent has from it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use doorward_dev::kube::{Kubelet, START_AFTER, Set, Settings};
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::Api;
use serde_json::{Value, json};
use ssh_key::{Algorithm, PrivateKey};
use tests::parts::{Had, fresh, name_of, shared_cluster};
use tokio::net::TcpStream;

use super::PLACE;

#[tokio::test]
async fn a_set_that_is_scaled_up_runs_an_agent_and_its_token_names_the_pod() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let namespace = "scaled";
    let kubelet = kubelet(cluster, namespace).await?;
    let admin = cluster.admin();
    apply_devenv(admin, namespace, &json!({})).await?;
    let pod = format!("/api/v1/namespaces/{namespace}/pods/devenv-0");
    ensure!(admin.find(&pod).await?.is_none(), "a pod before anybody scaled");

    scale(admin, namespace, 1).await?;
    let first = admin
        .await_state(&pod, is_ready)
        .await
        .with_context(|| kubelet.log("devenv-0"))?;
    let address = agent_of(&first)?;
    TcpStream::connect(address).await?;

    let uid = first["metadata"]["uid"].as_str().unwrap_or_default();
    let token = std::fs::read_to_string(kubelet.volume(uid, "token").join("token"))?;
    let review = review(admin, &token, "doorward").await?;
    ensure!(review["status"]["authenticated"] == true, "{review}");
    let extra = &review["status"]["user"]["extra"];
    ensure!(
        extra["authentication.kubernetes.io/pod-name"] == json!(["devenv-0"]),
        "{review}"
    );
    ensure!(
        extra["authentication.kubernetes.io/pod-uid"] == json!([uid]),
        "{review}"
    );
    let other = self::review(admin, &token, "somebody-else").await?;
    ensure!(other["status"]["authenticated"] != true, "{other}");

    // Deleted, and made again by its set: another pod, whose agent has another address; the old one has ended.
    admin.delete(&pod).await?;
    let another = |object: &Value| is_ready(object) && object["metadata"]["uid"] != uid;
    let second = admin
        .await_state(&pod, another)
        .await
        .with_context(|| kubelet.log("devenv-0"))?;
    TcpStream::connect(agent_of(&second)?).await?;
    ensure!(
        TcpStream::connect(address).await.is_err(),
        "the deleted pod's agent is there"
    );

    scale(admin, namespace, 0).await?;
    admin.await_gone(&pod).await?;
    kubelet.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_pod_that_takes_long_says_what_it_waits_for_and_can_be_deleted_meanwhile() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let namespace = "slow";
    let kubelet = kubelet(cluster, namespace).await?;
    let admin = cluster.admin();
    apply_devenv(admin, namespace, &json!({START_AFTER: "86400"})).await?;
    scale(admin, namespace, 1).await?;
    let pod = format!("/api/v1/namespaces/{namespace}/pods/devenv-0");
    let reason =
        |object: &Value| object["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating";
    admin.await_state(&pod, reason).await?;
    let events = format!("/api/v1/namespaces/{namespace}/events");
    let pulling = |events: &Value| {
        let events = events["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_pod = |event: &&Value| event["involvedObject"]["name"] == "devenv-0" && event["reason"] == "Pulling";
        events.iter().find(of_pod).is_some_and(|event| {
            event["message"]
                .as_str()
                .is_some_and(|said| said.contains("example.test"))
        })
    };
    admin.await_state(&events, pulling).await?;
    scale(admin, namespace, 0).await?;
    admin.await_gone(&pod).await?;
    kubelet.stop().await;
    Ok(())
}

/// A set whose agents trust a CA of nobody's: they listen, and no gateway can come in.
async fn apply_devenv(admin: &Api, namespace: &str, annotations: &Value) -> Result<()> {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?
        .public_key()
        .to_openssh()?;
    let set = Set {
        namespace,
        name: "devenv",
        annotations,
        user_ca: &key,
        host_ca: &key,
        login: None,
    };
    Ok(set.apply(admin).await?)
}

/// A namespace, and a kubelet that runs its pods.
pub(super) async fn kubelet(cluster: &Cluster, namespace: &str) -> Result<Kubelet> {
    cluster.namespace(namespace).await?;
    let settings = Settings {
        api: cluster.admin().clone(),
        namespace: namespace.to_owned(),
        folder: fresh(PLACE, namespace)?,
        program: Some(PLACE.program.into()),
    };
    Ok(Kubelet::start(settings).await?)
}

pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Ready" && one["status"] == "True")
}

async fn scale(admin: &Api, namespace: &str, replicas: u32) -> Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/devenv/scale");
    admin.merge(&path, &json!({"spec": {"replicas": replicas}})).await?;
    Ok(())
}

async fn review(admin: &Api, token: &str, audience: &str) -> Result<Value> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    });
    Ok(admin
        .create("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await?)
}

fn agent_of(pod: &Value) -> Result<SocketAddr> {
    let address = pod["status"]["podIP"].as_str().context("a pod without an address")?;
    Ok(SocketAddr::new(address.parse()?, 7022))
}
