//! Who is at the door: tokens of the configured OIDC issuers, checked against their published keys, or by asking them; others by
//! asking the cluster.
//!
//! An [`Identity`] exists only after the whole check. Nothing that a token says is used before its signature was right, and
//! nothing that a token brings along decides which key that is. Of several issuers the one that the token names checks it,
//! and then the token must name it again; what names none of them is the cluster's, where it is asked.

mod cluster;
mod dpop;
mod email;
mod identity;
mod introspect;
mod issuer;
pub(crate) mod json;
mod key_set;
mod keys;
mod login;
mod logout;
mod replay;
mod token;
mod turns;
mod verifier;

pub use cluster::ClusterTokens;
pub use email::Email;
pub use identity::{BearerToken, Identity, MalformedToken, Person, Presented, ShownProof};
pub(crate) use introspect::try_out as try_introspection;
pub use issuer::ClientError;
pub use login::LoginFault;
pub use logout::LoggedOut;
pub(crate) use replay::digest;
pub(crate) use token::is_hidden;
pub use verifier::Recheck;
pub(crate) use verifier::supposed;

use std::{
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use http::HeaderValue;
use tokio::sync::Semaphore;

use crate::{
    config::{Dpop, Oidc, TokenKind},
    crowd::Crowd,
    metrics,
    refusal::{Dependency, Refusal, RefusalCode},
    tasks::Tasks,
};
use replay::Seen;
use verifier::Verifier;

/// The check of tokens.
#[derive(Debug)]
pub struct Identities {
    issuers: Vec<Verifier>,
    cluster: Option<ClusterTokens>,
    proofs: Seen,
    logouts: logout::Logouts,
    checks: Semaphore,
    waiting: Crowd<IpAddr>,
}

impl Identities {
    /// Begins to follow the issuers' keys. The issuers need not be there yet. Tables of logins are looked at for a change
    /// every `reload`.
    ///
    /// # Errors
    /// A file that an issuer's settings name cannot be used.
    pub fn start(settings: &[Oidc], reload: Duration, tasks: &Tasks) -> Result<Self, ClientError> {
        Ok(Self {
            issuers: settings
                .iter()
                .map(|one| Verifier::start(one, reload, tasks))
                .collect::<Result<_, _>>()?,
            cluster: None,
            proofs: Seen::new(2 * dpop::WINDOW, MOST_PROOFS, MOST_PROOFS_OF_ONE),
            logouts: logout::Logouts::default(),
            checks: Semaphore::new(MOST_CHECKS),
            waiting: Crowd::new(MOST_WAITING),
        })
    }

    /// The same, with the cluster to ask about tokens that no issuer made.
    #[must_use]
    pub fn with_cluster(self, cluster: Option<ClusterTokens>) -> Self {
        Self { cluster, ..self }
    }

    /// Checks a token and the way in which it was shown.
    ///
    /// # Errors
    /// A refusal that says what is wrong with the token, that the issuer cannot be asked, or that too many are being
    /// checked. It comes within [`WITHIN`].
    pub async fn identify(&self, shown: &Presented) -> Result<Identity, Refusal> {
        let begun = Instant::now();
        let identity = tokio::time::timeout(WITHIN, self.check(shown)).await.map_err(|_| {
            Refusal::unavailable(Dependency::IdentityProvider, format!("no answer within {WITHIN:?}"))
        })??;
        metrics::identified(begun.elapsed());
        Ok(identity)
    }

    async fn check(&self, shown: &Presented) -> Result<Identity, Refusal> {
        let busy = || {
            Refusal::new(
                RefusalCode::Overloaded,
                "too many tokens are being checked at the moment",
            )
            .with_retry_after(Duration::from_secs(2))
        };
        let place = tokio::time::timeout(LONGEST_WAIT, self.checks.acquire())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        let verifier = match self.of_token(shown.token.expose())? {
            Judge::Issuer(verifier) => verifier,
            Judge::Cluster(cluster) => {
                drop(place);
                let _waiting = self.waiting.enter(shown.source).ok_or_else(busy)?;
                return cluster.identify(shown).await;
            }
        };
        let claims = match verifier.check_now(&shown.token)? {
            Some(claims) => claims,
            None => {
                // Waiting for the issuer must not take places from tokens whose keys are known.
                drop(place);
                let _waiting = self.waiting.enter(shown.source).ok_or_else(busy)?;
                verifier.check_by_asking(&shown.token).await?
            }
        };
        let identity = verifier.identity(&claims, SystemTime::now())?;
        dpop::check(&claims, verifier.settings(), shown, &self.proofs)?;
        self.logouts.check(&identity)?;
        Ok(identity)
    }

    /// Whether nobody said meanwhile that the person was logged out.
    ///
    /// # Errors
    /// Somebody did.
    pub fn not_logged_out(&self, identity: &Identity) -> Result<(), Refusal> {
        self.logouts.check(identity)
    }

    /// Looks again at somebody whose session is open.
    pub async fn recheck(&self, identity: &Identity, token: &BearerToken) -> Recheck {
        if let Some(cluster) = self.cluster_as(identity.issuer()) {
            return cluster.recheck(identity, token).await;
        }
        match self.of_issuer(identity.issuer()) {
            Some(verifier) => verifier.recheck(identity, token).await,
            None => Recheck::Over("your identity provider is not believed here any more".to_owned()),
        }
    }

    /// Whether the issuer is asked about the tokens of open sessions.
    #[must_use]
    pub fn introspects(&self, issuer: &str) -> bool {
        self.cluster_as(issuer).is_some() || self.of_issuer(issuer).is_some_and(Verifier::introspects)
    }

    /// Whether the issuer can be asked at this moment.
    ///
    /// # Errors
    /// Why not, for operators.
    pub async fn reach(&self, issuer: &str) -> Result<(), String> {
        if let Some(cluster) = self.cluster_as(issuer) {
            return cluster.reach().await;
        }
        match self.of_issuer(issuer) {
            Some(verifier) => verifier.reach().await,
            None => Ok(()),
        }
    }

    /// Checks a logout token (OpenID Connect Back-Channel Logout 1.0). From then on no token of that login is taken.
    ///
    /// # Errors
    /// What is wrong with it, or that the issuer's keys cannot be had.
    pub async fn log_out(&self, token: &BearerToken) -> Result<LoggedOut, Refusal> {
        let Judge::Issuer(verifier) = self.of_token(token.expose())? else {
            return Err(token::foreign("the token was made by another issuer"));
        };
        let claims = verifier.check_logout(token).await?;
        self.logouts.take(&claims, verifier.settings(), SystemTime::now())
    }

    /// What the answer 401 says about how to show a token (RFC 9110, section 11.6.1; RFC 9449, section 7.1).
    pub(crate) fn challenges(&self, code: RefusalCode) -> Vec<HeaderValue> {
        let asks = |way: Dpop| self.issuers.iter().any(|one| one.settings().dpop == way);
        let mut all = Vec::new();
        let proof = matches!(code, RefusalCode::ProofMissing | RefusalCode::ProofInvalid);
        if asks(Dpop::Off) || asks(Dpop::Optional) || self.cluster.is_some() {
            all.push("Bearer realm=\"doorward\"".to_owned());
        }
        if asks(Dpop::Optional) || asks(Dpop::Required) {
            let mut algorithms: Vec<_> = self
                .issuers
                .iter()
                .filter(|one| one.settings().dpop != Dpop::Off)
                .flat_map(|one| one.settings().algorithms.iter().map(|one| format!("{one:?}")))
                .collect();
            algorithms.sort();
            algorithms.dedup();
            let mut challenge = "DPoP realm=\"doorward\"".to_owned();
            if proof {
                challenge += ", error=\"invalid_dpop_proof\"";
            }
            let _ = write!(challenge, ", algs=\"{}\"", algorithms.join(" "));
            all.push(challenge);
        }
        all.into_iter()
            .filter_map(|text| HeaderValue::try_from(text).ok())
            .collect()
    }

    /// Whether tokens can be checked now: those of one issuer at least, or those that the cluster reads.
    ///
    /// # Errors
    /// Why not, for operators.
    pub fn ready(&self) -> Result<(), String> {
        let mut first = None;
        let mut any = false;
        match self.cluster_ready() {
            Some(Ok(())) => any = true,
            Some(Err(why)) => first = Some(why),
            None => {}
        }
        for verifier in &self.issuers {
            match verifier.ready() {
                Ok(()) => any = true,
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        match first {
            Some(why) if !any => Err(why),
            _ => Ok(()),
        }
    }

    /// Whether tokens that the cluster reads can be checked, as far as the last question told; nothing where it is not asked.
    pub(crate) fn cluster_ready(&self) -> Option<Result<(), String>> {
        self.cluster.as_ref().map(ClusterTokens::ready)
    }

    /// Who checks a token: the one issuer, or of several the one that it names; what names none of them is for the cluster, or for
    /// the issuer whose tokens nobody else can read.
    fn of_token(&self, token: &str) -> Result<Judge<'_>, Refusal> {
        if let ([one], None) = (self.issuers.as_slice(), &self.cluster) {
            return Ok(Judge::Issuer(one));
        }
        let named = token::named_issuer(token);
        let issuer = match &named {
            Some(issuer) => self.of_issuer(issuer),
            None => self
                .issuers
                .iter()
                .find(|one| one.settings().token_kind == TokenKind::Opaque),
        };
        match (issuer, &self.cluster) {
            (Some(issuer), _) => Ok(Judge::Issuer(issuer)),
            (None, Some(cluster)) => Ok(Judge::Cluster(cluster)),
            (None, None) if named.is_some() => Err(token::foreign("the token was made by another issuer")),
            (None, None) => Err(token::refusal(
                RefusalCode::TokenMalformed,
                "the token is not a signed JWT",
            )),
        }
    }

    /// The cluster, if it is what stands beside the issuers by this name.
    fn cluster_as(&self, name: &str) -> Option<&ClusterTokens> {
        self.cluster.as_ref().filter(|_| name == cluster::NAME)
    }

    fn of_issuer(&self, issuer: &str) -> Option<&Verifier> {
        self.issuers.iter().find(|one| one.settings().issuer == issuer)
    }
}

/// Who checks a token.
enum Judge<'a> {
    Issuer(&'a Verifier),
    Cluster(&'a ClusterTokens),
}

/// How many tokens are checked at once.
const MOST_CHECKS: usize = 256;
/// How many of them may wait for the issuer; those of one address at most half.
const MOST_WAITING: usize = 2048;
/// How long a check may wait for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a check may take in all: somebody waits at a prompt.
pub const WITHIN: Duration = Duration::from_millis(4500);
/// How many proofs are remembered, in all and of one key.
const MOST_PROOFS: usize = 64 * 1024;
const MOST_PROOFS_OF_ONE: usize = 2048;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
