//! Who a workspace's agent is: its host key, which is also the TLS key of its links, and its host certificate.
//!
//! One key for two protocols: TLS 1.3 signs only under its own context string (RFC 8446, 4.4.3) and SSH only exchange
//! hashes (RFC 4253, 8), so a signature made for the one never serves the other. The heads of recordings are SSHSIG
//! with a namespace of their own, which sets them apart from both.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_certs::{CaKeys, HostKey, Refusal, WorkspaceName, WorkspaceUid, key, verify_host};
use doorward_wire::link::LinkKey;
use ssh_key::Certificate;

use crate::config::{Rekey, Workspace};
use crate::error::Error;
use crate::ssh;

/// The identity of one workspace.
#[derive(Debug)]
pub(crate) struct Identity {
    key: HostKey,
    link_key: LinkKey,
    name: WorkspaceName,
    uid: WorkspaceUid,
    file: PathBuf,
    rekey: Rekey,
    current: RwLock<Arc<Current>>,
}

/// What is shown at the moment.
#[derive(Debug)]
pub(crate) struct Current {
    /// The host certificate as its wire blob, if there is one.
    pub(crate) certificate: Option<Shown>,
    /// The SSH server's configuration that goes with it.
    pub(crate) ssh: Arc<russh::server::Config>,
}

/// A certificate that was found good.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The wire blob.
    pub(crate) blob: Vec<u8>,
    /// When it was put in place, when it begins, and when it ends.
    since: SystemTime,
    valid_after: SystemTime,
    valid_before: SystemTime,
}

/// Why a host certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is not good.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It could not be written down.
    #[error("cannot write {}: {source}", .path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Identity {
    /// Loads the host key, or makes it, and the certificate, if there is a good one.
    pub(crate) fn load(workspace: &Workspace, host_ca: &CaKeys, rekey: Rekey) -> Result<Self, Error> {
        let named = || workspace.name.to_string();
        let key = key::load_or_create(&workspace.host_key).map_err(|source| Error::Key {
            workspace: named(),
            source,
        })?;
        let link_key = LinkKey::from_seed(&key.seed()).map_err(|source| Error::LinkKey {
            workspace: named(),
            source,
        })?;
        let bare = Current {
            certificate: None,
            ssh: Arc::new(ssh::config(&key, None, rekey)),
        };
        let identity = Self {
            key,
            link_key,
            name: workspace.name.clone(),
            uid: workspace.uid.clone(),
            rekey,
            file: workspace.host_certificate.clone(),
            current: RwLock::new(Arc::new(bare)),
        };
        match identity.stored(host_ca) {
            Ok(Some(current)) => identity.put(current),
            Ok(None) => {}
            Err(why) => {
                let file = identity.file.display();
                tracing::warn!(workspace = %identity.name, %file, why, "the stored host certificate is not used");
            }
        }
        Ok(identity)
    }

    /// The host key.
    pub(crate) fn key(&self) -> &HostKey {
        &self.key
    }

    /// The same key for TLS.
    pub(crate) fn link_key(&self) -> &LinkKey {
        &self.link_key
    }

    /// What is shown now.
    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is a certificate that is good now.
    pub(crate) fn is_certified(&self) -> bool {
        self.current().certificate.as_ref().is_some_and(Shown::is_good)
    }

    /// How long until the next certificate is due; nothing where there is no good one.
    pub(crate) fn until_half_life(&self) -> Duration {
        let current = self.current();
        let good = current.certificate.as_ref().filter(|shown| shown.is_good());
        good.map(Shown::until_half_life).unwrap_or_default()
    }

    /// Takes a certificate that the gateway had signed, or Vault for us, if it is good: writes it down, then shows it.
    pub(crate) fn take(&self, blob: &[u8], host_ca: &CaKeys) -> Result<(), NotTaken> {
        let (current, text) = self.judge(blob, host_ca)?;
        save(&self.file, &text).map_err(|source| NotTaken::Save {
            path: self.file.clone(),
            source,
        })?;
        self.put(current);
        Ok(())
    }

    fn stored(&self, host_ca: &CaKeys) -> Result<Option<Current>, String> {
        let text = match std::fs::read_to_string(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| error.to_string())?,
        };
        let blob = Certificate::from_openssh(text.trim())
            .and_then(|certificate| certificate.to_bytes())
            .map_err(|error| error.to_string())?;
        let (current, _) = self.judge(&blob, host_ca).map_err(|refusal| refusal.to_string())?;
        Ok(Some(current))
    }

    fn judge(&self, blob: &[u8], host_ca: &CaKeys) -> Result<(Current, String), Refusal> {
        let now = SystemTime::now();
        let verified = verify_host(blob, host_ca, self.key.public_bytes(), &self.name, &self.uid, now)?;
        // What was judged parses.
        let certificate = Certificate::from_bytes(blob).map_err(|_| Refusal::Malformed("not a certificate"))?;
        let text = certificate
            .to_openssh()
            .map_err(|_| Refusal::Malformed("not a certificate"))?;
        let shown = Shown {
            blob: blob.to_vec(),
            since: now,
            valid_after: UNIX_EPOCH + Duration::from_secs(certificate.valid_after()),
            valid_before: verified.valid_before(),
        };
        let ssh = Arc::new(ssh::config(&self.key, Some(certificate), self.rekey));
        Ok((
            Current {
                certificate: Some(shown),
                ssh,
            },
            text,
        ))
    }

    fn put(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }
}

impl Shown {
    /// How long until half of what was left when it was put in place has passed.
    pub(crate) fn until_half_life(&self) -> Duration {
        let whole = self.valid_before.duration_since(self.since).unwrap_or_default();
        let passed = self.since.elapsed().unwrap_or_default();
        (whole / 2).saturating_sub(passed)
    }

    /// Whether it is good by the clock that recordings are dated with: one of a session that began at another time could
    /// not be believed.
    pub(crate) fn is_good(&self) -> bool {
        (self.valid_after..self.valid_before).contains(&SystemTime::now())
    }
}

/// Writes beside the file, then renames: a reader sees the old one or the new one.
fn save(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = file.with_file_name(name);
    let mut out = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    writeln!(out, "{text}")?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)
}
