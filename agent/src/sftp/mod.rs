//! An SFTP server, version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions: for images that have none, with
//! what the grant allows, and with a record of every file.
//!
//! It runs in a process of its own, which is this very executable under another name ([`NAME`]) and which becomes the
//! account before it touches a file. That process answers requests and reports what they did ([`report`]); the agent
//! carries bytes, puts the reports into the recording before the answers, and trusts no path itself.
//!
//! The process gives up root only after it was started: from then on the kernel lets nobody but root trace it or look
//! into it, so that an account cannot forge what is reported about it.

mod attributes;
#[cfg(fuzzing)]
pub mod fuzzing;
mod listing;
mod open;
mod order;
mod process;
mod report;
mod request;
mod server;
mod wire;

pub use process::act_as_file_server;
pub(crate) use process::{BAD_PACKET, NAME, arguments};
pub(crate) use report::{Piece, Splitter};
