//! The one client for the API server: by the pod's service account, or by a kubeconfig file.
//!
//! Nothing but the configuration says where the server is and who we are. A kubeconfig that runs programs, goes through a
//! proxy or switches verification off is refused; the variables that other clients obey are not read.

use std::{fmt, fs, path::Path};

use ::kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{KubeError, bounds::Bounds};
use crate::{
    config::{Kubernetes, KubernetesAccess, secret_file},
    refusal::chain,
};

/// The cluster of this gateway. Clones are the same client.
#[derive(Clone)]
pub struct Cluster(Client);

impl Cluster {
    /// The client: each answer has the configured deadline, and no more bytes than an answer may have.
    #[must_use]
    pub fn client(&self) -> Client {
        self.0.clone()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cluster")
    }
}

/// A client for the configured API server. Nothing is asked yet.
///
/// # Errors
/// [`KubeError::Configuration`]: a file is missing or not one to be used.
pub async fn connect(settings: &Kubernetes) -> Result<Cluster, KubeError> {
    let mut config = match &settings.access {
        KubernetesAccess::ServiceAccount { server, folder } => by_service_account(server.as_str(), folder)?,
        KubernetesAccess::Kubeconfig(file) => by_kubeconfig(file).await?,
    };
    config.proxy_url = None;
    config.connect_timeout = Some(settings.timeout);
    config.read_timeout = None;
    config.write_timeout = Some(settings.timeout);
    // Who throttles us is left alone; callers know for how long.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(|error| bad(chain(&error)))?;
    let bounds = Bounds {
        timeout: settings.timeout,
    };
    Ok(Cluster(builder.with_layer(&bounds).build()))
}

/// The way of a pod: token and CA lie in a folder, are renewed there by the kubelet, and read again every minute.
fn by_service_account(server: &str, folder: &Path) -> Result<Config, KubeError> {
    let read = |name: &str| {
        let file = folder.join(name);
        match fs::metadata(&file) {
            Ok(metadata) if metadata.len() > LARGEST_FILE => Err(bad(format!("{} is too large", file.display()))),
            Ok(_) => fs::read(&file).map_err(|error| bad(format!("{} cannot be read: {error}", file.display()))),
            Err(error) => Err(bad(format!("{} cannot be read: {error}", file.display()))),
        }
    };
    let server = server
        .parse()
        .map_err(|error| bad(format!("`server` is no address: {error}")))?;
    let mut config = Config::new(server);
    let authorities: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&read("ca.crt")?)
        .map(|found| found.map(|certificate| certificate.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| bad(format!("{}: {error}", folder.join("ca.crt").display())))?;
    if authorities.is_empty() {
        return Err(bad(format!("{} holds no certificate", folder.join("ca.crt").display())));
    }
    read("token")?;
    config.root_cert = Some(authorities);
    config.root_cert_file = Some(folder.join("ca.crt"));
    config.auth_info.token_file = Some(folder.join("token").display().to_string());
    if let Ok(namespace) = read("namespace") {
        config.default_namespace = String::from_utf8_lossy(&namespace).trim().to_owned();
    }
    Ok(config)
}

async fn by_kubeconfig(file: &Path) -> Result<Config, KubeError> {
    let said = |text: String| bad(format!("{}: {text}", file.display()));
    secret_file::check(file).map_err(|sentence| bad(format!("{} {sentence}", file.display())))?;
    let read = Kubeconfig::read_from(file).map_err(|error| said(chain(&error)))?;
    for cluster in read.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        if cluster.insecure_skip_tls_verify == Some(true) {
            return Err(said("`insecure-skip-tls-verify` is not taken: name the CA".to_owned()));
        }
        if cluster.proxy_url.is_some() {
            return Err(said("`proxy-url` is not taken".to_owned()));
        }
        if cluster
            .server
            .as_ref()
            .is_some_and(|server| !server.starts_with("https://"))
        {
            return Err(said("the server must be `https://`".to_owned()));
        }
    }
    for user in read.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err(said(
                "`exec` and `auth-provider` are not taken: the gateway runs no programs".to_owned(),
            ));
        }
    }
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read, &options).await;
    config.map_err(|error| said(chain(&error)))
}

fn bad(text: impl Into<String>) -> KubeError {
    KubeError::Configuration(text.into())
}

const LARGEST_FILE: u64 = 1024 * 1024;
