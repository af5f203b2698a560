//! What is kept of an object: the few fields that anything depends on. Heartbeats, versions and the rest are not read at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::rule::{CUT, OUR_DOMAIN};

/// An object of any of the kinds that are watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) metadata: Meta,
    pub(super) spec: Spec,
    pub(super) status: Status,
    pub(super) data: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) creation_timestamp: Option<String>,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) owner_references: Option<Vec<Reference>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Reference {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) controller: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    // of a pod
    pub(super) containers: Option<Vec<Container>>,
    // of what keeps pods
    pub(super) replicas: Option<u32>,
    pub(super) ordinals: Option<Ordinals>,
    pub(super) template: Option<PodTemplate>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) container_port: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Ordinals {
    pub(super) start: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct PodTemplate {
    pub(super) metadata: Meta,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) phase: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) start_time: Option<String>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    pub(super) conditions: Option<Vec<Condition>>,
    pub(super) container_statuses: Option<Vec<ContainerStatus>>,
    pub(super) init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub(super) name: String,
    pub(super) ready: bool,
    pub(super) state: ContainerState,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ContainerState {
    pub(super) waiting: Option<Waiting>,
    pub(super) running: Option<Running>,
    pub(super) terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Running {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Terminated {
    pub(super) reason: Option<String>,
    pub(super) exit_code: i32,
}

/// Which labels and annotations are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) labels: BTreeSet<String>,
    pub(super) annotations: BTreeSet<String>,
    pub(super) every_label: bool,
    /// Whether it matters when a pod was started.
    pub(super) starts: bool,
}

impl Wanted {
    /// Drops of an object what nothing depends on; gives its version.
    pub(super) fn trim(&self, object: &mut Object) -> String {
        self.trim_meta(&mut object.metadata);
        if let Some(template) = &mut object.spec.template {
            self.trim_meta(&mut template.metadata);
        }
        if !self.starts {
            object.status.start_time = None;
        }
        for condition in object.status.conditions.iter_mut().flatten() {
            // Of a condition that holds nothing is told but that it does.
            if condition.status == "True" {
                (condition.reason, condition.message) = (None, None);
            }
        }
        std::mem::take(&mut object.metadata.resource_version)
    }

    fn trim_meta(&self, meta: &mut Meta) {
        if let Some(labels) = &mut meta.labels {
            let whole = self.every_label && labels.len() <= MOST_LABELS;
            if !whole {
                labels.retain(|key, _| self.labels.contains(key));
            }
            if self.every_label && !whole {
                labels.insert(CUT.to_owned(), String::new());
            }
        }
        if let Some(annotations) = &mut meta.annotations {
            let mut ours = 0;
            annotations.retain(|key, value| {
                let own = key.starts_with(OUR_DOMAIN) && value.len() <= LONGEST_OWN;
                ours += usize::from(own);
                self.annotations.contains(key) || (own && ours <= MOST_OWN)
            });
        }
        if meta.deletion_timestamp.is_some() {
            // When does not matter.
            meta.deletion_timestamp = Some(String::new());
        }
    }
}

impl Object {
    /// The object that keeps this one.
    pub(super) fn controller(&self) -> Option<&Reference> {
        let all = self.metadata.owner_references.iter().flatten();
        let mut controllers = all.filter(|reference| reference.controller == Some(true));
        controllers.next()
    }

    pub(super) fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// Labels of an object, where all are kept.
const MOST_LABELS: usize = 64;
const MOST_OWN: usize = 16;
const LONGEST_OWN: usize = 4096;
