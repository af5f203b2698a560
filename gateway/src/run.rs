//! The life of a gateway: everything is made, in the order in which it is needed, then served, then ended in reverse.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use doorward_certs::{Authority, KeyError, Local, vault};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    Gateway, admin, authorize,
    config::{AuthorityKind, Config, Faults},
    crowd::Crowd,
    enrol, export, follow, journal, kube,
    kube::review::Reviewer,
    link, listen, locks, metrics, oidc, policy, recheck, record, session,
    tasks::{Drained, Tasks},
    usage, wake, workspace,
};

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    gateway: Arc<Gateway>,
    addresses: Addresses,
    _lock: fs::File,
}

/// What was bound, as `--announce` writes it.
#[derive(Debug, Clone, Copy, Serialize)]
struct Addresses {
    listen: SocketAddr,
    admin: SocketAddr,
}

/// Serves until `stop` is cancelled, then drains; `hurry` ends the draining. Writes the bound addresses to the file `announce`.
///
/// # Errors
/// The gateway cannot start.
pub async fn run(
    config: Config,
    announce: Option<&Path>,
    stop: CancellationToken,
    hurry: CancellationToken,
) -> Result<Drained, Error> {
    let running = Running::start(config, stop).await?;
    if let Some(file) = announce {
        running.announce(file)?;
    }
    running.gateway.tasks.stopping().cancelled().await;
    tracing::info!(sessions = running.gateway.sessions.live().len(), "stopping");
    Ok(running.finish(&hurry).await)
}

impl Running {
    /// Makes everything, binds both addresses and begins to serve.
    ///
    /// # Errors
    /// Something cannot be made; nothing is served then.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, Error> {
        let tasks = Tasks::new(stop);
        metrics::install();
        let door = listen::Door::bind(&config, &tasks).await?;
        let admin = admin::Listener::bind(&config.admin)
            .await
            .map_err(|error| Error::Admin(config.admin.address, error))?;
        let addresses = Addresses {
            listen: door.address().map_err(Error::Address)?,
            admin: admin.address().map_err(Error::Address)?,
        };

        let state = &config.state_directory;
        make_private(state).map_err(|error| Error::State(state.clone(), error))?;
        let lock = lock(state)?;
        let authority = Arc::new(authority(&config)?);
        if let Authority::Vault(vault) = authority.as_ref() {
            vault.remember_in(&config.state_directory);
        }
        look_after(&authority, &tasks);
        let key = doorward_certs::key::load_or_create(&config.link.key).map_err(Error::Key)?;
        let credential = link::Credential::start(key, Arc::clone(&authority))
            .await
            .map_err(Error::Credential)?;
        let journal = journal::Journal::open(state, Arc::clone(&credential))
            .await
            .map_err(Error::Journal)?;
        let records = record::Options {
            unbegun: Some(state.join("unbegun")),
            state: Some(state.clone()),
            ..(&config.records).into()
        };
        let store = record::Store::open(records, Arc::clone(&credential), journal.clone())
            .await
            .map_err(Error::Records)?;
        let exports =
            export::Exports::start(&config.exports, state, &journal, &store, &tasks).map_err(Error::Exports)?;
        let locks = locks::Locks::open(state).map_err(Error::Locks)?;
        let kube = match &config.kubernetes {
            Some(settings) => Some(kube::connect(settings).await.map_err(Error::Kubernetes)?),
            None => None,
        };
        let reviewer = kube.clone().zip(config.kubernetes.as_ref());
        let reviewer = reviewer.map(|(client, settings)| Reviewer::new(client.client(), settings.audience.clone()));
        let enrolments = enrol::Enrolments::open(state).map_err(Error::Enrolments)?;
        let enrolments = enrolments.with_reviewer(reviewer);
        let workspaces = workspace::Directory::new(config.workspaces.iter().cloned());
        let discovery = kube
            .as_ref()
            .zip(config.kubernetes.as_ref())
            .map(|(kube, settings)| kube::Discovery::new(kube.client(), &settings.workspaces, settings.max_age));
        let access = kube.as_ref().zip(config.kubernetes.as_ref()).zip(discovery.clone());
        let access = access.filter(|_| !config.authorize.access.is_empty());
        let access = access.map(|((kube, settings), discovery)| {
            let (rules, heard) = (&settings.workspaces, &config.authorize.access);
            kube::Access::new(kube.client(), rules, heard, settings.max_age, discovery)
        });
        let usage = usage::Usage::new(config.kubernetes.iter().flat_map(|settings| settings.usage.clone()));
        let rbac = kube.as_ref().filter(|_| !config.authorize.rbac.is_empty());
        let rbac = rbac.map(|kube| authorize::Rbac::new(kube.client(), &config.authorize));
        let cluster = kube.as_ref().zip(config.token_review.as_ref());
        let cluster = cluster.map(|(kube, settings)| oidc::ClusterTokens::new(kube.client(), settings));
        let links = link::Links::new(
            Arc::clone(&authority),
            Arc::clone(&credential),
            enrolments,
            store.clone(),
            journal.clone(),
            usage.clone(),
        );
        let limits = session::Limits {
            all: config.limits.sessions,
            per_user: config.limits.sessions_per_user,
        };
        let gateway = Arc::new(Gateway {
            certificate: door.certificate(),
            identities: oidc::Identities::start(&config.oidc, config.policy.reload_interval, &tasks)?
                .with_cluster(cluster),
            policy: policy::Policy::follow(config.policy.file.clone(), config.policy.reload_interval, &tasks)
                .map_err(Error::Policy)?,
            rbac,
            workspaces,
            kube,
            discovery,
            access,
            wakes: wake::Wakes::new(config.kubernetes.iter().flat_map(|settings| settings.wakes.clone())),
            sessions: session::Sessions::new(limits),
            locks,
            downloads: Crowd::new(MOST_DOWNLOADS),
            listeners: Crowd::new(MOST_LISTENERS),
            late_records: Arc::new(Semaphore::new(session::MOST_LATE)),
            turned_away: crate::turned_away::TurnedAway::default(),
            anchoring: Arc::default(),
            exports,
            authority,
            credential,
            usage,
            links,
            store,
            journal,
            tasks,
            config,
        });
        gateway.tasks.spawn(door.serve(Arc::clone(&gateway)));
        gateway.tasks.spawn(recheck::run(Arc::clone(&gateway)));
        gateway.tasks.spawn(usage::run(Arc::clone(&gateway)));
        let following = follow::begin(&gateway);
        gateway.tasks.spawn(follow::run(Arc::clone(&gateway), following));
        if let Some(discovery) = gateway.discovery.clone() {
            let (directory, stop) = (gateway.workspaces.clone(), gateway.tasks.closing().clone());
            gateway.tasks.spawn(discovery.run(directory, stop));
        }
        if let Some(access) = gateway.access.clone() {
            let (gateway, stop) = (Arc::clone(&gateway), gateway.tasks.closing().clone());
            let tasks = gateway.tasks.clone();
            tasks.spawn(async move { access.run(&gateway.policy, stop).await });
        }
        if let Some(settings) = gateway.config.anchor.clone() {
            let (journal, anchoring) = (gateway.journal.clone(), Arc::clone(&gateway.anchoring));
            let stop = gateway.tasks.closing().clone();
            gateway
                .tasks
                .spawn(journal::anchor::run(settings, journal, anchoring, stop));
        }
        gateway.tasks.spawn(admin.serve(Arc::clone(&gateway)));
        tracing::info!(address = %addresses.listen, "listening for people (TLS)");
        tracing::info!(address = %addresses.admin, "listening for probes and metrics (plain HTTP)");
        Ok(Self {
            gateway,
            addresses,
            _lock: lock,
        })
    }

    /// Where people are served.
    #[must_use]
    pub fn listen_address(&self) -> SocketAddr {
        self.addresses.listen
    }

    /// Where probes and metrics are served.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// The gateway itself.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Writes the bound addresses as JSON, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn announce(&self, file: &Path) -> Result<(), Error> {
        let write = || {
            let mut beside = file.as_os_str().to_owned();
            beside.push(".new");
            let beside = PathBuf::from(beside);
            fs::write(&beside, serde_json::to_vec(&self.addresses)?)?;
            fs::rename(&beside, file)
        };
        write().map_err(|error| Error::Announce(file.to_owned(), error))
    }

    /// Stops taking connections, drains the sessions, then ends what served them.
    pub async fn finish(self, hurry: &CancellationToken) -> Drained {
        let gateway = self.gateway;
        let drained = gateway.tasks.drain(gateway.config.limits.drain, GRACE, hurry).await;
        let close = async {
            gateway.links.close().await;
            gateway.store.close().await;
            gateway.journal.close().await;
            gateway.credential.close().await;
        };
        match tokio::time::timeout(GRACE, close).await {
            Ok(()) => drained,
            Err(_) => Drained::Abandoned,
        }
    }
}

pub(crate) fn authority(config: &Config) -> Result<Authority, Error> {
    match &config.authority.kind {
        AuthorityKind::Local { user_ca, host_ca } => Ok(Authority::Local(
            Local::from_files(user_ca, host_ca).map_err(Error::Key)?,
        )),
        AuthorityKind::Vault(settings) => {
            let vault = vault::Vault::new(settings.as_ref().clone()).map_err(Error::Vault)?;
            Ok(Authority::Vault(vault))
        }
    }
}

/// Keeps the authority's login and keys fresh while anything may need them.
fn look_after(authority: &Arc<Authority>, tasks: &Tasks) {
    let (authority, closing) = (Arc::clone(authority), tasks.closing().clone());
    tasks.spawn(async move {
        tokio::select! {
            () = closing.cancelled() => {}
            () = authority.keep() => {}
        }
    });
}

/// Takes the folder for this process alone: two gateways must not write one journal. The lock goes with the process.
fn lock(state: &Path) -> Result<fs::File, Error> {
    let path = state.join("lock");
    let failed = |error| Error::State(state.to_owned(), error);
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Taken(state.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes a folder that nobody else may read. One that is there already stays as it is.
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener for people.
    #[error(transparent)]
    Door(#[from] listen::DoorError),
    /// The listener for probes.
    #[error("cannot listen on {0}: {1}")]
    Admin(SocketAddr, #[source] io::Error),
    /// A bound address cannot be told.
    #[error("a bound address cannot be told: {0}")]
    Address(#[source] io::Error),
    /// The folder for the gateway's state.
    #[error("the state folder {0} cannot be made: {1}")]
    State(PathBuf, #[source] io::Error),
    /// Another gateway has the folder.
    #[error("the state folder {0} is another gateway's, which is running")]
    Taken(PathBuf),
    /// A key file.
    #[error("a key cannot be used: {0}")]
    Key(#[source] KeyError),
    /// The client for Vault.
    #[error("{0}")]
    Vault(#[source] vault::VaultError),
    /// The gateway's own key.
    #[error("the gateway's key cannot be used for links: {0}")]
    Credential(#[source] link::CredentialError),
    /// The journal.
    #[error("the journal cannot be opened: {0}")]
    Journal(#[source] io::Error),
    /// The recordings.
    #[error("the recording store cannot be opened: {0}")]
    Records(#[source] io::Error),
    /// A sink for events.
    #[error("{0}")]
    Exports(String),
    /// The list of enrolments.
    #[error("the list of enrolments cannot be opened: {0}")]
    Enrolments(#[source] io::Error),
    /// The locks.
    #[error("the locks cannot be read: {0}")]
    Locks(#[source] io::Error),
    /// The client for the identity provider.
    #[error(transparent)]
    Client(#[from] oidc::ClientError),
    /// The client for the cluster's API server.
    #[error("the cluster cannot be used: {0}")]
    Kubernetes(#[source] kube::KubeError),
    /// The policy.
    #[error("the policy cannot be used:\n{0}")]
    Policy(#[source] Faults),
    /// The file for the bound addresses.
    #[error("the addresses cannot be written to {0}: {1}")]
    Announce(PathBuf, #[source] io::Error),
}

impl Error {
    /// Whether the configuration is at fault, rather than what is around.
    #[must_use]
    pub fn is_config(&self) -> bool {
        match self {
            Self::Key(_)
            | Self::Vault(_)
            | Self::Client(_)
            | Self::Kubernetes(_)
            | Self::Policy(_)
            | Self::State(..)
            | Self::Exports(_) => true,
            Self::Door(error) => matches!(error, listen::DoorError::Certificate(_)),
            _ => false,
        }
    }
}

/// How many files of recordings may be fetched at once; one person's are at most half.
const MOST_DOWNLOADS: usize = 64;
/// How many may hear at once how far a workspace's start is; one person's are at most half.
const MOST_LISTENERS: usize = 2048;
/// How long sessions may take to end once they are told to, and the rest after them.
const GRACE: Duration = Duration::from_secs(5);
