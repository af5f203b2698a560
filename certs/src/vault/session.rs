//! The gateway's own token at Vault: got by a login, renewed before it ends, got again after.
//!
//! One login at a time, whoever needs it; a login that failed is not repeated for a moment, however many ask. What a login
//! needs is read from its files each time. No token is written anywhere.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt as _, sync::Semaphore, time::Instant};
use zeroize::Zeroizing;

use super::{
    Login, VaultError, retry,
    transport::{Ask, Transport},
    verdict::{Asked, judge},
};
use crate::Secret;

/// The gateway's login and the token that it gave.
#[derive(Debug)]
pub(super) struct Session {
    login: Login,
    state: Mutex<State>,
    gate: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// When the last login failed, and why.
    failed: Option<(Instant, VaultError)>,
}

/// A token of Vault's.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) secret: Secret,
    obtained: Instant,
    /// How long it lives from then on; nothing for one that does not end.
    life: Option<Duration>,
    renewable: bool,
    /// What a fresh login gave: a renewal that gives much less nears the token's end.
    full_life: Option<Duration>,
}

impl Token {
    fn is_usable(&self) -> bool {
        self.life
            .is_none_or(|life| self.obtained.elapsed() + MARGIN.min(life / 10) < life)
    }

    fn is_due(&self) -> bool {
        self.life
            .is_some_and(|life| self.obtained.elapsed() >= life.mul_f64(2.0 / 3.0))
    }
}

impl Session {
    pub(super) fn new(login: Login) -> Self {
        Self {
            login,
            state: Mutex::default(),
            gate: Semaphore::new(1),
        }
    }

    /// A token that is good now, as far as we know: the one there is, or that of a login.
    ///
    /// # Errors
    /// Why there is none, before `deadline`.
    pub(super) async fn token(&self, transport: &Transport, deadline: Instant) -> Result<Arc<Token>, VaultError> {
        if let Some(token) = self.usable() {
            return Ok(token);
        }
        let _alone = self.alone(transport, deadline).await?;
        // Somebody else may have been in here meanwhile.
        if let Some(token) = self.usable() {
            return Ok(token);
        }
        let failed = self.with(|state| state.failed.clone());
        match failed {
            Some((when, error)) if when.elapsed() < COOL_DOWN => Err(error),
            _ => self.log_in(transport, deadline).await,
        }
    }

    /// Renews the token when two thirds of its life are over, logs in anew where that cannot be done, and looks whether a
    /// token file has another token now.
    ///
    /// # Errors
    /// Why there is no token.
    pub(super) async fn tend(&self, transport: &Transport, deadline: Instant) -> Result<(), VaultError> {
        let token = self.token(transport, deadline).await?;
        let replaced = match &self.login {
            Login::TokenFile { token_file } => read(token_file).await.is_ok_and(|now| now != token.secret),
            _ => false,
        };
        if !replaced && !token.is_due() {
            return Ok(());
        }
        let _alone = self.alone(transport, deadline).await?;
        if !replaced && token.renewable {
            match renew(transport, &token, deadline).await {
                Ok(renewed) if renewed.life >= renewed.full_life.map(|full| full / 2) => {
                    self.keep(renewed);
                    return Ok(());
                }
                Ok(_short) => {}
                Err(error) => tracing::debug!(code = error.code(), "the token for Vault cannot be renewed: {error}"),
            }
        }
        match self.log_in(transport, deadline).await {
            Ok(_) => Ok(()),
            // The old one is good for a while yet; the next look tries again.
            Err(_) if token.is_usable() && !replaced => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Drops a token that Vault did not take, so that the next one is got by a login. Says whether that may help: a token
    /// that is seconds old is not refused for its age.
    pub(super) fn forget(&self, refused: &Arc<Token>) -> bool {
        self.with(|state| match &state.token {
            Some(current) if Arc::ptr_eq(current, refused) => {
                let old = current.obtained.elapsed() > COOL_DOWN;
                if old {
                    state.token = None;
                }
                old
            }
            _ => true,
        })
    }

    async fn alone(&self, transport: &Transport, deadline: Instant) -> Result<impl Drop + '_, VaultError> {
        let begun = Instant::now();
        match tokio::time::timeout_at(deadline, self.gate.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(VaultError::Hanging {
                address: transport.address(),
                within: begun.elapsed(),
            }),
        }
    }

    async fn log_in(&self, transport: &Transport, deadline: Instant) -> Result<Arc<Token>, VaultError> {
        match retry::within(deadline, || log_in(transport, &self.login, deadline)).await {
            Ok(token) => Ok(self.keep(token)),
            Err(error) => {
                self.with(|state| state.failed = Some((Instant::now(), error.clone())));
                Err(error)
            }
        }
    }

    fn keep(&self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        self.with(|state| {
            state.token = Some(Arc::clone(&token));
            state.failed = None;
        });
        token
    }

    fn usable(&self) -> Option<Arc<Token>> {
        self.with(|state| state.token.clone().filter(|token| token.is_usable()))
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a login is answered with (`auth`).
#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

/// A token as Vault gives it.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: Secret,
    lease_duration: u64,
    renewable: bool,
    /// How often it may be used; 0 for as often as one likes.
    #[serde(default)]
    num_uses: u64,
    #[serde(default)]
    token_type: String,
}

impl Auth {
    /// Whether the token is still there after one request, and could be revoked.
    pub(super) fn outlives_one_use(&self) -> bool {
        self.num_uses != 1 && self.token_type != "batch"
    }

    fn into_token(self) -> Token {
        let life = (self.lease_duration > 0).then(|| Duration::from_secs(self.lease_duration));
        Token {
            secret: self.client_token,
            obtained: Instant::now(),
            life,
            renewable: self.renewable,
            full_life: life,
        }
    }
}

#[derive(Serialize)]
struct WithJwt<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct WithRoleId<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

/// Logs in with a JWT at an auth method of kind `jwt` or `kubernetes`.
pub(super) async fn with_jwt(
    transport: &Transport,
    asked: Asked,
    mount: &str,
    role: &str,
    jwt: &Secret,
    deadline: Instant,
) -> Result<Auth, VaultError> {
    let jwt = jwt.expose();
    post(
        transport,
        asked,
        &format!("auth/{mount}/login"),
        &WithJwt { role, jwt },
        None,
        deadline,
    )
    .await
}

async fn log_in(transport: &Transport, login: &Login, deadline: Instant) -> Result<Token, VaultError> {
    let auth = match login {
        Login::Kubernetes { mount, role, jwt_file } | Login::Jwt { mount, role, jwt_file } => {
            let jwt = read(jwt_file).await?;
            with_jwt(transport, Asked::Login, mount, role, &jwt, deadline).await?
        }
        Login::AppRole {
            mount,
            role_id_file,
            secret_id_file,
        } => {
            let (role_id, secret_id) = (read(role_id_file).await?, read(secret_id_file).await?);
            let body = WithRoleId {
                role_id: role_id.expose(),
                secret_id: secret_id.expose(),
            };
            post(
                transport,
                Asked::Login,
                &format!("auth/{mount}/login"),
                &body,
                None,
                deadline,
            )
            .await?
        }
        Login::TokenFile { token_file } => return look_up(transport, read(token_file).await?, deadline).await,
    };
    Ok(auth.into_token())
}

async fn renew(transport: &Transport, token: &Token, deadline: Instant) -> Result<Token, VaultError> {
    let (path, secret) = ("auth/token/renew-self", Some(&token.secret));
    let renewed: Auth = post(transport, Asked::Login, path, &serde_json::Map::new(), secret, deadline).await?;
    Ok(Token {
        full_life: token.full_life,
        ..renewed.into_token()
    })
}

/// Gives a token up that is not needed any more. That it failed does not matter: the token ends by itself.
pub(super) async fn revoke(transport: &Transport, token: &Secret, deadline: Instant) {
    let ask = Ask {
        method: Method::POST,
        path: "auth/token/revoke-self",
        body: None,
        token: Some(token),
    };
    match transport.send(ask, deadline.min(Instant::now() + REVOKE)).await {
        Ok(reply) if reply.is_success() => {}
        Ok(reply) => tracing::debug!(
            "a token that was used once could not be revoked: status {}",
            reply.status
        ),
        Err(error) => tracing::debug!("a token that was used once could not be revoked: {error}"),
    }
}

/// What is known of a token that somebody else got.
async fn look_up(transport: &Transport, secret: Secret, deadline: Instant) -> Result<Token, VaultError> {
    #[derive(Deserialize)]
    struct Known {
        ttl: u64,
        #[serde(default)]
        renewable: bool,
    }
    let path = "auth/token/lookup-self";
    let ask = Ask {
        method: Method::GET,
        path,
        body: None,
        token: Some(&secret),
    };
    let reply = transport.send(ask, deadline).await?;
    let reply = judge(transport, Asked::Login, path, reply, deadline).await?;
    let known: Known = transport.data(&reply, path)?;
    let life = (known.ttl > 0).then(|| Duration::from_secs(known.ttl));
    Ok(Token {
        secret,
        obtained: Instant::now(),
        life,
        renewable: known.renewable,
        full_life: life,
    })
}

async fn post(
    transport: &Transport,
    asked: Asked,
    path: &str,
    body: &impl Serialize,
    token: Option<&Secret>,
    deadline: Instant,
) -> Result<Auth, VaultError> {
    let mut written = Zeroizing::new(Vec::with_capacity(LONGEST_BODY));
    serde_json::to_writer(&mut *written, body).map_err(|error| VaultError::Client(error.to_string()))?;
    let ask = Ask {
        method: Method::POST,
        path,
        body: Some(written),
        token,
    };
    let reply = transport.send(ask, deadline).await?;
    let reply = judge(transport, asked, path, reply, deadline).await?;
    let read: Result<LoggedIn, _> = serde_json::from_slice(&reply.body);
    read.map(|logged_in| logged_in.auth)
        .map_err(|_| transport.not_vault(&reply, path))
}

/// A secret from a file: one line of visible ASCII.
pub(super) async fn read(file: &Path) -> Result<Secret, VaultError> {
    let unusable = |why: String| VaultError::LoginFile {
        path: file.display().to_string(),
        why,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_SECRET + 2));
    let opened = tokio::fs::File::open(file)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    opened
        .take(LONGEST_SECRET as u64 + 2)
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    let line = bytes.trim_ascii();
    if line.is_empty() || line.len() > LONGEST_SECRET || !line.iter().all(u8::is_ascii_graphic) {
        return Err(unusable(format!(
            "it is not one line of 1 to {LONGEST_SECRET} visible characters"
        )));
    }
    String::from_utf8(line.to_vec())
        .map(Secret::new)
        .map_err(|_| unusable("it is not text".to_owned()))
}

/// A token is not used when it is about to end.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a login that failed is not tried again, and how old a token must be for another login to be worth it.
const COOL_DOWN: Duration = Duration::from_secs(2);
const REVOKE: Duration = Duration::from_secs(1);
const LONGEST_SECRET: usize = 16 * 1024;
const LONGEST_BODY: usize = LONGEST_SECRET + 1024;
