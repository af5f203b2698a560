//! The API server's HTTP API as one identity, with objects as JSON.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Method};
use serde_json::{Value, json};

use super::super::Error;
use super::pki::Pair;
use super::{Identity, Watch, objects};

/// A client of the API server. Believes one CA, follows no redirect.
#[derive(Clone)]
pub struct Api {
    admin: reqwest::Client,
    nobody: reqwest::Client,
    url: String,
    who: Identity,
}

impl Api {
    /// As the administrator.
    pub(super) fn new(url: &str, ca: &str, admin: &Pair) -> Result<Self, Error> {
        let unusable = |source| Error::Unanswered {
            what: "the HTTP client".to_owned(),
            source,
        };
        let ca = Certificate::from_pem(ca.as_bytes()).map_err(unusable)?;
        let identity = format!("{}{}", admin.certificate, admin.key);
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).map_err(unusable)?;
        let builder = || {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .tls_certs_only([ca.clone()])
                .timeout(PATIENCE)
                // Tests that share a cluster have runtimes of their own, which do not outlive a kept connection.
                .pool_max_idle_per_host(0)
        };
        Ok(Self {
            admin: builder().identity(identity).build().map_err(unusable)?,
            nobody: builder().build().map_err(unusable)?,
            url: url.to_owned(),
            who: Identity::Admin,
        })
    }

    /// The same as somebody else.
    #[must_use]
    pub fn acting_as(&self, who: Identity) -> Self {
        Self { who, ..self.clone() }
    }

    /// Reads a path such as `/api/v1/namespaces/default/pods/web-0`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn read(&self, path: &str) -> Result<Value, Error> {
        self.succeed(Method::GET, path, JSON, None).await
    }

    /// The same, and `None` where there is no such object.
    ///
    /// # Errors
    /// No answer, or another refusal.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.read(path).await {
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            read => read.map(Some),
        }
    }

    /// Creates an object of a collection, or asks a question such as a TokenReview.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.succeed(Method::POST, path, JSON, Some(object)).await
    }

    /// Changes an object by a merge patch (RFC 7396): null removes, a list replaces.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, Error> {
        self.succeed(Method::PATCH, path, MERGE, Some(patch)).await
    }

    /// Makes an object what is said here, whether it is there or not (server-side apply). Its kind may be a custom one.
    ///
    /// # Errors
    /// No answer, no such kind, or a refusal.
    pub async fn apply(&self, object: &Value) -> Result<Value, Error> {
        let path = objects::path_of(self, object).await?;
        let path = format!("{path}?fieldManager=doorward-dev&force=true");
        self.succeed(Method::PATCH, &path, APPLY, Some(object)).await
    }

    /// What would come of that, of an object without a member that the kind does not have. Nothing is kept.
    ///
    /// # Errors
    /// No answer, no such kind, or a refusal.
    pub async fn try_apply(&self, object: &Value) -> Result<Value, Error> {
        let path = objects::path_of(self, object).await?;
        let path = format!("{path}?fieldManager=doorward-dev&force=true&dryRun=All&fieldValidation=Strict");
        self.succeed(Method::PATCH, &path, APPLY, Some(object)).await
    }

    /// Deletes an object, in the order that its kind takes; one that is not there is no error.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.delete_with(path, &json!({})).await
    }

    /// The same with `DeleteOptions`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn delete_with(&self, path: &str, options: &Value) -> Result<(), Error> {
        match self.succeed(Method::DELETE, path, JSON, Some(options)).await {
            Ok(_) | Err(Error::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Follows the changes of a collection after a resource version.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn watch(&self, path: &str, after: &str) -> Result<Watch, Error> {
        let lasting = WATCH.as_secs();
        let path = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={after}&timeoutSeconds={lasting}");
        let request = self.request(Method::GET, &path)?.timeout(WATCH + PATIENCE);
        let answer = request.send().await.map_err(unanswered(&path))?;
        match answer.status().as_u16() {
            200..=299 => Ok(Watch::new(answer)),
            status => Err(Error::Refused {
                what: format!("watching {path}"),
                status,
                said: answer.text().await.unwrap_or_default(),
            }),
        }
    }

    async fn succeed(&self, method: Method, path: &str, kind: &str, body: Option<&Value>) -> Result<Value, Error> {
        let what = format!("{method} {path}");
        match self.ask(method, path, kind, body).await? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => Err(Error::Refused {
                what,
                status,
                said: answer["message"]
                    .as_str()
                    .map_or_else(|| answer.to_string(), str::to_owned),
            }),
        }
    }

    async fn ask(&self, method: Method, path: &str, kind: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, kind).body(body.to_string());
        }
        let answer = request.send().await.map_err(unanswered(path))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(unanswered(path))?;
        // Some answers are words, such as that of /readyz.
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, Error> {
        let client = match self.who {
            Identity::Token(_) => &self.nobody,
            Identity::Admin | Identity::Person { .. } => &self.admin,
        };
        let request = client.request(method, format!("{}{path}", self.url));
        Ok(request.header(ACCEPT, JSON).headers(headers(&self.who)?))
    }
}

/// What tells the API server who asks.
fn headers(who: &Identity) -> Result<HeaderMap, Error> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::NoHeader);
    let mut headers = HeaderMap::new();
    match who {
        Identity::Admin => {}
        Identity::Person { name, groups } => {
            headers.insert(IMPERSONATE_USER, value(name)?);
            for group in groups {
                headers.append(IMPERSONATE_GROUP, value(group)?);
            }
        }
        Identity::Token(token) => {
            let mut token = value(&format!("Bearer {token}"))?;
            token.set_sensitive(true);
            headers.insert(AUTHORIZATION, token);
        }
    }
    Ok(headers)
}

fn unanswered(path: &str) -> impl FnOnce(reqwest::Error) -> Error {
    move |source| Error::Unanswered {
        what: path.to_owned(),
        source: source.without_url(),
    }
}

/// Without keys and tokens.
impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("url", &self.url)
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const PATIENCE: Duration = Duration::from_secs(30);
const WATCH: Duration = Duration::from_secs(300);
