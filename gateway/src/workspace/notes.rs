//! What stands on a workspace besides its life: when it was used last, until when it is kept awake, when it is stopped.
//!
//! In a cluster these are annotations, and whoever may patch the pod may write them: they decide nothing about who enters.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The annotation that says when the workspace was used last.
pub const LAST_USE: &str = "doorward.dev/last-use";
/// The annotation that says until when it is not to be put to sleep.
pub const KEEP_UNTIL: &str = "doorward.dev/keep-until";

/// Moments that matter to a workspace, each if it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// When it was used last, by the word of its pod.
    pub last_use: Option<SystemTime>,
    /// Until when it is to be kept awake, by the word of its pod.
    pub keep_until: Option<SystemTime>,
    /// When the platform stops it, if that is known.
    pub stop: Option<Stop>,
}

/// When the platform stops a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Then.
    pub at: SystemTime,
    /// How long ahead the people in it are told.
    pub warn: Arc<[Duration]>,
    /// Whether that is later if somebody has it kept awake.
    pub extendable: bool,
}

/// A moment that somebody wrote down in RFC 3339; nothing if it is none.
#[must_use]
pub fn moment(text: &str) -> Option<SystemTime> {
    let at: jiff::Timestamp = text.trim().parse().ok()?;
    Some(at.into())
}
