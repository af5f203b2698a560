//! What is looked for: each secret plainly and in base64, in one automaton.
//!
//! Line ends are left out on both sides, so that a terminal's carriage returns and the line breaks of base64 hide
//! nothing; likewise what stands between the letters on a terminal (`stream.rs`).

use std::collections::HashMap;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous;
use aho_corasick::{Anchored, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::stream::{ESC, sequence};

/// A value that must not be recorded, and what it is called.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    /// The variable or file that holds it.
    pub(crate) name: String,
    /// Itself.
    pub(crate) value: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}

/// How a secret stood in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// As it is.
    Plain,
    /// In base64 (RFC 4648, either alphabet), alone or within something longer.
    Base64,
    /// Its beginning, where the stream ended within it.
    Beginning,
}

impl Form {
    /// The word of the recording format.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Base64 => "base64",
            Self::Beginning => "beginning",
        }
    }
}

/// All that is looked for.
pub(crate) struct Patterns {
    /// `None` where there is no secret at all.
    automaton: Option<contiguous::NFA>,
    names: Vec<String>,
    /// By pattern: whose, in which form, how long without line ends.
    of: Vec<(usize, Form, usize)>,
    /// How much of a pattern a state has seen, and of which; the start is not in it.
    depths: HashMap<StateID, (usize, usize)>,
    /// By byte: whether it leads away from the start.
    begins: [bool; 256],
    /// The length of the longest pattern.
    longest: usize,
}

impl Patterns {
    /// Prepares the search. Values that are shorter than [`SHORTEST`] without line ends are left out: they would be
    /// found everywhere.
    ///
    /// # Errors
    /// A sentence, where there are too many.
    pub(crate) fn new(secrets: &[Secret]) -> Result<Self, String> {
        let mut names: Vec<String> = Vec::new();
        let mut of = Vec::new();
        let mut texts: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        let mut add = |secret: usize, form: Form, text: Vec<u8>| {
            let text = Zeroizing::new(text);
            if text.len() >= SHORTEST && !texts.contains(&text) {
                of.push((secret, form, text.len()));
                texts.push(text);
            }
        };
        for secret in secrets {
            let plain = without_line_ends(&secret.value);
            if plain.len() < SHORTEST {
                continue;
            }
            let name = names.len();
            names.push(secret.name.clone());
            add(name, Form::Plain, plain);
            add(name, Form::Plain, as_on_terminals(&secret.value));
            for value in spellings(&secret.value) {
                for text in base64_cores(&value) {
                    add(name, Form::Base64, text);
                }
            }
        }
        let total: usize = texts.iter().map(|text| text.len()).sum();
        if total > MOST_PATTERN_BYTES {
            return Err(format!(
                "the secrets are too long to be looked for: {total} bytes of patterns, {MOST_PATTERN_BYTES} at most"
            ));
        }
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        if texts.is_empty() {
            return Ok(Self {
                longest,
                automaton: None,
                names,
                of,
                depths: HashMap::new(),
                begins: [false; 256],
            });
        }
        let automaton = contiguous::Builder::new()
            .match_kind(MatchKind::Standard)
            .build(&texts)
            .map_err(|error| format!("the secrets cannot be looked for: {error}"))?;
        let mut depths = HashMap::new();
        let start = start_of(&automaton);
        for (pattern, text) in texts.iter().enumerate() {
            let mut state = start;
            for (depth, byte) in text.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                depths.entry(state).or_insert((depth + 1, pattern));
            }
        }
        let mut begins = [false; 256];
        for text in &texts {
            if let Some(begins) = text.first().and_then(|byte| begins.get_mut(usize::from(*byte))) {
                *begins = true;
            }
        }
        Ok(Self {
            automaton: Some(automaton),
            names,
            of,
            depths,
            begins,
            longest,
        })
    }

    /// The length of the longest pattern, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.automaton.is_none()
    }

    /// The names of what is masked, each once, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = self.names.clone();
        names.sort();
        names.dedup();
        names
    }

    /// The name of a secret.
    pub(crate) fn name(&self, secret: usize) -> &str {
        self.names.get(secret).map_or("", String::as_str)
    }

    pub(super) fn start(&self) -> StateID {
        self.automaton.as_ref().map_or(StateID::ZERO, start_of)
    }

    pub(super) fn step(&self, state: StateID, byte: u8) -> StateID {
        match &self.automaton {
            Some(automaton) => automaton.next_state(Anchored::No, state, byte),
            None => state,
        }
    }

    /// Whether a byte may be the first of a pattern; any other keeps the automaton at its start.
    pub(super) fn begins(&self, byte: u8) -> bool {
        self.begins.get(usize::from(byte)).copied().unwrap_or(true)
    }

    /// The longest pattern that ends here: whose, in which form, how long.
    pub(super) fn found(&self, state: StateID) -> Option<(usize, Form, usize)> {
        let automaton = self.automaton.as_ref()?;
        if !automaton.is_match(state) {
            return None;
        }
        (0..automaton.match_len(state))
            .filter_map(|index| self.of.get(automaton.match_pattern(state, index).as_usize()).copied())
            .max_by_key(|(_, _, length)| *length)
    }

    /// How many bytes, line ends not counted, may be the beginning of a secret, and of which.
    pub(super) fn pending(&self, state: StateID) -> Option<(usize, usize)> {
        let (depth, pattern) = self.depths.get(&state)?;
        let (secret, _, _) = self.of.get(*pattern)?;
        Some((*depth, *secret))
    }
}

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patterns")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Whether a byte is passed over.
pub(super) fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn start_of(automaton: &contiguous::NFA) -> StateID {
    // An automaton that is built for unanchored searches has this state.
    automaton.start_state(Anchored::No).unwrap_or(StateID::ZERO)
}

fn without_line_ends(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|byte| !is_line_end(*byte)).collect()
}

/// The value as it is looked for where a terminal's own bytes between its letters are left out, which it may have itself:
/// a space at the end of a line, and escape sequences.
fn as_on_terminals(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(byte) = value.get(at).copied() {
        let rest = value.get(at..).unwrap_or_default();
        let passed = match rest {
            [b' '] | [b' ', b'\r' | b'\n', ..] | [b'\r' | b'\n', ..] => 1,
            [ESC, ..] => sequence(rest).unwrap_or(0),
            _ => 0,
        };
        if passed == 0 {
            text.push(byte);
        }
        at += passed.max(1);
    }
    text
}

/// The value as programs may encode it: as it is, and with the line end that `echo` adds taken off or put on.
fn spellings(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let trimmed = value.trim_ascii_end();
    let mut all = vec![Zeroizing::new(value.to_vec())];
    if trimmed.len() != value.len() {
        all.push(Zeroizing::new(trimmed.to_vec()));
    }
    all
}

/// The characters of base64 that depend on the value alone, for each of the three places in a group where it may begin.
fn base64_cores(value: &[u8]) -> Vec<Vec<u8>> {
    let mut cores = Vec::new();
    for before in 0..3_usize {
        let mut bytes = Zeroizing::new(vec![0; before]);
        bytes.extend_from_slice(value);
        let from = (before * 8).div_ceil(6);
        let to = bytes.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = Zeroizing::new(engine.encode(&*bytes));
            cores.extend(text.as_bytes().get(from..to).map(<[u8]>::to_vec));
        }
    }
    cores
}

/// The shortest value that is looked for, in bytes.
pub(crate) const SHORTEST: usize = 8;
/// Of all patterns together. An automaton takes some tens of bytes for each.
const MOST_PATTERN_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &[u8]) -> Secret {
        Secret {
            name: "TOKEN".to_owned(),
            value: Zeroizing::new(value.to_vec()),
        }
    }

    #[test]
    fn base64_is_found_wherever_it_begins() {
        let value = b"secret-canary-value";
        let cores = base64_cores(value);
        for before in 0..7 {
            for after in 0..4 {
                let text = [vec![b'x'; before], value.to_vec(), vec![b'y'; after]].concat();
                let standard = STANDARD_NO_PAD.encode(&text);
                assert!(
                    cores
                        .iter()
                        .any(|core| standard.contains(std::str::from_utf8(core).unwrap())),
                    "{before} {after}"
                );
            }
        }
    }

    #[test]
    fn short_values_are_not_looked_for() {
        assert!(Patterns::new(&[secret(b"1234567")]).unwrap().is_empty());
        assert!(Patterns::new(&[secret(b"123\r\n4567")]).unwrap().is_empty());
        assert!(!Patterns::new(&[secret(b"12345678")]).unwrap().is_empty());
    }

    #[test]
    fn too_many_are_said() {
        let secrets: Vec<_> = (0..300_u32)
            .map(|n| secret(&[n.to_be_bytes().as_slice(), &[7; 4096]].concat()))
            .collect();
        let error = Patterns::new(&secrets).unwrap_err();
        assert!(error.contains("too long"), "{error}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = secret(b"not to be seen");
        assert_eq!(format!("{secret:?}"), "Secret(TOKEN)");
        assert!(!format!("{:?}", Patterns::new(&[secret]).unwrap()).contains("seen"));
    }
}
