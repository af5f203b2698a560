//! The objects of one kind in one place that rules look at, as they were last seen.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use ::kube::Client;
use tokio::sync::Notify;

use super::{
    rule::Kind,
    seen::{Object, Wanted},
};
use crate::{
    guarded::Guarded,
    kube::{
        KubeError,
        watch::{Query, Standing, Store, Watch},
    },
};

/// What is watched where.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// In this namespace; in all of them if there is none.
    pub(super) namespace: Option<String>,
    /// A label selector; empty for all.
    pub(super) labels: String,
    /// The one object that is meant, if only one is.
    pub(super) named: Option<String>,
}

/// Namespace and name.
pub(super) type Key = (String, String);

/// The objects of one place as they were last seen.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) place: Place,
    watch: Watch<Objects>,
}

/// What is kept of them.
#[derive(Debug)]
struct Objects {
    wanted: Wanted,
    kept: Guarded<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    all: HashMap<Key, Arc<Object>>,
    fresh: Fresh,
}

/// What has changed on a shelf since somebody asked.
#[derive(Debug)]
pub(super) enum Fresh {
    /// These, which are there or no longer.
    These(HashSet<Key>),
    /// Anything.
    Whole,
}

impl Default for Fresh {
    fn default() -> Self {
        Self::These(HashSet::new())
    }
}

impl Fresh {
    fn add(&mut self, key: Key) {
        if let Self::These(keys) = self {
            keys.insert(key);
            if keys.len() > MOST_FRESH {
                *self = Self::Whole;
            }
        }
    }
}

impl Shelf {
    pub(super) fn new(place: Place, wanted: Wanted, changed: Arc<Notify>) -> Self {
        let Place { kind, namespace, .. } = &place;
        let what = match namespace {
            Some(namespace) => format!("{}s in {namespace}", kind.name()),
            None => format!("{}s in all namespaces", kind.name()),
        };
        let query = Query {
            path: kind.path(namespace.as_deref()),
            labels: place.labels.clone(),
            named: place.named.clone(),
            page: PAGE,
            what,
        };
        let objects = Objects {
            wanted,
            kept: Guarded::default(),
        };
        Self {
            watch: Watch::new(objects, query, changed),
            place,
        }
    }

    /// Puts these on the shelf, as if they had been listed.
    #[cfg(test)]
    pub(super) fn set(&self, objects: Vec<Object>) {
        let mut listing = HashMap::new();
        for object in objects {
            self.watch.store.add(&mut listing, object).unwrap();
        }
        self.watch.store.replace(listing);
        self.watch.was_listed();
    }

    /// Everything that is there, in no order.
    pub(super) fn objects(&self) -> Vec<Arc<Object>> {
        let kept = &self.watch.store.kept;
        kept.with(|kept| kept.all.values().map(Arc::clone).collect())
    }

    /// What has changed since this was asked last.
    pub(super) fn fresh(&self) -> Fresh {
        self.watch.store.kept.with(|kept| std::mem::take(&mut kept.fresh))
    }

    /// As if the watch had told so.
    #[cfg(test)]
    pub(super) fn put(&self, object: Object, version: &mut String) {
        *version = self.watch.store.put(object).0;
    }

    /// The same of an object that is gone.
    #[cfg(test)]
    pub(super) fn remove(&self, object: Object, version: &mut String) {
        *version = self.watch.store.remove(object).0;
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.watch.store.kept.with(|kept| kept.all.get(&key).map(Arc::clone))
    }

    pub(super) fn standing(&self) -> Standing {
        self.watch.standing()
    }

    /// Keeps it up to date for ever.
    pub(super) async fn follow(&self, client: &Client) {
        self.watch.follow(client).await;
    }

    /// Lists everything, and takes that for all there is.
    pub(super) async fn list(&self, client: &Client) -> Result<(), KubeError> {
        self.watch.list(client).await.map(drop)
    }
}

impl Store for Objects {
    type Object = Object;
    type Listing = HashMap<Key, Arc<Object>>;

    fn add(&self, listing: &mut Self::Listing, mut object: Object) -> Result<(), KubeError> {
        self.wanted.trim(&mut object);
        if listing.len() >= MOST {
            return Err(KubeError::Garbage(format!("more than {MOST} objects")));
        }
        listing.insert(key(&object), Arc::new(object));
        Ok(())
    }

    fn replace(&self, mut listing: Self::Listing) {
        self.kept.with(|own| {
            for (key, object) in &mut listing {
                if let Some(old) = own.all.get(key).filter(|old| *old == object) {
                    *object = Arc::clone(old);
                }
            }
            *own = Kept {
                all: listing,
                fresh: Fresh::Whole,
            };
        });
    }

    fn put(&self, mut object: Object) -> (String, bool) {
        let version = self.wanted.trim(&mut object);
        let changed = self.kept.with(|kept| {
            let key = key(&object);
            let full = kept.all.len() >= MOST && !kept.all.contains_key(&key);
            let same = kept.all.get(&key).is_some_and(|old| **old == object);
            if !same && !full {
                kept.fresh.add(key.clone());
                kept.all.insert(key, Arc::new(object));
            }
            !same
        });
        (version, changed)
    }

    fn remove(&self, mut object: Object) -> (String, bool) {
        let version = self.wanted.trim(&mut object);
        let key = key(&object);
        let removed = self.kept.with(|kept| match kept.all.get(&key) {
            Some(old) if old.metadata.uid == object.metadata.uid => {
                kept.fresh.add(key.clone());
                kept.all.remove(&key)
            }
            _ => None,
        });
        (version, removed.is_some())
    }
}

impl fmt::Display for Shelf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.watch.fmt(formatter)
    }
}

fn key(object: &Object) -> Key {
    (object.metadata.namespace.clone(), object.metadata.name.clone())
}

const PAGE: u32 = 500;
/// More objects than any gateway has workspaces: what exceeds it is a mistake in a selector.
const MOST: usize = 50_000;
/// More changes than anybody would look at one by one.
const MOST_FRESH: usize = 1_000;
