//! Which request may run beside which: the results must be those that the requests would have one by one
//! (draft-ietf-secsh-filexfer-02, 6.1).
//!
//! A request that only looks at names may run beside others that look; one that reads or writes an open file keeps its
//! place in the file's lane; one that changes names runs alone. Pure: no threads.

use std::collections::VecDeque;

/// What a request touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It looks at names and attributes.
    Look,
    /// It reads in an open file or folder; the same file has the same lane, however often it was opened.
    Read(Lane),
    /// It writes in an open file.
    Write(Lane),
    /// It changes names or attributes.
    Change,
}

/// An open file or folder.
pub(crate) type Lane = (u64, u64);

impl Access {
    fn lane(self) -> Option<Lane> {
        match self {
            Self::Read(lane) | Self::Write(lane) => Some(lane),
            Self::Look | Self::Change => None,
        }
    }

    /// Whether one of them has to wait for the other.
    fn conflicts(self, other: Self) -> bool {
        match (self, other) {
            (Self::Change, _) | (_, Self::Change) => true,
            (Self::Look, Self::Write(_)) | (Self::Write(_), Self::Look) => true,
            (Self::Look, _) | (_, Self::Look) => false,
            _ => self.lane() == other.lane(),
        }
    }
}

/// Requests that wait and requests that run.
#[derive(Debug)]
pub(crate) struct Order<T> {
    waiting: VecDeque<(Access, T)>,
    running: Vec<Access>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }
}

impl<T> Order<T> {
    /// Adds the newest request.
    pub(crate) fn push(&mut self, access: Access, request: T) {
        self.waiting.push_back((access, request));
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a request may begin now.
    pub(crate) fn is_ready(&self) -> bool {
        self.first_ready().is_some()
    }

    /// The oldest request that may begin now; it runs until [`Self::done`].
    pub(crate) fn next(&mut self) -> Option<(Access, T)> {
        let (access, request) = self.first_ready().and_then(|at| self.waiting.remove(at))?;
        self.running.push(access);
        Some((access, request))
    }

    /// One that ran is done.
    pub(crate) fn done(&mut self, access: Access) {
        if let Some(at) = self.running.iter().position(|running| *running == access) {
            self.running.swap_remove(at);
        }
    }

    fn first_ready(&self) -> Option<usize> {
        let mut older = self.running.clone();
        for (at, (access, _)) in self.waiting.iter().enumerate() {
            if !older.iter().any(|older| older.conflicts(*access)) {
                return Some(at);
            }
            if *access == Access::Change {
                // Behind a change nothing begins.
                return None;
            }
            // Most often everything that waits is one file's.
            if !older.contains(access) {
                older.push(*access);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn access() -> impl Strategy<Value = Access> {
        let lane = || (0u64..3).prop_map(|lane| (0, lane));
        prop_oneof![
            2 => Just(Access::Look),
            3 => lane().prop_map(Access::Read),
            3 => lane().prop_map(Access::Write),
            1 => Just(Access::Change),
        ]
    }

    proptest! {
        /// Whatever ends when: a request begins after everything older that it conflicts with has ended, and nothing is
        /// left waiting when nothing runs.
        #[test]
        fn conflicting_requests_keep_their_order(requests in vec(access(), 0..40), choices in vec(any::<prop::sample::Index>(), 200)) {
            let mut order = Order::default();
            for (at, access) in requests.iter().enumerate() {
                order.push(*access, at);
            }
            let (mut running, mut ended) = (Vec::new(), vec![false; requests.len()]);
            let mut choices = choices.into_iter();
            loop {
                while running.len() < 4 && let Some((access, at)) = order.next() {
                    for (older, ended) in ended.iter().enumerate().take(at) {
                        prop_assert!(*ended || !requests[older].conflicts(access), "{at} began beside {older}");
                    }
                    running.push((access, at));
                }
                if running.is_empty() {
                    break;
                }
                let which = choices.next().map_or(0, |choice| choice.index(running.len()));
                let (access, at) = running.swap_remove(which);
                order.done(access);
                ended[at] = true;
            }
            prop_assert!(ended.iter().all(|ended| *ended));
            prop_assert!(order.waiting.is_empty() && order.running.is_empty());
        }
    }

    #[test]
    fn what_may_run_together_does() {
        let mut order = Order::default();
        let (one, other) = ((0, 1), (0, 2));
        for access in [
            Access::Look,
            Access::Look,
            Access::Read(one),
            Access::Write(other),
            Access::Change,
            Access::Look,
        ] {
            order.push(access, access);
        }
        let together: Vec<_> = std::iter::from_fn(|| order.next()).map(|(access, _)| access).collect();
        assert_eq!(together, [Access::Look, Access::Look, Access::Read(one)]);
        order.done(Access::Look);
        assert!(!order.is_ready());
        order.done(Access::Look);
        assert_eq!(order.next(), Some((Access::Write(other), Access::Write(other))));
        order.done(Access::Read(one));
        assert!(!order.is_ready());
        order.done(Access::Write(other));
        assert_eq!(order.next(), Some((Access::Change, Access::Change)));
        assert!(!order.is_ready());
    }
}
