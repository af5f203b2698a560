//! A workspace as the agent serves it: who it is, whom it trusts, what it holds.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use doorward_certs::{CaKeys, Refusal, SerialsSeen, SessionCheck, VerifiedSession, verify_session};
use doorward_wire::message::OpenSession;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::config::{self, Enrol, Limits};
use crate::enrol::vault::Keeper;
use crate::error::Error;
use crate::identity::Identity;
use crate::leftover::Leftovers;
use crate::mask::Masks;
use crate::serve::Life;
use crate::usage::LastUse;

/// One workspace at run time.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// As configured.
    pub(crate) config: config::Workspace,
    /// Its keys and certificate.
    pub(crate) identity: Identity,
    /// Who keeps that certificate fresh, if it comes from Vault.
    pub(crate) keeper: Option<Keeper>,
    /// What ended sessions left over.
    pub(crate) leftovers: Leftovers,
    /// When it was used last.
    pub(crate) last_use: Arc<LastUse>,
    /// What all workspaces share.
    pub(crate) shared: Arc<Shared>,
    serials: Mutex<SerialsSeen>,
}

/// What the workspaces of an agent share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Keys that sign link and session certificates.
    pub(crate) user_ca: CaKeys,
    /// Keys that sign host certificates.
    pub(crate) host_ca: CaKeys,
    /// How a pod proves which one it is.
    pub(crate) enrol: Option<Enrol>,
    /// Bounds.
    pub(crate) limits: Limits,
    /// Which other container sessions are in.
    pub(crate) container: Option<config::Container>,
    /// Secrets that are not recorded.
    pub(crate) masks: Arc<Masks>,
    /// The executable that serves files.
    pub(crate) program: PathBuf,
    /// Ports that it listens on, once they are bound.
    pub(crate) ports: OnceLock<Vec<u16>>,
    /// Places for sessions.
    pub(crate) places: Arc<Semaphore>,
    /// How long the agent lives.
    pub(crate) life: Life,
    /// Links and sessions.
    pub(crate) tasks: TaskTracker,
}

impl Workspace {
    /// Loads the workspace's keys.
    pub(crate) fn load(config: config::Workspace, shared: &Arc<Shared>) -> Result<Self, Error> {
        let identity = Identity::load(&config, &shared.host_ca, shared.limits.rekey)?;
        let keeper = match &shared.enrol {
            Some(Enrol::Vault(at)) => Some(Keeper::new(at).map_err(|source| Error::Vault {
                workspace: config.name.to_string(),
                source,
            })?),
            Some(Enrol::Gateway { .. }) | None => None,
        };
        Ok(Self {
            identity,
            keeper,
            leftovers: Leftovers::new(shared.limits.leftover_bytes, shared.limits.leftover_time),
            last_use: Arc::new(LastUse::new(shared.limits.use_floor)),
            serials: Mutex::default(),
            shared: Arc::clone(shared),
            config,
        })
    }

    /// Judges the certificate of a session that a link wants to open, and marks it as used.
    pub(crate) fn admit(&self, open: &OpenSession, link_key: &[u8; 32]) -> Result<VerifiedSession, Refusal> {
        let check = SessionCheck {
            trusted: &self.shared.user_ca,
            link_key,
            session: open.session,
            workspace_uid: &self.config.uid,
            now: SystemTime::now(),
        };
        let mut serials = self.serials.lock().unwrap_or_else(PoisonError::into_inner);
        verify_session(&open.certificate, &check, &mut serials)
    }
}
