//! What the gateway proves itself with: its link key and the certificate over it.
//!
//! The key signs TLS handshakes of links, receipts and journal heads. TLS 1.3 signs a context
//! string of its own (RFC 8446, 4.4.3) and SSHSIG signs a namespace, so no signature of one use
//! can be taken for another.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use doorward_certs::{Authority, AuthorityError, HostKey, LinkCert, LinkRequest};
use ssh_key::{HashAlg, PublicKey, SshSig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::guarded::Guarded;
use crate::refusal::chain;

/// The gateway's key with a link certificate that is kept fresh. While the authority is down there may be none yet: then no
/// link can be made, and new sessions are refused.
pub struct Credential {
    key: HostKey,
    tls: doorward_wire::link::LinkKey,
    current: ArcSwapOption<Current>,
    /// Why the last request for a certificate failed.
    trouble: Guarded<String>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Current {
    blob: Vec<u8>,
    text: String,
    /// When to ask for the next one.
    renew_at: SystemTime,
    valid_before: SystemTime,
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
    /// Asks for the first certificate and keeps one fresh from then on, until [`Credential::close`]. An authority that does not
    /// sign is no reason not to start: it is asked again until it does.
    ///
    /// # Errors
    /// [`CredentialError::Unfit`]: the key cannot be used at all.
    pub async fn start(key: HostKey, authority: Arc<Authority>) -> Result<Arc<Self>, CredentialError> {
        let tls = doorward_wire::link::LinkKey::from_seed(&key.seed()).map_err(|_| CredentialError::Unfit)?;
        let (current, trouble) = match ask(&authority, key.public_key()).await {
            Ok(current) => (Some(Arc::new(current)), String::new()),
            Err(CredentialError::Unfit) => return Err(CredentialError::Unfit),
            Err(error) => {
                let trouble = chain(&error);
                tracing::error!("no link certificate yet, so that no session can be opened: {trouble}");
                (None, trouble)
            }
        };
        let credential = Arc::new(Self {
            key,
            tls,
            current: ArcSwapOption::new(current),
            trouble: Guarded::new(trouble),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        credential.tasks.spawn(keep_fresh(Arc::clone(&credential), authority));
        credential.tasks.close();
        Ok(credential)
    }

    /// Whether there is a link certificate that is good now.
    ///
    /// # Errors
    /// Why not, for operators.
    pub fn ready(&self) -> Result<(), String> {
        match &*self.current.load() {
            Some(current) if current.valid_before > SystemTime::now() => Ok(()),
            Some(_) => Err(format!(
                "the link certificate has expired: {}",
                self.trouble.with(|text| text.clone())
            )),
            None => Err(format!(
                "no link certificate yet: {}",
                self.trouble.with(|text| text.clone())
            )),
        }
    }

    /// The public key: the subject of session certificates.
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    /// The key as TLS wants it.
    pub fn tls_key(&self) -> &doorward_wire::link::LinkKey {
        &self.tls
    }

    /// The current link certificate as its SSH wire blob, if there is one.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        self.current.load().as_ref().map(|current| current.blob.clone())
    }

    /// The current link certificate as one line of text, if there is one.
    pub fn certificate_text(&self) -> Option<String> {
        self.current.load().as_ref().map(|current| current.text.clone())
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
        valid_before: signed.valid_before(),
    })
}

async fn keep_fresh(credential: Arc<Credential>, authority: Arc<Authority>) {
    let mut wait = RETRY_FIRST;
    let renew_at = || credential.current.load().as_ref().map(|current| current.renew_at);
    loop {
        let left = renew_at().map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        // Clocks step: look again at least once a minute rather than sleep through a renewal.
        let pause = left.map_or(RETRY_FIRST, |left| left.min(Duration::from_secs(60)));
        tokio::select! {
            () = credential.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if renew_at().is_some_and(|at| at > SystemTime::now()) {
            continue;
        }
        match ask(&authority, credential.key.public_key()).await {
            Ok(fresh) => {
                credential.current.store(Some(Arc::new(fresh)));
                wait = RETRY_FIRST;
            }
            Err(error) => {
                credential.trouble.with(|text| *text = chain(&error));
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no fresh link certificate; an old one is used while it is good"
                );
                tokio::select! {
                    () = credential.stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
                // Nothing can be done without one: then an authority that is back must be noticed soon.
                let most = if credential.ready().is_ok() {
                    RETRY_MOST
                } else {
                    RETRY_SOON
                };
                wait = (wait * 2).min(most);
            }
        }
    }
}

/// A link certificate's life. It is judged when a link is made, and offline, for the receipts that
/// were signed while it was valid.
pub(crate) const LIFE: Duration = Duration::from_secs(24 * 3600);
const SIGN_WITHIN: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_SOON: Duration = Duration::from_secs(3);
const RETRY_MOST: Duration = Duration::from_secs(300);
