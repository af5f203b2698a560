//! The host certificate from Vault itself: had before a gateway comes, and had anew at half of its life.
//!
//! One task for each workspace, which never gives up. While Vault cannot be used a certificate that is still good serves on, and
//! without one links are refused with the reason. The gateway plays no part in it, and what it offers is not taken.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doorward_certs::vault::{HostSigner, VaultError, jitter};
use doorward_certs::{AuthorityError, HostRequest, wildcard_name};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::AtVault;
use crate::identity::NotTaken;
use crate::link::chain;
use crate::workspace::Workspace;

/// Has a workspace's certificate signed, and knows how that went.
#[derive(Debug)]
pub(crate) struct Keeper {
    signer: HostSigner,
    life: Duration,
    /// Why the last attempt failed, empty if it did not; nothing before the first has ended.
    last: watch::Sender<Option<String>>,
}

/// Why there is no fresh certificate.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("Vault signs no host certificate for us")]
    Signing(#[from] AuthorityError),
    #[error("the host certificate that Vault signed is not taken")]
    Taking(#[from] NotTaken),
}

impl Failed {
    fn code(&self) -> &'static str {
        match self {
            Self::Signing(error) => error.code(),
            Self::Taking(_) => "not-taken",
        }
    }
}

impl Keeper {
    pub(crate) fn new(at: &AtVault) -> Result<Self, VaultError> {
        Ok(Self {
            signer: HostSigner::new(at.settings.clone())?,
            life: at.life,
            last: watch::Sender::new(None),
        })
    }

    /// Waits a moment for a certificate where there is none: whoever starts with its pod is dialled at once.
    ///
    /// # Errors
    /// Why there still is none.
    pub(crate) async fn ready(&self, workspace: &Workspace) -> Result<(), String> {
        let mut last = self.last.subscribe();
        let attempted = last.wait_for(|last| last.is_some() || workspace.identity.is_certified());
        let waited = timeout(FIRST_WITHIN, attempted).await.is_ok();
        if workspace.identity.is_certified() {
            return Ok(());
        }
        let why = self.last.borrow().clone().unwrap_or_default();
        Err(match waited && !why.is_empty() {
            true => why,
            false => "Vault is still being asked for the host certificate".to_owned(),
        })
    }

    async fn renew(&self, workspace: &Workspace) -> Result<(), Failed> {
        let config = &workspace.config;
        let request = HostRequest {
            subject: workspace.identity.key().public_key().clone(),
            workspace: config.name.clone(),
            workspace_uid: config.uid.clone(),
            names: vec![wildcard_name(&config.name)],
            valid_for: self.life,
        };
        let trusted = &workspace.shared.host_ca;
        let signed = self.signer.sign(&request, trusted, SystemTime::now()).await?;
        workspace.identity.take(signed.blob(), trusted)?;
        Ok(())
    }
}

/// Keeps the workspace's certificate fresh until the agent stops.
pub(crate) async fn keep(workspace: Arc<Workspace>) {
    if let Some(keeper) = &workspace.keeper {
        tokio::select! {
            () = run(keeper, &workspace) => {}
            () = workspace.shared.life.stop.cancelled() => {}
        }
    }
}

async fn run(keeper: &Keeper, workspace: &Workspace) {
    let name = &workspace.config.name;
    let (mut pause, mut told) = (FIRST_PAUSE, "");
    // Agents that began together do not come back together.
    let mut early = Duration::ZERO;
    loop {
        let left = workspace.identity.until_half_life().saturating_sub(early);
        if !left.is_zero() {
            // Clocks step: a renewal is not slept through.
            sleep(left.min(LOOK_AGAIN)).await;
            continue;
        }
        match keeper.renew(workspace).await {
            Ok(()) => {
                tracing::info!(workspace = %name, "host certificate taken from Vault");
                keeper.last.send_replace(Some(String::new()));
                (pause, told) = (FIRST_PAUSE, "");
                early = jitter(workspace.identity.until_half_life() / 5);
                // Even a certificate of seconds is not renewed in a tight loop.
                sleep(FIRST_PAUSE).await;
            }
            Err(error) => {
                let (code, why) = (error.code(), chain(&error));
                if code == told {
                    tracing::debug!(workspace = %name, code, why, "no fresh host certificate");
                } else {
                    let serves = workspace.identity.is_certified();
                    tracing::warn!(workspace = %name, code, why, serves, "no fresh host certificate; trying on");
                    told = code;
                }
                keeper.last.send_replace(Some(format!("{code}: {why}")));
                sleep(jitter(pause)).await;
                let most = match workspace.identity.is_certified() {
                    true => LONGEST_PAUSE,
                    false => LONGEST_WITHOUT,
                };
                pause = (pause * 2).min(most);
            }
        }
    }
}

/// Less than a gateway waits for our hello.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Nobody can come in meanwhile.
const LONGEST_WITHOUT: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_secs(60);
