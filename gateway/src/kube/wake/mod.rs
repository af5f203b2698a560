//! Waking by the API server: the scale of a StatefulSet or Deployment, or an annotation that the platform's own controller waits for; and the
//! events of what starts, for people.
//!
//! It asks for no more than `list` on StatefulSets (or Deployments) and `patch` on their scale, or `patch` on the one kind that is annotated;
//! `list` on events is welcome and not needed. A set is never made smaller.

mod events;

use std::collections::BTreeMap;

use ::kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde_json::json;

pub(crate) use events::follow;

use super::{Cluster, KubeError};
use crate::{
    wake::{Facts, Template},
    workspace::{OwnerObject, Place, Workspace},
};

/// Annotations that wake a workspace.
#[derive(Debug, Clone)]
pub struct Annotate {
    /// What is set, on what the pod belongs to.
    pub set: BTreeMap<String, Template>,
    /// What the API server calls objects of that kind in addresses, where it is not the plural that one would guess.
    pub plural: Option<String>,
}

/// Why the API server was not got to wake a workspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WakeError {
    /// The rule and the workspace do not fit.
    #[error("{0}")]
    Misfit(String),
    /// The API server.
    #[error("{what}: {error}")]
    Kube {
        /// What was asked, as a permission has it: `patch statefulsets/scale in devenv`.
        what: String,
        /// What it said.
        error: KubeError,
    },
}

/// Scales the workspace's StatefulSet so that its pod is one of those that run, or its Deployment so that it has one.
pub(crate) async fn scale(cluster: &Cluster, workspace: &Workspace) -> Result<(), WakeError> {
    let (place, set) = owner(workspace)?;
    if set.kind == "Deployment" && set.api_version == "apps/v1" {
        return scale_deployment(cluster, place, set).await;
    }
    if set.kind != "StatefulSet" || set.api_version != "apps/v1" {
        return Err(WakeError::Misfit(format!(
            "{} belongs to a {}, and to no StatefulSet or Deployment",
            workspace.name, set.kind
        )));
    }
    let ordinal = ordinal(place, set).ok_or_else(|| {
        WakeError::Misfit(format!(
            "the ordinal of {} in {} is not known",
            workspace.name, set.name
        ))
    })?;
    let api: Api<StatefulSet> = Api::namespaced(cluster.client(), &place.namespace);
    let one = ListParams::default().fields(&format!("metadata.name={}", set.name));
    let mut tries = TRIES;
    loop {
        let found = api.list(&one).await.map_err(asked("list statefulsets", place))?;
        let found = found.items.into_iter().next();
        let found = found.ok_or_else(|| WakeError::Misfit(format!("there is no StatefulSet {}", set.name)))?;
        let spec = found.spec.unwrap_or_default();
        let start = spec.ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0);
        let wanted = ordinal.checked_sub(start).and_then(|place| place.checked_add(1));
        let wanted = wanted
            .filter(|wanted| (1..=MOST_REPLICAS).contains(wanted))
            .ok_or_else(|| WakeError::Misfit(format!("{} has no pod of the ordinal {ordinal}", set.name)))?;
        if spec.replicas.unwrap_or(1) >= wanted {
            return Ok(());
        }
        let patch = to_replicas(wanted, found.metadata.resource_version.as_deref());
        let patched = api.patch_scale(&set.name, &PatchParams::default(), &patch).await;
        match patched.map_err(KubeError::from) {
            Ok(_) => return Ok(()),
            Err(KubeError::Conflict(_)) if tries > 0 => tries -= 1,
            Err(error) => return Err(asked("patch statefulsets/scale", place)(error)),
        }
    }
}

/// A Deployment is one workspace: it has one pod, or is asleep.
async fn scale_deployment(cluster: &Cluster, place: &Place, owner: &OwnerObject) -> Result<(), WakeError> {
    let api: Api<Deployment> = Api::namespaced(cluster.client(), &place.namespace);
    let one = ListParams::default().fields(&format!("metadata.name={}", owner.name));
    let mut tries = TRIES;
    loop {
        let found = api.list(&one).await.map_err(asked("list deployments", place))?;
        let found = found.items.into_iter().next();
        let found = found.ok_or_else(|| WakeError::Misfit(format!("there is no Deployment {}", owner.name)))?;
        if found.spec.and_then(|spec| spec.replicas).unwrap_or(1) >= 1 {
            return Ok(());
        }
        let patch = to_replicas(1, found.metadata.resource_version.as_deref());
        let patched = api.patch_scale(&owner.name, &PatchParams::default(), &patch).await;
        match patched.map_err(KubeError::from) {
            Ok(_) => return Ok(()),
            Err(KubeError::Conflict(_)) if tries > 0 => tries -= 1,
            Err(error) => return Err(asked("patch deployments/scale", place)(error)),
        }
    }
}

/// The version makes it a step from what was seen: nobody's larger number is overwritten.
fn to_replicas(wanted: i32, version: Option<&str>) -> Patch<serde_json::Value> {
    Patch::Merge(json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": { "resourceVersion": version },
        "spec": { "replicas": wanted },
    }))
}

/// Annotates what the workspace's pod belongs to.
pub(crate) async fn annotate(cluster: &Cluster, order: &Annotate, facts: &Facts<'_>) -> Result<(), WakeError> {
    let (place, object) = owner(facts.workspace)?;
    let mut annotations = BTreeMap::new();
    for (key, template) in &order.set {
        annotations.insert(key.as_str(), template.fill(facts).map_err(WakeError::Misfit)?);
    }
    let (group, version) = object.api_version.split_once('/').unwrap_or(("", &object.api_version));
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &object.kind));
    if let Some(plural) = &order.plural {
        resource.plural.clone_from(plural);
    }
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), &place.namespace, &resource);
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    let patched = api.patch(&object.name, &PatchParams::default(), &patch).await;
    patched
        .map(drop)
        .map_err(asked(&format!("patch {}", resource.plural), place))
}

fn owner(workspace: &Workspace) -> Result<(&Place, &OwnerObject), WakeError> {
    let place = workspace.place.as_ref();
    place
        .and_then(|place| Some((place, place.owner.as_ref()?)))
        .ok_or_else(|| WakeError::Misfit(format!("{} belongs to nothing that could be started", workspace.name)))
}

fn asked<E: Into<KubeError>>(what: &str, place: &Place) -> impl FnOnce(E) -> WakeError {
    let what = format!("{what} in {}", place.namespace);
    |error| WakeError::Kube {
        what,
        error: error.into(),
    }
}

/// The ordinal of the pod in its set, in the one way that it is written.
fn ordinal(place: &Place, set: &OwnerObject) -> Option<i32> {
    let text = place.pod.as_ref()?.strip_prefix(&set.name)?.strip_prefix('-')?;
    let ordinal: i32 = text.parse().ok()?;
    (ordinal.to_string() == text && ordinal >= 0).then_some(ordinal)
}

/// How often a step is tried again, where somebody else takes one at the same time.
const TRIES: u32 = 8;
/// No set is made larger than this, whatever a pod is called.
const MOST_REPLICAS: i32 = 10_000;

#[cfg(test)]
mod tests;
