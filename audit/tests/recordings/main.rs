//! Recordings as a whole: written by a small world of keys, damaged in every way, verified,
//! exported, and compared with recordings of earlier versions.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod clock;
mod export;
mod frames;
mod log;
mod mutation;
mod property;
mod tombstones;
mod vectors;
mod verify;
mod world;
