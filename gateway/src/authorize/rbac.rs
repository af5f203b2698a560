//! Kubernetes RBAC as an authoriser: what is asked of whom, and how long an answer is believed.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use ::kube::Client;

use crate::{
    config::{Authorize, Named, Require},
    guarded::Guarded,
    kube::{
        KubeError,
        rights::{Act, Answer, Rights, Subject},
    },
    oidc::{Person, digest},
    workspace::Workspace,
};

/// Asks the API server about people and workspaces. Answers are believed for `cache`; there is room for [`MOST_KNOWN`].
pub struct Rbac {
    settings: Authorize,
    rights: Rights,
    known: Guarded<HashMap<[u8; 32], (Answer, Instant)>>,
}

/// An answer, and whether the server was asked for it just now.
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) asked: bool,
}

impl Rbac {
    /// Asks through this client.
    #[must_use]
    pub fn new(client: Client, settings: &Authorize) -> Self {
        Self {
            settings: settings.clone(),
            rights: Rights::new(client, settings.timeout),
            known: Guarded::default(),
        }
    }

    /// What people have to be allowed to do for this workspace; nothing if its rule does not say, or no rule found it.
    pub(super) fn question(&self, workspace: &Workspace) -> Option<(Require, Act)> {
        let place = workspace.place.as_ref()?;
        let rbac = self.settings.rbac.get(&place.rule)?;
        // Without an object the question is about all of them: no less is asked of the person.
        let name = match rbac.name {
            Named::Pod => place.pod.clone(),
            Named::Owner => place.owner.as_ref().map(|owner| owner.name.clone()),
            Named::None => None,
        };
        let act = Act {
            namespace: place.namespace.clone(),
            verb: rbac.verb.clone(),
            group: rbac.group.clone(),
            resource: rbac.resource.clone(),
            subresource: rbac.subresource.clone(),
            name: name.unwrap_or_default(),
        };
        Some((rbac.require, act))
    }

    /// Whether people can be asked about, as far as the last question told.
    ///
    /// # Errors
    /// Why not, for operators.
    pub fn ready(&self) -> Result<(), String> {
        match self.rights.trouble() {
            Some(error) => Err(format!("{}: {error}", error.code())),
            None => Ok(()),
        }
    }

    /// From when on answers are believed.
    pub(super) fn oldest(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.settings.cache).unwrap_or(now)
    }

    /// Whether the person may do this; an answer that was given since `oldest` will do.
    pub(super) async fn may(&self, who: Person<'_>, act: &Act, oldest: Instant) -> Result<Told, KubeError> {
        let Some(subject) = self.subject(who) else {
            let reason = "the API server keeps such a name for itself".to_owned();
            let answer = Answer { allowed: false, reason };
            return Ok(Told { answer, asked: false });
        };
        let key = digest(&format!("{subject:?} {act:?}"));
        let known = self.known.with(|known| known.get(&key).cloned());
        if let Some((answer, given)) = known
            && given > oldest
        {
            return Ok(Told { answer, asked: false });
        }
        // It was true when it was asked, at the latest.
        let given = Instant::now();
        let answer = self.rights.may(&subject, act).await?;
        self.known.with(|known| {
            if known.len() >= MOST_KNOWN {
                let oldest = given.checked_sub(LONGEST_KEPT.max(self.settings.cache));
                known.retain(|_, (_, given)| oldest.is_some_and(|oldest| *given > oldest));
            }
            if known.len() < MOST_KNOWN || known.contains_key(&key) {
                known.insert(key, (answer.clone(), given));
            }
        });
        Ok(Told { answer, asked: true })
    }

    /// Asks what matters to nobody, where a refusal came without a question: one that came with a question would have taken
    /// longer, or failed, and so would tell that the workspace is there.
    pub(super) async fn as_if(&self, who: Person<'_>) -> Result<(), KubeError> {
        let (Some(subject), Some(rbac)) = (self.subject(who), self.settings.rbac.values().next()) else {
            return Ok(());
        };
        let act = Act {
            namespace: NOWHERE.to_owned(),
            verb: rbac.verb.clone(),
            group: rbac.group.clone(),
            resource: rbac.resource.clone(),
            subresource: rbac.subresource.clone(),
            name: NOWHERE.to_owned(),
        };
        self.rights.may(&subject, &act).await.map(drop)
    }

    fn subject(&self, who: Person<'_>) -> Option<Subject> {
        // Whom the server knows itself needs no name made up.
        if let Some(subject) = who.cluster {
            return Some(subject.clone());
        }
        let before = (
            self.settings.username_prefix.as_str(),
            self.settings.groups_prefix.as_str(),
        );
        Subject::of_provider(who.user, who.groups, before)
    }
}

impl fmt::Debug for Rbac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Rbac({} rules)", self.settings.rbac.len())
    }
}

/// The most answers that are kept; beyond, people are asked about each time.
const MOST_KNOWN: usize = 8192;
const LONGEST_KEPT: Duration = Duration::from_secs(60);
const NOWHERE: &str = "doorward-nowhere";

#[cfg(test)]
mod tests;
