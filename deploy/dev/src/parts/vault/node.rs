//! One server of a Vault: its configuration, its port, its process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use crate::parts::server::{Launch, Server, make_dir, write_private};
use crate::parts::{Error, port};
use crate::process::ProcessError;

/// Where a Vault keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A folder: the quickest.
    File,
    /// Raft, as in production; a second node can join.
    Raft,
}

/// One server.
#[derive(Debug)]
pub(super) struct Node {
    keeper: PathBuf,
    vault: PathBuf,
    folder: PathBuf,
    name: &'static str,
    address: SocketAddr,
    server: Option<Server>,
}

impl Node {
    /// Chooses its ports and writes its configuration. The names in it are Vault's own.
    pub(super) fn prepare(
        keeper: &Path,
        vault: &Path,
        folder: &Path,
        name: &'static str,
        storage: Storage,
    ) -> Result<Self, Error> {
        let (address, cluster) = (port::free()?, port::free()?);
        let data = make_dir(&folder.join(name))?;
        let storage = match storage {
            Storage::File => json!({"file": {"path": data}}),
            Storage::Raft => json!({"raft": {"path": data, "node_id": name}}),
        };
        let config = json!({
            "api_addr": format!("https://{address}"),
            "cluster_addr": format!("https://{cluster}"),
            "disable_mlock": true,
            "listener": {"tcp": {
                "address": address.to_string(),
                "cluster_address": cluster.to_string(),
                "tls_cert_file": folder.join(CERTIFICATE),
                "tls_key_file": folder.join(KEY),
            }},
            "storage": storage,
        });
        let node = Self {
            keeper: keeper.to_owned(),
            vault: vault.to_owned(),
            folder: folder.to_owned(),
            name,
            address,
            server: None,
        };
        write_private(&node.config(), &config.to_string())?;
        Ok(node)
    }

    /// Starts it and waits until it takes connections.
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        let mut server = Server::start(Launch {
            keeper: &self.keeper,
            name: self.name,
            folder: &self.folder,
            command: vec![
                self.vault.clone().into(),
                "server".into(),
                "-config".into(),
                self.config().into(),
            ],
        })
        .await?;
        let address = self.address;
        let answers = async || TcpStream::connect(address).await.ok();
        server.until(PATIENCE, "Vault's port", answers).await?;
        self.server = Some(server);
        Ok(())
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn keeper(&self) -> &Path {
        &self.keeper
    }

    pub(super) async fn until<T>(
        &mut self,
        within: Duration,
        what: &str,
        ask: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, Error> {
        match &mut self.server {
            Some(server) => server.until(within, what, ask).await,
            None => Err(Error::NotRunning),
        }
    }

    pub(super) async fn pause(&self) {
        if let Some(server) = &self.server {
            server.pause().await;
        }
    }

    pub(super) fn resume(&self) {
        if let Some(server) = &self.server {
            server.resume();
        }
    }

    pub(super) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    pub(super) async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }

    pub(super) async fn fell(&mut self) -> ProcessError {
        match &mut self.server {
            Some(server) => server.fell().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn log_tail(&self) -> String {
        self.server.as_ref().map(Server::log_tail).unwrap_or_default()
    }

    fn config(&self) -> PathBuf {
        self.folder.join(format!("{}.config.json", self.name))
    }
}

pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
const PATIENCE: Duration = Duration::from_secs(60);
