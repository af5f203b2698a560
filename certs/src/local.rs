//! The authority whose keys this process holds: files in OpenSSH's form, mode 0600, or keys in memory.
//!
//! Signs with ed25519 and ECDSA alone. RSA keys are refused: signing with them leaks time (RUSTSEC-2023-0071).

use std::{fmt, path::Path, time::SystemTime};

use rand::RngExt as _;
use ssh_key::{
    Algorithm, PrivateKey,
    certificate::{Builder, CertType},
};

use crate::{
    AuthorityError, BACKDATED_BY, CaKeys, KeyError, key, request::Wanted, verify::unix_seconds,
};

/// A user authority and a host authority: two keys, never the same one.
pub struct Local {
    user: PrivateKey,
    host: PrivateKey,
    user_ca: CaKeys,
    host_ca: CaKeys,
}

impl Local {
    /// Two new ed25519 keys that exist in memory alone.
    ///
    /// # Errors
    /// [`KeyError`] where the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(
            key::generate("doorward user authority")?,
            key::generate("doorward host authority")?,
        )
    }

    /// Reads both keys from files.
    ///
    /// # Errors
    /// [`KeyError`] as in [`key::load`], for an RSA key, and where both files hold the same key.
    pub fn from_files(user_ca: &Path, host_ca: &Path) -> Result<Self, KeyError> {
        let user = key::read(user_ca)?;
        let host = key::read(host_ca)?;
        for (path, private) in [(user_ca, &user), (host_ca, &host)] {
            if !matches!(
                private.algorithm(),
                Algorithm::Ed25519 | Algorithm::Ecdsa { .. }
            ) {
                return Err(KeyError::Kind {
                    path: path.to_owned(),
                    wanted: "an ed25519 or ECDSA key",
                });
            }
        }
        Self::new(user, host)
    }

    /// Makes two new ed25519 keys and writes them, each to a file that must not exist yet.
    ///
    /// # Errors
    /// [`KeyError`], for example where a file exists.
    pub fn create_files(user_ca: &Path, host_ca: &Path) -> Result<Self, KeyError> {
        let local = Self::generate()?;
        key::create(user_ca, &local.user)?;
        key::create(host_ca, &local.host)?;
        Ok(local)
    }

    fn new(user: PrivateKey, host: PrivateKey) -> Result<Self, KeyError> {
        if user.public_key().key_data() == host.public_key().key_data() {
            return Err(KeyError::SameKey);
        }
        let set =
            |key: &PrivateKey| CaKeys::new([key.public_key().clone()]).map_err(|_| KeyError::Unfit);
        Ok(Self {
            user_ca: set(&user)?,
            host_ca: set(&host)?,
            user,
            host,
        })
    }

    pub(crate) fn user_ca(&self) -> &CaKeys {
        &self.user_ca
    }

    pub(crate) fn host_ca(&self) -> &CaKeys {
        &self.host_ca
    }

    /// Signs what is wanted, dated back by [`BACKDATED_BY`], with a random serial number.
    pub(crate) fn sign(&self, wanted: &Wanted, now: SystemTime) -> Result<Vec<u8>, AuthorityError> {
        let authority = match wanted.kind {
            CertType::User => &self.user,
            CertType::Host => &self.host,
        };
        sign(wanted, now, authority).map_err(AuthorityError::Sign)
    }
}

/// Shows the public keys alone.
impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field(
                "user_ca",
                &self.user.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
            )
            .field(
                "host_ca",
                &self.host.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
            )
            .finish_non_exhaustive()
    }
}

fn sign(
    wanted: &Wanted,
    now: SystemTime,
    authority: &PrivateKey,
) -> Result<Vec<u8>, ssh_key::Error> {
    let now = unix_seconds(now);
    let mut rng = rand::rng();
    let mut builder = Builder::new_with_random_nonce(
        &mut rng,
        wanted.subject.clone(),
        now.saturating_sub(BACKDATED_BY.as_secs()),
        now.saturating_add(wanted.valid_for.as_secs()),
    )?;
    builder.serial(rng.random_range(1..=u64::MAX))?;
    builder.cert_type(wanted.kind)?;
    builder.key_id(wanted.key_id.as_str())?;
    for principal in &wanted.principals {
        builder.valid_principal(principal.as_str())?;
    }
    for (name, value) in &wanted.extensions {
        builder.extension(name.as_str(), value.as_str())?;
    }
    builder.sign(authority)?.to_bytes()
}
