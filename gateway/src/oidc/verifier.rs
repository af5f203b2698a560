//! The check of the tokens of one issuer.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::{
    BearerToken, ClientError, Identity,
    introspect::{Introspector, Said},
    issuer::Issuer,
    keys::{Current, Keys},
    login, token,
    token::{Checked, Parsed, Wanted},
};
use crate::{
    config::{Oidc, TokenKind},
    metrics,
    refusal::{Dependency, Refusal, RefusalCode},
    stamp::{self, Stamp},
    tasks::Tasks,
};

/// One issuer: what its tokens must be, its keys, and how it is asked.
#[derive(Debug)]
pub(super) struct Verifier {
    settings: Oidc,
    keys: Keys,
    introspector: Option<Introspector>,
    logins: login::Table,
}

/// What became of somebody whose session is open.
#[derive(Debug)]
pub enum Recheck {
    /// The issuer still says that it is them; and what else it says now.
    Good(Box<Identity>),
    /// It is not them any more, with the sentence for them.
    Over(String),
    /// The issuer cannot be asked, for operators: nothing is known.
    Unknown(String),
}

impl Verifier {
    /// Begins to follow the issuer's keys and the table of logins.
    pub(super) fn start(settings: &Oidc, reload: Duration, tasks: &Tasks) -> Result<Self, ClientError> {
        let issuer = Issuer::new(settings)?;
        let introspector = settings
            .introspection
            .clone()
            .map(|own| Introspector::new(own, issuer.client()));
        let logins = login::Table::open(settings).map_err(ClientError::Logins)?;
        if let Some(file) = logins.file.clone() {
            let (stamp, table) = (Stamp::of([file.as_path()]), logins.table.clone());
            let (files, stop) = (vec![file.clone()], tasks.closing().clone());
            tasks.spawn(async move {
                let reload_file = move || {
                    table.store(std::sync::Arc::new(crate::config::LoginTable::load(&file)?));
                    Ok::<_, crate::config::Faults>(())
                };
                stamp::follow(files, stamp, reload, stop, reload_file).await;
            });
        }
        Ok(Self {
            keys: Keys::follow(issuer, settings, tasks),
            settings: settings.clone(),
            introspector,
            logins,
        })
    }

    pub(super) fn settings(&self) -> &Oidc {
        &self.settings
    }

    pub(super) fn introspects(&self) -> bool {
        self.introspector.is_some()
    }

    /// The claims of a token as far as they can be known without asking anybody.
    pub(super) fn check_now(&self, token: &BearerToken) -> Result<Option<Map<String, Value>>, Refusal> {
        if self.settings.token_kind == TokenKind::Opaque {
            return Ok(None);
        }
        match check(&self.parsed(token)?, &self.keys.now())? {
            Checked::Signed(claims) => Ok(Some(claims)),
            Checked::UnknownKey => Ok(None),
        }
    }

    /// The claims of a token for which the issuer has to be asked: about the token, or for its newest keys.
    pub(super) async fn check_by_asking(&self, token: &BearerToken) -> Result<Map<String, Value>, Refusal> {
        if self.settings.token_kind == TokenKind::Opaque {
            return match self.introspect(token).await? {
                Said::Active(claims) => Ok(claims),
                Said::Inactive => Err(token::refusal(
                    RefusalCode::TokenExpired,
                    "the identity provider says that the token is not good, or not any more",
                )),
            };
        }
        self.signed(&self.parsed(token)?).await
    }

    /// The claims of a logout token.
    pub(super) async fn check_logout(&self, token: &BearerToken) -> Result<Map<String, Value>, Refusal> {
        self.signed(&Parsed::new(token.expose(), &self.settings.algorithms, Wanted::Logout)?)
            .await
    }

    async fn signed(&self, parsed: &Parsed<'_>) -> Result<Map<String, Value>, Refusal> {
        let mut now = self.keys.now();
        let mut checked = check(parsed, &now)?;
        if matches!(checked, Checked::UnknownKey) {
            now = self.keys.after(&now).await;
            checked = check(parsed, &now)?;
        }
        match (checked, now.trouble) {
            (Checked::Signed(claims), _) => Ok(claims),
            (_, Some(trouble)) => Err(Refusal::unavailable(Dependency::IdentityProvider, trouble)),
            (_, None) => Err(token::untrusted(
                "the token is signed with a key that its issuer does not publish",
            )),
        }
    }

    fn parsed<'t>(&self, token: &'t BearerToken) -> Result<Parsed<'t>, Refusal> {
        let wanted = Wanted::Token(self.settings.token_kind);
        Parsed::new(token.expose(), &self.settings.algorithms, wanted)
    }

    async fn introspect(&self, token: &BearerToken) -> Result<Said, Refusal> {
        let Some(introspector) = &self.introspector else {
            return Err(Refusal::new(RefusalCode::Internal, "nobody is asked about tokens"));
        };
        let mut now = self.keys.now();
        if now.published.is_none() {
            now = self.keys.after(&now).await;
        }
        let discovered = now.published.and_then(|published| published.introspection.clone());
        introspector.ask(token, discovered).await
    }

    /// Who claims are about.
    pub(super) fn identity(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<Identity, Refusal> {
        let claimed = token::identity(claims, &self.settings, now)?;
        Ok(Identity {
            login: self.logins.grant(claimed.login),
            ..claimed.identity
        })
    }

    /// Asks the issuer about the token of an open session.
    pub(super) async fn recheck(&self, identity: &Identity, token: &BearerToken) -> Recheck {
        let claims = match self.introspect(token).await {
            Ok(Said::Active(claims)) => claims,
            Ok(Said::Inactive) => {
                return Recheck::Over(
                    "your login at the identity provider is over, or your account was disabled".to_owned(),
                );
            }
            Err(refusal) => return Recheck::Unknown(refusal.to_string()),
        };
        match self.identity(&claims, SystemTime::now()) {
            Ok(now) if (now.issuer(), now.subject()) == (identity.issuer(), identity.subject()) => {
                Recheck::Good(Box::new(now))
            }
            Ok(_) => Recheck::Over("the identity provider says that the token is somebody else's".to_owned()),
            Err(refusal) => Recheck::Over(format!(
                "the identity provider does not vouch for you: {}",
                refusal.text()
            )),
        }
    }

    /// Whether the issuer answers, as of this moment or the last fetch that the cool-down allowed.
    pub(super) async fn reach(&self) -> Result<(), String> {
        let now = self.keys.now();
        match self.keys.after(&now).await.trouble {
            None => Ok(()),
            Some(trouble) => Err(trouble),
        }
    }

    /// Whether its tokens can be checked now.
    pub(super) fn ready(&self) -> Result<(), String> {
        if let Some(age) = self.keys.age() {
            metrics::keys_age(age);
        }
        match self.keys.now() {
            Current { published: Some(_), .. } => Ok(()),
            Current { trouble, .. } => Err(trouble.unwrap_or_default()),
        }
    }
}

fn check(parsed: &Parsed<'_>, now: &Current) -> Result<Checked, Refusal> {
    match &now.published {
        Some(published) => parsed.check(&published.keys),
        None => Ok(Checked::UnknownKey),
    }
}

/// The login that the rule of an issuer would make of somebody, for explanations.
pub(crate) fn supposed(
    settings: &Oidc,
    user: &str,
    email: Option<&super::Email>,
) -> Option<Result<doorward_certs::Login, super::LoginFault>> {
    let mut claims = json!({});
    let mut put = |path: &crate::config::ClaimPath, value: &str| {
        let mut place = &mut claims;
        for name in path.names() {
            place = &mut place[name.as_str()];
        }
        *place = value.into();
    };
    put(&settings.user_claim, user);
    if let Some(email) = email {
        put(&settings.email_claim, &email.to_string());
    }
    let wish = login::wish(claims.as_object()?, settings, user, email);
    login::Table::open(settings).unwrap_or_default().grant(wish)
}
