//! A real Kubernetes control plane on loopback: etcd, the API server with RBAC and an audit log, the controller manager.
//!
//! It begins empty each time it is made, and keeps its objects over [`Cluster::restart_api`]. There is no kubelet and no scheduler:
//! pods stay pending until somebody binds them and says what became of them, which [`crate::kube`] does. The keys of
//! its authorities are in memory alone, those of its servers in the folder, mode 0600.

mod api;
mod identity;
mod objects;
mod pki;
mod plane;
mod waits;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use api::Api;
pub use identity::Identity;
pub use watch::Watch;

use super::{Error, Found, KUBERNETES};
use crate::process::ProcessError;
use plane::Plane;

/// How a cluster begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder, made if missing: certificates, objects, logs, audit log.
    pub folder: PathBuf,
    /// The executable that acts as our programs ([`crate::act_as_program`]); this process's own if `None`.
    pub program: Option<PathBuf>,
    /// The people whom it knows by tokens that nobody else can read.
    pub people: Vec<KnownPerson>,
}

/// Somebody whom the API server knows by an opaque token.
#[derive(Clone, Debug)]
pub struct KnownPerson {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

/// A running control plane. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Cluster {
    found: Found,
    plane: Plane,
    admin: Api,
    /// Name and token.
    people: Vec<(String, String)>,
}

/// Which token is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// The service account's namespace.
    pub namespace: &'a str,
    /// The service account.
    pub account: &'a str,
    /// Whom it is meant for; the API server itself if `None`.
    pub audience: Option<&'a str>,
    /// The pod that it ends with: name and UID.
    pub pod: Option<(&'a str, &'a str)>,
    /// How long it is good, in seconds: at least 600.
    pub seconds: u32,
}

impl Cluster {
    /// Finds or makes the program, starts the servers, and waits until namespaces have their service accounts.
    ///
    /// # Errors
    /// The part cannot be had; a server does not come up, whose log is then in the error.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        // An error means that a provider stands already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let found = KUBERNETES.have().await?;
        let keeper = match settings.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(Error::file("find", "this program"))?,
        };
        let people: Vec<_> = settings.people.iter().map(|one| (one, token())).collect();
        let (mut plane, access) = Plane::prepare(&keeper, &found.path, &settings.folder, &people)?;
        let admin = Api::new(&plane.url(), &access.ca, &access.admin)?;
        // The API server waits for its store by itself.
        plane.start_etcd().await?;
        let people = people
            .into_iter()
            .map(|(one, token)| (one.name.clone(), token))
            .collect();
        let mut cluster = Self {
            found,
            plane,
            admin,
            people,
        };
        cluster.start_api().await?;
        cluster.plane.start_manager().await?;
        let admin = &cluster.admin;
        let account = async || admin.find(DEFAULT_ACCOUNT).await.ok().flatten();
        Plane::until(&mut cluster.plane.manager, "the first service account", account).await?;
        Ok(cluster)
    }

    /// Where its program is.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The API's address: `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.plane.url()
    }

    /// Who issues service accounts' tokens: the same address.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.plane.url()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.plane.folder
    }

    /// The CA that vouches for the API server's certificate, PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.plane.file(plane::CA)
    }

    /// The administrator's certificate, PEM.
    #[must_use]
    pub fn admin_certificate(&self) -> PathBuf {
        self.plane.file(&format!("{}.crt", plane::ADMIN))
    }

    /// The administrator's key, PEM.
    #[must_use]
    pub fn admin_key(&self) -> PathBuf {
        self.plane.file(&format!("{}.key", plane::ADMIN))
    }

    /// The key that service accounts' tokens are verified with, PEM: what an issuer's key set would say.
    #[must_use]
    pub fn token_key(&self) -> PathBuf {
        self.plane.file(plane::TOKEN_KEY)
    }

    /// The key that they are signed with, PEM: for a test that wants a token which the API server would not give out.
    #[must_use]
    pub fn token_signing_key(&self) -> PathBuf {
        self.plane.file(plane::TOKEN_SIGNING_KEY)
    }

    /// The API as the administrator; [`Api::acting_as`] makes it somebody else's.
    #[must_use]
    pub fn admin(&self) -> &Api {
        &self.admin
    }

    /// A service account's token, as pods get theirs (the TokenRequest API).
    ///
    /// # Errors
    /// There is no such account or pod; the lifetime is too short.
    pub async fn token(&self, wanted: TokenRequest<'_>) -> Result<String, Error> {
        self.admin.token(wanted).await
    }

    /// The token of one of the people of [`Settings::people`].
    #[must_use]
    pub fn token_of(&self, person: &str) -> Option<&str> {
        let mut all = self.people.iter();
        all.find(|(name, _)| name == person).map(|(_, token)| token.as_str())
    }

    /// Makes a namespace and waits for its default service account, without which no pod is taken.
    ///
    /// # Errors
    /// The API server refuses, or the controller manager does nothing.
    pub async fn namespace(&self, name: &str) -> Result<(), Error> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.admin.apply(&object).await?;
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        self.admin.await_object(&path).await.map(drop)
    }

    /// Who asked the API server what so far, in order: the events of its audit log, each a finished request or the
    /// beginning of a watch.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>, Error> {
        let path = self.plane.file(plane::AUDIT);
        let text = fs::read_to_string(&path).map_err(Error::file("read", path))?;
        // A last line that is being written is not there yet.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Stops the API server where it stands: connections are taken, and nothing answers.
    pub async fn pause_api(&self) {
        if let Some(server) = &self.plane.apiserver {
            server.pause().await;
        }
    }

    /// Lets the API server go on.
    pub fn resume_api(&self) {
        if let Some(server) = &self.plane.apiserver {
            server.resume();
        }
    }

    /// Stops the store where it stands: the API server answers what it has cached, and nothing else.
    pub async fn pause_store(&self) {
        if let Some(server) = &self.plane.etcd {
            server.pause().await;
        }
    }

    /// Lets the store go on.
    pub fn resume_store(&self) {
        if let Some(server) = &self.plane.etcd {
            server.resume();
        }
    }

    /// Ends the API server as a crash would; [`Cluster::restart_api`] brings it back.
    pub async fn kill_api(&mut self) {
        if let Some(server) = self.plane.apiserver.take() {
            server.kill().await;
        }
    }

    /// Starts the API server again on its port, with its objects, and waits until it is ready. It has forgotten the history of
    /// changes: watches that go on from an old resource version are told that it expired (410).
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart_api(&mut self) -> Result<(), Error> {
        if let Some(server) = self.plane.apiserver.take() {
            server.stop().await;
        }
        self.start_api().await
    }

    /// Ends every server in order.
    pub async fn stop(mut self) {
        self.plane.stop().await;
    }

    /// Waits until a server ends although nobody asked it to. Can be dropped and called again.
    pub async fn fell(&mut self) -> ProcessError {
        self.plane.fell().await
    }

    async fn start_api(&mut self) -> Result<(), Error> {
        self.plane.start_apiserver().await?;
        let admin = &self.admin;
        let ready = async || admin.read("/readyz").await.ok();
        Plane::until(&mut self.plane.apiserver, "a ready API server", ready).await?;
        Ok(())
    }
}

const DEFAULT_ACCOUNT: &str = "/api/v1/namespaces/default/serviceaccounts/default";

/// A token as OpenShift's look.
fn token() -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    format!("sha256~{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}
