//! Why a part cannot be had, does not run, or does not answer.

use std::path::PathBuf;
use std::time::Duration;

use crate::process::ProcessError;

/// What went wrong. The text is for a developer at a terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An environment variable names something that is not there.
    #[error("{variable} names {}, which is not there", .path.display())]
    NotThere {
        /// The variable.
        variable: &'static str,
        /// What it says.
        path: PathBuf,
    },
    /// It is not in the cache, and was not to be made.
    #[error("it is not in the cache; `cargo run -- parts --fetch` makes it")]
    NotMade,
    /// A tool that makes it is missing.
    #[error("`{tool}` is missing, which makes it (Debian: {package})")]
    NoTool {
        /// The command.
        tool: &'static str,
        /// Where Debian has it.
        package: &'static str,
    },
    /// A tool failed.
    #[error("{what} failed ({status}); its output ends:\n{tail}")]
    Tool {
        /// What was done.
        what: String,
        /// How it ended.
        status: String,
        /// The last lines of its output.
        tail: String,
    },
    /// The registry's answer is not what was pinned.
    #[error("{} has the SHA-256 {found}, and not {wanted}", .path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: String,
        /// The pinned one.
        wanted: String,
    },
    /// Somebody else makes it, and takes too long.
    #[error("another process has been making it for {} s", .0.as_secs())]
    Waited(Duration),
    /// There is no folder for the cache.
    #[error("neither XDG_CACHE_HOME nor HOME names a folder")]
    NoCache,
    /// No free port was found.
    #[error("no free port on loopback")]
    NoPort(#[source] Option<std::io::Error>),
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
    /// A key or certificate could not be made.
    #[error("cannot make a TLS certificate")]
    Certificate(#[from] rcgen::Error),
    /// The server does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It was stopped.
    #[error("the server is not running")]
    NotRunning,
    /// The server cannot be reached, or its answer is none.
    #[error("{what} got no answer")]
    Unanswered {
        /// Method and path.
        what: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The server refused.
    #[error("{what} was answered with {status}: {said}")]
    Refused {
        /// Method and path.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The answer's text.
        said: String,
    },
    /// The answer lacks something.
    #[error("{what} was answered without {lacks}")]
    Answer {
        /// Method and path.
        what: String,
        /// What is not in it.
        lacks: &'static str,
    },
    /// An object is not what was awaited.
    #[error("{what} is not as awaited: {found}")]
    NotSo {
        /// The object.
        what: String,
        /// Its last state.
        found: String,
    },
    /// A name or token that no HTTP header can hold.
    #[error("a name or token that no HTTP header can hold")]
    NoHeader,
}

impl Error {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
