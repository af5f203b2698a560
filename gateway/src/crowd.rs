//! Places that are held while somebody waits or is served, of which nobody gets all.
//!
//! Whoever holds more than a multiple of what is free gets no further place. So one alone can have a good part of what there is,
//! several share it, and whoever comes new finds a place.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use crate::guarded::Guarded;

/// Places, for whoever `K` tells apart. Clones are the same places.
#[derive(Debug)]
pub struct Crowd<K: Eq + Hash>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K: Eq + Hash> {
    most: usize,
    held: Guarded<Held<K>>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    crowd: Arc<Inner<K>>,
    whose: K,
}

/// How many places somebody holds, and all together.
#[derive(Debug)]
pub(crate) struct Held<K> {
    all: usize,
    of: HashMap<K, usize>,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    /// So many places.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            held: Guarded::default(),
        }))
    }

    /// A place, if there is one for them: nobody holds more of them than are free.
    #[must_use]
    pub fn enter(&self, whose: K) -> Option<Place<K>> {
        let taken = self.0.held.with(|held| held.take(&whose, self.0.most, 1));
        taken.then(|| Place {
            crowd: Arc::clone(&self.0),
            whose,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.crowd.held.with(|held| held.give_back(&self.whose));
    }
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self {
            all: 0,
            of: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> Held<K> {
    /// One more place of `most`, unless they hold `greed` times as many as are free.
    pub(crate) fn take(&mut self, whose: &K, most: usize, greed: usize) -> bool
    where
        K: Clone,
    {
        let own = self.of.get(whose).copied().unwrap_or_default();
        let free = most.saturating_sub(self.all);
        if own >= free.saturating_mul(greed) {
            return false;
        }
        self.of.insert(whose.clone(), own + 1);
        self.all += 1;
        true
    }

    pub(crate) fn give_back(&mut self, whose: &K) {
        self.all = self.all.saturating_sub(1);
        if let Some(own) = self.of.get_mut(whose) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.of.remove(whose);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_leaves_places_for_others() {
        let crowd = Crowd::new(1000);
        let mut places = Vec::new();
        places.extend(std::iter::from_fn(|| crowd.enter(1)));
        assert_eq!(places.len(), 500);
        // However many there are, the next finds a place.
        for more in 2..9 {
            places.extend(std::iter::from_fn(|| crowd.enter(more)));
            assert!(crowd.enter(200).is_some(), "{more}");
        }
        drop(places);
        assert_eq!(crowd.0.held.with(|held| (held.all, held.of.len())), (0, 0));
        assert!(crowd.enter(1).is_some());
    }
}
