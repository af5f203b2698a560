//! `[journal.anchor]`: the command that has a checkpoint of the log attested.

use std::time::Duration;

use super::document::{Section, duration, list, text};

/// `[journal.anchor]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How often it runs, if there is anything new.
    pub every: Duration,
    /// How long it may take.
    pub within: Duration,
}

pub(super) fn read(section: &Section<'_>) -> Option<Anchor> {
    let command = section.required("command", |value| match list(text)(value)? {
        none if none.is_empty() => Err("must name a program".to_owned()),
        command => Ok(command),
    });
    Some(Anchor {
        every: section.or("every", HOUR, duration(Duration::from_secs(10), 7 * 24 * HOUR)),
        within: section.or(
            "within",
            Duration::from_secs(30),
            duration(Duration::from_secs(1), Duration::from_secs(600)),
        ),
        command: command?,
    })
}

const HOUR: Duration = Duration::from_secs(3600);
