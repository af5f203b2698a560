//! The objects as they were last seen, and how many of one namespace are looked at at all.
//!
//! Whoever writes objects without end harms their own namespace alone: of each the first [`MOST_IN_FORCE`] by name are read, some
//! more are known by name, so that they can be told so, and the rest is not kept.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use serde::Deserialize;
use serde_json::Value;

use super::spec::{Fault, Spec};
use crate::{guarded::Guarded, kube::KubeError};

/// One object, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// The version that a report is made for.
    pub(super) version: String,
    pub(super) going: bool,
    pub(super) spec: Result<Spec, Fault>,
    /// What its status says by now.
    pub(super) conditions: Vec<Condition>,
}

/// One condition of an object's status that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) observed_generation: i64,
    pub(super) last_transition_time: String,
}

/// An object as the server sends it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    metadata: Meta,
    spec: Value,
    status: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    generation: i64,
    resource_version: String,
    deletion_timestamp: Option<String>,
}

type Spaces = BTreeMap<String, BTreeMap<String, Arc<Kept>>>;

/// The objects of one place, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Objects {
    spaces: Guarded<Spaces>,
    /// An object was passed over that has a place by now.
    short: AtomicBool,
}

impl Kept {
    fn of(seen: Seen) -> Self {
        let conditions = seen.status.get("conditions").and_then(Value::as_array);
        let ours = conditions.into_iter().flatten().take(MOST_CONDITIONS);
        let ours = ours.filter_map(|one| Condition::deserialize(one).ok());
        let ours = ours.filter(|one| super::report::KINDS.contains(&one.kind.as_str()));
        let short = |one: &Condition| one.message.len() + one.reason.len() + one.status.len() <= LONGEST_CONDITION;
        Self {
            namespace: seen.metadata.namespace,
            name: seen.metadata.name,
            uid: seen.metadata.uid,
            generation: seen.metadata.generation,
            version: seen.metadata.resource_version,
            going: seen.metadata.deletion_timestamp.is_some(),
            spec: Spec::read(seen.spec),
            conditions: ours.filter(short).collect(),
        }
    }

    /// Whether it says the same as another, whatever version it is.
    fn is_as(&self, other: &Self) -> bool {
        let Self { version: _, .. } = self;
        let same = (&self.uid, self.generation, self.going) == (&other.uid, other.generation, other.going);
        same && self.spec == other.spec && self.conditions == other.conditions
    }

    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.spec.as_ref().ok()?.expires
    }
}

impl Objects {
    pub(super) fn all(&self) -> Vec<Arc<Kept>> {
        self.spaces.with(|spaces| {
            spaces
                .values()
                .flat_map(|space| space.values().map(Arc::clone))
                .collect()
        })
    }

    pub(super) fn of(&self, namespace: &str) -> Vec<Arc<Kept>> {
        self.spaces
            .with(|spaces| {
                spaces
                    .get(namespace)
                    .map(|space| space.values().map(Arc::clone).collect())
            })
            .unwrap_or_default()
    }

    pub(super) fn count(&self) -> usize {
        self.spaces.with(|spaces| spaces.values().map(BTreeMap::len).sum())
    }
}

/// Puts one among the others of its namespace; the last by name gives way where there are too many.
fn put(spaces: &mut Spaces, kept: Kept) {
    let space = spaces.entry(kept.namespace.clone()).or_default();
    space.insert(kept.name.clone(), Arc::new(kept));
    if space.len() > MOST_KNOWN {
        space.pop_last();
    }
    for (_, late) in space.iter_mut().skip(MOST_IN_FORCE) {
        let passed = Err(Fault::new(
            TOO_MANY,
            format!("a namespace has at most {MOST_IN_FORCE} objects, the first by name"),
        ));
        if late.spec != passed {
            *late = Arc::new(Kept {
                spec: passed,
                ..Kept::clone(late)
            });
        }
    }
}

impl crate::kube::watch::Store for Objects {
    type Object = Seen;
    type Listing = Spaces;

    fn add(&self, listing: &mut Spaces, object: Seen) -> Result<(), KubeError> {
        put(listing, Kept::of(object));
        Ok(())
    }

    fn replace(&self, mut listing: Spaces) {
        self.spaces.with(|spaces| std::mem::swap(spaces, &mut listing));
        self.short.store(false, Ordering::SeqCst);
    }

    fn put(&self, object: Seen) -> (String, bool) {
        let kept = Kept::of(object);
        let version = kept.version.clone();
        let matters = self.spaces.with(|spaces| {
            let old = spaces.get(&kept.namespace).and_then(|space| space.get(&kept.name));
            let same = old.is_some_and(|old| old.is_as(&kept));
            put(spaces, kept);
            !same
        });
        (version, matters)
    }

    fn remove(&self, object: Seen) -> (String, bool) {
        let Meta {
            name,
            namespace,
            uid,
            resource_version,
            ..
        } = object.metadata;
        let matters = self.spaces.with(|spaces| {
            let Some(space) = spaces.get_mut(&namespace) else {
                return false;
            };
            let full = space.len() >= MOST_KNOWN;
            match space.get(&name) {
                Some(old) if old.uid == uid => drop(space.remove(&name)),
                _ => return false,
            }
            let has_place = space
                .values()
                .nth(MOST_IN_FORCE - 1)
                .and_then(|one| one.spec.as_ref().err());
            if full || has_place.is_some_and(|fault| fault.reason == TOO_MANY) {
                self.short.store(true, Ordering::SeqCst);
            }
            if space.is_empty() {
                spaces.remove(&namespace);
            }
            true
        });
        (resource_version, matters)
    }

    fn is_short(&self) -> bool {
        self.short.load(Ordering::SeqCst)
    }
}

/// Objects of one namespace that can be in force.
pub(super) const MOST_IN_FORCE: usize = 100;
/// Objects of one namespace that are known at all.
pub(super) const MOST_KNOWN: usize = 500;
/// Why those beyond are not in force.
pub(super) const TOO_MANY: &str = "TooMany";
const MOST_CONDITIONS: usize = 16;
const LONGEST_CONDITION: usize = 2048;
