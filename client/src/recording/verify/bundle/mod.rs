//! A bundle: one recording with all that proves it, in one tar file, and a page for whoever checks it.
//!
//! The same contents give the same bytes: entries in order of their names, no times, no owners. A bundle that is read is
//! somebody else's file: only names that we write are taken, into a folder of our own, up to a bound, and what was taken must give
//! the file's bytes when it is packed again. So there is no byte in it, of a header or of padding, that nobody answers for.

mod pack;
mod read;
#[cfg(test)]
mod vectors;
mod write;

pub(super) use read::Bundle;
pub(super) use write::{Contents, write};

/// The folder in the file, before the session's id.
const FOLDER: &str = "doorward-";
const LEAVES: &str = "log/leaves.jsonl";
const CHECKPOINT: &str = "log/checkpoint.jsonl";
const SUMS: &str = "SHA256SUMS";
