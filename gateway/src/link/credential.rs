//! What the gateway proves itself with: its link key and the certificate over it.
//!
//! The key signs TLS handshakes of links, receipts and journal heads. TLS 1.3 signs a context
//! string of its own (RFC 8446, 4.4.3) and SSHSIG signs a namespace, so no signature of one use
//! can be taken for another.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    current: ArcSwapOption<DatedCert>,
    /// Why the last request for a certificate failed.
    trouble: Guarded<String>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A link certificate, and the clock that goes with it.
///
/// What a gateway signs says when, and is believed if the certificate was good then. The authority and the system's clock agreed when the
/// certificate was issued. From there this clock goes on monotonically, so that a system's clock that jumps cannot carry what an
/// honest gateway signs out of its certificate's life. Once the two differ another certificate is asked for; if the authority agrees, the
/// time is the system's again.
pub struct DatedCert {
    blob: Vec<u8>,
    text: String,
    /// The system's time when it was asked for, and the monotonic clock's.
    issued: SystemTime,
    since: Instant,
    /// From `issued` until it expires.
    life: Duration,
}

impl DatedCert {
    /// The certificate as one line of text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time that goes with it.
    pub fn now(&self) -> SystemTime {
        self.issued + self.since.elapsed()
    }

    /// The same in Unix milliseconds: what a statement says that is signed now.
    pub fn unix_ms(&self) -> u64 {
        let since = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn is_good(&self) -> bool {
        self.since.elapsed() < self.life
    }

    /// How far the system's clock was set from where it would be by now.
    fn strayed(&self) -> Duration {
        let (ours, system) = (self.now(), SystemTime::now());
        let behind = ours.duration_since(system);
        behind.unwrap_or_else(|ahead| ahead.duration())
    }

    /// Whether another is to be asked for.
    fn is_due(&self) -> bool {
        self.since.elapsed() >= self.life / 2 || self.strayed() >= STEP
    }
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
            Some(current) if current.is_good() => Ok(()),
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

    /// The current link certificate with its clock, if there is one: for statements, which name both.
    pub fn dated(&self) -> Option<Arc<DatedCert>> {
        self.current.load_full()
    }

    /// The time in Unix milliseconds by the certificate's clock, or by the system's while there is none.
    pub fn unix_ms(&self) -> u64 {
        let dated = self.dated();
        dated.map_or_else(crate::journal::unix_ms, |dated| dated.unix_ms())
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

async fn ask(authority: &Authority, key: &PublicKey) -> Result<DatedCert, CredentialError> {
    let (now, since) = (SystemTime::now(), Instant::now());
    let request = LinkRequest {
        subject: key.clone(),
        valid_for: LIFE,
    };
    let signed = tokio::time::timeout(SIGN_WITHIN, authority.sign_link(&request, now))
        .await
        .map_err(|_| CredentialError::Deadline)?
        .map_err(CredentialError::Authority)?;
    dated(&signed, now, since).ok_or(CredentialError::Unfit)
}

fn dated(signed: &LinkCert, issued: SystemTime, since: Instant) -> Option<DatedCert> {
    Some(DatedCert {
        blob: signed.blob().to_vec(),
        text: signed.openssh().ok()?.trim().to_owned(),
        issued,
        since,
        life: signed.valid_before().duration_since(issued).ok()?,
    })
}

async fn keep_fresh(credential: Arc<Credential>, authority: Arc<Authority>) {
    let mut wait = RETRY_FIRST;
    loop {
        let pause = match &*credential.current.load() {
            Some(_) => LOOK_EVERY,
            None => RETRY_FIRST,
        };
        tokio::select! {
            () = credential.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Some(current) = &*credential.current.load() {
            if !current.is_due() {
                wait = RETRY_FIRST;
                continue;
            }
            let strayed = current.strayed();
            if strayed >= STEP {
                let by = humantime::format_duration(Duration::from_secs(strayed.as_secs()));
                tracing::warn!(%by, "the system's clock was set: asking for a link certificate of its time");
            }
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
/// So often somebody looks whether another certificate is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A system's clock that differs by so much was set, or the machine slept. Less than by what certificates are dated back.
const STEP: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_SOON: Duration = Duration::from_secs(3);
const RETRY_MOST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(issued: SystemTime) -> DatedCert {
        DatedCert {
            blob: Vec::new(),
            text: String::new(),
            issued,
            since: Instant::now(),
            life: LIFE,
        }
    }

    #[test]
    fn what_is_signed_is_dated_within_the_certificate_wherever_the_systems_clock_went() {
        let now = SystemTime::now();
        assert!(!dated(now).is_due());
        // As if the clock had been set by a day right after the certificate was issued.
        for issued in [now + LIFE, now - LIFE] {
            let dated = dated(issued);
            assert!(dated.is_good());
            assert!(dated.is_due(), "another certificate is asked for");
            assert!((issued..issued + LIFE / 2).contains(&dated.now()));
        }
    }
}
