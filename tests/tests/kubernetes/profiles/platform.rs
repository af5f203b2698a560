//! A platform's own API over HTTP, as the gateway calls it to have a workspace started: a fake, because it is the platform's and
//! not ours. It takes nobody without a good token of the issuer, and no word of a proxy for it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use tests::raw::Reply;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use crate::request::Request;

/// One request of somebody whose token is good.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Method and path.
    pub(super) what: String,
    /// The token's `preferred_username`.
    pub(super) user: String,
    /// The body; null if there is none.
    pub(super) body: Value,
}

/// What is done for a request, and answered with.
pub(super) type Act = Box<dyn Fn(Asked) -> Acting + Send + Sync>;
/// That while it is done: in the end a status and a body.
pub(super) type Acting = Pin<Box<dyn Future<Output = Result<(u16, Value)>> + Send>>;

/// The API. It ends when this is dropped.
pub(super) struct Platform {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: JoinSet<()>,
}

impl Platform {
    /// Starts it for tokens of this issuer.
    pub(super) async fn start(issuer: &str, act: Act) -> Result<Self> {
        let issuer = Url::parse(issuer)?.socket_addrs(|| None)?.first().copied();
        let issuer = issuer.context("the issuer has no address")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (log, act) = (Arc::clone(&asked), Arc::new(act));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (log, act) = (Arc::clone(&log), Arc::clone(&act));
                connections.spawn(async move {
                    // Whoever asks in another way gets no answer.
                    let _ = answer(tcp, issuer, &log, &act).await;
                });
            }
        });
        Ok(Self {
            address,
            asked,
            _serving: serving,
        })
    }

    /// The address of a configuration, with this server in the place of its own.
    pub(super) fn in_place_of(&self, url: &str) -> Result<String> {
        let (_, rest) = url.split_once("://").context("no URL")?;
        let (_, path) = rest.split_once('/').context("no path")?;
        Ok(format!("http://{}/{path}", self.address))
    }

    /// What good tokens asked for.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(tcp: TcpStream, issuer: SocketAddr, log: &Mutex<Vec<Asked>>, act: &Act) -> Result<()> {
    let mut stream = BufReader::new(tcp);
    let request = Request::read(&mut stream).await?;
    let bearer = request
        .field("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let user = match bearer {
        Some(token) => judged(issuer, token).await,
        None => Err(anyhow::anyhow!("no token")),
    };
    let (status, body) = match user {
        Ok(user) => {
            let asked = Asked {
                what: request.what,
                user,
                body: serde_json::from_slice(&request.body).unwrap_or_default(),
            };
            log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
            act(asked)
                .await
                .unwrap_or_else(|error| (500, json!({"error": format!("{error:#}")})))
        }
        Err(error) => (401, json!({"error": format!("{error:#}")})),
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

/// Whose token it is, by the issuer's published keys.
async fn judged(issuer: SocketAddr, token: &str) -> Result<String> {
    let mut stream = TcpStream::connect(issuer).await?;
    let request = format!("GET /jwks HTTP/1.1\r\nHost: {issuer}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let keys: JwkSet = serde_json::from_str(&Reply::read(&mut stream).await?.body())?;
    let kid = decode_header(token)?.kid.context("no key id")?;
    let key = DecodingKey::from_jwk(keys.find(&kid).context("no such key")?)?;
    let mut wanted = Validation::new(Algorithm::ES256);
    wanted.set_audience(&["doorward-gateway"]);
    wanted.set_issuer(&[format!("http://{issuer}")]);
    let claims: Value = decode(token, &key, &wanted)?.claims;
    let user = claims["preferred_username"].as_str().context("nobody's token")?;
    ensure!(!user.is_empty(), "nobody's token");
    Ok(user.to_owned())
}
