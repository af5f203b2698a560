//! The authority that is HashiCorp Vault's SSH engine, asked over HTTPS.
//!
//! It owns one transport, one login, the keys of two mounts and the limits. A signing has one deadline for everything that it
//! needs, once its turn has come. It refuses to be sent elsewhere, to read without bound, and to take anything from the environment. What Vault
//! answers is not believed here: [`crate::Authority`] holds it against the request.

mod error;
mod host_signer;
mod inspect;
mod keys;
mod limits;
mod memory;
mod queue;
mod retry;
mod session;
mod settings;
pub mod setup;
mod transport;
mod verdict;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ssh_key::{PublicKey, certificate::CertType};
use tokio::time::Instant;
use vaultrs::api::ssh::{requests::SignSSHKeyRequest, responses::SignSSHKeyResponse};

pub use error::VaultError;
pub use host_signer::HostSigner;
pub use retry::jitter;
pub use settings::{HostCertificates, HostSettings, Login, PodLogin, Settings, SignAs, address, is_mount, is_role};
pub use transport::{Ask, Body, Reply, Transport};

use crate::{
    AuthorityError, CaKeys, Discrepancy, Secret, UserToken,
    authority::{Answered, Purpose},
    blob,
    request::Wanted,
};
use error::{GATEWAY, PERSON};
use keys::MountKeys;
use limits::Limits;
use queue::Queue;
use session::Session;
use verdict::{Asked, judge};

/// A Vault whose SSH engine signs.
#[derive(Debug)]
pub struct Vault {
    settings: Settings,
    transport: Transport,
    session: Session,
    users: MountKeys,
    hosts: MountKeys,
    limits: Limits,
    queue: Queue,
    /// What the last look at Vault found wrong.
    trouble: Mutex<Option<VaultError>>,
}

impl Vault {
    /// A Vault that was not asked anything yet: it need not be there.
    ///
    /// # Errors
    /// [`VaultError::Client`] where the settings cannot be used.
    pub fn new(settings: Settings) -> Result<Self, VaultError> {
        Ok(Self {
            transport: Transport::new(&settings)?,
            session: Session::new(settings.login.clone()),
            users: MountKeys::new(settings.user_mount.clone(), USER_OVERLAP),
            hosts: MountKeys::new(settings.host_mount.clone(), HOST_OVERLAP),
            limits: Limits::new(settings.signings_per_second, settings.signings_per_user_per_minute),
            queue: Queue::new(settings.timeout),
            trouble: Mutex::new(None),
            settings,
        })
    }

    /// Remembers the authorities' keys in two files of this folder, and begins with what they say: a key that was replaced
    /// is believed for its time though there is a restart. Once.
    pub fn remember_in(&self, folder: &Path) {
        for (keys, name, mount) in [
            (&self.users, "vault-user-ca", &self.settings.user_mount),
            (&self.hosts, "vault-host-ca", &self.settings.host_mount),
        ] {
            let whose = format!("{} {mount}", self.transport.address());
            keys.remember(memory::Memory::new(folder.join(name), whose));
        }
    }

    /// Keeps the token and the authorities' keys fresh, and looks whether Vault is there. Never returns: the caller owns the
    /// task and ends it. Signing works without it, only slower after a pause and blind to rotations until it meets one.
    pub async fn keep(&self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let looked = self.look().await;
            let next = match &looked {
                Ok(()) => {
                    pause = SHORTEST_PAUSE;
                    LOOK_EVERY
                }
                Err(_) => {
                    let next = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    next
                }
            };
            self.note(looked.err());
            tokio::time::sleep(retry::jitter(next)).await;
        }
    }

    /// Whether Vault could be used when it was looked at last.
    ///
    /// # Errors
    /// What was wrong with it.
    pub fn ready(&self) -> Result<(), VaultError> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().map_or(Ok(()), Err)
    }

    /// The way to Vault, for questions of another kind.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// How Vault is reached and used.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The keys that are believed for this kind of certificate, asked for where none is known yet.
    pub(crate) async fn trusted(&self, kind: CertType) -> Result<CaKeys, VaultError> {
        self.keys(kind, None, Instant::now() + self.settings.timeout).await
    }

    /// Has Vault sign what is wanted.
    pub(crate) async fn sign(&self, wanted: &Wanted, purpose: Purpose<'_>) -> Result<Answered, AuthorityError> {
        if matches!(purpose, Purpose::Host) && self.settings.hosts == HostCertificates::Agents {
            return Err(VaultError::HostsAreAgents.into());
        }
        let came = Instant::now();
        let user = match purpose {
            Purpose::Session { user, .. } => Some(user),
            Purpose::Link | Purpose::Host => None,
        };
        self.limits.turn(user, self.queue.latest(came)).await?;
        let place = self.queue.place(came, || self.transport.address()).await?;
        let signed = self.sign_until(wanted, purpose, place.deadline).await;
        signed.map_err(|error| match error {
            AuthorityError::Vault(error) => self.queue.blame(&place, error).into(),
            error => error,
        })
    }

    async fn sign_until(
        &self,
        wanted: &Wanted,
        purpose: Purpose<'_>,
        deadline: Instant,
    ) -> Result<Answered, AuthorityError> {
        let text = match (purpose, &self.settings.sign_as) {
            (Purpose::Session { token, .. }, SignAs::User { mount, role }) => {
                self.sign_as_person(wanted, token, mount, role, deadline).await?
            }
            _ => self.sign_as_gateway(wanted, purpose, deadline).await?,
        };
        let blob = blob::of_text(&text).map_err(Discrepancy::from)?;
        let trusted = self.keys(wanted.kind, Some(&blob), deadline).await?;
        Ok(Answered { blob, trusted })
    }

    /// With the gateway's own token. One that Vault does not take any more is replaced by a login, once.
    async fn sign_as_gateway(
        &self,
        wanted: &Wanted,
        purpose: Purpose<'_>,
        deadline: Instant,
    ) -> Result<String, VaultError> {
        let token = self.session.token(&self.transport, deadline).await?;
        let refused = match self.ask(wanted, purpose, GATEWAY, &token.secret, deadline).await {
            Err(refused @ VaultError::Denied { .. }) => refused,
            ended => return ended,
        };
        if !self.session.forget(&token) {
            return Err(refused);
        }
        let token = self.session.token(&self.transport, deadline).await?;
        self.ask(wanted, purpose, GATEWAY, &token.secret, deadline).await
    }

    /// With a token that Vault gives for the person's own, is used once and given up.
    async fn sign_as_person(
        &self,
        wanted: &Wanted,
        token: &UserToken,
        mount: &str,
        role: &str,
        deadline: Instant,
    ) -> Result<String, VaultError> {
        let (transport, asked) = (&self.transport, Asked::UserLogin);
        let jwt = token.secret();
        let log_in = || session::with_jwt(transport, asked, mount, role, jwt, deadline);
        let auth = retry::within(deadline, log_in).await?;
        let purpose = Purpose::Session { user: "", token };
        let signed = self.ask(wanted, purpose, PERSON, &auth.client_token, deadline).await;
        if auth.outlives_one_use() {
            session::revoke(transport, &auth.client_token, deadline).await;
        }
        signed
    }

    /// One certificate from the role for the purpose, as the line that Vault answers with.
    async fn ask(
        &self,
        wanted: &Wanted,
        purpose: Purpose<'_>,
        who: &'static str,
        token: &Secret,
        deadline: Instant,
    ) -> Result<String, VaultError> {
        let (mount, role) = match purpose {
            Purpose::Session { .. } => (&self.settings.user_mount, &self.settings.session_role),
            Purpose::Link => (&self.settings.user_mount, &self.settings.link_role),
            Purpose::Host => (&self.settings.host_mount, &self.settings.host_role),
        };
        let endpoint = request(wanted, mount, role)?;
        let path = format!("{mount}/sign/{role}");
        let reply = retry::within(deadline, || async {
            let reply = self.transport.call(&endpoint, Some(token), deadline).await?;
            self.queue.heard();
            judge(&self.transport, Asked::Signing(who), &path, reply, deadline).await
        })
        .await?;
        let signed: SignSSHKeyResponse = self.transport.data(&reply, &path)?;
        Ok(signed.signed_key)
    }

    /// The keys that are believed; asked for again where none is known, or none that signed this certificate.
    async fn keys(&self, kind: CertType, signed: Option<&[u8]>, deadline: Instant) -> Result<CaKeys, VaultError> {
        let mount = match kind {
            CertType::User => &self.users,
            CertType::Host => &self.hosts,
        };
        let signer = signed.and_then(|blob| blob::read(blob).ok());
        let enough = |known: &CaKeys| match &signer {
            Some(certificate) => known.contains(certificate.signature_key()),
            // What is no certificate is refused whoever is trusted.
            None => !known.is_empty(),
        };
        let known = mount.trusted();
        if enough(&known) {
            return Ok(known);
        }
        let token = self.session.token(&self.transport, deadline).await.ok();
        let token = token.as_ref().map(|token| &token.secret);
        mount.until(enough, &self.transport, token, deadline).await
    }

    /// One look at everything that a signing needs: the login, and both authorities' keys.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn look(&self) -> Result<(), VaultError> {
        let deadline = Instant::now() + self.settings.timeout;
        self.transport.follow_ca();
        self.session.tend(&self.transport, deadline).await?;
        let token = self.session.token(&self.transport, deadline).await?;
        for mount in [&self.users, &self.hosts] {
            mount.refresh(&self.transport, Some(&token.secret), deadline).await?;
        }
        Ok(())
    }

    fn note(&self, trouble: Option<VaultError>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, &trouble) {
            (None, Some(error)) => tracing::error!(code = error.code(), "no certificates from Vault: {error}"),
            (Some(old), Some(error)) if old.code() != error.code() => {
                tracing::error!(code = error.code(), "no certificates from Vault: {error}");
            }
            (Some(_), None) => tracing::info!("Vault can be used again"),
            _ => {}
        }
        *known = trouble;
    }
}

/// The request as Vault's API writes it. Every limit is said aloud: what is left out, the role's defaults would fill in.
fn request(wanted: &Wanted, mount: &str, role: &str) -> Result<SignSSHKeyRequest, VaultError> {
    let subject = PublicKey::from(wanted.subject.clone());
    let public_key = subject
        .to_openssh()
        .map_err(|error| VaultError::Client(format!("the key cannot be written: {error}")))?;
    let kind = match wanted.kind {
        CertType::User => "user",
        CertType::Host => "host",
    };
    Ok(SignSSHKeyRequest {
        mount: mount.to_owned(),
        name: role.to_owned(),
        cert_type: Some(kind.to_owned()),
        critical_options: Some(HashMap::new()),
        extensions: Some(wanted.extensions.clone().into_iter().collect()),
        key_id: Some(wanted.key_id.clone()),
        public_key,
        ttl: Some(format!("{}s", wanted.valid_for.as_secs())),
        valid_principals: Some(wanted.principals.join(",")),
    })
}

const LOOK_EVERY: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a replaced key is believed: a day for link certificates, a month for host certificates, which is how long the
/// gateway has them signed for.
const USER_OVERLAP: Duration = Duration::from_secs(86_400);
const HOST_OVERLAP: Duration = Duration::from_secs(30 * 86_400);
