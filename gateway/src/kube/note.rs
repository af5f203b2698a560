//! Notes on objects: when a workspace was used last and until when it is to be left awake, as annotations of its pod and, where
//! that is configured, of what the pod belongs to.
//!
//! It asks for `get` and `patch` on what it notes. Several gateways may note one workspace: an older time is never set over a
//! newer one, because each patch names the version that it was made from.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use ::kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Map, Value, json};

use super::{Cluster, KubeError};
use crate::{
    locks::rfc3339,
    workspace::{KEEP_UNTIL, LAST_USE, Workspace, moment},
};

/// What is to stand on an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// When it was used last, unless something newer stands there.
    pub(crate) last_use: Option<SystemTime>,
    /// Until when it is kept awake, if that is to change.
    pub(crate) keep: Option<Keep>,
}

/// What becomes of the time until which a workspace is kept awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It is kept until then, and no later time counts.
    Until(SystemTime),
    /// It is not kept.
    Released,
}

impl Note {
    /// What has to change where these annotations stand.
    fn changes(&self, there: &BTreeMap<String, String>, now: SystemTime) -> Map<String, Value> {
        let mut changes = Map::new();
        let stands = |key| there.get(key).map(String::as_str);
        match self.keep {
            Some(Keep::Until(at)) => {
                let text = rfc3339(at);
                if stands(KEEP_UNTIL) != Some(&text) {
                    changes.insert(KEEP_UNTIL.to_owned(), text.into());
                }
            }
            // In a merge patch null takes a member away (RFC 7396).
            Some(Keep::Released) if stands(KEEP_UNTIL).is_some() => {
                changes.insert(KEEP_UNTIL.to_owned(), Value::Null);
            }
            Some(Keep::Released) | None => {}
        }
        if let Some(at) = self.last_use {
            let to_come = |at: &SystemTime| at.duration_since(now).is_ok_and(|ahead| ahead > SKEW);
            // What lies in the future was written by nobody who knows.
            let other = stands(LAST_USE).and_then(moment).filter(|other| !to_come(other));
            let text = rfc3339(at);
            if other.is_none_or(|other| moment(&text).is_some_and(|at| at > other)) {
                changes.insert(LAST_USE.to_owned(), text.into());
            }
        }
        changes
    }
}

/// Notes it on the pod of the workspace's life.
pub(crate) async fn on_pod(cluster: &Cluster, workspace: &Workspace, note: &Note) -> Result<(), KubeError> {
    let (Some(place), Some(life)) = (&workspace.place, &workspace.life) else {
        return Err(KubeError::NotFound("the workspace has no pod".to_owned()));
    };
    let Some(pod) = &place.pod else {
        return Err(KubeError::NotFound("the workspace has no pod".to_owned()));
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    on(
        cluster,
        &resource,
        (&place.namespace, pod),
        Some(life.uid.as_str()),
        note,
    )
    .await
}

/// Notes it on what the workspace's pod belongs to; `plural` where it is not the one that one would guess.
pub(crate) async fn on_owner(
    cluster: &Cluster,
    workspace: &Workspace,
    plural: Option<&str>,
    note: &Note,
) -> Result<(), KubeError> {
    let owner = workspace
        .place
        .as_ref()
        .and_then(|place| Some((place, place.owner.as_ref()?)));
    let Some((place, owner)) = owner else {
        return Err(KubeError::NotFound("the pod belongs to nothing".to_owned()));
    };
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &owner.kind));
    if let Some(plural) = plural {
        plural.clone_into(&mut resource.plural);
    }
    on(cluster, &resource, (&place.namespace, &owner.name), None, note).await
}

async fn on(
    cluster: &Cluster,
    resource: &ApiResource,
    (namespace, name): (&str, &str),
    uid: Option<&str>,
    note: &Note,
) -> Result<(), KubeError> {
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), namespace, resource);
    let mut tries = TRIES;
    loop {
        let found = api.get_metadata(name).await.map_err(KubeError::from)?;
        if uid.is_some_and(|uid| found.metadata.uid.as_deref() != Some(uid)) {
            return Err(KubeError::NotFound("the pod is another one by now".to_owned()));
        }
        let changes = note.changes(found.annotations(), SystemTime::now());
        if changes.is_empty() {
            return Ok(());
        }
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": found.metadata.resource_version, "annotations": changes },
        }));
        let patched = api.patch_metadata(name, &PatchParams::default(), &patch).await;
        match patched.map_err(KubeError::from) {
            Ok(_) => return Ok(()),
            Err(KubeError::Conflict(_)) if tries > 0 => tries -= 1,
            Err(error) => return Err(error),
        }
    }
}

/// How much the clocks of gateways may differ.
const SKEW: Duration = Duration::from_secs(60);
/// How often it is tried again where somebody else changes the object at the same time.
const TRIES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_time_is_never_set_over_a_newer_one() {
        let now = moment("2026-06-01T12:00:00Z").unwrap();
        let note = Note {
            last_use: moment("2026-06-01T11:00:00.2Z"),
            keep: None,
        };
        for (there, changed) in [
            (None, true),
            (Some("2026-06-01T10:59:59Z"), true),
            (Some("2026-06-01T12:30:00+01:30"), false),
            (Some("2026-06-01T11:00:01Z"), false),
            (Some("2026-06-01T11:59:00Z"), false),
            (Some("2126-06-01T11:59:00Z"), true),
            (Some("yesterday"), true),
        ] {
            let there = there
                .map(|text: &str| (LAST_USE.to_owned(), text.to_owned()))
                .into_iter()
                .collect();
            assert_eq!(!note.changes(&there, now).is_empty(), changed, "{there:?}");
        }
    }

    #[test]
    fn what_is_kept_is_what_was_asked_last_and_a_release_takes_it_away() {
        let now = moment("2026-06-01T12:00:00Z").unwrap();
        let changes = |keep, there: Option<&str>| {
            let there = there.map(|text| (KEEP_UNTIL.to_owned(), text.to_owned()));
            let note = Note {
                keep: Some(keep),
                ..Note::default()
            };
            note.changes(&there.into_iter().collect(), now).get(KEEP_UNTIL).cloned()
        };
        let until = Keep::Until(moment("2026-06-01T16:00:00Z").unwrap());
        let text = Value::from("2026-06-01T16:00:00Z");
        assert_eq!(changes(until, None), Some(text.clone()));
        assert_eq!(changes(until, Some("2026-06-01T20:00:00Z")), Some(text));
        assert_eq!(changes(until, Some("2026-06-01T16:00:00Z")), None);
        assert_eq!(changes(Keep::Released, Some("x")), Some(Value::Null));
        assert_eq!(changes(Keep::Released, None), None);
    }
}
