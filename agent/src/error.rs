//! Why the agent cannot start or go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use doorward_certs::KeyError;

use crate::config::Faults;

/// Why the agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is refused; nothing was bound.
    #[error("{0}")]
    Config(#[from] Faults),
    /// A host key cannot be used.
    #[error("workspace '{workspace}': cannot use its host key{}", volume(source))]
    Key {
        /// The workspace.
        workspace: String,
        /// Why not.
        source: KeyError,
    },
    /// The host key does not serve as a TLS key.
    #[error("workspace '{workspace}': its host key cannot be the key of its link")]
    LinkKey {
        /// The workspace.
        workspace: String,
        /// Why not.
        source: doorward_wire::link::LinkError,
    },
    /// Vault cannot be asked with these settings, whether it is there or not.
    #[error("workspace '{workspace}': [enrol.vault] cannot be used")]
    Vault {
        /// The workspace.
        workspace: String,
        /// Why not.
        source: doorward_certs::vault::VaultError,
    },
    /// The workspace's secrets cannot be looked for, so they would be recorded.
    #[error("cannot mask the workspace's secrets: {0}")]
    Masks(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The bound addresses cannot be announced.
    #[error("cannot write {}", .path.display())]
    Announce {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// A word from a closed set.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Key { .. } => "host-key",
            Self::LinkKey { .. } => "link-key",
            Self::Vault { .. } => "vault",
            Self::Masks(_) => "masks",
            Self::Bind { .. } => "bind",
            Self::Announce { .. } => "announce",
        }
    }
}

/// What helps where a key cannot be written, as in a container whose root is read-only.
fn volume(source: &KeyError) -> &'static str {
    use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    match source {
        KeyError::Io { verb, source, .. }
            if *verb != "read" && matches!(source.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem) =>
        {
            "; where it is kept there must be a volume that this user may write, such as an emptyDir in memory"
        }
        _ => "",
    }
}
