//! The three servers of a control plane: their files, ports and command lines.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::KeyPair;
use serde_json::json;

use super::super::server::{Launch, Server, make_dir, write_private};
use super::super::{Error, port};
use super::KnownPerson;
use super::pki::{Authority, Pair};
use crate::process::ProcessError;

/// The files and ports, and what runs.
#[derive(Debug)]
pub(super) struct Plane {
    keeper: PathBuf,
    program: PathBuf,
    pub folder: PathBuf,
    pub address: SocketAddr,
    etcd_address: SocketAddr,
    peer_address: SocketAddr,
    pub etcd: Option<Server>,
    pub apiserver: Option<Server>,
    pub manager: Option<Server>,
}

/// What the client needs of the certificates.
pub(super) struct Access {
    pub ca: String,
    pub admin: Pair,
}

impl Plane {
    /// Chooses the ports and writes certificates, keys and configurations into an empty folder.
    pub(super) fn prepare(
        keeper: &Path,
        program: &Path,
        folder: &Path,
        people: &[(&KnownPerson, String)],
    ) -> Result<(Self, Access), Error> {
        let folder = make_dir(folder)?;
        let data = folder.join(ETCD_DATA);
        if data.exists() {
            // Its objects belong to a cluster whose keys are gone.
            fs::remove_dir_all(&data).map_err(Error::file("remove", &data))?;
        }
        let plane = Self {
            keeper: keeper.to_owned(),
            program: program.to_owned(),
            folder,
            address: port::free()?,
            etcd_address: port::free()?,
            peer_address: port::free()?,
            etcd: None,
            apiserver: None,
            manager: None,
        };
        let access = plane.write()?;
        let lines = people.iter().enumerate().map(|(uid, (person, token))| {
            let (name, groups) = (&person.name, person.groups.join(","));
            format!("{token},{name},uid-{uid},\"{groups}\"\n")
        });
        write_private(&plane.folder.join(PEOPLE), &lines.collect::<String>())?;
        Ok((plane, access))
    }

    fn write(&self) -> Result<Access, Error> {
        let write = |name: &str, text: &str| write_private(&self.folder.join(name), text);
        let write_pair = |name: &str, pair: &Pair| {
            write(&format!("{name}.crt"), &pair.certificate)?;
            write(&format!("{name}.key"), &pair.key)
        };
        // Whoever the cluster knows is nobody to its store.
        let (own, store) = (Authority::new("cluster CA")?, Authority::new("etcd CA")?);
        write(CA, &own.pem)?;
        write("etcd-ca.crt", &store.pem)?;
        write_pair("etcd", &store.server("etcd")?)?;
        write_pair("apiserver", &own.server("kube-apiserver")?)?;
        let admin = own.client("admin", Some("system:masters"))?;
        write_pair(ADMIN, &admin)?;
        write_pair("manager", &own.client("system:kube-controller-manager", None)?)?;
        let tokens = KeyPair::generate()?;
        write(TOKEN_SIGNING_KEY, &tokens.serialize_pem())?;
        write(TOKEN_KEY, &tokens.public_key_pem())?;
        // Anonymous requests for the keys of tokens alone; a role has to let them, besides.
        let authentication = json!({
            "apiVersion": "apiserver.config.k8s.io/v1beta1",
            "kind": "AuthenticationConfiguration",
            "anonymous": {"enabled": true, "conditions": [
                {"path": "/.well-known/openid-configuration"}, {"path": "/openid/v1/jwks"},
            ]},
        });
        write(AUTHENTICATION, &authentication.to_string())?;
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        });
        write("audit-policy.json", &policy.to_string())?;
        let manager = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "manager",
            "contexts": [{"name": "manager", "context": {"cluster": "manager", "user": "manager"}}],
            "clusters": [{"name": "manager", "cluster": {"server": self.url(), "certificate-authority": CA}}],
            "users": [{"name": "manager", "user": {"client-certificate": "manager.crt", "client-key": "manager.key"}}],
        });
        write("manager.json", &manager.to_string())?;
        Ok(Access { ca: own.pem, admin })
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) async fn start_etcd(&mut self) -> Result<(), Error> {
        let (clients, peers) = (self.etcd_address, self.peer_address);
        let args = vec![
            self.flag("data-dir", ETCD_DATA),
            format!("--listen-client-urls=https://{clients}").into(),
            format!("--advertise-client-urls=https://{clients}").into(),
            format!("--listen-peer-urls=https://{peers}").into(),
            format!("--initial-advertise-peer-urls=https://{peers}").into(),
            format!("--initial-cluster=default=https://{peers}").into(),
            self.flag("cert-file", "etcd.crt"),
            self.flag("key-file", "etcd.key"),
            self.flag("trusted-ca-file", "etcd-ca.crt"),
            "--client-cert-auth".into(),
            self.flag("peer-cert-file", "etcd.crt"),
            self.flag("peer-key-file", "etcd.key"),
            self.flag("peer-trusted-ca-file", "etcd-ca.crt"),
            "--peer-client-cert-auth".into(),
            // What is stored here need not outlive the machine.
            "--unsafe-no-fsync".into(),
        ];
        self.etcd = Some(self.start("etcd", args).await?);
        Ok(())
    }

    pub(super) async fn start_apiserver(&mut self) -> Result<(), Error> {
        let args = vec![
            format!("--etcd-servers=https://{}", self.etcd_address).into(),
            self.flag("etcd-cafile", "etcd-ca.crt"),
            self.flag("etcd-certfile", "etcd.crt"),
            self.flag("etcd-keyfile", "etcd.key"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", self.address.port()).into(),
            self.flag("cert-dir", "apiserver"),
            self.flag("tls-cert-file", "apiserver.crt"),
            self.flag("tls-private-key-file", "apiserver.key"),
            self.flag("client-ca-file", CA),
            self.flag("authentication-config", AUTHENTICATION),
            self.flag("token-auth-file", PEOPLE),
            "--authorization-mode=RBAC".into(),
            // Its own address, so that who may read them finds the keys there (OpenID Connect Discovery 1.0).
            format!("--service-account-issuer={}", self.url()).into(),
            self.flag("service-account-signing-key-file", TOKEN_SIGNING_KEY),
            self.flag("service-account-key-file", TOKEN_KEY),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--endpoint-reconciler-type=none".into(),
            self.flag("audit-policy-file", "audit-policy.json"),
            self.flag("audit-log-path", AUDIT),
        ];
        self.apiserver = Some(self.start("kube-apiserver", args).await?);
        Ok(())
    }

    pub(super) async fn start_manager(&mut self) -> Result<(), Error> {
        let args = vec![
            self.flag("kubeconfig", "manager.json"),
            "--secure-port=0".into(),
            "--leader-elect=false".into(),
            "--use-service-account-credentials=true".into(),
            self.flag("service-account-private-key-file", TOKEN_SIGNING_KEY),
            self.flag("root-ca-file", CA),
            format!("--controllers={}", CONTROLLERS.join(",")).into(),
        ];
        self.manager = Some(self.start("kube-controller-manager", args).await?);
        Ok(())
    }

    async fn start(&self, name: &'static str, args: Vec<OsString>) -> Result<Server, Error> {
        let mut command = vec![self.program.clone().into_os_string(), name.into()];
        command.extend(args);
        Server::start(Launch {
            keeper: &self.keeper,
            name,
            folder: &self.folder,
            command,
        })
        .await
    }

    fn flag(&self, name: &str, file: &str) -> OsString {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(self.folder.join(file));
        flag
    }

    /// Asks until there is an answer; fails with the log's end when the named server has ended, or it is too late.
    pub(super) async fn until<T>(
        server: &mut Option<Server>,
        what: &str,
        ask: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, Error> {
        match server {
            Some(server) => server.until(PATIENCE, what, ask).await,
            None => Err(Error::NotRunning),
        }
    }

    /// Ends what runs, in order.
    pub(super) async fn stop(&mut self) {
        for server in [&mut self.manager, &mut self.apiserver, &mut self.etcd] {
            if let Some(server) = server.take() {
                server.stop().await;
            }
        }
    }

    pub(super) async fn fell(&mut self) -> ProcessError {
        tokio::select! {
            error = fell(&mut self.etcd) => error,
            error = fell(&mut self.apiserver) => error,
            error = fell(&mut self.manager) => error,
        }
    }
}

async fn fell(server: &mut Option<Server>) -> ProcessError {
    match server {
        Some(server) => server.fell().await,
        None => std::future::pending().await,
    }
}

pub(super) const CA: &str = "ca.crt";
pub(super) const ADMIN: &str = "admin";
pub(super) const AUDIT: &str = "audit.log";
pub(super) const TOKEN_KEY: &str = "tokens.pub";
pub(super) const TOKEN_SIGNING_KEY: &str = "tokens.key";
const AUTHENTICATION: &str = "authentication.json";
const PEOPLE: &str = "people.csv";
const ETCD_DATA: &str = "etcd";
/// What makes pods of the objects that people write, gives service accounts their tokens, and clears up.
const CONTROLLERS: [&str; 11] = [
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "statefulset-controller",
    "deployment-controller",
    "replicaset-controller",
    "job-controller",
    "endpointslice-controller",
    "clusterrole-aggregation-controller",
];
const PATIENCE: Duration = Duration::from_secs(180);
