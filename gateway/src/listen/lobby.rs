//! The lobby: connections that have not proved who they are.
//!
//! It has a bounded number of places, in all and for each address. When it is full the one that has waited longest gives
//! way to the newcomer, so that a crowd of idle connections cannot keep anybody out: whoever has a token leaves the
//! lobby within milliseconds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use crate::{guarded::Guarded, metrics};

/// The places of connections that have not proved who they are.
#[derive(Debug, Clone)]
pub struct Lobby {
    places: Arc<Guarded<Places>>,
    all: usize,
    per_address: usize,
    counted: bool,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, (IpAddr, CancellationToken)>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

impl Lobby {
    /// A lobby with this many places, in all and for one address (of IPv6, for one network of 64 bits).
    #[must_use]
    pub fn new(all: usize, per_address: usize) -> Self {
        Self {
            places: Arc::default(),
            all,
            per_address,
            counted: true,
        }
    }

    /// The same, and its numbers are not those of the people's door.
    #[must_use]
    pub fn uncounted(all: usize, per_address: usize) -> Self {
        Self {
            counted: false,
            ..Self::new(all, per_address)
        }
    }

    /// Gives the newcomer a place, and the token that is cancelled when it must give way.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> (Permit, CancellationToken) {
        let address = network(address);
        let leave = CancellationToken::new();
        let number = self.places.with(|places| {
            let full = places
                .by_address
                .get(&address)
                .is_some_and(|own| own.len() >= self.per_address);
            let oldest = match full {
                true => places.by_address.get(&address).and_then(|own| own.first().copied()),
                false if places.taken.len() >= self.all => places.taken.first_key_value().map(|(number, _)| *number),
                false => None,
            };
            if let Some(oldest) = oldest {
                places.give_way(oldest, self.counted);
            }
            let number = places.next;
            places.next += 1;
            places.taken.insert(number, (address, leave.clone()));
            places.by_address.entry(address).or_default().insert(number);
            self.count(places);
            number
        });
        (
            Permit {
                places: Arc::clone(&self.places),
                number,
                counted: self.counted,
            },
            leave,
        )
    }

    /// Has the connection that waited longest give way, whoever it is: for when file descriptors run out.
    pub fn shrink(&self) {
        self.places.with(|places| {
            if let Some(oldest) = places.taken.first_key_value().map(|(number, _)| *number) {
                places.give_way(oldest, self.counted);
            }
        });
    }

    fn count(&self, places: &Places) {
        if self.counted {
            metrics::unauthenticated(places.taken.len());
        }
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.places.with(|places| places.taken.len())
    }
}

impl Places {
    fn give_way(&mut self, number: u64, counted: bool) {
        if let Some(leave) = self.remove(number, counted) {
            leave.cancel();
            if counted {
                metrics::gave_way();
            }
        }
    }

    fn remove(&mut self, number: u64, counted: bool) -> Option<CancellationToken> {
        let (address, leave) = self.taken.remove(&number)?;
        if counted {
            metrics::unauthenticated(self.taken.len());
        }
        if let Some(own) = self.by_address.get_mut(&address) {
            own.remove(&number);
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(leave)
    }
}

/// One place in the lobby, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    places: Arc<Guarded<Places>>,
    number: u64,
    counted: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.places.with(|places| places.remove(self.number, self.counted));
    }
}

/// What counts as one address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_oldest_of_the_same_address_gives_way() {
        let lobby = Lobby::new(10, 2);
        let (_first, first_leaves) = lobby.enter(address("10.0.0.1"));
        let (_other, other_leaves) = lobby.enter(address("10.0.0.2"));
        let (_second, second_leaves) = lobby.enter(address("10.0.0.1"));
        assert!(!first_leaves.is_cancelled());
        let (_third, third_leaves) = lobby.enter(address("10.0.0.1"));
        assert!(first_leaves.is_cancelled());
        assert!(!other_leaves.is_cancelled() && !second_leaves.is_cancelled() && !third_leaves.is_cancelled());
        assert_eq!(lobby.taken(), 3);
    }

    #[test]
    fn the_oldest_of_all_gives_way_when_all_places_are_taken() {
        let lobby = Lobby::new(2, 2);
        let (_first, first_leaves) = lobby.enter(address("10.0.0.1"));
        let (_second, second_leaves) = lobby.enter(address("10.0.0.2"));
        let (_third, _) = lobby.enter(address("10.0.0.3"));
        assert!(first_leaves.is_cancelled() && !second_leaves.is_cancelled());
    }

    #[test]
    fn whoever_leaves_frees_the_place() {
        let lobby = Lobby::new(2, 1);
        for _ in 0..100 {
            let (permit, leaves) = lobby.enter(address("10.0.0.1"));
            drop(permit);
            assert!(!leaves.is_cancelled());
        }
        assert_eq!(lobby.taken(), 0);
        assert!(lobby.places.with(|places| places.by_address.is_empty()));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        assert_eq!(
            network(address("2001:db8::1")),
            network(address("2001:db8::ffff:1:2:3"))
        );
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }
}
