//! Private key files: OpenSSH's form without a passphrase, mode 0600, created exclusively, links not followed.
//!
//! A key that others may read is refused, not used with a warning. Nothing here shows a private key: no `Debug`, no
//! error text. On Windows the mode is not checked (files inherit the folder's access list).

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rand::{TryRng as _, rngs::SysRng};
use ssh_key::{
    HashAlg, LineEnding, PrivateKey, PublicKey,
    private::{Ed25519Keypair, KeypairData},
};
use zeroize::Zeroizing;

/// Why a key file was refused, or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be opened, read or written.
    #[error("cannot {verb} the private key file {}", .path.display())]
    Io {
        /// What was tried: `read`, `create`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The path is a link, a folder, a pipe or the like.
    #[error("the private key file {} is not a regular file (links are not followed)", .path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or write the file.
    #[error("the private key file {} can be read by others (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no private key in OpenSSH's form, or too long for one.
    #[error("the file {} is not a private key in OpenSSH's form", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The key is protected by a passphrase, which nobody could type.
    #[error("the private key file {} is protected by a passphrase", .path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is of another kind than is needed.
    #[error("the private key file {} does not hold {wanted}", .path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The kind that is needed.
        wanted: &'static str,
    },
    /// The user authority and the host authority are one key.
    #[error("the user authority and the host authority have the same key; they must be two")]
    SameKey,
    /// The key cannot be used to sign certificates.
    #[error("the key cannot sign certificates")]
    Unfit,
    /// A key could not be made or encoded.
    #[error("cannot make a private key")]
    Generate,
}

impl KeyError {
    /// A stable code for metrics and audit fields.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "key-io",
            Self::NotRegular { .. } => "key-not-regular",
            Self::Mode { .. } => "key-mode",
            Self::Malformed { .. } => "key-malformed",
            Self::Encrypted { .. } => "key-encrypted",
            Self::Kind { .. } => "key-kind",
            Self::SameKey => "key-same",
            Self::Unfit => "key-unfit",
            Self::Generate => "key-generate",
        }
    }
}

/// An ed25519 key of one of our programs: a gateway's link key, or an agent's host key.
#[derive(Clone)]
pub struct HostKey {
    private: PrivateKey,
    public: [u8; 32],
}

impl HostKey {
    /// A new key that exists in memory alone.
    ///
    /// # Errors
    /// [`KeyError::Generate`] where the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(generate("doorward")?).ok_or(KeyError::Generate)
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.private.public_key()
    }

    /// The public key's 32 bytes.
    #[must_use]
    pub fn public_bytes(&self) -> &[u8; 32] {
        &self.public
    }

    /// The private key, for a signer that wants `ssh-key`'s type.
    #[must_use]
    pub fn private_key(&self) -> &PrivateKey {
        &self.private
    }

    /// The private key's seed (RFC 8032, section 5.1.5), for a signer that wants PKCS#8.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        match self.private.key_data() {
            KeypairData::Ed25519(pair) => Zeroizing::new(pair.private.to_bytes()),
            // The constructor takes no other kind.
            _ => Zeroizing::new([0; 32]),
        }
    }

    fn new(private: PrivateKey) -> Option<Self> {
        let public = private.public_key().key_data().ed25519()?.0;
        private.key_data().ed25519()?;
        Some(Self { private, public })
    }
}

/// Shows the public key's fingerprint alone.
impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.public_key().fingerprint(HashAlg::Sha256))
    }
}

/// Reads an ed25519 private key from a file.
///
/// # Errors
/// [`KeyError`]: no regular file, open to others, malformed, protected by a passphrase, or of another kind.
pub fn load(path: &Path) -> Result<HostKey, KeyError> {
    let private = read(path)?;
    HostKey::new(private).ok_or_else(|| KeyError::Kind {
        path: path.to_owned(),
        wanted: "an ed25519 key",
    })
}

/// Reads an ed25519 private key from a file, or makes one and writes it where there is no file.
///
/// # Errors
/// As in [`load`]; [`KeyError::Io`] where the file cannot be written.
pub fn load_or_create(path: &Path) -> Result<HostKey, KeyError> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        match create(path, &generate("doorward")?) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    load(path)
}

pub(crate) fn generate(comment: &str) -> Result<PrivateKey, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    SysRng
        .try_fill_bytes(seed.as_mut_slice())
        .map_err(|_| KeyError::Generate)?;
    let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
    PrivateKey::new(pair, comment).map_err(|_| KeyError::Generate)
}

/// Reads a private key of any kind.
pub(crate) fn read(path: &Path) -> Result<PrivateKey, KeyError> {
    let io_error = |source| KeyError::Io {
        verb: "read",
        path: path.to_owned(),
        source,
    };
    let named = fs::symlink_metadata(path).map_err(io_error)?;
    if !named.is_file() {
        return Err(KeyError::NotRegular { path: path.to_owned() });
    }
    let file = File::open(path).map_err(io_error)?;
    check_opened(path, &named, &file.metadata().map_err(io_error)?)?;
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_FILE));
    file.take(LONGEST_FILE as u64)
        .read_to_end(&mut text)
        .map_err(io_error)?;
    let key = PrivateKey::from_openssh(text.as_slice()).map_err(|_| KeyError::Malformed { path: path.to_owned() })?;
    if key.is_encrypted() {
        return Err(KeyError::Encrypted { path: path.to_owned() });
    }
    Ok(key)
}

/// Writes a private key to a file that must not exist: mode 0600 from its first moment, and whole or not at all.
///
/// It is written beside its place under a random name and then linked to it, which fails where something stands there
/// already. Where the file system knows no links, it is written in place.
pub(crate) fn create(path: &Path, key: &PrivateKey) -> Result<(), KeyError> {
    let text = key.to_openssh(LineEnding::LF).map_err(|_| KeyError::Generate)?;
    let random = SysRng.try_next_u64().map_err(|_| KeyError::Generate)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{random:016x}.new"));
    let draft = PathBuf::from(draft);
    let placed = write_new(&draft, text.as_bytes()).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => write_new(path, text.as_bytes()),
        Ok(()) => Ok(()),
    });
    // Gone already where it could not be written.
    let _ = fs::remove_file(&draft);
    placed.map_err(|source| KeyError::Io {
        verb: "create",
        path: path.to_owned(),
        source,
    })
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text).and_then(|()| file.sync_all()).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Far above any key's text (RSA of 16384 bits: 13 KiB).
const LONGEST_FILE: usize = 32 * 1024;

/// The opened file is the one that was named (no link slipped in between), and its owner's alone.
#[cfg(unix)]
fn check_opened(path: &Path, named: &fs::Metadata, opened: &fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::MetadataExt as _;
    if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
        return Err(KeyError::NotRegular { path: path.to_owned() });
    }
    let mode = opened.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_opened(path: &Path, _named: &fs::Metadata, opened: &fs::Metadata) -> Result<(), KeyError> {
    if opened.is_file() {
        Ok(())
    } else {
        Err(KeyError::NotRegular { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests;
