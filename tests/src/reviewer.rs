//! What Vault asks of a Kubernetes API server: reviews of service accounts' tokens (`authentication.k8s.io/v1`), over TLS. It
//! answers as kube-apiserver does, for the tokens that it gave out itself and that were not taken back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The API server. It ends when this is dropped.
pub struct Reviewer {
    url: String,
    ca: String,
    key: EncodingKey,
    good: Arc<Mutex<BTreeSet<String>>>,
    _serving: JoinSet<()>,
}

impl Reviewer {
    /// Starts it.
    ///
    /// # Errors
    /// No port or no key.
    pub async fn start() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        let key = made.signing_key.serialize_pem();
        let private = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], private)?;
        let (acceptor, listener) = (
            TlsAcceptor::from(Arc::new(tls)),
            TcpListener::bind("127.0.0.1:0").await?,
        );
        let url = format!("https://{}", listener.local_addr()?);
        let good = Arc::<Mutex<BTreeSet<String>>>::default();
        let known = Arc::clone(&good);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, known) = (acceptor.clone(), Arc::clone(&known));
                connections.spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        // Whoever asks in another way gets no answer.
                        let _ = answer(tls, &known).await;
                    }
                });
            }
        });
        Ok(Self {
            url,
            ca: made.cert.pem(),
            key: EncodingKey::from_ec_pem(key.as_bytes())?,
            good,
            _serving: serving,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate that vouches for it, PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// A token of a service account in the namespace `doorward`.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn token(&self, account: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iat": now, "nbf": now, "exp": now + 3600, "jti": uuid::Uuid::now_v7(),
            "iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"],
            "sub": format!("system:serviceaccount:doorward:{account}"),
            "kubernetes.io": {"namespace": "doorward", "serviceaccount": {"name": account, "uid": account}},
        });
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)?;
        self.with(|good| good.insert(token.clone()));
        Ok(token)
    }

    /// Takes a token back, as the end of its pod does.
    pub fn end(&self, token: &str) {
        self.with(|good| good.remove(token));
    }

    fn with<R>(&self, act: impl FnOnce(&mut BTreeSet<String>) -> R) -> R {
        act(&mut self.good.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request, one answer.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, good: &Mutex<BTreeSet<String>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    anyhow::ensure!(
        first.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews ") && length < 64 * 1024,
        "{first}"
    );
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let review: Value = serde_json::from_slice(&body)?;
    let token = review["spec"]["token"].as_str().context("no token")?;
    let body = json!({
        "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": review["spec"],
        "status": status(token, good.lock().unwrap_or_else(PoisonError::into_inner).contains(token))?,
    })
    .to_string();
    let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// What is said of a token; its claims are believed, because it is one of those that were given out.
fn status(token: &str, good: bool) -> Result<Value> {
    if !good {
        return Ok(json!({"user": {}, "error": "[invalid bearer token, service account token has been invalidated]"}));
    }
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token)?.claims;
    Ok(json!({
        "authenticated": true, "audiences": claims["aud"],
        "user": {
            "username": claims["sub"], "uid": claims["kubernetes.io"]["serviceaccount"]["uid"],
            "groups": ["system:serviceaccounts", "system:serviceaccounts:doorward", "system:authenticated"],
        },
    }))
}
