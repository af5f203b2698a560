//! What somebody may do in the cluster, by the word of the API server (SubjectAccessReview).
//!
//! One asks for a person as the server itself knows them: by the name and the groups that its own login would give them. A name
//! or a group that the server keeps for itself (`system:`) is never made of what an identity provider says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use ::kube::Client;
use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
        SubjectAccessReviewSpec,
    },
};

use super::{KubeError, ask::Ask};
use crate::workspace::line;

/// What is asked about: one act on one kind of object in one namespace, on one object of that kind or on any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Act {
    /// The namespace.
    pub namespace: String,
    /// `create`.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// `pods`.
    pub resource: String,
    /// `exec`; empty for none.
    pub subresource: String,
    /// The object; empty for whichever.
    pub name: String,
}

/// Somebody as the API server knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    user: String,
    groups: Vec<String>,
    /// What the server itself said of them besides, where it was the server that knew them.
    uid: Option<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// What the API server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why, in one line; may be empty.
    pub reason: String,
}

impl Subject {
    /// Somebody whom an identity provider knows, with what the API server puts in front of such names. Whoever would get a name of
    /// the server's own is nobody there; groups that would are left out.
    pub(crate) fn of_provider(
        user: &str,
        groups: &BTreeSet<String>,
        (before_user, before_group): (&str, &str),
    ) -> Option<Self> {
        let user = format!("{before_user}{user}");
        if user.starts_with(OF_THE_SERVER) {
            return None;
        }
        let groups = groups.iter().map(|group| format!("{before_group}{group}"));
        let groups = groups.filter(|group| !group.starts_with(OF_THE_SERVER));
        // The server itself counts whoever has logged in among these.
        let groups = groups.chain([AUTHENTICATED.to_owned()]).collect();
        let (uid, extra) = (None, BTreeMap::new());
        Some(Self {
            user,
            groups,
            uid,
            extra,
        })
    }

    /// Somebody whom the server itself knows by a token: exactly as it said, so that it judges them as it would by that token.
    pub(crate) fn of_review(said: &UserInfo) -> Self {
        Self {
            user: said.username.clone().unwrap_or_default(),
            groups: said.groups.clone().unwrap_or_default(),
            uid: said.uid.clone().filter(|uid| !uid.is_empty()),
            extra: said.extra.clone().unwrap_or_default(),
        }
    }

    /// The name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The groups, the server's own among them.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The server's identifier for this one person of that name, where it has one.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// What the server says under this key; nothing where it says nothing.
    #[must_use]
    pub fn extra(&self, key: &str) -> Option<&[String]> {
        self.extra.get(key).map(Vec::as_slice)
    }

    /// How much it is, in bytes.
    pub(crate) fn size(&self) -> usize {
        let extra = self.extra.iter();
        let extra: usize = extra
            .map(|(key, all)| key.len() + all.iter().map(String::len).sum::<usize>())
            .sum();
        self.user.len() + self.groups.iter().map(String::len).sum::<usize>() + extra
    }
}

/// Asks the API server what people may do. Clones share their bounds.
#[derive(Debug, Clone)]
pub(crate) struct Rights(Ask<SubjectAccessReview>);

impl Rights {
    /// Asks through this client, and waits so long for an answer.
    pub(crate) fn new(client: Client, within: Duration) -> Self {
        Self(Ask::new(client, within, AT_ONCE))
    }

    /// What the last question failed of, if it failed a moment ago.
    pub(crate) fn trouble(&self) -> Option<KubeError> {
        self.0.trouble()
    }

    /// Whether the person may do this. One question, never repeated here.
    ///
    /// # Errors
    /// The server gave no answer, or does not take the question.
    pub(crate) async fn may(&self, who: &Subject, act: &Act) -> Result<Answer, KubeError> {
        let question = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(who.user.clone()),
                groups: Some(who.groups.clone()),
                uid: who.uid.clone(),
                extra: Some(who.extra.clone()).filter(|extra| !extra.is_empty()),
                resource_attributes: Some(act.attributes()),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let status = self.0.in_turn(&question).await?.status;
        let status = status.ok_or_else(|| KubeError::Garbage("a review without a status".to_owned()))?;
        // An error beside a no may be why it is one: a role that cannot be found, an authoriser that failed.
        let said = [status.reason, status.evaluation_error];
        let reason: Vec<String> = said.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        Ok(Answer {
            allowed: status.allowed && status.denied != Some(true),
            reason: line(&reason.join("; ")),
        })
    }
}

/// Whether the gateway itself may do this.
pub(crate) async fn may_i(client: Client, within: Duration, act: &Act) -> Result<bool, KubeError> {
    let question = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(act.attributes()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Ask::new(client, within, 1).in_turn(&question).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

impl Act {
    fn attributes(&self) -> ResourceAttributes {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        ResourceAttributes {
            namespace: some(&self.namespace),
            verb: some(&self.verb),
            group: some(&self.group),
            resource: some(&self.resource),
            subresource: some(&self.subresource),
            name: some(&self.name),
            ..ResourceAttributes::default()
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(formatter, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(formatter, " of {}", self.group)?;
        }
        if !self.name.is_empty() {
            write!(formatter, " {}", self.name)?;
        }
        match self.namespace.is_empty() {
            true => Ok(()),
            false => write!(formatter, " in {}", self.namespace),
        }
    }
}

/// What names of the server's own begin with.
pub(crate) const OF_THE_SERVER: &str = "system:";
const AUTHENTICATED: &str = "system:authenticated";
/// Questions under way; others wait.
const AT_ONCE: usize = 32;
