//! Somebody at a browser, without a browser: fills in the issuer's pages over HTTP.

use std::time::Duration;

use reqwest::header::LOCATION;
use url::Url;

/// Why a page did not do what was wanted of it.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// No connection, no answer, or not HTTP.
    #[error("cannot reach {page}")]
    Unreachable {
        /// Without its query, which may hold a code.
        page: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The page refused.
    #[error("{page} answered {status}")]
    Refused {
        /// Without its query, which may hold a code.
        page: String,
        /// Its HTTP status.
        status: u16,
    },
    /// The page gave no address to go on to.
    #[error("{page} does not lead on")]
    NoRedirect {
        /// Without its query, which may hold a code.
        page: String,
    },
}

/// Follows no redirect of its own accord, keeps no cookies.
#[derive(Clone, Debug)]
pub struct Browser {
    http: reqwest::Client,
}

impl Browser {
    /// A browser for plain HTTP.
    ///
    /// # Errors
    /// The HTTP client cannot be made; rustls has no default provider.
    pub fn new() -> Result<Self, BrowserError> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_certs_only([])
            .timeout(PATIENCE)
            .build()
            .map_err(|source| BrowserError::Unreachable {
                page: "anything".to_owned(),
                source,
            })?;
        Ok(Self { http })
    }

    /// Opens an authorization URL and logs in; returns where the login leads, code and state in its query.
    ///
    /// # Errors
    /// The issuer cannot be reached, or refuses the request or the login.
    pub async fn log_in(&self, authorize: &Url, name: &str, password: &str) -> Result<Url, BrowserError> {
        let shown = self.send(self.http.get(authorize.clone()), authorize).await?;
        if !shown.status().is_success() {
            return Err(refused(authorize, &shown));
        }
        let form = [("username", name), ("password", password)];
        let answer = self
            .send(self.http.post(authorize.clone()).form(&form), authorize)
            .await?;
        if !answer.status().is_redirection() {
            return Err(refused(authorize, &answer));
        }
        let to = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        to.and_then(|to| authorize.join(to).ok())
            .ok_or_else(|| BrowserError::NoRedirect { page: bare(authorize) })
    }

    /// Opens the address that a login led to: the loopback listener of the client.
    ///
    /// # Errors
    /// Nobody listens there, or the listener refuses.
    pub async fn follow(&self, to: &Url) -> Result<(), BrowserError> {
        let answer = self.send(self.http.get(to.clone()), to).await?;
        if answer.status().is_client_error() || answer.status().is_server_error() {
            return Err(refused(to, &answer));
        }
        Ok(())
    }

    /// Approves a device on its verification page.
    ///
    /// # Errors
    /// The issuer cannot be reached, or refuses the code or the login.
    pub async fn approve_device(
        &self,
        page: &Url,
        user_code: &str,
        name: &str,
        password: &str,
    ) -> Result<(), BrowserError> {
        let form = [
            ("user_code", user_code),
            ("username", name),
            ("password", password),
            ("answer", "approve"),
        ];
        let answer = self.send(self.http.post(page.clone()).form(&form), page).await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(refused(page, &answer))
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder, page: &Url) -> Result<reqwest::Response, BrowserError> {
        request.send().await.map_err(|source| BrowserError::Unreachable {
            page: bare(page),
            source: source.without_url(),
        })
    }
}

fn refused(page: &Url, answer: &reqwest::Response) -> BrowserError {
    BrowserError::Refused {
        page: bare(page),
        status: answer.status().as_u16(),
    }
}

fn bare(page: &Url) -> String {
    let mut page = page.clone();
    page.set_query(None);
    page.to_string()
}

const PATIENCE: Duration = Duration::from_secs(20);
