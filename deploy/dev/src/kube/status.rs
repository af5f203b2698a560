//! What a kubelet says of a pod.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::spec::Pod;
use crate::parts::Error;
use crate::parts::kube::Api;

/// How far a pod has come.
pub(super) enum Phase<'a> {
    /// Its containers wait, for a reason such as `ContainerCreating`, with a sentence.
    Waiting { reason: &'a str, message: &'a str },
    /// They run; this says whether they can be used.
    Running { address: String, ready: bool },
    /// An agent has ended.
    Ended {
        address: String,
        code: i32,
        reason: &'a str,
    },
}

/// Tells the API server.
pub(super) async fn tell(api: &Api, pod: &Pod, phase: &Phase<'_>, restarts: u32) -> Result<(), Error> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (ready, address) = match phase {
        Phase::Waiting { .. } => (false, None),
        Phase::Running { address, ready } => (*ready, Some(address)),
        Phase::Ended { address, .. } => (false, Some(address)),
    };
    let containers = pod.containers().iter().map(|container| {
        let state = match phase {
            Phase::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            Phase::Running { .. } => json!({"running": {"startedAt": now}}),
            Phase::Ended { code, reason, .. } => json!({"terminated": {
                "exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}}),
        };
        json!({
            "name": container["name"], "image": container["image"], "imageID": "", "state": state,
            "ready": ready, "started": matches!(phase, Phase::Running { .. }), "restartCount": restarts,
        })
    });
    let containers: Vec<Value> = containers.collect();
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        json!({"type": kind, "status": status, "lastTransitionTime": now})
    };
    let mut status = json!({
        "phase": if address.is_some() { "Running" } else { "Pending" },
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": containers,
        "hostIP": "127.0.0.1",
    });
    if let Some(address) = address {
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    if !pod.0["status"]["startTime"].is_string() {
        status["startTime"] = json!(now);
    }
    // The UID keeps a pod of the same name from being told what is not its own.
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
    api.merge(&format!("{}/status", pod.path()), &patch).await.map(drop)
}

/// Leaves an event on a pod, as `kubectl describe` shows.
pub(super) async fn event(api: &Api, pod: &Pod, kind: &str, reason: &str, message: &str) -> Result<(), Error> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{}.", pod.name()), "namespace": pod.namespace()},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid()},
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": "kubelet", "host": pod.node()},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    let path = format!("/api/v1/namespaces/{}/events", pod.namespace());
    api.create(&path, &event).await.map(drop)
}
