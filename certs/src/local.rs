//! The authority whose keys this process holds: files in OpenSSH's form, mode 0600, or keys in memory.
//!
//! Signs with ed25519 and ECDSA alone. RSA keys are refused: signing with them leaks time (RUSTSEC-2023-0071).

use std::{fmt, path::Path, time::SystemTime};

use rand::{TryRng as _, rngs::SysRng};
use ssh_key::{
    Algorithm, PrivateKey,
    certificate::{Builder, CertType},
};

use crate::{AuthorityError, BACKDATED_BY, CaKeys, KeyError, key, request::Wanted, verify::unix_seconds};

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
            if !matches!(private.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { .. }) {
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
        let set = |key: &PrivateKey| CaKeys::new([key.public_key().clone()]).map_err(|_| KeyError::Unfit);
        Ok(Self {
            user_ca: set(&user)?,
            host_ca: set(&host)?,
            user,
            host,
        })
    }

    /// The public key that signs this kind of certificate.
    pub(crate) fn trusted(&self, kind: CertType) -> &CaKeys {
        match kind {
            CertType::User => &self.user_ca,
            CertType::Host => &self.host_ca,
        }
    }

    /// Signs what is wanted, dated back by [`BACKDATED_BY`], with a random serial number.
    pub(crate) fn sign(&self, wanted: &Wanted, now: SystemTime) -> Result<Vec<u8>, AuthorityError> {
        let mut nonce = [0; 32];
        SysRng.try_fill_bytes(&mut nonce).map_err(|_| AuthorityError::Random)?;
        // Serial numbers are random, so that they stay unique over restarts and replicas without any state.
        let serial = SysRng.try_next_u64().map_err(|_| AuthorityError::Random)?.max(1);
        self.sign_built(wanted, now, nonce, serial)
            .map_err(AuthorityError::Sign)
    }

    pub(crate) fn sign_built(
        &self,
        wanted: &Wanted,
        now: SystemTime,
        nonce: [u8; 32],
        serial: u64,
    ) -> Result<Vec<u8>, ssh_key::Error> {
        build(wanted, now, nonce, serial)?
            .sign(self.key(wanted.kind))?
            .to_bytes()
    }

    pub(crate) fn key(&self, kind: CertType) -> &PrivateKey {
        match kind {
            CertType::User => &self.user,
            CertType::Host => &self.host,
        }
    }
}

/// Shows the public keys alone.
impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("user_ca", &self.user.fingerprint(ssh_key::HashAlg::Sha256).to_string())
            .field("host_ca", &self.host.fingerprint(ssh_key::HashAlg::Sha256).to_string())
            .finish_non_exhaustive()
    }
}

pub(crate) fn build(wanted: &Wanted, now: SystemTime, nonce: [u8; 32], serial: u64) -> Result<Builder, ssh_key::Error> {
    let now = unix_seconds(now);
    let mut builder = Builder::new(
        nonce,
        wanted.subject.clone(),
        now.saturating_sub(BACKDATED_BY.as_secs()),
        now.saturating_add(wanted.valid_for.as_secs()),
    )?;
    builder.serial(serial)?;
    builder.cert_type(wanted.kind)?;
    builder.key_id(wanted.key_id.as_str())?;
    for principal in &wanted.principals {
        builder.valid_principal(principal.as_str())?;
    }
    for (name, value) in &wanted.extensions {
        builder.extension(name.as_str(), value.as_str())?;
    }
    Ok(builder)
}
