//! Masking a stream as it passes: what is shown is never held up, what is recorded waits only where it may be the
//! beginning of a secret.

use std::sync::Arc;

use aho_corasick::automaton::StateID;
use bytes::{Bytes, BytesMut};

use super::patterns::{Form, Patterns, SHORTEST, is_line_end};

/// What can be recorded of a stream by now.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The next bytes of the stream, with a `*` for each byte of a secret; line ends stay.
    pub(crate) bytes: Bytes,
    /// Where secrets stood in them.
    pub(crate) marks: Vec<Mark>,
}

/// One place where something was masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The first byte, counted from the first of the bytes that are given out with it.
    pub(crate) at: u64,
    /// How many bytes, line ends within included.
    pub(crate) bytes: u64,
    /// The variable or file whose value it was.
    pub(crate) name: String,
    /// How it was spelt.
    pub(crate) form: Form,
}

/// One stream that is masked.
#[derive(Debug)]
pub(crate) struct Masker {
    patterns: Arc<Patterns>,
    state: StateID,
    /// What may be the beginning of a secret and was not given out yet.
    held: Bytes,
}

impl Masker {
    /// A stream of which nothing has passed yet.
    pub(crate) fn new(patterns: Arc<Patterns>) -> Self {
        let state = patterns.start();
        Self {
            patterns,
            state,
            held: Bytes::new(),
        }
    }

    /// What is looked for.
    pub(crate) fn patterns(&self) -> &Arc<Patterns> {
        &self.patterns
    }

    /// From now on these are looked for; in what is held as well.
    pub(crate) fn look_for(&mut self, patterns: Arc<Patterns>) -> Passed {
        self.patterns = patterns;
        self.state = self.patterns.start();
        let held = std::mem::take(&mut self.held);
        self.push(held)
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes and gives what can be recorded by now.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Passed {
        if self.patterns.is_empty() || bytes.is_empty() {
            return self.give(bytes, &[]);
        }
        let found = self.search(&bytes);
        let all = self.join(bytes);
        let pending = self.patterns.pending(self.state).map_or(0, |(depth, _)| depth);
        let held_from = start_of_last(&all, pending);
        let found = in_bytes(&all, found);
        // What is masked already stays so, even where it may be the beginning of another one.
        let cut = found.last().map_or(held_from, |last| last.end.max(held_from));
        self.held = all.slice(cut..);
        self.give(all.slice(..cut), &found)
    }

    /// The stream ended: what was held is no secret, unless it is a good part of one.
    pub(crate) fn finish(&mut self) -> Passed {
        let held = std::mem::take(&mut self.held);
        let pending = self.patterns.pending(self.state);
        self.state = self.patterns.start();
        match pending {
            Some((depth, secret)) if depth >= SHORTEST && !held.is_empty() => {
                let whole = Found {
                    start: 0,
                    end: held.len(),
                    secret,
                    form: Form::Beginning,
                };
                self.give(held, &[whole])
            }
            _ => self.give(held, &[]),
        }
    }

    fn join(&mut self, bytes: Bytes) -> Bytes {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return bytes;
        }
        let mut all = BytesMut::with_capacity(held.len() + bytes.len());
        all.extend_from_slice(&held);
        all.extend_from_slice(&bytes);
        all.freeze()
    }

    /// Runs the automaton over new bytes: what was found, merged. Places count from the first byte that is held, line
    /// ends not counted.
    fn search(&mut self, bytes: &[u8]) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let start = self.patterns.start();
        let mut count = count(&self.held);
        // What is not counted yet, and of it what is not looked at yet.
        let (mut uncounted, mut rest) = (bytes, bytes);
        loop {
            if self.state == start {
                // Most bytes begin nothing, and are passed over without the automaton.
                let begins = rest.iter().position(|byte| self.patterns.begins(*byte));
                rest = begins.and_then(|at| rest.get(at..)).unwrap_or_default();
            }
            let Some((byte, behind)) = rest.split_first() else {
                break;
            };
            rest = behind;
            if is_line_end(*byte) {
                continue;
            }
            self.state = self.patterns.step(self.state, *byte);
            let Some((secret, form, length)) = self.patterns.found(self.state) else {
                continue;
            };
            let (passed, more) = uncounted.split_at(uncounted.len() - rest.len());
            count += self::count(passed);
            uncounted = more;
            let mut new = Found {
                start: count.saturating_sub(length),
                end: count,
                secret,
                form,
            };
            while let Some(last) = found.pop_if(|last| last.end > new.start) {
                // The longer one gives the name.
                if last.end - last.start > new.end - new.start {
                    (new.secret, new.form) = (last.secret, last.form);
                }
                new.start = new.start.min(last.start);
            }
            found.push(new);
        }
        found
    }

    /// Gives bytes out, with what was found in them masked.
    fn give(&self, bytes: Bytes, found: &[Found]) -> Passed {
        if found.is_empty() {
            return Passed {
                bytes,
                marks: Vec::new(),
            };
        }
        let mut masked = BytesMut::from(&bytes[..]);
        for one in found {
            let secret = masked.get_mut(one.start..one.end).unwrap_or_default();
            for byte in secret.iter_mut().filter(|byte| !is_line_end(**byte)) {
                *byte = b'*';
            }
        }
        let marks = found.iter().map(|one| Mark {
            at: one.start as u64,
            bytes: (one.end - one.start) as u64,
            name: self.patterns.name(one.secret).to_owned(),
            form: one.form,
        });
        Passed {
            bytes: masked.freeze(),
            marks: marks.collect(),
        }
    }
}

/// How many bytes, line ends not counted.
fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !is_line_end(**byte)).count()
}

/// Masks a value that is whole, such as a command.
pub(crate) fn mask_value(patterns: &Arc<Patterns>, value: &Bytes) -> Passed {
    let mut masker = Masker::new(Arc::clone(patterns));
    let first = masker.push(value.clone());
    let rest = masker.finish();
    if rest.bytes.is_empty() {
        return first;
    }
    let behind = first.bytes.len() as u64;
    let moved = rest.marks.into_iter().map(|mark| Mark {
        at: mark.at + behind,
        ..mark
    });
    Passed {
        marks: first.marks.into_iter().chain(moved).collect(),
        bytes: [first.bytes, rest.bytes].concat().into(),
    }
}

#[derive(Debug)]
struct Found {
    start: usize,
    end: usize,
    secret: usize,
    form: Form,
}

/// Places in bytes, from places that do not count line ends. What was found is in order and does not overlap.
fn in_bytes(all: &[u8], mut found: Vec<Found>) -> Vec<Found> {
    let mut places = all.iter().enumerate().filter(|(_, byte)| !is_line_end(**byte));
    let mut passed = 0;
    for one in &mut found {
        let length = one.end - one.start;
        let first = places.nth(one.start - passed).map_or(all.len(), |(at, _)| at);
        let last = match length {
            0 | 1 => first,
            _ => places.nth(length - 2).map_or(all.len(), |(at, _)| at),
        };
        passed = one.end;
        (one.start, one.end) = (first, (last + 1).min(all.len()));
    }
    found
}

/// Where the last `count` bytes begin, line ends not counted; 0 where there are fewer.
fn start_of_last(all: &[u8], count: usize) -> usize {
    if count == 0 {
        return all.len();
    }
    let places = all.iter().enumerate().rev().filter(|(_, byte)| !is_line_end(**byte));
    places.skip(count - 1).map(|(at, _)| at).next().unwrap_or(0)
}

#[cfg(test)]
mod tests;
