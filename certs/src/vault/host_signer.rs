//! Vault as an agent uses it: for each certificate a login as its pod, one signing, and the login given up.
//!
//! It keeps no token. Which names Vault signs for this pod is the business of Vault's role; what comes back is held against the
//! request field by field, and against CA keys that the agent has from elsewhere: Vault is not asked whom to trust.

use std::time::SystemTime;

use tokio::time::Instant;
use vaultrs::api::ssh::responses::SignSSHKeyResponse;

use super::{
    HostSettings, PodLogin, VaultError, error::AGENT, request, retry, session, transport::Transport, verdict::Asked,
    verdict::judge,
};
use crate::{AuthorityError, CaKeys, Discrepancy, HostCert, HostRequest, Secret, blob, request::Wanted};

/// A Vault that signs the host certificate of the pod that asks.
#[derive(Debug)]
pub struct HostSigner {
    settings: HostSettings,
    transport: Transport,
}

impl HostSigner {
    /// A Vault that was not asked anything yet: it need not be there.
    ///
    /// # Errors
    /// [`VaultError::Client`] where the settings cannot be used.
    pub fn new(settings: HostSettings) -> Result<Self, VaultError> {
        let transport = Transport::to(&settings.address, settings.ca.as_deref(), settings.namespace.as_deref())?;
        Ok(Self { settings, transport })
    }

    /// Has a host certificate signed, and checks it: it says exactly what was asked, and one of `trusted` signed it.
    ///
    /// # Errors
    /// [`AuthorityError`]: refused before Vault was asked, not signed, or answered differently.
    pub async fn sign(
        &self,
        asked: &HostRequest,
        trusted: &CaKeys,
        now: SystemTime,
    ) -> Result<HostCert, AuthorityError> {
        let wanted = asked.wanted()?;
        let deadline = Instant::now() + self.settings.timeout;
        self.transport.follow_ca();
        let text = self.ask(&wanted, deadline).await?;
        let blob = blob::of_text(&text).map_err(Discrepancy::from)?;
        Ok(HostCert::check(&wanted, blob, trusted, now)?)
    }

    async fn ask(&self, wanted: &Wanted, deadline: Instant) -> Result<String, VaultError> {
        let settings = &self.settings;
        let pod = session::read(&settings.token_file).await?;
        let log_in = || {
            session::with_jwt(
                &self.transport,
                Asked::Login,
                &settings.mount,
                &settings.role,
                &pod,
                deadline,
            )
        };
        let auth = retry::within(deadline, log_in).await?;
        let signed = self.signed(wanted, &auth.client_token, deadline).await;
        if auth.outlives_one_use() {
            session::revoke(&self.transport, &auth.client_token, deadline).await;
        }
        signed
    }

    async fn signed(&self, wanted: &Wanted, token: &Secret, deadline: Instant) -> Result<String, VaultError> {
        let HostSettings {
            host_mount, host_role, ..
        } = &self.settings;
        let mut endpoint = request(wanted, host_mount, host_role)?;
        if self.settings.method == PodLogin::Jwt {
            // The role writes the pod's UID, and lets nobody say another. What it wrote is checked like the rest.
            endpoint.extensions = None;
        }
        let path = format!("{host_mount}/sign/{host_role}");
        let reply = retry::within(deadline, || async {
            let reply = self.transport.call(&endpoint, Some(token), deadline).await?;
            judge(&self.transport, Asked::Signing(AGENT), &path, reply, deadline).await
        })
        .await?;
        let signed: SignSSHKeyResponse = self.transport.data(&reply, &path)?;
        Ok(signed.signed_key)
    }
}
