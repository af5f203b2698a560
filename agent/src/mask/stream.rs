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
    /// How many of the held bytes the automaton has passed.
    looked: usize,
    /// How many bytes of the stream were given out.
    given: u64,
    /// Where in the stream the bytes are that the automaton took since it left its start; at least the last ones, as many as
    /// the longest pattern has.
    trail: Vec<u64>,
}

impl Masker {
    /// A stream of which nothing has passed yet.
    pub(crate) fn new(patterns: Arc<Patterns>) -> Self {
        let state = patterns.start();
        Self {
            patterns,
            state,
            held: Bytes::new(),
            looked: 0,
            given: 0,
            trail: Vec::new(),
        }
    }

    /// What is looked for.
    pub(crate) fn patterns(&self) -> &Arc<Patterns> {
        &self.patterns
    }

    /// From now on these are looked for; in what is held as well.
    pub(crate) fn look_for(&mut self, patterns: Arc<Patterns>) -> Passed {
        self.patterns = patterns;
        self.restart();
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
        let all = self.join(bytes);
        let (found, looked) = self.search(&all);
        let held_from = self.pending().map_or(looked, |(from, _)| from);
        // What is masked already stays so, even where it may be the beginning of another one.
        let cut = found.last().map_or(held_from, |last| last.end.max(held_from));
        self.held = all.slice(cut..);
        self.looked = looked.saturating_sub(cut);
        self.give(all.slice(..cut), &found)
    }

    /// The stream ended: what was held is no secret, unless it is a good part of one.
    pub(crate) fn finish(&mut self) -> Passed {
        let held = std::mem::take(&mut self.held);
        let beginning = self
            .patterns
            .pending(self.state)
            .filter(|(depth, _)| *depth >= SHORTEST);
        let whole = beginning.and(self.pending()).map(|(start, secret)| Found {
            start,
            end: self.last().map_or(held.len(), |last| last + 1),
            secret,
            form: Form::Beginning,
        });
        self.restart();
        self.give(held, whole.as_slice())
    }

    fn restart(&mut self) {
        self.state = self.patterns.start();
        self.looked = 0;
        self.trail.clear();
    }

    /// Where the bytes begin that may be the beginning of a secret, of which, and were not given out.
    fn pending(&self) -> Option<(usize, usize)> {
        let (depth, secret) = self.patterns.pending(self.state)?;
        let of_it = self.trail.get(self.trail.len().saturating_sub(depth)..)?;
        let first = *of_it.get(of_it.partition_point(|at| *at < self.given))?;
        Some((usize::try_from(first - self.given).ok()?, secret))
    }

    /// Where the automaton took its last byte, if that was not given out.
    fn last(&self) -> Option<usize> {
        usize::try_from(self.trail.last()?.checked_sub(self.given)?).ok()
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

    /// Runs the automaton over what it has not passed: what was found, merged, and how far it came.
    fn search(&mut self, all: &[u8]) -> (Vec<Found>, usize) {
        let mut found: Vec<Found> = Vec::new();
        let start = self.patterns.start();
        let mut at = self.looked;
        loop {
            if self.state == start {
                self.trail.clear();
                // Most bytes begin nothing, and are passed over without the automaton.
                let rest = all.get(at..).unwrap_or_default();
                at += rest
                    .iter()
                    .position(|byte| self.patterns.begins(*byte))
                    .unwrap_or(rest.len());
            }
            let Some(byte) = all.get(at).copied() else { break };
            if self.state != start {
                match self.between(all, at) {
                    Some(0) => {}
                    Some(length) => {
                        at += length;
                        self.bound(at);
                        continue;
                    }
                    None => break,
                }
            } else if is_line_end(byte) {
                at += 1;
                continue;
            }
            self.state = self.patterns.step(self.state, byte);
            self.remember(at);
            at += 1;
            if let Some((secret, form, length)) = self.patterns.found(self.state) {
                let first = self.trail.len().saturating_sub(length);
                let first = self
                    .trail
                    .get(first)
                    .map_or(0, |first| first.saturating_sub(self.given));
                let new = Found {
                    start: usize::try_from(first).unwrap_or(at),
                    end: at,
                    secret,
                    form,
                };
                merge(&mut found, new);
            }
        }
        (found, at)
    }

    /// How many bytes from here on do not count, within what may be a secret: line ends, and what terminals are sent between
    /// the letters of a text. `None` where only the next bytes can tell.
    fn between(&self, all: &[u8], at: usize) -> Option<usize> {
        let rest = all.get(at..).unwrap_or_default();
        match rest {
            [b'\r' | b'\n', ..] => Some(1),
            // A shell has a terminal begin a new line: ` ` at the margin, then a carriage return.
            [b' ', b'\r', ..] => Some(2),
            [b' '] => None,
            [ESC, ..] => sequence(rest),
            // Another one writes the first letter of the new line twice, with a carriage return between.
            [byte, ..] if at >= 2 && self.last() == Some(at - 2) => {
                Some(usize::from(all.get(at - 2..at) == Some(&[*byte, b'\r'])))
            }
            _ => Some(0),
        }
    }

    /// Gives up a beginning behind which too much has come that does not count: nobody reads a secret in that, and what is held is
    /// bounded.
    fn bound(&mut self, at: usize) {
        let most = WIDEST + 4 * self.patterns.longest();
        if at > most && self.pending().is_some_and(|(from, _)| at.saturating_sub(from) > most) {
            self.state = self.patterns.start();
        }
    }

    fn remember(&mut self, at: usize) {
        let longest = self.patterns.longest();
        if self.trail.len() >= 2 * longest {
            self.trail.drain(..self.trail.len() - longest);
        }
        self.trail.push(self.given + at as u64);
    }

    /// Gives bytes out, with what was found in them masked.
    fn give(&mut self, bytes: Bytes, found: &[Found]) -> Passed {
        self.given += bytes.len() as u64;
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

/// Puts one in behind others, and makes one of those that overlap: the longer gives the name.
fn merge(found: &mut Vec<Found>, mut new: Found) {
    while let Some(last) = found.pop_if(|last| last.end > new.start) {
        if last.end - last.start > new.end - new.start {
            (new.secret, new.form) = (last.secret, last.form);
        }
        new.start = new.start.min(last.start);
    }
    found.push(new);
}

/// How long the control sequence is that begins here, 0 where none does; `None` where it is not yet whole. Colours, and what
/// `tput sgr0` prints.
pub(super) fn sequence(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, b'[', rest @ ..] => match rest.iter().position(|byte| !(0x20..0x40).contains(byte)) {
            Some(end) if end < LONGEST_SEQUENCE => Some(match rest.get(end) {
                Some(0x40..0x7f) => end + 3,
                _ => 0,
            }),
            None if rest.len() < LONGEST_SEQUENCE => None,
            _ => Some(0),
        },
        [_, b'(', _, ..] => Some(3),
        [_] | [_, b'('] => None,
        _ => Some(0),
    }
}

/// So many bytes that do not count may stand in a secret, beside four for each of its letters.
const WIDEST: usize = 16 * 1024;
/// What begins a control sequence.
pub(super) const ESC: u8 = 0x1b;
/// Between `ESC [` and the letter, in bytes.
const LONGEST_SEQUENCE: usize = 32;

#[cfg(test)]
mod tests;
