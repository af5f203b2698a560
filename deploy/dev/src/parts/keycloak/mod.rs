//! A real Keycloak on loopback: a small heap, a database of its own, realms over its admin API.
//!
//! It starts from a prepared distribution: built for one database, with the administrator's account in a seed database,
//! which halves what a start costs. Tests share one server through realms of their own.

mod admin;
mod java;

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Mutex;

pub use admin::{ADMINISTRATOR, Admin, Realm};

use super::server::{Launch, Server, make_dir};
use super::tool::Tool;
use super::{Error, Found, KEYCLOAK, port};
use crate::process::ProcessError;

/// How a Keycloak begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder, made if missing: database and log.
    pub folder: PathBuf,
    /// The executable that acts as our programs ([`crate::act_as_program`]); this process's own if `None`.
    pub program: Option<PathBuf>,
    /// A PEM file of CAs that it believes beside the system's, where it calls others: to say that somebody was logged out.
    pub trusts: Option<PathBuf>,
}

/// A running Keycloak. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Keycloak {
    found: Found,
    keeper: PathBuf,
    folder: PathBuf,
    trusts: Option<PathBuf>,
    port: u16,
    /// Behind a lock, so that tests which share it can stop and start it.
    server: Mutex<Option<Server>>,
    admin: Admin,
}

impl Keycloak {
    /// Finds or makes the distribution, starts it with a fresh database, and waits until it answers.
    ///
    /// # Errors
    /// The part cannot be had; the server does not come up, whose log is then in the error.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        // reqwest wants a provider even where no TLS is spoken; an error means that there is one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let found = KEYCLOAK.have().await?;
        let keeper = match settings.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(Error::file("find", "this program"))?,
        };
        let folder = make_dir(&settings.folder)?;
        java::home(&found.path, &folder)?;
        let database = folder.join(java::DATABASE);
        fs::copy(found.path.join(java::SEED).join(java::DATABASE), &database)
            .map_err(Error::file("write", &database))?;
        let port = port::free()?.port();
        let keycloak = Self {
            admin: Admin::new(&format!("http://127.0.0.1:{port}"))?,
            found,
            keeper,
            folder,
            trusts: settings.trusts,
            port,
            server: Mutex::default(),
        };
        keycloak.restart().await?;
        Ok(keycloak)
    }

    /// Where its distribution is.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a realm from its description, which is as Keycloak exports one, under another name if one is given.
    ///
    /// # Errors
    /// Keycloak refuses it, for one because there is a realm of that name.
    pub async fn add_realm(&self, description: &Value, name: Option<&str>) -> Result<Realm, Error> {
        let mut description = description.clone();
        if let Some(name) = name {
            description["realm"] = name.into();
        }
        self.admin.add_realm(&description).await
    }

    /// Stops it where it stands: connections are taken, and nothing answers.
    pub async fn pause(&self) {
        if let Some(server) = self.server.lock().await.as_ref() {
            server.pause().await;
        }
    }

    /// Lets it go on.
    pub async fn resume(&self) {
        if let Some(server) = self.server.lock().await.as_ref() {
            server.resume();
        }
    }

    /// Ends it in order; [`Keycloak::restart`] brings it back on the same database and port.
    pub async fn stop(&self) {
        let server = self.server.lock().await.take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    /// Ends it as a crash would.
    pub async fn kill(&self) {
        let server = self.server.lock().await.take();
        if let Some(server) = server {
            server.kill().await;
        }
    }

    /// Starts it again, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop().await;
        let mut server = Server::start(Launch {
            keeper: &self.keeper,
            name: "keycloak",
            folder: &self.folder,
            command: java::start(&self.folder, self.port, self.trusts.as_deref()),
        })
        .await?;
        let admin = self.admin.clone();
        let answers = async || admin.answers().await.then_some(());
        server.until(PATIENCE, "Keycloak's discovery document", answers).await?;
        *self.server.lock().await = Some(server);
        Ok(())
    }

    /// Waits for its end, which nobody wanted. Can be dropped and called again.
    pub(crate) async fn fell(&mut self) -> ProcessError {
        match self.server.get_mut() {
            Some(server) => server.fell().await,
            None => std::future::pending().await,
        }
    }
}

/// The realm that is shipped, with the people of the development issuer in it, and a device grant that asks often.
#[must_use]
pub fn development_realm() -> Value {
    let read = |text| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut realm = read(include_str!("../../../../keycloak/realm.json"));
    realm["users"] = read(include_str!("../../../../keycloak/users-dev.json"))["users"].take();
    realm["oauth2DevicePollingInterval"] = 1.into();
    realm
}

/// Builds an unpacked distribution for the database that we use, and makes the seed database.
pub(super) fn prepare(distribution: &Path) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
    Box::pin(async move {
        let beside = distribution.parent().unwrap_or(distribution);
        tool(java::build(distribution), "building Keycloak", beside).await?;
        let seed = make_dir(&distribution.join(java::SEED))?;
        java::home(distribution, &seed)?;
        let port = port::free()?.port();
        let admin = Admin::new(&format!("http://127.0.0.1:{port}"))?;
        // The first start makes tables and the administrator. It has nobody who would end it with us, hence the bound.
        let mut first = vec!["timeout".into(), "-k".into(), "10".into(), "600".into()];
        first.extend(java::start(&seed, port, None));
        let mut command = command(first);
        for (name, value) in [("USERNAME", ADMINISTRATOR.0), ("PASSWORD", ADMINISTRATOR.1)] {
            command.env(format!("KC_BOOTSTRAP_ADMIN_{name}"), value);
        }
        let ready = async {
            while !admin.answers().await {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        Tool {
            command,
            name: "java",
            package: "openjdk-17-jre-headless",
        }
        .run_until("the first start of Keycloak", beside, ready)
        .await?;
        java::forget_home(&seed)
    })
}

async fn tool(line: Vec<std::ffi::OsString>, what: &str, folder: &Path) -> Result<(), Error> {
    Tool {
        command: command(line),
        name: "java",
        package: "openjdk-17-jre-headless",
    }
    .run(what, folder)
    .await
}

fn command(line: Vec<std::ffi::OsString>) -> Command {
    let mut words = line.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Far more than a start takes; a loaded machine takes many times what it takes alone.
const PATIENCE: Duration = Duration::from_secs(240);
const ASK_AGAIN: Duration = Duration::from_millis(200);
