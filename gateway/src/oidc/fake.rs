//! An OIDC issuer for tests, on loopback, that misbehaves as it is told.

use std::{
    convert::Infallible,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::{
    config::{ClaimPath, Dpop, GroupsForm, Oidc, TokenKind},
    guarded::Guarded,
    oidc::{BearerToken, Presented},
    problem::{self, Body},
};

/// How an address answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Good,
    Status(u16),
    Text(String),
    /// A redirect to `/elsewhere`, which would answer well.
    Redirect,
    Never,
}

/// The issuer. What it publishes and how it answers can be changed while it runs.
pub(crate) struct FakeIssuer {
    pub(crate) url: String,
    state: Arc<State>,
    listening: Guarded<Option<tokio_util::sync::CancellationToken>>,
}

struct State {
    url: String,
    discovery: Guarded<Answer>,
    keys: Guarded<Answer>,
    published: Guarded<Vec<Value>>,
    /// What it says about each token; about others, that they are not active.
    tokens: Guarded<std::collections::HashMap<String, Value>>,
    introspection: Guarded<Answer>,
    asked: Guarded<Vec<String>>,
    discovered: AtomicUsize,
    fetched: AtomicUsize,
    elsewhere: AtomicUsize,
    tasks: TaskTracker,
}

/// A key pair of the issuer.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    encoding: EncodingKey,
    pub(crate) public: Value,
}

static RSA: LazyLock<Vec<u8>> = LazyLock::new(|| pkcs8(&rcgen::PKCS_RSA_SHA256));

/// The public half of every RSA key here (SubjectPublicKeyInfo).
pub(crate) fn rsa_public() -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    rcgen::KeyPair::try_from(RSA.as_slice())
        .unwrap()
        .subject_public_key_info()
}

fn pkcs8(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
    rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_der()
}

impl Key {
    pub(crate) fn new(id: &str, algorithm: Algorithm) -> Self {
        let encoding = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&pkcs8(&rcgen::PKCS_ECDSA_P256_SHA256)),
            Algorithm::EdDSA => {
                // PKCS #8 without the public half, the only form that the encoder reads.
                let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
                let mut seed = [0; 32];
                aws_lc_rs::rand::fill(&mut seed).unwrap();
                der.extend_from_slice(&seed);
                EncodingKey::from_ed_der(&der)
            }
            // The same for all of them: making one takes long.
            _ => EncodingKey::from_rsa_pem(pem_of(&RSA).as_bytes()).unwrap(),
        };
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&encoding, algorithm).unwrap()).unwrap();
        public["kid"] = id.into();
        public["use"] = "sig".into();
        Self {
            id: id.to_owned(),
            algorithm,
            encoding,
            public,
        }
    }

    /// A token of these texts, signed as the key's algorithm says.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.encoding, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// The header that its tokens have.
    pub(crate) fn header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": self.id, "typ": "JWT" })
    }

    /// A good token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> Presented {
        bearer(&self.sign(&self.header().to_string(), &claims.to_string()))
    }
}

/// A laptop with a key of its own, to which tokens are bound (RFC 9449).
pub(crate) struct Holder {
    pub(crate) key: Key,
}

impl Holder {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self {
            key: Key::new("", algorithm),
        }
    }

    /// The public key alone, as a proof carries it.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = self.key.public.clone();
        for name in ["kid", "use", "alg", "key_ops"] {
            jwk.as_object_mut().unwrap().remove(name);
        }
        jwk
    }

    pub(crate) fn thumbprint(&self) -> String {
        super::dpop::thumbprint(self.jwk().as_object().unwrap()).unwrap()
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "dpop+jwt", "alg": format!("{:?}", self.key.algorithm), "jwk": self.jwk() })
    }

    pub(crate) fn claims(token: &str) -> Value {
        json!({
            "jti": uuid::Uuid::now_v7().to_string(),
            "htm": "GET",
            "htu": "https://gw.example:8443/v1/me",
            "iat": now(),
            "ath": URL_SAFE_NO_PAD.encode(super::replay::digest(token)),
        })
    }

    /// A good proof with changes to its header and its claims.
    pub(crate) fn proof(&self, token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (self.header(), Self::claims(token));
        change(&mut header, &mut claims);
        self.key.sign(&header.to_string(), &claims.to_string())
    }
}

fn pem_of(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

pub(crate) fn bearer(token: &str) -> Presented {
    Presented::bearer(BearerToken::new(token).unwrap())
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl FakeIssuer {
    /// An issuer that publishes these keys and answers well.
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        let issuer = Self::absent(keys).await;
        issuer.appear().await;
        issuer
    }

    /// An issuer that does not answer yet: its port refuses connections.
    pub(crate) async fn absent(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realms/one", listener.local_addr().unwrap());
        let state = Arc::new(State {
            url: url.clone(),
            discovery: Guarded::new(Answer::Good),
            keys: Guarded::new(Answer::Good),
            published: Guarded::new(keys.iter().map(|key| key.public.clone()).collect()),
            tokens: Guarded::default(),
            introspection: Guarded::new(Answer::Good),
            asked: Guarded::default(),
            discovered: AtomicUsize::new(0),
            fetched: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
        });
        Self {
            url,
            state,
            listening: Guarded::new(None),
        }
    }

    /// Begins to listen.
    pub(crate) async fn appear(&self) {
        let address = self.url.split('/').nth(2).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        self.listening.with(|listening| *listening = Some(stop.clone()));
        let state = Arc::clone(&self.state);
        self.state.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stop.cancelled() => return,
                };
                let (tcp, _) = accepted.unwrap();
                let (served, stop) = (Arc::clone(&state), stop.clone());
                state.tasks.spawn(async move {
                    let service = service_fn(move |request| {
                        let state = Arc::clone(&served);
                        async move { Ok::<_, Infallible>(state.answer(request).await) }
                    });
                    let serve = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
                    tokio::select! {
                        _ = serve => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        });
    }

    /// Goes away, connections and all.
    pub(crate) fn vanish(&self) {
        if let Some(stop) = self.listening.with(Option::take) {
            stop.cancel();
        }
    }

    pub(crate) fn discovery_answers(&self, answer: Answer) {
        self.state.discovery.with(|now| *now = answer);
    }

    pub(crate) fn keys_answer(&self, answer: Answer) {
        self.state.keys.with(|now| *now = answer);
    }

    pub(crate) fn publish(&self, keys: &[&Key]) {
        self.publish_values(keys.iter().map(|key| key.public.clone()).collect());
    }

    pub(crate) fn publish_values(&self, keys: Vec<Value>) {
        self.state.published.with(|now| *now = keys);
    }

    /// What it says from now on about a token.
    pub(crate) fn says(&self, token: &str, claims: Value) {
        self.state.tokens.with(|tokens| tokens.insert(token.to_owned(), claims));
    }

    pub(crate) fn introspection_answers(&self, answer: Answer) {
        self.state.introspection.with(|now| *now = answer);
    }

    /// The credentials with which it was asked about tokens, each time.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.with(|asked| asked.clone())
    }

    /// How often the keys were fetched.
    pub(crate) fn fetched(&self) -> usize {
        self.state.fetched.load(Ordering::SeqCst)
    }

    /// How often anything else than the two documents was asked for.
    pub(crate) fn elsewhere(&self) -> usize {
        self.state.elsewhere.load(Ordering::SeqCst)
    }

    /// Settings of a gateway that believes this issuer.
    pub(crate) fn settings(&self) -> Oidc {
        Oidc {
            issuer: self.url.clone(),
            client_id: "doorward".to_owned(),
            audience: "doorward-gateway".to_owned(),
            scopes: vec!["openid".to_owned()],
            name: "one".to_owned(),
            user_prefix: String::new(),
            groups_prefix: String::new(),
            email_claim: ClaimPath::parse("email").unwrap(),
            email_domains: None,
            dpop: Dpop::Off,
            introspection: None,
            login: None,
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            user_claim: ClaimPath::parse("preferred_username").unwrap(),
            groups_claim: ClaimPath::parse("groups").unwrap(),
            groups_form: GroupsForm::Array,
            workspaces_claim: None,
            authorized_parties: vec!["doorward".to_owned()],
            token_kind: TokenKind::Access,
            ca: None,
            keys_cool_down: Duration::from_secs(3600),
            keys_refresh: Duration::from_secs(3600),
            keys_max_age: Duration::from_secs(3600),
        }
    }

    /// The claims of a good access token for bob.
    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": self.url,
            "sub": "0b5e1d7e-bob",
            "aud": ["doorward-gateway", "account"],
            "azp": "doorward",
            "typ": "Bearer",
            "exp": now() + 300,
            "iat": now(),
            "preferred_username": "bob",
            "groups": ["developers"],
        })
    }
}

impl Drop for FakeIssuer {
    fn drop(&mut self) {
        self.vanish();
    }
}

impl State {
    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let (answer, good) = match path.as_str() {
            "/realms/one/introspect" => {
                let credentials = request.headers().get(header::AUTHORIZATION).cloned();
                let credentials = credentials.and_then(|value| value.to_str().map(str::to_owned).ok());
                self.asked.with(|asked| asked.push(credentials.unwrap_or_default()));
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let token = url::form_urlencoded::parse(&body)
                    .find(|(key, _)| key == "token")
                    .map(|(_, token)| token.into_owned())
                    .unwrap_or_default();
                let known = self.tokens.with(|tokens| tokens.get(&token).cloned());
                (
                    self.introspection.with(|answer| answer.clone()),
                    known.unwrap_or_else(|| json!({ "active": false })),
                )
            }
            "/realms/one/.well-known/openid-configuration" => {
                self.discovered.fetch_add(1, Ordering::SeqCst);
                let good = json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url),
                    "introspection_endpoint": format!("{}/introspect", self.url) });
                (self.discovery.with(|answer| answer.clone()), good)
            }
            "/realms/one/keys" => {
                self.fetched.fetch_add(1, Ordering::SeqCst);
                (
                    self.keys.with(|answer| answer.clone()),
                    json!({ "keys": self.published.with(|keys| keys.clone()) }),
                )
            }
            _ => {
                self.elsewhere.fetch_add(1, Ordering::SeqCst);
                (
                    Answer::Good,
                    json!({ "keys": self.published.with(|keys| keys.clone()) }),
                )
            }
        };
        let mut response = problem::json(&good);
        match answer {
            Answer::Good => {}
            Answer::Status(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
            Answer::Text(text) => *response.body_mut() = problem::full(text),
            Answer::Redirect => {
                *response.status_mut() = StatusCode::FOUND;
                response
                    .headers_mut()
                    .insert(header::LOCATION, format!("{}/elsewhere", self.url).parse().unwrap());
            }
            Answer::Never => std::future::pending().await,
        }
        response
    }
}
