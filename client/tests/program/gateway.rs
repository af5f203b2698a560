//! A gateway of which a test decides every answer, behind TLS with a CA of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::issuer::Issuer;
use crate::run::Folder;
use crate::server::{Asked, Reply, Server};

/// A function that answers one target.
pub(crate) type Answer = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

pub(crate) struct Gateway {
    pub(crate) server: Server,
    /// PEM of the CA that signed its certificate.
    pub(crate) ca: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
}

/// Keys of certificate authorities, any two.
pub(crate) const HOST_CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhKZxCbBHEVDkFJXIOXZ8qKDDwMGBJF9FH7n4PVJHuq";

impl Gateway {
    /// A gateway that trusts this issuer and has one workspace.
    pub(crate) async fn start(issuer: &Issuer) -> Self {
        Self::start_with(issuer, |_| ()).await
    }

    /// The same with something else in its certificate.
    pub(crate) async fn start_with(issuer: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let _ = doorward_wire::tls_provider().install_default();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &root).unwrap();
        let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let of_server = answers.clone();
        let server = Server::start(Some(TlsAcceptor::from(Arc::new(config))), move |asked| {
            let path = asked.target.split('?').next().unwrap_or_default();
            let answer = of_server.lock().unwrap().get(path).cloned();
            answer.map_or_else(
                || problem(404, "not-found", "there is nothing here", ""),
                |answer| answer(asked),
            )
        })
        .await;
        let gateway = Self {
            server,
            ca: root.pem(),
            answers,
        };
        gateway.json(
            "/.well-known/doorward",
            json!({
                "version": 1, "issuer": issuer.url(), "client-id": "doorward", "scopes": ["openid", "groups"],
                "audience": "doorward-gateway", "ssh-identification": "SSH-2.0-Doorward",
            }),
        );
        gateway.json("/v1/trust", json!({"host-ca": [HOST_CA], "user-ca": [HOST_CA]}));
        gateway.json("/v1/workspaces", json!({"workspaces": [
            {"name": "devenv-0", "login": "node", "owner": "bob", "state": "running", "capabilities": ["shell", "exec"]},
        ]}));
        gateway
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/", self.server.address)
    }

    /// From now on this path is answered so.
    pub(crate) fn on(&self, path: &str, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        self.answers.lock().unwrap().insert(path.to_owned(), Arc::new(answer));
    }

    pub(crate) fn json(&self, path: &str, value: Value) {
        self.on(path, move |_| Reply::json(200, &value));
    }

    /// Writes the CA into a folder.
    pub(crate) fn ca_file(&self, folder: &Folder) -> PathBuf {
        let path = folder.path().join("gateway-ca.pem");
        std::fs::create_dir_all(folder.path()).unwrap();
        std::fs::write(&path, &self.ca).unwrap();
        path
    }

    /// A folder in which somebody is logged in here, with a token that is valid for so many seconds.
    pub(crate) fn logged_in(&self, issuer: &Issuer, life: i64) -> Folder {
        let folder = Folder::new();
        self.log_in(issuer, &folder, life);
        folder
    }

    pub(crate) fn log_in(&self, issuer: &Issuer, folder: &Folder, life: i64) {
        let ca = self.ca_file(folder);
        let settings = format!("gateway = \"{}\"\nca = \"{}\"\n", self.url(), ca.display());
        std::fs::write(folder.path().join("config.toml"), settings).unwrap();
        folder.write_tokens(&self.url(), &issuer.url(), life);
    }
}

/// A problem body.
pub(crate) fn problem(status: u16, code: &str, text: &str, hint: &str) -> Reply {
    let mut body = json!({"type": format!("urn:doorward:problem:{code}"), "title": code, "status": status, "detail": text, "code": code});
    if !hint.is_empty() {
        body["hint"] = hint.into();
    }
    Reply::Body(status, "application/problem+json", body.to_string().into_bytes())
}
