//! Waking by an HTTP call to the platform's own API, REST or GraphQL: over TLS or on loopback, without redirects, and with
//! an answer that is read to a bound.

use std::path::PathBuf;

use http::{HeaderName, Method, StatusCode, header};
use reqwest::{Client, Response};
use serde_json::Value;
use zeroize::Zeroizing;

use super::template::{Address, Facts, Json};
use crate::{kube::discover::rule::Kept, oidc::BearerToken, outbound, refusal::chain, workspace::line};

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where to.
    pub url: Address,
    /// `POST`, `PUT` or `PATCH`.
    pub method: Method,
    /// What is sent, as JSON.
    pub body: Option<Json>,
    /// With whose right.
    pub credential: Credential,
    /// The statuses that mean yes; any 2xx if there are none.
    pub expect: Vec<StatusCode>,
    /// The client.
    pub client: Client,
}

/// With whose right a call is made.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nobody's.
    None,
    /// The gateway's: the text in a file, read anew for each call, in this field.
    File {
        /// The field, as a rule `authorization`.
        field: HeaderName,
        /// What stands before the text.
        prefix: String,
        /// The file.
        file: PathBuf,
    },
    /// The bearer token of the person who asks.
    User,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// A sentence for the person; holds nothing of the address but its origin.
    pub(crate) text: String,
    /// What the operator reads.
    pub(crate) detail: String,
}

impl Call {
    /// Adds the keys of the labels and annotations that its texts ask for.
    pub(crate) fn keys(&self, into: &mut Kept) {
        self.url.keys(into);
        self.body.iter().for_each(|body| body.keys(into));
    }

    /// Makes the call. `token` is that of the person who asks, if it may be shown to others at all.
    pub(crate) async fn make(&self, facts: &Facts<'_>, token: Option<&BearerToken>) -> Result<(), Failed> {
        let place = self.url.origin().origin().ascii_serialization();
        let ours = |detail: String| Failed {
            text: "the platform could not be asked to start the workspace".to_owned(),
            detail,
        };
        let mut request = self
            .client
            .request(self.method.clone(), self.url.fill(facts).map_err(ours)?)
            .header(header::ACCEPT, "application/json");
        if let Some(body) = &self.body {
            let body = body.fill(facts).map_err(ours)?;
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        match &self.credential {
            Credential::None => {}
            Credential::File { field, prefix, file } => {
                request = request.header(field, outbound::secret_of(file, prefix).await.map_err(ours)?);
            }
            Credential::User => {
                let Some(token) = token else {
                    return Err(Failed {
                        text:
                            "your login is bound to a key of your computer, and the platform that starts the workspace \
                               takes none such"
                                .to_owned(),
                        detail: "the token is bound to a key (DPoP) and cannot be shown to others".to_owned(),
                    });
                };
                let value = outbound::secret(&Zeroizing::new(format!("Bearer {}", token.for_platform())));
                request = request.header(
                    header::AUTHORIZATION,
                    value.ok_or_else(|| ours("the token cannot be sent".to_owned()))?,
                );
            }
        }
        let answer = request.send().await.map_err(|error| Failed {
            text: "the platform that starts the workspace does not answer".to_owned(),
            detail: format!("{place} cannot be reached: {}", chain(&error.without_url())),
        })?;
        self.judge(&place, answer).await
    }

    async fn judge(&self, place: &str, answer: Response) -> Result<(), Failed> {
        let status = answer.status();
        let body = outbound::body(answer).await;
        let yes = match self.expect.is_empty() {
            true => status.is_success(),
            false => self.expect.contains(&status),
        };
        if !yes {
            let said = line(&String::from_utf8_lossy(&body));
            return Err(Failed {
                text: match status.as_u16() {
                    401 | 403 => "the platform did not allow the workspace to be started".to_owned(),
                    402 | 429 | 507 => "the platform has no room for the workspace at the moment".to_owned(),
                    other => format!("the platform answered {other} when it was asked to start the workspace"),
                },
                detail: format!("{place} answered {}: {said}", status.as_u16()),
            });
        }
        // GraphQL says 200 to everything (GraphQL over HTTP, section 6.4.1).
        let errors = serde_json::from_slice::<Value>(&body).ok();
        let errors = errors.as_ref().and_then(|body| body.get("errors")?.as_array());
        match errors.and_then(|errors| errors.first()) {
            None => Ok(()),
            Some(first) => {
                let said = first
                    .get("message")
                    .and_then(Value::as_str)
                    .unwrap_or("no reason given");
                Err(Failed {
                    text: format!("the platform did not start the workspace: {}", line(said)),
                    detail: format!("{place} answered with an error: {}", line(said)),
                })
            }
        }
    }
}
