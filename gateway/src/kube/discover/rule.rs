//! A rule: which pods are workspaces, and what their names, people, logins and ports are.

use std::collections::BTreeSet;

use super::{template::Template, up_time::UpTime};

/// One `[[kubernetes.workspaces]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What the operator calls it.
    pub name: String,
    /// Where to look.
    pub namespaces: Namespaces,
    /// Which pods, as a label selector; all if it is empty.
    pub pods: String,
    /// Which owners, as a label selector; that of the pods unless it is said.
    pub owners: String,
    /// Of which kind the object is that a pod belongs to; of any, or none, if it is not said.
    pub owner_kind: Option<String>,
    /// The name of the workspace.
    pub workspace: Template,
    /// The person.
    pub owner: Option<Template>,
    /// The login.
    pub login: Template,
    /// Where the agent listens.
    pub agent_port: Port,
    /// Where the people of pods are written down, before `owner` is looked at.
    pub assigned_by: Option<AssignedBy>,
    /// How many ordinals a StatefulSet has at least, also while it runs fewer.
    pub ordinals: u32,
    /// Whether claims tell of workspaces without a pod, and which claims.
    pub claims: Option<String>,
    /// What else is kept of an object, because something beside the rule asks for it.
    pub kept: Kept,
    /// Where a pod says when it is stopped.
    pub up_time: Option<UpTime>,
}

/// What no label is called: it stands among those that are not known whole.
pub const CUT: &str = "";

/// Keys of labels and annotations whose values are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of labels.
    pub labels: BTreeSet<String>,
    /// Of annotations.
    pub annotations: BTreeSet<String>,
    /// Every label, because others may ask for any; of an object that has too many [`CUT`] says that they are not all there.
    pub every_label: bool,
}

/// Where a rule looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// In these.
    These(Vec<String>),
    /// In those with these labels, whenever they appear.
    Selected(String),
}

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// Always there.
    Number(u16),
    /// Where a container's port of this name is.
    Named(String),
}

/// Where the people of pods are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignedBy {
    /// A ConfigMap of this name in the pod's namespace: pod name to person.
    ConfigMap(String),
    /// An annotation of the owner with this key: `devenv-0=alice, devenv-1=bob`.
    Annotation(String),
}

impl Rule {
    /// The labels that anything depends on.
    pub(super) fn labels(&self) -> BTreeSet<String> {
        let mut all = self.kept.labels.clone();
        for template in self.templates() {
            template.labels(&mut all);
        }
        all
    }

    /// The annotations that anything depends on, besides those of our own domain.
    pub(super) fn annotations(&self) -> BTreeSet<String> {
        let mut all = self.kept.annotations.clone();
        for template in self.templates() {
            template.annotations(&mut all);
        }
        if let Some(AssignedBy::Annotation(key)) = &self.assigned_by {
            all.insert(key.clone());
        }
        all
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let up_time = self.up_time.iter().map(|up_time| up_time.end.template());
        [&self.workspace, &self.login]
            .into_iter()
            .chain(&self.owner)
            .chain(up_time)
    }

    /// The owners that are watched: those that can have workspaces without a pod, or that a pod is judged by.
    pub(super) fn watches_owners(&self) -> Option<Kind> {
        match self.owner_kind.as_deref() {
            Some("StatefulSet") => Some(Kind::StatefulSet),
            Some("Deployment") => Some(Kind::Deployment),
            _ => None,
        }
    }

    /// What stands between a pod and its owner.
    pub(super) fn between(&self) -> Option<Kind> {
        match self.owner_kind.as_deref() {
            None | Some("StatefulSet" | "Job" | "ReplicaSet") => None,
            Some("Deployment") => Some(Kind::ReplicaSet),
            Some(_) => Some(Kind::Job),
        }
    }
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Pod,
    Namespace,
    ConfigMap,
    Claim,
    StatefulSet,
    Deployment,
    ReplicaSet,
    Job,
}

impl Kind {
    /// As owner references call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
            Self::ConfigMap => "ConfigMap",
            Self::Claim => "PersistentVolumeClaim",
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
        }
    }

    /// Where the API server has it: of one namespace, or of all.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let (group, plural) = match self {
            Self::Pod => ("/api/v1", "pods"),
            Self::Namespace => ("/api/v1", "namespaces"),
            Self::ConfigMap => ("/api/v1", "configmaps"),
            Self::Claim => ("/api/v1", "persistentvolumeclaims"),
            Self::StatefulSet => ("/apis/apps/v1", "statefulsets"),
            Self::Deployment => ("/apis/apps/v1", "deployments"),
            Self::ReplicaSet => ("/apis/apps/v1", "replicasets"),
            Self::Job => ("/apis/batch/v1", "jobs"),
        };
        match namespace {
            Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}"),
            None => format!("{group}/{plural}"),
        }
    }
}

/// The annotation of a pod that says where its agent listens.
pub(super) const PORT_ANNOTATION: &str = "doorward.dev/agent-port";
/// Annotations that other parts of the gateway look at.
pub(super) const OUR_DOMAIN: &str = "doorward.dev/";
