//! Processes of the workspace: whose they are, what environment they get, on which terminal they run, how they end.
//!
//! This module starts what it is told to start; who may start what is decided elsewhere.

mod account;
mod ending;
mod environment;
mod launch;
mod modes;
mod motd;
mod own;
mod reap;
mod syscall;
mod terminal;

pub(crate) use account::{Account, Overrides};
pub use ending::Ending;
pub(crate) use ending::end;
pub(crate) use environment::{Origin, accepts, environment};
pub(crate) use launch::{LaunchError, Launched, Program, launch};
pub(crate) use motd::motd;
pub(crate) use own::launch_own;
pub(crate) use reap::{Awaited, reap};
pub(crate) use syscall::{Identity, become_identity};
pub(crate) use terminal::{Size, Slave, Terminal};
