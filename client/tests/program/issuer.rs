//! An issuer that checks what a client must prove, and can be told to answer wrongly.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use url::Url;

use crate::proof;
use crate::server::{Asked, Reply, Server};

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// Answers of the token endpoint that come before the good one: an error code each.
    pub(crate) errors: Vec<&'static str>,
    /// Claims that the id token has instead of the right ones.
    pub(crate) claims: Value,
    /// Members of the discovery document that differ.
    pub(crate) discovery: Value,
    /// Whether refreshing fails without an OAuth error.
    pub(crate) down: bool,
    /// How long its tokens live, in seconds, where not 300.
    pub(crate) life: Option<u64>,
    /// Members of the token answer that differ.
    pub(crate) answer: Value,
    /// Whether tokens are bound to keys, and the nonce that proofs must then have.
    pub(crate) bind: Option<&'static str>,
    /// While this is closed to it, the token endpoint has its answer ready and keeps it.
    pub(crate) hold: Option<Arc<Semaphore>>,
    /// What the revocation endpoint answers, where not 200.
    pub(crate) revoke: Option<u16>,
    /// What the logout endpoint answers, where not 204.
    pub(crate) end_session: Option<u16>,
    /// The scope of the last login.
    pub(crate) scope: String,
    /// The key of the last login.
    pub(crate) thumbprint: Option<String>,
    /// What a browser brought back that the token endpoint must be shown: challenge, redirect and nonce.
    login: Option<(String, String, Value)>,
    /// The one refresh token that is good, and how many there were.
    refresh: u64,
}

impl Script {
    /// The first refresh token is the good one again.
    pub(crate) fn start_over(&mut self) {
        self.refresh = 0;
    }
}

pub(crate) struct Issuer {
    pub(crate) server: Server,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let base = Arc::new(Mutex::new(String::new()));
        let (of_server, own) = (script.clone(), base.clone());
        let server = Server::start(None, move |asked| {
            let base = own.lock().unwrap().clone();
            answer(&base, &mut of_server.lock().unwrap(), asked)
        })
        .await;
        *base.lock().unwrap() = format!("http://{}", server.address);
        Self { server, script }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// What a browser does with the address of a login page: remembers what belongs to it, and says where to go back
    /// to, with the parameters of a good answer.
    pub(crate) fn log_in(&self, address: &str) -> (Url, String) {
        let url = Url::parse(address).unwrap();
        assert!(address.starts_with(&format!("{}/authorize?", self.url())), "{address}");
        let get = |name: &str| {
            url.query_pairs()
                .find(|(found, _)| found == name)
                .unwrap()
                .1
                .into_owned()
        };
        assert_eq!(
            (get("response_type"), get("client_id")),
            ("code".to_owned(), "doorward".to_owned())
        );
        assert_eq!(get("code_challenge_method"), "S256");
        let redirect = get("redirect_uri");
        let jkt = url.query_pairs().find(|(found, _)| found == "dpop_jkt");
        self.set(|script| {
            script.login = Some((get("code_challenge"), redirect.clone(), json!(get("nonce"))));
            script.scope = get("scope");
            script.thumbprint = jkt.map(|(_, jkt)| jkt.into_owned());
        });
        (Url::parse(&redirect).unwrap(), get("state"))
    }
}

fn answer(base: &str, script: &mut Script, asked: &Asked) -> Reply {
    match (asked.method.as_str(), asked.target.as_str()) {
        ("GET", "/.well-known/openid-configuration") => {
            let mut document = json!({
                "issuer": base,
                "authorization_endpoint": format!("{base}/authorize"),
                "device_authorization_endpoint": format!("{base}/device"),
                "token_endpoint": format!("{base}/token"),
                "revocation_endpoint": format!("{base}/revoke"),
                "end_session_endpoint": format!("{base}/logout"),
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            });
            merge(&mut document, &script.discovery);
            Reply::json(200, &document)
        }
        ("POST", "/device") => {
            assert_eq!(asked.form("code_challenge_method").as_deref(), Some("S256"));
            script.login = Some((asked.form("code_challenge").unwrap(), String::new(), Value::Null));
            script.scope = asked.form("scope").unwrap();
            script.thumbprint = None;
            Reply::json(
                200,
                &json!({
                    "device_code": "device-code",
                    "user_code": "ABCD-\u{1b}[2J",
                    "verification_uri": format!("{base}/activate"),
                    "verification_uri_complete": format!("{base}/activate?code=ABCD"),
                    "expires_in": 60,
                    "interval": 1,
                }),
            )
        }
        ("POST", "/token") => held(script.hold.clone(), token(base, script, asked)),
        ("POST", "/revoke") => Reply::json(script.revoke.unwrap_or(200), &json!({})),
        ("POST", "/logout") => Reply::json(script.end_session.unwrap_or(204), &json!({})),
        _ => Reply::json(404, &json!({})),
    }
}

/// The answer, once the semaphore lets it through.
fn held(by: Option<Arc<Semaphore>>, reply: Reply) -> Reply {
    match (by, reply) {
        (Some(by), Reply::Body(status, kind, body)) => Reply::Take(Box::new(move |mut pipe| {
            Box::pin(async move {
                by.acquire().await.unwrap().forget();
                let head = format!(
                    "HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = pipe.write_all(&[head.as_bytes(), &body].concat()).await;
                let _ = pipe.shutdown().await;
            })
        })),
        (_, reply) => reply,
    }
}

/// Checks the proof of possession as RFC 9449 sections 4.3 and 8 want it.
fn prove(base: &str, script: &mut Script, asked: &Asked, nonce: &'static str) -> Option<Reply> {
    let proved = proof::check(asked.field("dpop").expect("a proof"));
    assert_eq!(proved.claims["htm"], "POST");
    assert_eq!(proved.claims["htu"], format!("{base}/token"));
    assert!(proved.claims["ath"].is_null());
    if proved.claims["nonce"] != nonce {
        let body = json!({"error": "use_dpop_nonce"}).to_string();
        let head = format!(
            "HTTP/1.1 400 Bad\r\nDPoP-Nonce: {nonce}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        return Some(Reply::Take(Box::new(move |mut pipe| {
            Box::pin(async move {
                let _ = pipe.write_all(head.as_bytes()).await;
                let _ = pipe.shutdown().await;
            })
        })));
    }
    let known = script.thumbprint.get_or_insert_with(|| proved.thumbprint.clone());
    assert_eq!(*known, proved.thumbprint, "one key for a login");
    None
}

fn token(base: &str, script: &mut Script, asked: &Asked) -> Reply {
    let refused = |code: &str| {
        Reply::json(
            400,
            &json!({"error": code, "error_description": format!("because: {code}\n")}),
        )
    };
    if script.down {
        return Reply::Body(502, "text/html", b"<html>".to_vec());
    }
    if !script.errors.is_empty() {
        return refused(script.errors.remove(0));
    }
    match script.bind {
        Some(nonce) => {
            if let Some(reply) = prove(base, script, asked, nonce) {
                return reply;
            }
        }
        None => assert_eq!(asked.field("dpop"), None, "no proof where none is wanted"),
    }
    assert_eq!(asked.form("client_id").as_deref(), Some("doorward"));
    let mut nonce = Value::Null;
    match asked.form("grant_type").as_deref() {
        Some("refresh_token") => {
            if asked.form("refresh_token") != Some(format!("refresh-{}", script.refresh)) {
                // Used twice, as an issuer sees it: the whole login ends.
                script.refresh = u64::MAX;
                return refused("invalid_grant");
            }
            script.refresh += 1;
        }
        Some(grant) => {
            let (challenge, redirect, of_login) = script.login.take().unwrap();
            let verifier = asked.form("code_verifier").unwrap();
            assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())), challenge);
            if grant == "authorization_code" {
                assert_eq!(asked.form("redirect_uri").as_deref(), Some(redirect.as_str()));
                assert_eq!(asked.form("code").as_deref(), Some("the-code"));
            } else {
                assert_eq!(asked.form("device_code").as_deref(), Some("device-code"));
            }
            nonce = of_login;
        }
        None => return refused("invalid_request"),
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": base, "sub": "sub-bob", "aud": "doorward", "exp": now + 300, "nonce": nonce, "preferred_username": "bob",
    });
    merge(&mut claims, &script.claims);
    let id_token = jwt(&claims);
    let mut body = json!({
        "access_token": format!("access-{}", script.refresh),
        "token_type": if script.bind.is_some() { "DPoP" } else { "Bearer" },
        "expires_in": script.life.unwrap_or(300),
        "refresh_token": format!("refresh-{}", script.refresh),
        "id_token": id_token,
    });
    merge(&mut body, &script.answer);
    Reply::json(200, &body)
}

/// A token with these claims, and a signature that is none.
pub(crate) fn jwt(claims: &Value) -> String {
    let encode = |value: &str| URL_SAFE_NO_PAD.encode(value);
    format!("{}.{}.{}", encode("{}"), encode(&claims.to_string()), encode("s"))
}

fn merge(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}
