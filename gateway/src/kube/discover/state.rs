//! How a pod stands, in a person's words.

use super::seen::{ContainerStatus, Object};
use crate::workspace::{State, line};

/// How a pod stands, and whether it can be reached at all.
pub(super) fn of_pod(pod: &Object) -> (State, bool) {
    let phase = pod.status.phase.as_deref().unwrap_or("Pending");
    let runs = phase == "Running" && pod.status.pod_ip.is_some();
    let state = match phase {
        // The API server waits for a node that may never come back.
        _ if pod.is_going() && pod.status.reason.as_deref() == Some("NodeLost") => State::Failed(UNHEARD.to_owned()),
        _ if pod.is_going() => State::Stopping,
        "Running" if is_ready(pod) => State::Running,
        "Running" => match troubles(pod) {
            // What is broken besides the agent's own container keeps nobody out.
            Some(trouble) => State::Starting(trouble),
            None => State::Starting("not ready yet".to_owned()),
        },
        "Pending" => pending(pod),
        "Succeeded" => State::Failed("it has finished".to_owned()),
        "Failed" => State::Failed(failed(pod)),
        _ => State::Failed(UNHEARD.to_owned()),
    };
    (state, runs)
}

const UNHEARD: &str = "its node is not heard of";

fn is_ready(pod: &Object) -> bool {
    let mut conditions = pod.status.conditions.iter().flatten();
    conditions.any(|condition| condition.kind == "Ready" && condition.status == "True")
}

fn statuses(pod: &Object) -> impl Iterator<Item = &ContainerStatus> {
    let first = pod.status.init_container_statuses.iter().flatten();
    first.chain(pod.status.container_statuses.iter().flatten())
}

fn pending(pod: &Object) -> State {
    for status in statuses(pod) {
        let Some(waiting) = &status.state.waiting else { continue };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if is_hopeless(reason) {
            let message = waiting.message.as_deref().unwrap_or(reason);
            return State::Failed(line(&format!("{}: {message}", said(reason))));
        }
    }
    let mut conditions = pod.status.conditions.iter().flatten();
    let unplaced = conditions.find(|condition| condition.kind == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unplaced {
        let message = condition.message.as_deref().unwrap_or("no node takes it");
        return State::Starting(line(&format!("waits for a node: {message}")));
    }
    let mut first = pod.status.init_container_statuses.iter().flatten();
    if let Some(status) = first.find(|status| status.state.running.is_some()) {
        return State::Starting(line(&format!("prepares: {}", status.name)));
    }
    match statuses(pod).find_map(|status| status.state.waiting.as_ref()?.reason.as_deref()) {
        Some("ContainerCreating" | "PodInitializing") => State::Starting("its containers are being made".to_owned()),
        Some(other) => State::Starting(line(other)),
        None => State::Starting("waits for its node".to_owned()),
    }
}

fn troubles(pod: &Object) -> Option<String> {
    statuses(pod).filter(|status| !status.ready).find_map(|status| {
        let state = &status.state;
        let reason = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
        match (reason, &state.terminated) {
            (Some(reason), _) => Some(line(&format!("{}: {}", status.name, said(reason)))),
            (None, Some(ended)) if ended.exit_code != 0 => Some(line(&format!("{}: {}", status.name, ending(ended)))),
            _ => None,
        }
    })
}

fn failed(pod: &Object) -> String {
    let own = pod.status.reason.as_deref().or(pod.status.message.as_deref());
    if let Some(text) = own {
        return line(text);
    }
    let ended = statuses(pod).find_map(|status| {
        let ended = status.state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        Some(line(&format!("{}: {}", status.name, ending(ended))))
    });
    ended.unwrap_or_else(|| "its containers have failed".to_owned())
}

fn ending(ended: &super::seen::Terminated) -> String {
    match ended.reason.as_deref() {
        Some("OOMKilled") => "ran out of memory".to_owned(),
        Some(reason) if reason != "Error" => reason.to_owned(),
        _ => format!("ended with code {}", ended.exit_code),
    }
}

fn is_hopeless(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "CrashLoopBackOff"
    )
}

fn said(reason: &str) -> &str {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" => "its image cannot be pulled",
        "InvalidImageName" => "its image has no valid name",
        "CreateContainerConfigError" => "its configuration is incomplete",
        "CreateContainerError" | "RunContainerError" => "its container cannot be made",
        "CrashLoopBackOff" => "it ends again and again",
        other => other,
    }
}
