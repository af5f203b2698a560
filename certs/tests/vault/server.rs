//! A false Vault on loopback: honest until a script says otherwise. It remembers what it was asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use doorward_certs::{
    Authority, AuthorityError, Capabilities, HostKey, Login as LoginName, Recording, Secret, SessionCert,
    SessionRequest, Sftp, Terms, UserToken, WorkspaceName, WorkspaceUid,
    vault::{HostCertificates, Login, Settings, SignAs, Vault},
};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use ssh_key::{
    PrivateKey, PublicKey,
    certificate::{Builder, CertType},
    public::KeyData,
};
use tokio::net::TcpListener;
use uuid::Uuid;

/// One request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Below `/v1/`.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn token(&self) -> &str {
        self.headers.get("x-vault-token").map_or("", String::as_str)
    }

    pub(crate) fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }
}

/// What is answered.
pub(crate) enum Said {
    Json(u16, Value),
    Text(u16, &'static str, Vec<u8>),
    Header(u16, &'static str, String),
    /// Chunks without end.
    Endless,
    /// Nothing, for ever.
    Nothing,
}

pub(crate) fn errors(status: u16, text: &str) -> Said {
    Said::Json(status, json!({ "errors": [text] }))
}

type Script = Box<dyn Fn(&Asked) -> Option<Said> + Send + Sync>;

struct Inner {
    asked: Mutex<Vec<Asked>>,
    script: Mutex<Script>,
    /// The CA of `ssh` and of `ssh-host`.
    keys: Mutex<[PrivateKey; 2]>,
    lease: Mutex<u64>,
}

pub(crate) struct FalseVault {
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
    inner: Arc<Inner>,
    _tasks: tokio::task::JoinSet<()>,
}

impl FalseVault {
    pub(crate) async fn start() -> Self {
        provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            asked: Mutex::default(),
            script: Mutex::new(Box::new(|_| None)),
            keys: Mutex::new([ca(), ca()]),
            lease: Mutex::new(3600),
        });
        let mut tasks = tokio::task::JoinSet::new();
        let served = Arc::clone(&inner);
        tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let inner = Arc::clone(&served);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&inner), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("role-id"), "the-role\n").unwrap();
        std::fs::write(folder.path().join("secret-id"), "the-secret\n").unwrap();
        Self {
            address,
            folder,
            inner,
            _tasks: tasks,
        }
    }

    /// From now on this answers first; `None` leaves it to the honest one.
    pub(crate) fn script(&self, script: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap() = Box::new(script);
    }

    /// Answers every signing with a draft that was changed.
    pub(crate) fn lie(&self, change: impl Fn(&mut Draft) + Send + Sync + 'static) {
        let inner = Arc::clone(&self.inner);
        self.script(move |asked| {
            let mut draft = inner.draft(asked)?;
            change(&mut draft);
            Some(draft.signed())
        });
    }

    /// Other CAs from now on.
    pub(crate) fn rotate(&self) {
        *self.inner.keys.lock().unwrap() = [ca(), ca()];
    }

    /// How many seconds tokens live from now on.
    pub(crate) fn lease(&self, seconds: u64) {
        *self.inner.lease.lock().unwrap() = seconds;
    }

    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let all = self.inner.asked.lock().unwrap();
        all.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    pub(crate) fn asked_at_all(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            address: self.address.parse().unwrap(),
            ca: None,
            namespace: None,
            user_mount: "ssh".into(),
            host_mount: "ssh-host".into(),
            session_role: "doorward-session".into(),
            link_role: "doorward-link".into(),
            host_role: "doorward-host".into(),
            hosts: HostCertificates::Gateway,
            sign_as: SignAs::Gateway,
            login: Login::AppRole {
                mount: "approle".into(),
                role_id_file: self.file("role-id"),
                secret_id_file: self.file("secret-id"),
            },
            timeout: Duration::from_secs(10),
            signings_per_second: 1000,
            signings_per_user_per_minute: 1000,
        }
    }

    pub(crate) fn authority(&self) -> Authority {
        authority(self.settings())
    }
}

pub(crate) fn authority(settings: Settings) -> Authority {
    Authority::Vault(Vault::new(settings).unwrap())
}

pub(crate) fn provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

pub(crate) fn ca() -> PrivateKey {
    HostKey::generate().unwrap().private_key().clone()
}

pub(crate) fn session_request() -> SessionRequest {
    SessionRequest {
        subject: HostKey::generate().unwrap().public_key().clone(),
        session: Uuid::now_v7(),
        workspace: WorkspaceName::try_from("devenv-0").unwrap(),
        workspace_uid: WorkspaceUid::try_from("3f1c").unwrap(),
        user: "bob".into(),
        terms: Terms {
            login: LoginName::try_from("node").unwrap(),
            capabilities: Capabilities {
                shell: true,
                pty: true,
                sftp: Sftp::ReadOnly,
                ..Capabilities::default()
            },
            recording: Recording::default(),
            longest: Duration::from_secs(3600),
        },
        valid_for: Duration::from_secs(180),
    }
}

pub(crate) const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.bobs-own-token.c2lnbmF0dXJl";

/// Has a session signed for bob.
pub(crate) async fn sign(authority: &Authority) -> Result<SessionCert, AuthorityError> {
    let token = UserToken::new(Secret::new(JWT.into()));
    let request = session_request();
    let signing = authority.sign_session(&request, token, SystemTime::now());
    tokio::time::timeout(Duration::from_secs(60), signing).await.unwrap()
}

/// The code of the error that a signing for bob ends with.
pub(crate) async fn refusal(authority: &Authority) -> String {
    match sign(authority).await {
        Ok(_) => "signed".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}

/// A certificate on its way to being signed.
pub(crate) struct Draft {
    pub(crate) kind: CertType,
    pub(crate) subject: KeyData,
    pub(crate) principals: Vec<String>,
    pub(crate) extensions: BTreeMap<String, String>,
    pub(crate) critical: BTreeMap<String, String>,
    pub(crate) key_id: String,
    pub(crate) serial: u64,
    pub(crate) after: u64,
    pub(crate) before: u64,
    pub(crate) signer: PrivateKey,
    /// Behind the blob, inside the base64.
    pub(crate) tail: Vec<u8>,
    /// Behind the line.
    pub(crate) behind: &'static str,
}

impl Draft {
    fn signed(self) -> Said {
        let mut builder = Builder::new([7; 32], self.subject, self.after, self.before).unwrap();
        builder.serial(self.serial).unwrap();
        builder.cert_type(self.kind).unwrap();
        builder.key_id(self.key_id).unwrap();
        if self.principals.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        for name in self.principals {
            builder.valid_principal(name).unwrap();
        }
        for (name, value) in self.critical {
            builder.critical_option(name, value).unwrap();
        }
        for (name, value) in self.extensions {
            builder.extension(name, value).unwrap();
        }
        let mut blob = builder.sign(&self.signer).unwrap().to_bytes().unwrap();
        blob.extend(self.tail);
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let line = format!(
            "ssh-ed25519-cert-v01@openssh.com {}\n{}",
            STANDARD.encode(blob),
            self.behind
        );
        let data = json!({ "serial_number": format!("{:x}", self.serial), "signed_key": line });
        Said::Json(
            200,
            json!({ "request_id": "1", "data": data, "warnings": null, "auth": null }),
        )
    }
}

impl Inner {
    /// What an honest Vault would sign for this request, if it is one for a signature.
    fn draft(&self, asked: &Asked) -> Option<Draft> {
        let kind = match asked.path.as_str() {
            "ssh/sign/doorward-session" | "ssh/sign/doorward-link" => CertType::User,
            "ssh-host/sign/doorward-host" => CertType::Host,
            _ => return None,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let ttl: u64 = asked.text("ttl").strip_suffix('s')?.parse().ok()?;
        let mut principals: Vec<_> = asked.text("valid_principals").split(',').map(str::to_owned).collect();
        principals.sort();
        let extensions = asked.body["extensions"].as_object()?.iter();
        Some(Draft {
            kind,
            subject: PublicKey::from_openssh(asked.text("public_key"))
                .unwrap()
                .key_data()
                .clone(),
            principals,
            extensions: extensions
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
            critical: BTreeMap::new(),
            key_id: asked.text("key_id").to_owned(),
            serial: 0x7a36_c645_ab04_1415,
            after: now - 30,
            before: now + ttl,
            signer: self.key(kind),
            tail: Vec::new(),
            behind: "",
        })
    }

    fn key(&self, kind: CertType) -> PrivateKey {
        let [user, host] = &*self.keys.lock().unwrap();
        match kind {
            CertType::User => user.clone(),
            CertType::Host => host.clone(),
        }
    }

    fn honest(&self, asked: &Asked) -> Said {
        let public = |kind| {
            let line = self.key(kind).public_key().to_openssh().unwrap();
            Said::Text(200, "text/plain", format!("{line}\n").into_bytes())
        };
        let auth = |token: &str| {
            let lease = *self.lease.lock().unwrap();
            let auth = json!({
                "client_token": token, "accessor": "a", "policies": [], "lease_duration": lease, "renewable": true,
                "entity_id": "", "token_type": "service", "orphan": true, "num_uses": 0
            });
            Said::Json(200, json!({ "request_id": "1", "data": null, "auth": auth }))
        };
        if let Some(draft) = self.draft(asked) {
            return draft.signed();
        }
        match asked.path.as_str() {
            "ssh/public_key" => public(CertType::User),
            "ssh-host/public_key" => public(CertType::Host),
            "auth/token/renew-self" => auth(asked.token()),
            "auth/token/revoke-self" => Said::Text(204, "application/json", Vec::new()),
            "auth/token/lookup-self" => {
                let lease = *self.lease.lock().unwrap();
                Said::Json(200, json!({ "data": { "ttl": lease, "renewable": true } }))
            }
            "sys/health" => Said::Json(200, json!({ "initialized": true, "sealed": false, "standby": false })),
            login if login.starts_with("auth/") && login.ends_with("/login") => {
                let number = self.asked.lock().unwrap().len();
                auth(&format!("hvs.secret-{number}"))
            }
            _ => errors(404, "no handler for route"),
        }
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().strip_prefix("/v1/").unwrap_or("?").to_owned();
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let method = request.method().to_string();
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let asked = Asked {
        method,
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    inner.asked.lock().unwrap().push(asked.clone());
    let scripted = (inner.script.lock().unwrap())(&asked);
    let full = |bytes: Vec<u8>| Full::new(Bytes::from(bytes)).boxed_unsync();
    let (status, kind, body) = match scripted.unwrap_or_else(|| inner.honest(&asked)) {
        Said::Json(status, value) => (
            status,
            ("content-type", "application/json".to_owned()),
            full(value.to_string().into()),
        ),
        Said::Text(status, kind, bytes) => (status, ("content-type", kind.to_owned()), full(bytes)),
        Said::Header(status, name, value) => (status, (name, value), full(Vec::new())),
        Said::Endless => {
            let chunks =
                futures_util::stream::repeat_with(|| Ok(hyper::body::Frame::data(Bytes::from(vec![b' '; 8192]))));
            let body = http_body_util::StreamBody::new(chunks).boxed_unsync();
            (200, ("content-type", "application/json".to_owned()), body)
        }
        Said::Nothing => std::future::pending().await,
    };
    Ok(Response::builder()
        .status(status)
        .header(kind.0, kind.1)
        .body(body)
        .unwrap())
}
