//! What the gateway answers, and how it is asked.

use std::time::SystemTime;

use doorward_audit::SessionIndex;
use doorward_certs::CaKeys;
use http::Method;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::error::Error;
use crate::home::Home;
use crate::home::settings::Settings;
use crate::http::{Answer, Web, name};
use crate::pass::Pass;
use crate::say;

/// The one version of the gateway's interface that we speak.
const VERSION: u64 = 1;

/// `/.well-known/doorward`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WellKnown {
    version: u64,
    /// The first issuer, as gateways with only one say it.
    issuer: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    #[serde(default)]
    issuers: Vec<KnownIssuer>,
    pub(crate) ssh_identification: Option<String>,
    /// The gateway's clock when it said so.
    #[serde(skip)]
    pub(crate) date: Option<SystemTime>,
}

/// An issuer that the gateway trusts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct KnownIssuer {
    /// For people.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    pub(crate) dpop: Dpop,
    #[serde(default)]
    pub(crate) token: TokenKind,
}

/// Which of an issuer's tokens the gateway takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TokenKind {
    #[default]
    Access,
    /// The id token, where access tokens are for the issuer's own services alone.
    Id,
    /// An access token that nobody but the issuer can read.
    Opaque,
}

/// Whether tokens are bound to a key of this computer (RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dpop {
    #[default]
    Off,
    /// Where the issuer can do it.
    Optional,
    Required,
}

impl WellKnown {
    /// The issuers; none where a gateway takes only tokens that come from elsewhere.
    fn into_issuers(self) -> Vec<KnownIssuer> {
        if !self.issuers.is_empty() {
            return self.issuers;
        }
        let only = self.issuer.zip(self.client_id);
        only.map(|(issuer, client_id)| KnownIssuer {
            name: String::new(),
            issuer,
            client_id,
            scopes: self.scopes.unwrap_or_default(),
            dpop: Dpop::Off,
            token: TokenKind::Access,
        })
        .into_iter()
        .collect()
    }

    /// The issuer of this name or address; without a wish the first one.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is none, with those that there are; and where there is none at all.
    pub(crate) fn choose(self, wish: Option<&str>) -> Result<KnownIssuer, Error> {
        let mut issuers = self.into_issuers();
        if issuers.is_empty() {
            let text = "this gateway has no issuer to log in at: it takes tokens of its cluster \
                        (doorward login --token-command PROGRAM, for example oc whoami -t)";
            return Err(Error::Usage(text.to_owned()));
        }
        let Some(wish) = wish else {
            return Ok(issuers.swap_remove(0));
        };
        let at = issuers
            .iter()
            .position(|known| known.name == wish || known.issuer == wish);
        at.map(|at| issuers.swap_remove(at)).ok_or_else(|| {
            let names: Vec<&str> = issuers.iter().map(KnownIssuer::label).collect();
            Error::Usage(format!(
                "the gateway trusts no issuer {wish:?}, but {}",
                names.join(", ")
            ))
        })
    }

    /// What the issuers are called, where there is a choice.
    pub(crate) fn names(&self) -> Vec<String> {
        match self.issuers.as_slice() {
            [] | [_] => Vec::new(),
            many => many.iter().map(|known| known.label().to_owned()).collect(),
        }
    }
}

impl KnownIssuer {
    /// What people call it.
    pub(crate) fn label(&self) -> &str {
        if self.name.is_empty() { &self.issuer } else { &self.name }
    }

    /// The scopes to ask for: `openid` is always one, and `offline_access` (OpenID Connect Core 1.0 section 11) by wish.
    pub(crate) fn scope(&self, offline: bool) -> String {
        let mut scopes = vec!["openid"];
        let offline = offline.then_some("offline_access");
        for scope in self.scopes.iter().map(String::as_str).chain(offline) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        scopes.join(" ")
    }
}

/// `/v1/trust`: the keys of the certificate authorities, as OpenSSH writes public keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CaLines {
    pub(crate) host_ca: Vec<String>,
    pub(crate) user_ca: Vec<String>,
}

impl CaLines {
    /// The keys that vouch for workspaces.
    pub(crate) fn host_keys(&self) -> Result<CaKeys, String> {
        keys(&self.host_ca)
    }

    /// The keys that vouch for sessions and for the gateway.
    pub(crate) fn user_keys(&self) -> Result<CaKeys, String> {
        keys(&self.user_ca)
    }
}

fn keys(lines: &[String]) -> Result<CaKeys, String> {
    if lines.iter().any(|line| line.contains(['\n', '\r'])) {
        return Err("a CA key is more than one line".to_owned());
    }
    CaKeys::parse(&lines.join("\n")).map_err(|error| error.to_string())
}

/// What the person may enter.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Workspaces {
    /// The person, as the gateway names them; older gateways do not say.
    #[serde(default)]
    pub(crate) user: Option<String>,
    pub(crate) workspaces: Vec<Workspace>,
    /// Patterns of names that are the gateway's to answer for, whether or not the person may enter; older gateways name none.
    #[serde(default)]
    pub(crate) names: Vec<String>,
}

/// A workspace that the person may enter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Workspace {
    pub(crate) name: String,
    pub(crate) login: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) state: String,
    /// What there is to say of the state, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When it was used last, RFC 3339; nothing where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_use: Option<String>,
    /// Until when it is kept awake, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_until: Option<String>,
    /// When the platform stops it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stops_at: Option<String>,
    /// For how long at once the person may have it kept awake, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_longest: Option<u64>,
    /// Of the agent that serves it, while it is linked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent_version: Option<String>,
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
}

/// A session with the files of its recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    #[serde(flatten)]
    pub(crate) index: SessionIndex,
    #[serde(default)]
    pub(crate) files: Vec<StoredFile>,
}

/// A file of a recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
}

/// A checkpoint with what somebody outside attested of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Anchor {
    /// The checkpoint's line.
    pub(crate) checkpoint: serde_json::Value,
    /// When it was attested, RFC 3339.
    pub(crate) at: String,
    /// What was attested, whatever that is.
    #[serde(deserialize_with = "base64_bytes")]
    pub(crate) attestation: Vec<u8>,
}

fn base64_bytes<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = String::deserialize(from)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// A leaf of the log with its proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProvedLeaf {
    pub(crate) index: u64,
    pub(crate) leaf: String,
    /// Hashes, hexadecimal.
    pub(crate) proof: Vec<String>,
}

/// Who the gateway takes the person for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Me {
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    #[serde(default)]
    pub(crate) email: Option<String>,
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    #[serde(default)]
    pub(crate) may: Vec<String>,
}

/// Which sessions to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) workspace: Option<&'a str>,
    pub(crate) limit: Option<usize>,
}

/// The gateway that the settings name.
#[derive(Debug)]
pub(crate) struct Gateway {
    base: Url,
    pub(crate) web: Web,
}

impl Gateway {
    /// Fails if the settings name none.
    pub(crate) fn configured(home: &Home, settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            base: settings.gateway()?.clone(),
            web: Web::gateway(settings.ca(home)),
        })
    }

    /// Its address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Its name in sentences.
    pub(crate) fn whom(&self) -> String {
        name(&self.base)
    }

    /// `GET` for somebody who waits for the answer: after a moment they are told what for.
    async fn get(&self, url: &Url, pass: Option<&Pass>) -> Result<Answer, Error> {
        say::impatiently(&self.whom(), self.web.get(url, pass)).await
    }

    /// Which issuer and client it trusts.
    pub(crate) async fn well_known(&self) -> Result<WellKnown, Error> {
        let answer = self.get(&self.at(&[".well-known", "doorward"]), None).await?;
        let mut known: WellKnown = answer.json()?;
        known.date = answer.date();
        if known.version != VERSION {
            let what = format!("it speaks version {}, this program version {VERSION}", known.version);
            return Err(Error::Answer {
                whom: self.whom(),
                what,
            });
        }
        Ok(known)
    }

    /// The CA keys, checked.
    pub(crate) async fn trust(&self) -> Result<CaLines, Error> {
        let lines: CaLines = self.get(&self.at(&["v1", "trust"]), None).await?.json()?;
        for keys in [lines.host_keys(), lines.user_keys()] {
            keys.map_err(|what| Error::Answer {
                whom: self.whom(),
                what,
            })?;
        }
        Ok(lines)
    }

    /// Who the gateway takes the person for.
    pub(crate) async fn me(&self, pass: &Pass) -> Result<Me, Error> {
        self.get(&self.at(&["v1", "me"]), Some(pass)).await?.json()
    }

    /// What the person may enter.
    pub(crate) async fn workspaces(&self, pass: &Pass) -> Result<Workspaces, Error> {
        self.get(&self.at(&["v1", "workspaces"]), Some(pass)).await?.json()
    }

    /// Sessions, newest first.
    pub(crate) async fn sessions(&self, pass: &Pass, wanted: &Wanted<'_>) -> Result<Vec<SessionIndex>, Error> {
        #[derive(Deserialize)]
        struct List {
            sessions: Vec<SessionIndex>,
        }
        let mut url = self.at(&["v1", "sessions"]);
        let limit = wanted.limit.map(|limit| limit.to_string());
        let pairs = [
            ("user", wanted.user),
            ("workspace", wanted.workspace),
            ("limit", limit.as_deref()),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let list: List = self.get(&url, Some(pass)).await?.json()?;
        Ok(list.sessions)
    }

    /// One session.
    pub(crate) async fn session(&self, pass: &Pass, id: Uuid) -> Result<Session, Error> {
        let url = self.at(&["v1", "sessions", &id.to_string()]);
        self.get(&url, Some(pass)).await?.json()
    }

    /// One file of a recording, part by part.
    pub(crate) async fn file(
        &self,
        pass: &Pass,
        id: Uuid,
        file: &str,
        sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.web
            .download(
                &self.at(&["v1", "sessions", &id.to_string(), "files", file]),
                pass,
                sink,
            )
            .await
    }

    /// The newest checkpoint of the gateway's log, as a line. Nothing from a gateway that keeps none.
    pub(crate) async fn checkpoint(&self, pass: &Pass) -> Result<Option<String>, Error> {
        let answer = self.web.get(&self.at(&["v1", "log"]), Some(pass)).await?;
        match answer.json::<serde_json::Value>() {
            Ok(line) => Ok(Some(line.to_string())),
            Err(Error::Refused(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The newest checkpoint that somebody outside has attested, if there is one.
    pub(crate) async fn anchor(&self, pass: &Pass) -> Result<Option<Anchor>, Error> {
        let answer = self.web.get(&self.at(&["v1", "log", "anchor"]), Some(pass)).await?;
        match answer.json::<Anchor>() {
            Ok(anchor) => Ok(Some(anchor)),
            Err(Error::Refused(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The proof that the log of size `to` begins with that of size `from`.
    pub(crate) async fn consistency(&self, pass: &Pass, from: u64, to: u64) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            proof: Vec<String>,
        }
        let mut url = self.at(&["v1", "log", "consistency"]);
        url.set_query(Some(&format!("from={from}&to={to}")));
        let answer: Answer = self.web.get(&url, Some(pass)).await?.json()?;
        Ok(answer.proof)
    }

    /// Leaves of the log, in order; fewer than asked for where that is too much at once.
    pub(crate) async fn leaves(&self, pass: &Pass, start: u64, end: u64) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            leaves: Vec<String>,
        }
        let mut url = self.at(&["v1", "log", "leaves"]);
        url.set_query(Some(&format!("start={start}&end={end}")));
        let answer: Answer = self.web.get(&url, Some(pass)).await?.json()?;
        Ok(answer.leaves)
    }

    /// The leaves about a session, from one on, as many as there are at once.
    pub(crate) async fn session_leaves(
        &self,
        pass: &Pass,
        id: Uuid,
        from: u64,
        size: u64,
    ) -> Result<Vec<ProvedLeaf>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            leaves: Vec<ProvedLeaf>,
        }
        let mut url = self.at(&["v1", "sessions", &id.to_string(), "log"]);
        url.set_query(Some(&format!("from={from}&size={size}")));
        let answer: Answer = self.web.get(&url, Some(pass)).await?.json()?;
        Ok(answer.leaves)
    }

    /// Shows a fresh token for an open session of one's own.
    pub(crate) async fn renew(&self, pass: &Pass, session: Uuid) -> Result<(), Error> {
        let url = self.at(&["v1", "sessions", &session.to_string(), "renew"]);
        self.web.change(Method::POST, &url, pass, None).await
    }

    /// Where the tunnel of a workspace is asked for.
    pub(crate) fn tunnel(&self, workspace: &str) -> Url {
        self.at(&["v1", "connect", workspace])
    }

    /// A path below the gateway's address; each part is one segment, whatever is in it.
    pub(crate) fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        url
    }
}
