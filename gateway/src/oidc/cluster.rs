//! People whom the cluster knows: tokens that no issuer of ours made are shown to the API server (TokenReview).
//!
//! Such a token is a bearer token and nothing more: it is bound to no key, and may be for the API server itself. What the server
//! keeps for its own is nobody here (`system:`), service accounts come in only by name, and a token that may do less than
//! its person is not taken for the person.

mod reviews;

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use ::kube::Client;

use super::{
    BearerToken, Identity, Presented, Recheck,
    token::{LONGEST_NAME, MOST_GROUPS, printable},
};
use crate::{
    config::TokenReview,
    kube::{
        KubeError,
        people::{NotTaken, People},
        rights::{OF_THE_SERVER, Subject},
    },
    refusal::{Refusal, RefusalCode},
};
use reviews::{Failure, Reviews};

/// By this name the API server stands beside the issuers, as the one who knows somebody.
pub(crate) const NAME: &str = "kubernetes-token-review";

/// The check of tokens that the API server reads.
#[derive(Debug)]
pub struct ClusterTokens {
    settings: TokenReview,
    reviews: Reviews,
}

impl ClusterTokens {
    /// Asks through this client.
    #[must_use]
    pub fn new(client: Client, settings: &TokenReview) -> Self {
        let people = People::new(client, &settings.audiences, settings.timeout);
        Self {
            reviews: Reviews::new(people, settings),
            settings: settings.clone(),
        }
    }

    /// Who shows this token; what was said of it a moment ago will do.
    pub(super) async fn identify(&self, shown: &Presented) -> Result<Identity, Refusal> {
        if shown.proof.is_some() {
            return Err(Refusal::new(
                RefusalCode::ProofInvalid,
                "a token that the cluster reads is bound to no key, and one was shown beside it",
            ));
        }
        match self.reviews.whose(shown.token.expose(), shown.source).await {
            Ok(Ok(subject)) => self.person(&subject, SystemTime::now()),
            Ok(Err(not_taken)) => Err(refused(&not_taken)),
            Err(Failure::Busy) => Err(Refusal::new(
                RefusalCode::Overloaded,
                "the API server is asked about too many unknown tokens at the moment",
            )
            .with_retry_after(Duration::from_secs(2))),
            Err(Failure::Server(error)) => Err(down(&error)),
        }
    }

    /// Looks again at somebody whose session is open: the server is asked anew.
    pub(super) async fn recheck(&self, identity: &Identity, token: &BearerToken) -> Recheck {
        let subject = match self.reviews.ask(token.expose()).await {
            Ok(Ok(subject)) => subject,
            Ok(Err(_)) => {
                return Recheck::Over(
                    "the cluster does not take your token any more: it has ended, or was revoked".to_owned(),
                );
            }
            Err(Failure::Busy) => return Recheck::Unknown("too much is asked at once".to_owned()),
            Err(Failure::Server(error)) => return Recheck::Unknown(format!("{}: {error}", error.code())),
        };
        match self.person(&subject, SystemTime::now()) {
            Ok(now) if now.subject() == identity.subject() => Recheck::Good(Box::new(now)),
            Ok(_) => Recheck::Over("the cluster says that the token is somebody else's".to_owned()),
            Err(refusal) => Recheck::Over(format!("the cluster does not vouch for you: {}", refusal.text())),
        }
    }

    /// Whether the API server answers questions about tokens, asked about one that nobody has.
    pub(super) async fn reach(&self) -> Result<(), String> {
        match self.reviews.try_out().await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}: {error}", error.code())),
        }
    }

    /// Whether such tokens can be checked, as far as the last question told.
    pub(super) fn ready(&self) -> Result<(), String> {
        self.reviews.trouble().map_or(Ok(()), Err)
    }

    /// Who somebody is that the server knows, if they may come in at all.
    fn person(&self, said: &Subject, now: SystemTime) -> Result<Identity, Refusal> {
        let settings = &self.settings;
        if said.size() > LARGEST {
            let text = "what the cluster says of you is too long";
            return Err(Refusal::new(RefusalCode::TokenClaims, text));
        }
        let name = said.user();
        if let Some(account) = name.strip_prefix(SERVICE_ACCOUNT) {
            let named = account
                .split_once(':')
                .map(|(namespace, name)| format!("{namespace}/{name}"));
            if !named.is_some_and(|named| settings.service_accounts.contains(&named)) {
                return Err(of_nobody("the token is a service account's, and people come in here").with_detail(account));
            }
        } else if name.starts_with(OF_THE_SERVER) {
            return Err(of_nobody("the token is of the cluster's own, and people come in here").with_detail(name));
        }
        if let Some(scopes) = said.extra(SCOPES)
            && !scopes.iter().any(|scope| scope == WHOLE)
        {
            // It was given to a program that may do this little for the person, and not to come in here as them.
            let detail = scopes.join(" ");
            return Err(of_nobody("the token may do less in the cluster than you may").with_detail(detail));
        }
        let counts = |group: &&String| {
            let named = settings.groups.as_ref().is_none_or(|groups| groups.contains(*group));
            // Nobody is in a group without a name, which some ways of logging in give to those who are in none.
            named && !group.is_empty() && !group.starts_with(OF_THE_SERVER)
        };
        let groups = said.groups().iter().filter(counts);
        let groups = groups.map(|group| printable(&format!("{}{group}", settings.groups_prefix), "groups"));
        let groups: BTreeSet<String> = groups.collect::<Result<_, _>>()?;
        if groups.len() > MOST_GROUPS {
            return Err(Refusal::new(
                RefusalCode::TokenClaims,
                "you are in too many groups of the cluster",
            ));
        }
        printable(name, "username")?;
        Ok(Identity {
            user: printable(&format!("{}{name}", settings.user_prefix), "username")?,
            issuer: NAME.to_owned(),
            // Somebody who was deleted and made again under the same name is somebody else.
            subject: format!("{:?} {name:?}", said.uid().unwrap_or_default()),
            login_session: None,
            groups,
            workspaces: BTreeSet::new(),
            email: None,
            login: None,
            cluster: Some(said.clone()),
            issued: now,
            expires: now + LIFE,
        })
    }
}

fn of_nobody(text: &'static str) -> Refusal {
    Refusal::new(RefusalCode::TokenKind, text)
}

fn refused(why: &NotTaken) -> Refusal {
    let refusal = match why {
        NotTaken::Refused(_) => Refusal::new(
            RefusalCode::TokenExpired,
            "the cluster says that the token is not good, or not any more",
        ),
        NotTaken::Audience => Refusal::new(RefusalCode::TokenForeign, "the token was made for another service"),
    };
    refusal
        .with_hint("log in at the cluster anew (`oc login`), or `doorward login` if you log in elsewhere")
        .with_detail(why.to_string())
}

fn down(error: &KubeError) -> Refusal {
    let text = format!(
        "only the Kubernetes API server can say whose this token is, and it cannot be asked at the moment ({})",
        error.code()
    );
    Refusal::by_kubernetes(error).with_text(text)
}

/// What the names of service accounts begin with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// Where OpenShift says what a token may be used for, and the one word that means: for all that its person may.
const SCOPES: &str = "scopes.authorization.openshift.io";
const WHOLE: &str = "user:full";
/// A review says nothing of a token's end. Each look renews this; what is known meanwhile is known from the looks.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// The most that is kept of what the server says of somebody, in bytes.
const LARGEST: usize = MOST_GROUPS * LONGEST_NAME;

#[cfg(test)]
mod tests;
