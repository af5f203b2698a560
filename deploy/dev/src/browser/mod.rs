//! Somebody at a browser, without a browser: fills in an issuer's pages over HTTP, ours or Keycloak's.

mod form;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use url::Url;

use form::Form;

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
    /// The page asks for the same again: what was filled in is wrong.
    #[error("{page} did not take what was filled in")]
    Again {
        /// Without its query, which may hold a code.
        page: String,
    },
    /// The pages do not lead where they should.
    #[error("{page} does not lead on")]
    NoRedirect {
        /// Without its query, which may hold a code.
        page: String,
    },
}

/// Stays at one site: a redirect that leads away from it is the end of the way. Keeps cookies, for that site alone.
#[derive(Debug)]
pub struct Browser {
    http: reqwest::Client,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// Where a way through an issuer's pages ends.
enum End {
    /// A redirect to somebody else.
    Away(Url),
    /// A page with nothing to fill in.
    Page,
}

impl Browser {
    /// A browser for plain HTTP, in which nobody is logged in.
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
        Ok(Self {
            http,
            cookies: Mutex::default(),
        })
    }

    /// Opens an authorization URL and logs in; returns where the login leads, code and state in its query.
    ///
    /// # Errors
    /// The issuer cannot be reached, or refuses the request or the login.
    pub async fn log_in(&self, authorize: &Url, name: &str, password: &str) -> Result<Url, BrowserError> {
        match self
            .walk(authorize, &[("username", name), ("password", password)])
            .await?
        {
            End::Away(to) => Ok(to),
            End::Page => Err(BrowserError::NoRedirect { page: bare(authorize) }),
        }
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
        let mut page = page.clone();
        page.query_pairs_mut().clear().append_pair("user_code", user_code);
        let said = [
            ("username", name),
            ("password", password),
            ("user_code", user_code),
            ("device_user_code", user_code),
        ];
        match self.walk(&page, &said).await? {
            End::Page => Ok(()),
            End::Away(_) => Err(BrowserError::NoRedirect { page: bare(&page) }),
        }
    }

    /// From page to page, filling in what is asked for and agreeing to what is to be agreed to.
    async fn walk(&self, from: &Url, said: &[(&str, &str)]) -> Result<End, BrowserError> {
        let mut page = from.clone();
        let mut request = self.http.get(page.clone());
        let mut filled: Vec<Form> = Vec::new();
        for _ in 0..LONGEST_WAY {
            let answer = self.send(self.with_cookies(request), &page).await?;
            self.keep_cookies(&answer);
            if answer.status().is_redirection() {
                let to = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let to = to.and_then(|to| page.join(to).ok());
                let to = to.ok_or_else(|| BrowserError::NoRedirect { page: bare(&page) })?;
                if to.origin() != from.origin() {
                    return Ok(End::Away(to));
                }
                request = self.http.get(to.clone());
                page = to;
                continue;
            }
            if !answer.status().is_success() {
                return Err(refused(&page, &answer));
            }
            let html = self.text(answer, &page).await?;
            let Some(form) = form::first(&html) else {
                return Ok(End::Page);
            };
            let asks = |form: &Form| form.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
            if filled.iter().any(|earlier| asks(earlier) == asks(&form)) {
                return Err(BrowserError::Again { page: bare(&page) });
            }
            let to = page.join(&form.action).ok().filter(|to| to.origin() == from.origin());
            let to = to.ok_or_else(|| BrowserError::NoRedirect { page: bare(&page) })?;
            request = self.http.post(to.clone()).form(&fill_in(&form, said));
            page = to;
            filled.push(form);
        }
        Err(BrowserError::NoRedirect { page: bare(&page) })
    }

    fn with_cookies(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        if cookies.is_empty() {
            return request;
        }
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request.header(COOKIE, pairs.join("; "))
    }

    fn keep_cookies(&self, answer: &reqwest::Response) {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for set in answer.headers().get_all(SET_COOKIE) {
            let pair = set
                .to_str()
                .ok()
                .and_then(|text| text.split(';').next()?.split_once('='));
            let Some((name, value)) = pair else { continue };
            if value.is_empty() {
                cookies.remove(name.trim());
            } else {
                cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder, page: &Url) -> Result<reqwest::Response, BrowserError> {
        request.send().await.map_err(unreachable(page))
    }

    async fn text(&self, mut answer: reqwest::Response, page: &Url) -> Result<String, BrowserError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable(page))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST_PAGE {
                return Err(BrowserError::NoRedirect { page: bare(page) });
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What is sent with a form: what it carries along, what was asked for, and the button that agrees.
fn fill_in(form: &Form, said: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut agreed = false;
    let mut pairs = Vec::new();
    for field in &form.fields {
        let known = said.iter().find(|(name, _)| *name == field.name);
        let value = match (field.kind.as_str(), known) {
            ("submit", _) => {
                let agrees = field.name == "accept" || field.value == "approve";
                if !agrees || std::mem::replace(&mut agreed, true) {
                    continue;
                }
                field.value.clone()
            }
            ("checkbox" | "radio" | "button", _) => continue,
            (_, Some((_, value))) => (*value).to_owned(),
            (_, None) => field.value.clone(),
        };
        pairs.push((field.name.clone(), value));
    }
    pairs
}

fn unreachable(page: &Url) -> impl Fn(reqwest::Error) -> BrowserError {
    |source| BrowserError::Unreachable {
        page: bare(page),
        source: source.without_url(),
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
/// More steps than any issuer's pages take.
const LONGEST_WAY: usize = 12;
const LARGEST_PAGE: usize = 1 << 20;
