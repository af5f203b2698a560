//! A bundle: one recording with all that proves it, in one tar file, and a page for whoever checks it.
//!
//! The same contents give the same bytes: entries in order of their names, no times, no owners. A bundle that is read is
//! somebody else's file: only names that we write are taken, into a folder of our own, up to a bound.

mod read;
mod write;

pub(super) use read::Bundle;
pub(super) use write::{Contents, write};

/// The folder in the file, before the session's id.
const FOLDER: &str = "doorward-";
const LEAVES: &str = "log/leaves.jsonl";
const CHECKPOINT: &str = "log/checkpoint.jsonl";
const SUMS: &str = "SHA256SUMS";
