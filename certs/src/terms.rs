//! The terms of a session: what the person may do, how it is recorded, how long it may last.
//!
//! Terms travel as extensions of the session certificate. Reading is the exact inverse of writing: extensions that
//! could not have been written from the terms read out of them are refused, so that a permission can neither hide in
//! a second spelling nor stand there half.

use std::{collections::BTreeMap, time::Duration};

mod recording;

pub use recording::{Recording, RecordingMode};

use crate::{destination::is_destination, extension as ext, names::Login};

/// What a session may do, how it is recorded, and how long it may last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The account that the session runs as; the certificate's one principal.
    pub login: Login,
    /// What the session may do. What is not named here is refused.
    pub capabilities: Capabilities,
    /// What is recorded beyond the output, and what happens where a record is not stored.
    pub recording: Recording,
    /// How long the session may last, in whole seconds (a fraction is cut off), from 1 s to 30 days.
    pub longest: Duration,
}

/// What a session may do. The default is nothing at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// A login shell.
    pub shell: bool,
    /// Commands.
    pub exec: bool,
    /// A pseudo terminal.
    pub pty: bool,
    /// The sftp subsystem.
    pub sftp: Sftp,
    /// Forwarding of the user's SSH agent.
    pub agent_forwarding: bool,
    /// X11 forwarding.
    pub x11_forwarding: bool,
    /// Destinations of local forwards as `host:port` patterns (`*` for any) or `unix:` and the path of a socket, which
    /// may begin with `~/` and end with `/*`; at most 64 of at most 300 characters, 8 KiB together.
    pub local_forward: Vec<String>,
    /// Listening in the workspace for the user.
    pub remote_forward: RemoteForward,
}

/// Where the workspace may listen for the user; the later is the wider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoteForward {
    /// Nowhere.
    #[default]
    None,
    /// On the workspace's loopback, and on sockets in its file system.
    Loopback,
    /// On any of its addresses.
    Any,
}

/// How much of sftp is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sftp {
    /// No sftp.
    #[default]
    None,
    /// Listing and reading.
    ReadOnly,
    /// Everything that the account may do.
    ReadWrite,
}

/// Why terms cannot be written into, or read from, a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// A forward destination is no pattern, or there are too many.
    #[error("the forward destinations are not at most 64 patterns of the form host:port or unix:/path")]
    ForwardTo,
    /// `remote-forward@doorward` has a value other than `any`.
    #[error("the extension remote-forward@doorward is neither empty nor 'any'")]
    RemoteForward,
    /// The longest duration is zero or above 30 days, or is no number of seconds.
    #[error("the longest session must be from 1 second to 30 days")]
    Longest,
    /// `sftp@doorward` is neither `read` nor `read-write`.
    #[error("the extension sftp@doorward is neither 'read' nor 'read-write'")]
    Sftp,
    /// `recording@doorward` is missing, not of its form, or out of its bounds.
    #[error(
        "the recording is not said as input=no,bulk=16777216 and, where they are not the usual ones, \
         mode=best-effort,unacked=4194304,stall=30 (1 to 3600 seconds; unacked=0 is strict)"
    )]
    Recording,
    /// The extensions contradict each other, or say the same in another spelling.
    #[error("the extension {0} does not fit the other extensions")]
    Inconsistent(&'static str),
}

impl TermsError {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ForwardTo => "terms-forward-to",
            Self::RemoteForward => "terms-remote-forward",
            Self::Longest => "terms-longest",
            Self::Sftp => "terms-sftp",
            Self::Recording => "terms-recording",
            Self::Inconsistent(_) => "terms-inconsistent",
        }
    }
}

const LONGEST_AT_MOST: u64 = 30 * 86_400;

impl Capabilities {
    /// The most destinations of local forwards.
    pub const MOST_FORWARDS: usize = 64;
    /// Bytes of all of them, joined by commas: leaves room for the rest of the certificate.
    pub const LONGEST_FORWARDS: usize = 8 * 1024;
}

impl Terms {
    /// The extensions that say these terms, by name; a flag has the empty value. The login is not among them.
    ///
    /// # Errors
    /// [`TermsError`] where a value has no spelling: a malformed forward destination, a duration out of range, a recording
    /// that contradicts itself.
    pub fn extensions(&self) -> Result<BTreeMap<String, String>, TermsError> {
        let may = &self.capabilities;
        let mut out = BTreeMap::new();
        let mut put = |name: &str, value: String| out.insert(name.to_owned(), value);
        let forwards = !may.local_forward.is_empty() || may.remote_forward != RemoteForward::None;
        for (name, present) in [
            (ext::PERMIT_PTY, may.pty),
            (ext::PERMIT_AGENT, may.agent_forwarding),
            (ext::PERMIT_X11, may.x11_forwarding),
            (ext::PERMIT_PORT, forwards),
            (ext::SHELL, may.shell),
            (ext::EXEC, may.exec),
            (ext::REMOTE_FORWARD, may.remote_forward == RemoteForward::Loopback),
        ] {
            if present {
                put(name, String::new());
            }
        }
        match may.sftp {
            Sftp::None => None,
            Sftp::ReadOnly => put(ext::SFTP, "read".to_owned()),
            Sftp::ReadWrite => put(ext::SFTP, "read-write".to_owned()),
        };
        if may.remote_forward == RemoteForward::Any {
            put(ext::REMOTE_FORWARD, "any".to_owned());
        }
        if !may.local_forward.is_empty() {
            if may.local_forward.len() > Capabilities::MOST_FORWARDS
                || !may.local_forward.iter().all(|p| is_destination(p))
            {
                return Err(TermsError::ForwardTo);
            }
            let list = may.local_forward.join(",");
            if list.len() > Capabilities::LONGEST_FORWARDS {
                return Err(TermsError::ForwardTo);
            }
            put(ext::FORWARD_TO, list);
        }
        put(ext::RECORDING, self.recording.spelled().ok_or(TermsError::Recording)?);
        let longest = self.longest.as_secs();
        if !(1..=LONGEST_AT_MOST).contains(&longest) {
            return Err(TermsError::Longest);
        }
        put(ext::LONGEST, longest.to_string());
        Ok(out)
    }

    /// Reads terms from a certificate's extensions; names that say no terms are left alone.
    ///
    /// # Errors
    /// [`TermsError`] for a missing or malformed value, and for any set of values that [`Terms::extensions`] would not
    /// have written.
    pub fn from_extensions(login: Login, extensions: &BTreeMap<String, String>) -> Result<Self, TermsError> {
        let has = |name: &str| extensions.contains_key(name);
        let value = |name: &str| extensions.get(name).map(String::as_str);
        let terms = Self {
            login,
            capabilities: Capabilities {
                shell: has(ext::SHELL),
                exec: has(ext::EXEC),
                pty: has(ext::PERMIT_PTY),
                sftp: match value(ext::SFTP) {
                    None => Sftp::None,
                    Some("read") => Sftp::ReadOnly,
                    Some("read-write") => Sftp::ReadWrite,
                    Some(_) => return Err(TermsError::Sftp),
                },
                agent_forwarding: has(ext::PERMIT_AGENT),
                x11_forwarding: has(ext::PERMIT_X11),
                local_forward: value(ext::FORWARD_TO)
                    .map(|list| {
                        list.split(',')
                            .take(Capabilities::MOST_FORWARDS + 1)
                            .map(str::to_owned)
                            .collect()
                    })
                    .unwrap_or_default(),
                remote_forward: match value(ext::REMOTE_FORWARD) {
                    None => RemoteForward::None,
                    Some("") => RemoteForward::Loopback,
                    Some("any") => RemoteForward::Any,
                    Some(_) => return Err(TermsError::RemoteForward),
                },
            },
            recording: value(ext::RECORDING)
                .and_then(Recording::read)
                .ok_or(TermsError::Recording)?,
            longest: value(ext::LONGEST)
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs)
                .ok_or(TermsError::Longest)?,
        };
        let written = terms.extensions()?;
        for name in ext::TERMS {
            if extensions.get(name) != written.get(name) {
                return Err(TermsError::Inconsistent(name));
            }
        }
        Ok(terms)
    }
}

#[cfg(test)]
mod tests;
