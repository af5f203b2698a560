//! The agent: an SSH server in the workspace that only an authorised stream can reach, and that records.
//!
//! A gateway's link (`link`) brings streams; each session stream is judged by its certificate, then served
//! (`session`) by an SSH server (`ssh`) whose channels (`channel`) run processes (`process`). Nothing passes a channel
//! but through a `tap`.

mod channel;
pub mod cli;
pub mod config;
mod container;
mod enrol;
mod error;
mod forward;
mod identity;
mod init;
mod leftover;
mod link;
mod mask;
mod process;
mod serve;
mod session;
mod sftp;
mod ssh;
mod tap;
mod usage;
mod workspace;

pub use config::Config;
pub use error::Error;
pub use process::Ending;
pub use serve::{Ended, run, run_announced};
pub use sftp::act_as_file_server;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use sftp::fuzzing;
