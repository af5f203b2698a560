//! What a recording is: its events, the chain of blocks that carries them, the signed heads and
//! receipts that prove it, verification and export.
//!
//! This crate owns the format (`docs/recording-format.md`) and everything that an auditor's tool
//! needs. It refuses to know a runtime, a clock, a network or a certificate authority: times come
//! in as numbers, trust comes in as functions.

pub mod asciicast;
mod block;
mod cbor;
mod chain;
mod event;
pub mod export;
mod fault;
mod file;
mod forward;
mod head;
mod index;
mod journal;
pub mod log;
mod log_line;
mod mask;
mod open;
mod pack;
mod printable;
mod read;
pub mod receipt;
mod reconcile;
mod recorder;
mod session;
mod tail;
mod time;
mod tombstone;
mod verify;

pub use block::{BlockKind, MAX_RAW, SEGMENT_TARGET, first_link, hex, segment_name, unhex};
pub use chain::{BlockSeen, ChainCheck};
pub use event::{Event, Stamped, Unknown};
pub use fault::{Class, Error, Fault, Place};
pub use file::*;
pub use forward::*;
pub use head::{HEAD_NAMESPACE, Head, HeadStatement};
pub use index::{Outcome, SessionIndex};
pub use journal::*;
pub use log_line::{LogForm, LogLines};
pub use mask::*;
pub use open::{open_regular, read_text};
pub use printable::{Escaped, printable, reorders};
pub use read::{Block, Blocks, Events, blocks, events};
pub use reconcile::{Agreement, Reconciliation, coverage_in};
pub use recorder::Recorder;
pub use session::*;
pub use tail::Tail;
pub use tombstone::{
    MAX_TOMBSTONE, TOMBSTONE_NAME, TOMBSTONE_NAMESPACE, Tombstone, TombstoneError, TombstoneStatement,
};
pub use verify::{Anchor, Finding, JudgeAgent, JudgeGateway, Options, Report, Trust, Verdict, verify, verify_with};
