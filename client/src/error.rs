//! Everything that can go wrong on the laptop: one sentence, the hints that go with it, and the exit code.
//!
//! Texts may quote what a server or a file said; they are escaped where they are printed ([`crate::say`]), never here.
//! No text holds a token.

use std::io;
use std::path::PathBuf;

use crate::http::Problem;

/// What failed, on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No gateway was ever named.
    #[error("no gateway is configured")]
    NoGateway,
    /// The configuration, or something that it names, cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// A file of ours could not be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// `read`, `write`, …
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that holds secrets could be read by others, or is not ours.
    #[error("{} {what}, so it is not used", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A server could not be reached.
    #[error("cannot reach {whom}: {why}")]
    Unreachable {
        /// Which server.
        whom: String,
        /// Why not.
        why: String,
        /// What the person can do, where that is known.
        hint: Option<&'static str>,
    },
    /// A server did not prove that it is the one that we asked for.
    #[error("{whom} is not to be trusted: {why}")]
    Untrusted {
        /// Which server.
        whom: String,
        /// What is wrong with its certificate.
        why: String,
        /// What the person can do.
        hint: &'static str,
    },
    /// Something answered that is not what was asked for: a page for browsers, or the way to another address.
    #[error("{whom} answered with {what}")]
    Elsewhere {
        /// Which server.
        whom: String,
        /// What came.
        what: String,
    },
    /// A server answered something else than the protocol says.
    #[error("{whom} answered in a way that makes no sense: {what}")]
    Answer {
        /// Which server.
        whom: String,
        /// What is wrong.
        what: String,
    },
    /// The gateway said no.
    #[error("{0}")]
    Refused(Problem),
    /// The issuer said no (RFC 6749 section 5.2 and 4.1.2.1, RFC 8628 section 3.5).
    #[error("the issuer refused: {text}")]
    Issuer {
        /// The error code.
        code: String,
        /// What it says.
        text: String,
    },
    /// There is no valid token, and nobody to ask for one.
    #[error("{0}")]
    NotLoggedIn(String),
    /// The configured program gave no token.
    #[error("the token-command {program} gave no token: {why}")]
    TokenCommand {
        /// Which.
        program: String,
        /// Why, with what it said itself; nothing of what it printed as a token.
        why: String,
    },
    /// No such workspace, or none that the person may enter.
    #[error("there is no workspace {0} that you may enter")]
    NoWorkspace(String),
    /// An editor would not find the workspace.
    #[error("{0}, so that an editor would not find the workspace")]
    NoSshConfig(&'static str),
    /// There is nothing to open a workspace with.
    #[error("none of the editors that are known is on the PATH: {0}")]
    NoEditor(String),
    /// An editor's program failed.
    #[error("{program} ended with {status}")]
    Editor {
        /// Which.
        program: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// The issuer still believes in tokens that this computer has forgotten.
    #[error("the issuer did not revoke the tokens ({0}); they end by themselves")]
    NotRevoked(String),
    /// Nobody finished the login in time.
    #[error("nobody finished the login within {0} minutes")]
    LoginExpired(u64),
    /// The session ended with a reason that the other side gave.
    #[error("{text}")]
    Ended {
        /// The exit code that goes with it.
        exit: u8,
        /// One of a closed set.
        code: String,
        /// The sentence.
        text: String,
    },
    /// The tunnel broke.
    #[error("the connection to the gateway broke: {0}")]
    Broken(String),
    /// No such recording, or none that can be read.
    #[error("{0}")]
    Recording(String),
    /// A recording did not pass.
    #[error("{text}")]
    Unproven {
        /// The exit code, one for each class of what is wrong.
        exit: u8,
        /// The sentence.
        text: String,
    },
    /// Standard output is gone.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Usage.
pub const EXIT_USAGE: u8 = 64;
/// Denied, or not logged in.
pub const EXIT_DENIED: u8 = 77;
/// Configuration.
pub const EXIT_CONFIGURATION: u8 = 78;
/// Recording is required and cannot be had.
pub const EXIT_UNRECORDED: u8 = 254;
/// Transport, as `ssh` itself has it.
pub const EXIT_TRANSPORT: u8 = 255;

impl Error {
    /// The exit code of the program.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::NoGateway
            | Self::Configuration(_)
            | Self::Exposed { .. }
            | Self::File { .. }
            | Self::NoSshConfig(_)
            | Self::NoEditor(_) => EXIT_CONFIGURATION,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Elsewhere { .. }
            | Self::Answer { .. }
            | Self::Broken(_)
            | Self::NotRevoked(_) => EXIT_TRANSPORT,
            Self::Refused(problem) if problem.code == "record-store-down" => EXIT_UNRECORDED,
            // The gateway's own refusals have a code; a 403 without one is some proxy's.
            Self::Refused(problem) if problem.code.is_empty() => EXIT_TRANSPORT,
            Self::Refused(problem) => match problem.status {
                401 | 403 | 404 => EXIT_DENIED,
                _ => EXIT_TRANSPORT,
            },
            Self::TokenCommand { .. }
            | Self::Issuer { .. }
            | Self::NotLoggedIn(_)
            | Self::NoWorkspace(_)
            | Self::LoginExpired(_) => EXIT_DENIED,
            Self::Ended { exit, .. } | Self::Unproven { exit, .. } => *exit,
            Self::Recording(_) | Self::Output(_) | Self::Editor { .. } => 1,
            Self::Interrupted => 130,
        }
    }

    /// What the person can do about it; each a line of its own.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let hint = |text: &str| vec![text.to_owned()];
        match self {
            Self::NoGateway => hint("doorward login https://gateway.example.com"),
            Self::Exposed { path, .. } => {
                vec![format!(
                    "others may have read it: remove {}, then log in again",
                    path.display()
                )]
            }
            Self::Untrusted { hint: text, .. } | Self::Unreachable { hint: Some(text), .. } => hint(text),
            Self::Elsewhere { .. } => hint(
                "is the address right? Where the network has a login page of its own (hotel, guest network, VPN), open it \
                 in the browser first",
            ),
            Self::Refused(problem) => problem.hint.clone().into_iter().collect(),
            Self::Issuer { code, .. } if code == "access_denied" => {
                hint("somebody or something said no on the login page; try again")
            }
            Self::NoSshConfig(_) => hint("doorward config --write"),
            Self::NoEditor(_) => {
                hint("--editor NAME or PATH, or editor = \"…\" in config.toml; --print says the address")
            }
            Self::NoWorkspace(_) => hint("doorward ls lists those that there are"),
            Self::NotLoggedIn(_) => hint("doorward login"),
            Self::TokenCommand { program, .. } => {
                vec![format!(
                    "see whether {program} works by itself; you may have to log in with it"
                )]
            }
            Self::LoginExpired(_) => hint("doorward login, or doorward login --device where there is no browser"),
            _ => Vec::new(),
        }
    }

    /// `cannot VERB PATH`, for `map_err`.
    pub(crate) fn file(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { verb, path, source }
    }
}
