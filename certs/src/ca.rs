//! The keys that are trusted to sign: a set, so that a key can be rotated with overlap.
//!
//! Only plain keys are taken: ed25519, ECDSA on P-256, P-384 or P-521, and RSA of 2048 to 8192 bits.

use std::fmt;

use ssh_key::{HashAlg, PublicKey, public::KeyData};

use crate::blob;

/// A set of authorities' public keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaKeys(Vec<PublicKey>);

/// Why a set of authorities' keys was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaKeysError {
    /// A line is no public key in OpenSSH's form.
    #[error("line {line}: not a public key in OpenSSH's form ('ssh-ed25519 AAAA… comment')")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A line begins with options that we would have to obey.
    #[error("line {line}: options before the key are not supported here (only 'cert-authority')")]
    Options {
        /// Counted from 1.
        line: usize,
    },
    /// A key is of a kind or size that may not sign certificates.
    #[error("key {number}: {why}")]
    Kind {
        /// Counted from 1 among the keys.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There are more than 64 keys.
    #[error("more than 64 authorities' keys")]
    TooMany,
    /// There is no key at all.
    #[error("no authority's key")]
    Empty,
}

impl CaKeys {
    const AT_MOST: usize = 64;
    const KIND: &'static str =
        "an authority's key must be ed25519, ECDSA on P-256, P-384 or P-521, or RSA of 2048 to 8192 bits";

    /// A set of keys; doubles are kept once.
    ///
    /// # Errors
    /// [`CaKeysError`] for a kind of key that may not sign, for no key, or for more than 64.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Result<Self, CaKeysError> {
        let mut set: Vec<PublicKey> = Vec::new();
        for (index, key) in keys.into_iter().enumerate() {
            let plain = key
                .to_bytes()
                .is_ok_and(|blob| blob::check_authority_key(&blob).is_ok());
            if !plain {
                return Err(CaKeysError::Kind {
                    number: index + 1,
                    why: Self::KIND,
                });
            }
            if set.iter().all(|known| known.key_data() != key.key_data()) {
                set.push(key);
            }
            if set.len() > Self::AT_MOST {
                return Err(CaKeysError::TooMany);
            }
        }
        if set.is_empty() {
            Err(CaKeysError::Empty)
        } else {
            Ok(Self(set))
        }
    }

    /// Reads lines as in sshd's `TrustedUserCAKeys` and `authorized_keys`: one key each; empty lines and lines that
    /// begin with `#` are skipped; the one option that may stand in front is `cert-authority`.
    ///
    /// # Errors
    /// [`CaKeysError`] for a line that is no key, and as in [`CaKeys::new`].
    pub fn parse(text: &str) -> Result<Self, CaKeysError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let key = line.strip_prefix("cert-authority ").unwrap_or(line).trim_start();
            if !["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| key.starts_with(prefix)) {
                return Err(CaKeysError::Options { line: number });
            }
            // The blob is looked at before any library parses it: the text may come from a peer.
            let (kind, blob) = blob::split_line(key).ok_or(CaKeysError::Line { line: number })?;
            if blob::check_authority_key(&blob).is_err() {
                return Err(CaKeysError::Kind {
                    number: keys.len() + 1,
                    why: Self::KIND,
                });
            }
            let key = PublicKey::from_openssh(key).map_err(|_| CaKeysError::Line { line: number })?;
            if key.algorithm().as_str() != kind || !key.to_bytes().is_ok_and(|again| again == blob) {
                return Err(CaKeysError::Line { line: number });
            }
            keys.push(key);
            if keys.len() > Self::AT_MOST {
                return Err(CaKeysError::TooMany);
            }
        }
        Self::new(keys)
    }

    /// The keys.
    pub fn iter(&self) -> std::slice::Iter<'_, PublicKey> {
        self.0.iter()
    }

    /// How many keys there are; never 0 but in the default set, which trusts nobody.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key is in the set; the comment does not count.
    pub(crate) fn contains(&self, key: &KeyData) -> bool {
        self.0.iter().any(|known| known.key_data() == key)
    }
}

/// How people tell a key: `SHA256:…`, as `ssh-keygen -l` shows it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl<'a> IntoIterator for &'a CaKeys {
    type Item = &'a PublicKey;
    type IntoIter = std::slice::Iter<'a, PublicKey>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line for each key, as [`CaKeys::parse`] reads them.
impl fmt::Display for CaKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in self {
            writeln!(f, "{}", key.to_openssh().map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for CaKeys {
    type Err = CaKeysError;

    fn from_str(text: &str) -> Result<Self, CaKeysError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostKey;

    fn line() -> String {
        HostKey::generate().unwrap().public_key().to_openssh().unwrap()
    }

    #[test]
    fn lines_are_read_as_sshd_reads_them() {
        let (a, b) = (line(), line());
        let text = format!("# ours\n\n  {a}\r\ncert-authority {b} a comment\n{a} twice\n");
        let keys = CaKeys::parse(&text).unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(CaKeys::parse(&keys.to_string()).unwrap(), keys);
    }

    #[test]
    fn other_lines_are_refused_by_their_number() {
        let good = line();
        let cut = good
            .strip_suffix(" doorward")
            .and_then(|key| key.get(..key.len() - 4))
            .unwrap();
        for (bad, error) in [
            (format!("command=\"x\" {good}"), CaKeysError::Options { line: 2 }),
            (format!("@cert-authority * {good}"), CaKeysError::Options { line: 2 }),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
                CaKeysError::Options { line: 2 },
            ),
            ("ssh-ed25519".to_owned(), CaKeysError::Line { line: 2 }),
            ("ssh-ed25519 !!!!".to_owned(), CaKeysError::Line { line: 2 }),
            (
                cut.to_owned(),
                CaKeysError::Kind {
                    number: 2,
                    why: CaKeys::KIND,
                },
            ),
            (good.replace("ssh-ed25519", "ssh-rsa"), CaKeysError::Line { line: 2 }),
        ] {
            assert_eq!(CaKeys::parse(&format!("{good}\n{bad}\n")), Err(error), "{bad}");
        }
    }

    #[test]
    fn nobody_and_everybody_are_refused() {
        assert_eq!(CaKeys::parse(" \n# nothing\n"), Err(CaKeysError::Empty));
        let many: String = (0..65).map(|_| line() + "\n").collect();
        assert_eq!(CaKeys::parse(&many), Err(CaKeysError::TooMany));
    }
}
