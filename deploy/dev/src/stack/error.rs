//! Why a stack does not start, or does not go on.

use std::path::PathBuf;

use crate::process::ProcessError;

/// What went wrong. The text is for a developer at a terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another stack works in this folder.
    #[error("another stack is running in {}; stop it, or choose another folder with --dir", .0.display())]
    InUse(PathBuf),
    /// A file or folder could not be read or written.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Our own account cannot be the login of a workspace.
    #[error("this account has no name in the system's user list")]
    NoAccount,
    /// A key or certificate could not be made.
    #[error("cannot make {what}: {why}")]
    Key {
        /// Which.
        what: &'static str,
        /// What the library said.
        why: String,
    },
    /// A program could not be started at all.
    #[error("cannot start {name}")]
    Start {
        /// Which program.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A real server cannot be had, or does not run.
    #[error("no real {name} to run on")]
    Real {
        /// Which.
        name: &'static str,
        /// Why.
        source: crate::parts::Error,
    },
    /// Vault was not set up for the gateway.
    #[error("`doorward-gateway vault apply` failed ({status}):\n{output}")]
    SetUp {
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// The client said no.
    #[error("`doorward {command}` failed ({status}):\n{output}")]
    Client {
        /// Its sub-command.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// The issuer's pages could not be filled in.
    #[error("cannot log {person} in")]
    Browser {
        /// Who.
        person: String,
        /// Why.
        source: crate::browser::BrowserError,
    },
}

impl Error {
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
