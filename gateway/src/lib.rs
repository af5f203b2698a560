//! The gateway: tunnels in, identity, policy, certificates, links to agents, recordings.
//!
//! It relays SSH bytes that it cannot read; it parses no SSH.

pub mod admin;
pub mod api;
pub mod authorize;
pub mod cli;
pub mod config;
pub mod crowd;
pub mod doctor;
pub mod enrol;
pub mod explain;
pub mod export;
mod follow;
mod guarded;
pub mod http;
pub mod journal;
pub mod kube;
pub mod link;
pub mod listen;
pub mod locks;
pub mod metrics;
pub mod oidc;
mod outbound;
pub mod policy;
pub mod problem;
mod recheck;
pub mod record;
pub mod refusal;
pub mod relay;
mod run;
pub mod session;
mod stamp;
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod turned_away;
pub mod usage;
pub mod vault;
pub mod wake;
pub mod workspace;

pub use run::{Error, Running, run};

use std::sync::Arc;

use doorward_certs::Authority;

/// One gateway: everything that a session needs, each made once at the start.
#[derive(Debug)]
pub struct Gateway {
    /// The configuration, checked.
    pub config: config::Config,
    /// The certificate that people see.
    pub certificate: Arc<listen::certificate::Shown>,
    /// The check of tokens.
    pub identities: oidc::Identities,
    /// The roles.
    pub policy: policy::Policy,
    /// Kubernetes RBAC, where it has a say.
    pub rbac: Option<authorize::Rbac>,
    /// The workspaces.
    pub workspaces: workspace::Directory,
    /// The cluster, if there is one.
    pub kube: Option<kube::Cluster>,
    /// What is known of its pods.
    pub discovery: Option<kube::Discovery>,
    /// What the admins of namespaces say in it, where they have a say.
    pub access: Option<kube::Access>,
    /// The workspaces that are being woken.
    pub wakes: wake::Wakes,
    /// When each workspace was used last.
    pub usage: usage::Usage,
    /// Who signs SSH certificates.
    pub authority: Arc<Authority>,
    /// The gateway's own key and link certificate.
    pub credential: Arc<link::Credential>,
    /// The links to agents.
    pub links: link::Links,
    /// The recordings.
    pub store: record::Store,
    /// The gateway's own facts.
    pub journal: journal::Journal,
    /// Those who collect events.
    pub exports: export::Exports,
    /// How the anchoring of the log goes.
    pub anchoring: Arc<journal::anchor::Anchoring>,
    /// The sessions that are open.
    pub sessions: session::Sessions,
    /// Who and what is locked.
    pub locks: locks::Locks,
    /// Places for those who fetch recordings.
    pub downloads: crowd::Crowd<String>,
    /// Places for those who are told how far a wake is.
    pub listeners: crowd::Crowd<String>,
    /// Places for recordings of ended sessions that wait for the store.
    pub late_records: Arc<tokio::sync::Semaphore>,
    /// Those whom nobody knows, and what is put on record of them.
    pub turned_away: turned_away::TurnedAway,
    /// Connections and sessions, and how they are told to end.
    pub tasks: tasks::Tasks,
}

impl Gateway {
    /// What a new session needs, each with its name and, if it is missing, why (for operators).
    pub fn readiness(&self) -> Vec<(&'static str, Result<(), String>)> {
        let stopping = self.tasks.stopping().is_cancelled();
        let authority = self
            .authority
            .ready()
            .map_err(|error| format!("{}: {error}", error.code()));
        let mut all = vec![
            ("authority", authority.and_then(|()| self.credential.ready())),
            ("identity-provider", self.identities.ready()),
            ("journal", self.journal.ready()),
            ("records", self.store.ready()),
            (
                "running",
                if stopping {
                    Err("the gateway is stopping".to_owned())
                } else {
                    Ok(())
                },
            ),
        ];
        all.extend(
            self.discovery
                .as_ref()
                .map(|discovery| ("kubernetes", discovery.ready())),
        );
        all
    }

    /// Whether recordings can be stored, as the policy asks.
    pub(crate) fn record_store(&self) -> policy::RecordStore {
        match self.store.ready() {
            Ok(()) => policy::RecordStore::Works,
            Err(_) => policy::RecordStore::Down,
        }
    }

    /// Whether links can be made at all.
    ///
    /// # Errors
    /// The refusal of a session that would need one.
    pub(crate) fn credential_ready(&self) -> Result<(), refusal::Refusal> {
        self.credential.ready().map_err(|why| match self.authority.ready() {
            Err(error) => refusal::Refusal::by_authority(&error),
            Ok(()) => refusal::Refusal::unavailable(refusal::Dependency::Authority, why),
        })
    }
}
