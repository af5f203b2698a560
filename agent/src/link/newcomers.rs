//! Peers that have not shown yet who they are: so many at once, and whoever has waited longest gives way to the next.
//!
//! A gateway has shown who it is within milliseconds. So strangers that hold every place, however often they come back, keep
//! no gateway out; and those of one address give way to one another first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The places.
#[derive(Debug, Clone, Default)]
pub(super) struct Newcomers(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    all: Newcomers,
    number: u64,
    gives_way: CancellationToken,
}

impl Newcomers {
    /// A place for whoever comes from this address.
    pub(super) fn enter(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        let mut places = self.places();
        let mut own = places.taken.iter().filter(|(_, (whose, _))| *whose == address);
        let first_own = own.next().map(|(number, _)| *number);
        let oldest = match first_own {
            Some(first) if own.count() + 1 >= OF_ONE => Some(first),
            _ if places.taken.len() >= MOST => places.taken.first_key_value().map(|(number, _)| *number),
            _ => None,
        };
        if let Some((_, gives_way)) = oldest.and_then(|number| places.taken.remove(&number)) {
            gives_way.cancel();
        }
        let (number, gives_way) = (places.next, CancellationToken::new());
        places.next += 1;
        places.taken.insert(number, (address, gives_way.clone()));
        Place {
            all: self.clone(),
            number,
            gives_way,
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// When somebody newer has taken the place.
    pub(super) async fn given_way(&self) {
        self.gives_way.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.places().taken.remove(&self.number);
    }
}

/// Places in all, and of one address.
const MOST: usize = 512;
const OF_ONE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_waited_longest_gives_way() {
        let newcomers = Newcomers::default();
        let enter = |last: usize| {
            let [.., high, low] = last.to_be_bytes();
            newcomers.enter(IpAddr::from([10, 0, high, low]))
        };
        let mut places: Vec<Place> = (0..MOST).map(enter).collect();
        assert!(places.iter().all(|place| !place.gives_way.is_cancelled()));
        let newest = enter(MOST);
        assert!(places[0].gives_way.is_cancelled() && !places[1].gives_way.is_cancelled());
        assert!(!newest.gives_way.is_cancelled());
        // One address alone leaves the others where they are.
        places.truncate(2);
        drop(newest);
        let own: Vec<Place> = (0..=OF_ONE).map(|_| enter(9)).collect();
        assert!(own[0].gives_way.is_cancelled() && !own[1].gives_way.is_cancelled());
        assert!(!places[1].gives_way.is_cancelled());
        drop((own, places));
        assert!(newcomers.places().taken.is_empty());
    }
}
