//! What the gateway proves itself with: its link key and the certificate over it.
//!
//! The key signs TLS handshakes of links, receipts and journal heads. TLS 1.3 signs a context
//! string of its own (RFC 8446, 4.4.3) and SSHSIG signs a namespace, so no signature of one use
//! can be taken for another.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use doorward_certs::{Authority, AuthorityError, HostKey, LinkCert, LinkRequest};
use ssh_key::{HashAlg, PublicKey, SshSig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The gateway's key with a link certificate that is kept fresh.
pub struct Credential {
    key: HostKey,
    tls: doorward_wire::link::LinkKey,
    current: ArcSwap<Current>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Current {
    blob: Vec<u8>,
    text: String,
    /// When to ask for the next one.
    renew_at: SystemTime,
}

/// Why the gateway has no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The authority did not sign, or not within the deadline.
    #[error("the authority gives no link certificate")]
    Authority(#[source] AuthorityError),
    /// It did not answer.
    #[error("the authority did not answer within {SIGN_WITHIN:?}")]
    Deadline,
    /// The key cannot be used for TLS, or the certificate cannot be written as text.
    #[error("the link key or its certificate cannot be used")]
    Unfit,
}

impl Credential {
    /// Has the first certificate signed and keeps it fresh from then on, until [`Credential::close`].
    ///
    /// # Errors
    /// Without a first certificate no agent would talk to us: [`CredentialError`].
    pub async fn start(key: HostKey, authority: Arc<Authority>) -> Result<Arc<Self>, CredentialError> {
        let tls = doorward_wire::link::LinkKey::from_seed(&key.seed()).map_err(|_| CredentialError::Unfit)?;
        let current = ask(&authority, key.public_key()).await?;
        let credential = Arc::new(Self {
            key,
            tls,
            current: ArcSwap::from_pointee(current),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        credential.tasks.spawn(keep_fresh(Arc::clone(&credential), authority));
        credential.tasks.close();
        Ok(credential)
    }

    /// The public key: the subject of session certificates.
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    /// The key as TLS wants it.
    pub fn tls_key(&self) -> &doorward_wire::link::LinkKey {
        &self.tls
    }

    /// The current link certificate as its SSH wire blob.
    pub fn certificate(&self) -> Vec<u8> {
        self.current.load().blob.clone()
    }

    /// The current link certificate as one line of text.
    pub fn certificate_text(&self) -> String {
        self.current.load().text.clone()
    }

    /// Signs `message` as SSHSIG in `namespace`.
    ///
    /// # Errors
    /// Those of the key.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<SshSig, ssh_key::Error> {
        self.key.private_key().sign(namespace, HashAlg::Sha512, message)
    }

    /// Stops renewing.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({:?})", self.key)
    }
}

async fn ask(authority: &Authority, key: &PublicKey) -> Result<Current, CredentialError> {
    let now = SystemTime::now();
    let request = LinkRequest {
        subject: key.clone(),
        valid_for: LIFE,
    };
    let signed = tokio::time::timeout(SIGN_WITHIN, authority.sign_link(&request, now))
        .await
        .map_err(|_| CredentialError::Deadline)?
        .map_err(CredentialError::Authority)?;
    current(&signed, now).ok_or(CredentialError::Unfit)
}

fn current(signed: &LinkCert, now: SystemTime) -> Option<Current> {
    let life = signed.valid_before().duration_since(now).ok()?;
    Some(Current {
        blob: signed.blob().to_vec(),
        text: signed.openssh().ok()?,
        renew_at: now + life / 2,
    })
}

async fn keep_fresh(credential: Arc<Credential>, authority: Arc<Authority>) {
    let mut wait = RETRY_FIRST;
    loop {
        let due = credential.current.load().renew_at.duration_since(SystemTime::now());
        // Clocks step: look again at least once a minute rather than sleep through a renewal.
        let pause = due.map_or(Duration::ZERO, |left| left.min(Duration::from_secs(60)));
        tokio::select! {
            () = credential.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if credential.current.load().renew_at > SystemTime::now() {
            continue;
        }
        match ask(&authority, credential.key.public_key()).await {
            Ok(fresh) => {
                credential.current.store(Arc::new(fresh));
                wait = RETRY_FIRST;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "link certificate not renewed; the old one is still used"
                );
                tokio::select! {
                    () = credential.stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(RETRY_MOST);
            }
        }
    }
}

/// A link certificate's life. It is judged when a link is made, and offline, for the receipts that
/// were signed while it was valid.
const LIFE: Duration = Duration::from_secs(24 * 3600);
const SIGN_WITHIN: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(300);
