//! A real Vault on loopback: TLS with a CA of its own, initialised, unsealed, its file audit device switched on.
//!
//! The root token and the unseal key are in memory alone. Tests share one server through mounts of their own; a test
//! that seals, stops or breaks it starts its own, which takes about a second.

mod api;
mod node;
mod setup;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

pub use api::Api;
pub use node::Storage;
pub use setup::{AppRole, mount_with_key};

use super::server::{make_dir, write_private};
use super::{Error, Found, VAULT};
use crate::process::ProcessError;
use crate::tls;
use node::Node;

/// How a Vault begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder, made if missing: configuration, storage, log, certificate, audit log.
    pub folder: PathBuf,
    /// The executable that acts as our programs ([`crate::act_as_program`]); this process's own if `None`.
    pub program: Option<PathBuf>,
    /// Where it keeps its data.
    pub storage: Storage,
}

/// A running Vault. It ends when this is dropped, or with the process.
pub struct Vault {
    found: Found,
    folder: PathBuf,
    ca: PathBuf,
    nodes: Vec<Node>,
    unseal_key: String,
    root: Api,
}

impl Vault {
    /// Finds or makes the program, starts it with an empty storage, and waits until it answers, unsealed.
    ///
    /// # Errors
    /// The part cannot be had; the server does not come up, whose log is then in the error.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        // An error means that a provider stands already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let found = VAULT.have().await?;
        let keeper = match settings.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(Error::file("find", "this program"))?,
        };
        let folder = make_dir(&settings.folder)?;
        let pems = tls::for_loopback("Vault for development")?;
        let ca = folder.join("ca.pem");
        write_private(&ca, &pems.ca)?;
        write_private(&folder.join(node::CERTIFICATE), &pems.certificate)?;
        write_private(&folder.join(node::KEY), &pems.key)?;

        let mut first = Node::prepare(&keeper, &found.path, &folder, "vault", settings.storage)?;
        let nobody = Api::new(&first.url(), &pems.ca)?;
        first.run().await?;
        let init = nobody
            .write("sys/init", &json!({"secret_shares": 1, "secret_threshold": 1}))
            .await?;
        let text = |field: &str| init.pointer(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(unseal_key), Some(token)) = (text("/keys_base64/0"), text("/root_token")) else {
            return Err(Error::Answer {
                what: "PUT sys/init".to_owned(),
                lacks: "a key and a token",
            });
        };
        let mut vault = Self {
            root: nobody.with_token(&token),
            found,
            ca,
            nodes: vec![first],
            unseal_key,
            folder,
        };
        vault.unseal().await?;
        vault.active().await?;
        let audit = json!({"type": "file", "options": {"file_path": vault.audit_log(), "mode": "0600"}});
        vault.root.write("sys/audit/file", &audit).await?;
        Ok(vault)
    }

    /// Where its program is.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The API's address: `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// The CA that vouches for its certificate, PEM.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The API with the root token.
    #[must_use]
    pub fn root(&self) -> &Api {
        &self.root
    }

    /// What it wrote to its audit log so far: requests and responses, in order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>, Error> {
        let path = self.audit_log();
        let text = fs::read_to_string(&path).map_err(Error::file("read", path))?;
        // A last line that is being written is not there yet.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// The file of the audit device.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// Seals it: from now on it answers 503.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn seal(&self) -> Result<(), Error> {
        self.root.write("sys/seal", &Value::Null).await.map(drop)
    }

    /// Unseals it, and waits until it is active.
    ///
    /// # Errors
    /// It refuses, or does not become active.
    pub async fn unseal(&mut self) -> Result<(), Error> {
        let key = json!({"key": self.unseal_key});
        self.root.write("sys/unseal", &key).await?;
        self.active().await
    }

    /// Stops it where it stands: connections are taken, and nothing answers.
    pub async fn pause(&self) {
        self.nodes[0].pause().await;
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.nodes[0].resume();
    }

    /// Ends it in order; [`Vault::restart`] brings it back on the same storage and port.
    pub async fn stop(&mut self) {
        self.nodes[0].stop().await;
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) {
        self.nodes[0].kill().await;
    }

    /// Starts it again, sealed.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart_sealed(&mut self) -> Result<(), Error> {
        self.nodes[0].stop().await;
        self.nodes[0].run().await.map(drop)
    }

    /// Starts it again and unseals it.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.restart_sealed().await?;
        self.unseal().await
    }

    /// A second node, of raft storage alone: joins, is unsealed, and waits on standby. Its address.
    ///
    /// # Errors
    /// It does not come up or does not become a standby.
    pub async fn add_standby(&mut self) -> Result<String, Error> {
        let mut node = Node::prepare(
            self.nodes[0].keeper(),
            &self.found.path,
            &self.folder,
            "vault-standby",
            Storage::Raft,
        )?;
        node.run().await?;
        let api = self.root.at(&node.url());
        let pem = fs::read_to_string(&self.ca).map_err(Error::file("read", &self.ca))?;
        let join = json!({"leader_api_addr": self.url(), "leader_ca_cert": pem});
        api.write("sys/storage/raft/join", &join).await?;
        let (key, health) = (json!({"key": self.unseal_key}), api.clone());
        api.write("sys/unseal", &key).await?;
        let standby = async || (health.health().await.ok()? == STANDBY).then_some(());
        node.until(PATIENCE, "a standby", standby).await?;
        let url = node.url();
        self.nodes.push(node);
        Ok(url)
    }

    /// Waits for its end, which nobody wanted. Can be dropped and called again.
    pub(crate) async fn fell(&mut self) -> ProcessError {
        self.nodes[0].fell().await
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.nodes[0].log_tail()
    }

    async fn active(&mut self) -> Result<(), Error> {
        let root = self.root.clone();
        let active = async || (root.health().await.ok()? == ACTIVE).then_some(());
        self.nodes[0].until(PATIENCE, "an active Vault", active).await
    }
}

/// Without the token and the key.
impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("url", &self.url())
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// What `sys/health` says (Vault's HTTP API, `/sys/health`).
const ACTIVE: u16 = 200;
const STANDBY: u16 = 429;
const PATIENCE: Duration = Duration::from_secs(60);
