//! An OIDC issuer for development: code with PKCE, device grant, refresh with rotation, ES256.
//!
//! It speaks plain HTTP on loopback and refuses any other address. Its people and their passwords are public. Tests
//! run it in process, move its clock, rotate its keys and make it fail; `rotate_keys`, `set_outage` and the rest
//! of that are methods of [`Issuer`] and cannot be reached over HTTP.

mod authorize;
mod claims;
mod clock;
mod codes;
mod device;
mod devices;
mod families;
mod form;
mod keys;
mod page;
mod people;
mod pkce;
mod realm;
mod reply;
mod server;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use clock::Clock;
pub use keys::Overlap;
pub use people::{Email, Person, everybody};

use realm::Realm;
use server::Server;

/// How an issuer begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whom it is for.
    pub circle: Circle,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// What time it is.
    pub clock: Clock,
}

/// Whom an issuer is for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Circle {
    /// The one public client; `azp` and `client_id` of access tokens, `aud` of id tokens.
    pub client_id: String,
    /// `aud` of access tokens.
    pub audience: String,
    /// Who can log in.
    pub people: Vec<Person>,
}

impl Default for Circle {
    fn default() -> Self {
        Self {
            client_id: "doorward".to_owned(),
            audience: "doorward-gateway".to_owned(),
            people: everybody(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            circle: Circle::default(),
            lifetimes: Lifetimes::default(),
            clock: Clock::default(),
        }
    }
}

/// How long what the issuer gives lives.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Access and id tokens.
    pub access: Duration,
    /// Refresh tokens, from each refresh.
    pub refresh: Duration,
    /// Authorization codes.
    pub code: Duration,
    /// Device codes.
    pub device: Duration,
    /// The least time between two polls of a device; whole seconds are announced.
    pub device_interval: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            access: Duration::from_secs(300),
            refresh: Duration::from_secs(12 * 3600),
            code: Duration::from_secs(60),
            device: Duration::from_secs(600),
            device_interval: Duration::from_secs(1),
        }
    }
}

/// What a test makes of the whole issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It works.
    None,
    /// Every request is answered 503.
    Errors,
    /// Requests are taken and not answered until this ends, then 503.
    Silence,
}

/// Why an issuer does not start or sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not a loopback address.
    #[error("the development issuer listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No key could be made or used.
    #[error("cannot make or use a signing key")]
    Signing,
    /// Nobody of that name.
    #[error("nobody here is called {0:?}")]
    Nobody(String),
}

/// A running issuer. Dropping it stops it; [`Issuer::stop`] also waits for that.
pub struct Issuer {
    server: Arc<Server>,
}

impl Issuer {
    /// Binds and serves on tasks of its own.
    ///
    /// # Errors
    /// The address is not loopback or cannot be bound, or no key can be made.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let asked = settings.listen;
        if !asked.ip().is_loopback() {
            return Err(Error::NotLoopback(asked));
        }
        let bind = |source| Error::Bind { address: asked, source };
        let listener = TcpListener::bind(asked).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let server = Arc::new(Server {
            realm: Realm::new(format!("http://{address}"), settings)?,
            address,
            outage: watch::Sender::new(Outage::None),
            served: Mutex::new(HashMap::new()),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        server.tasks.spawn(server.clone().run(listener));
        Ok(Self { server })
    }

    /// The issuer identifier, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.server.realm.url
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Signs with a new key from now on; returns its `kid`.
    ///
    /// # Errors
    /// No key can be made.
    pub fn rotate_keys(&self, overlap: Overlap) -> Result<String, Error> {
        self.server.realm.state().keys.rotate(overlap)
    }

    /// Changes somebody: groups, or whether they are enabled. Tokens already given stay as they are.
    ///
    /// # Errors
    /// Nobody has that name.
    pub fn edit_person(&self, name: &str, edit: impl FnOnce(&mut Person)) -> Result<(), Error> {
        let mut state = self.server.realm.state();
        edit(
            state
                .people
                .find_mut(name)
                .ok_or_else(|| Error::Nobody(name.to_owned()))?,
        );
        Ok(())
    }

    /// Begins or ends an outage.
    pub fn set_outage(&self, outage: Outage) {
        self.server.outage.send_replace(outage);
    }

    /// How many requests came for a path, such as `/jwks`, outages included.
    #[must_use]
    pub fn served(&self, path: &str) -> u64 {
        let served = self.server.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.get(path).copied().unwrap_or_default()
    }

    /// An access token as a login would give it now.
    ///
    /// # Errors
    /// Nobody has that name.
    pub fn access_token(&self, name: &str) -> Result<String, Error> {
        self.sign(&keys::access_header(), &self.access_claims(name)?)
    }

    /// The claims of such a token, to be changed and signed.
    ///
    /// # Errors
    /// Nobody has that name.
    pub fn access_claims(&self, name: &str) -> Result<Value, Error> {
        let realm = &self.server.realm;
        let state = realm.state();
        let person = state.people.find(name).ok_or_else(|| Error::Nobody(name.to_owned()))?;
        Ok(realm.access_claims(person, Uuid::new_v4(), "openid", realm.now()))
    }

    /// Signs any claims under any ES256 header; a header without `kid` gets the signing key's.
    ///
    /// # Errors
    /// The header asks for another algorithm.
    pub fn sign(&self, header: &jsonwebtoken::Header, claims: &Value) -> Result<String, Error> {
        self.server.realm.state().keys.sign(header, claims)
    }

    /// Stops listening, lets open requests end, waits for both.
    pub async fn stop(self) {
        self.server.stop.cancel();
        self.server.tasks.close();
        self.server.tasks.wait().await;
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}

/// 256 bits that nobody guesses.
fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
