//! Real S3-compatible stores on loopback, each with a key pair of its own in files.
//!
//! MinIO speaks TLS, keeps versions and locks objects; versitygw is plain HTTP over a folder.

mod api;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use api::{Api, Reply};

use super::server::{Launch, Server, make_dir, write_private};
use super::{Error, Found, MINIO, VERSITYGW, port};
use crate::tls;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MinIO, over TLS.
    Minio,
    /// versitygw, over plain HTTP.
    Versitygw,
}

/// How a store begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which one.
    pub kind: Kind,
    /// Its folder, made if missing: data, keys, log, certificate.
    pub folder: PathBuf,
    /// The executable that acts as our programs ([`crate::act_as_program`]); this process's own if `None`.
    pub program: Option<PathBuf>,
}

/// A running store. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct S3 {
    kind: Kind,
    found: Found,
    keeper: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    ca: Option<PathBuf>,
    api: Api,
    server: Option<Server>,
}

impl S3 {
    /// Finds or makes the program, starts it without a bucket, and waits until it answers.
    ///
    /// # Errors
    /// The part cannot be had; the server does not come up, whose log is then in the error.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        // An error means that a provider stands already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let found = match settings.kind {
            Kind::Minio => MINIO.have().await?,
            Kind::Versitygw => VERSITYGW.have().await?,
        };
        let keeper = match settings.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(Error::file("find", "this program"))?,
        };
        let folder = make_dir(&settings.folder)?;
        make_dir(&folder.join(DATA))?;
        let secret = format!("{:032x}", rand::random::<u128>());
        write_private(&folder.join(ACCESS_KEY), ACCESS)?;
        write_private(&folder.join(SECRET_KEY), &secret)?;
        let address = port::free()?;
        let (url, pem, ca) = match settings.kind {
            Kind::Versitygw => (format!("http://{address}"), None, None),
            Kind::Minio => {
                let pems = tls::for_loopback("MinIO for development")?;
                let certs = make_dir(&folder.join(CERTS))?;
                write_private(&certs.join("public.crt"), &pems.certificate)?;
                write_private(&certs.join("private.key"), &pems.key)?;
                let ca = folder.join("ca.pem");
                write_private(&ca, &pems.ca)?;
                (format!("https://{address}"), Some(pems.ca), Some(ca))
            }
        };
        let mut store = Self {
            kind: settings.kind,
            found,
            keeper,
            folder,
            address,
            ca,
            api: Api::new(&url, pem.as_deref(), ACCESS, &secret)?,
            server: None,
        };
        store.restart().await?;
        Ok(store)
    }

    /// Where its program is.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// `https://127.0.0.1:PORT`, or `http`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.api.url()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA that vouches for its certificate, PEM, where it has one.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The file with the access key's id, and the one with the secret.
    #[must_use]
    pub fn key_files(&self) -> (PathBuf, PathBuf) {
        (self.folder.join(ACCESS_KEY), self.folder.join(SECRET_KEY))
    }

    /// The store's API with every right.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Starts it again, with what it holds.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await;
        let mut server = Server::start(Launch {
            keeper: &self.keeper,
            name: match self.kind {
                Kind::Minio => "minio",
                Kind::Versitygw => "versitygw",
            },
            folder: &self.folder,
            command: self.command()?,
        })
        .await?;
        let api = self.api.clone();
        let answers = async || (api.list("").await.ok()?.status == 200).then_some(());
        server.until(PATIENCE, "the object store", answers).await?;
        self.server = Some(server);
        Ok(())
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Stops it where it stands: connections are taken, and nothing answers.
    pub async fn pause(&self) {
        if let Some(server) = &self.server {
            server.pause().await;
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(server) = &self.server {
            server.resume();
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.server.as_ref().map(Server::log_tail).unwrap_or_default()
    }

    fn command(&self) -> Result<Vec<OsString>, Error> {
        let program = self.found.path.clone().into_os_string();
        let folder = |name: &str| self.folder.join(name).into_os_string();
        let secret = self.folder.join(SECRET_KEY);
        // Through env(1): the programs take their keys from the environment alone, or from arguments.
        let set = |name: &str, value: OsString| {
            let mut text = OsString::from(format!("{name}="));
            text.push(value);
            text
        };
        let address = self.address.to_string().into();
        Ok(match self.kind {
            Kind::Minio => vec![
                "env".into(),
                set("MINIO_ROOT_USER_FILE", folder(ACCESS_KEY)),
                set("MINIO_ROOT_PASSWORD_FILE", secret.into()),
                "MINIO_BROWSER=off".into(),
                "MINIO_UPDATE=off".into(),
                program,
                "server".into(),
                "--quiet".into(),
                "--certs-dir".into(),
                folder(CERTS),
                "--address".into(),
                address,
                folder(DATA),
            ],
            Kind::Versitygw => {
                let key = std::fs::read_to_string(&secret).map_err(Error::file("read", secret))?;
                let (iam, versions) = (
                    make_dir(&self.folder.join("iam"))?,
                    make_dir(&self.folder.join("versions"))?,
                );
                vec![
                    "env".into(),
                    set("ROOT_ACCESS_KEY", ACCESS.into()),
                    set("ROOT_SECRET_KEY", key.into()),
                    program,
                    "--port".into(),
                    address,
                    "--keep-alive".into(),
                    "--iam-dir".into(),
                    iam.into(),
                    "posix".into(),
                    "--versioning-dir".into(),
                    versions.into(),
                    folder(DATA),
                ]
            }
        })
    }
}

const ACCESS: &str = "doorward";
const ACCESS_KEY: &str = "access-key";
const SECRET_KEY: &str = "secret-key";
const CERTS: &str = "certs";
const DATA: &str = "data";
const PATIENCE: Duration = Duration::from_secs(60);
