//! Processes of the workspace: whose they are, what environment they get, on which terminal they run, how they end.
//!
//! This module starts what it is told to start; who may start what is decided elsewhere.

mod account;
mod bounds;
mod ending;
mod environment;
mod family;
mod ide;
mod launch;
mod modes;
mod motd;
mod nologin;
mod own;
mod reap;
mod rights;
mod root;
mod syscall;
mod terminal;
mod visit;

pub(crate) use account::{Account, Overrides};
pub use ending::Ending;
pub(crate) use ending::{end, end_all};
pub(crate) use environment::{Origin, accepts, environment, etc_line};
pub(crate) use family::Mark;
pub(crate) use ide::ide_servers;
pub(crate) use launch::{LaunchError, Launched, Program, launch};
pub(crate) use motd::{for_terminal, motd};
pub(crate) use nologin::closed;
pub(crate) use own::launch_own;
pub(crate) use reap::{Awaited, adopt_orphans, reap};
pub(crate) use rights::with_rights_of;
pub(crate) use root::{Begun, Root, inside};
pub(crate) use syscall::{Identity, become_identity, send, to_foreground};
pub(crate) use terminal::{Size, Slave, Terminal};
