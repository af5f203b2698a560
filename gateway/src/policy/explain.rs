//! Why somebody may enter a workspace, or may not: rule by rule, of the same weighing that decides.

use std::sync::Arc;

use doorward_certs::WorkspaceName;
use serde::Serialize;

use super::{
    Policy,
    weigh::{self, RecordStore, Weight},
};
use crate::{api::words, authorize::Heard, locks::Lock, oidc::Person, refusal::Refusal, workspace::Workspace};

/// What the policy says about one person and one workspace.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    /// The person.
    pub user: String,
    /// The workspace.
    pub workspace: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// In a sentence, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The account in the workspace.
    pub login: Option<String>,
    /// What is allowed, in the words of the policy file.
    pub capabilities: Vec<String>,
    /// The longest session.
    pub longest: Option<String>,
    /// How it is recorded.
    pub recording: Option<RecordingSaid>,
    /// Each role.
    pub rules: Vec<Rule>,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// In.
    Granted,
    /// Not in.
    Denied,
    /// In, but for a lock.
    Locked,
}

/// How a session is recorded beyond its output.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecordingSaid {
    /// Whether what is typed is recorded.
    pub input: bool,
    /// Bytes of a command's output that are recorded whole.
    pub bulk_limit: u64,
    /// What gives way where a record cannot be stored: `strict` or `best-effort`.
    pub mode: &'static str,
    /// Bytes of the record that may wait to be stored.
    pub unacked: u64,
    /// How long they may wait.
    pub stall: String,
}

/// One role and what it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    /// Its name.
    pub role: String,
    /// Whether it applies.
    pub applies: bool,
    /// Why, or why not.
    pub why: String,
}

impl Explanation {
    /// Whether the person may enter, but for a lock.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.verdict != Verdict::Denied
    }

    /// The same, with a lock in the way. It is told to those alone who would be in without it.
    #[must_use]
    pub fn with_lock(mut self, lock: Option<&Lock>) -> Self {
        if let (Verdict::Granted, Some(lock)) = (self.verdict, lock) {
            self.verdict = Verdict::Locked;
            self.why = Some(lock.sentence());
        }
        self
    }
}

impl Policy {
    /// Explains the decision on a day when the record store works. With `all`, every role is named; otherwise those alone that the person is a member of. A
    /// workspace that does not exist looks like one that nobody owns, so that the answer tells no more than a refusal.
    #[must_use]
    pub fn explain(
        &self,
        person: Person<'_>,
        name: &WorkspaceName,
        workspace: Option<&Arc<Workspace>>,
        all: bool,
        heard: &Heard,
    ) -> Explanation {
        let roles = self.roles.load();
        let nowhere = Workspace {
            name: name.clone(),
            ..Workspace::clone(&self.nowhere)
        };
        let place = workspace.map_or(&nowhere, |workspace| workspace);
        let mut weighed = weigh::weigh(&roles, person, place, RecordStore::Works, heard);
        let terms = match workspace {
            Some(_) => weighed.terms().map_err(|refusal| refusal.text().to_owned()),
            None => Err(Refusal::denied("").text().to_owned()),
        };
        let nothing = Heard::nothing();
        let mut others = heard.rules();
        if !all && terms.is_err() {
            // What was said of a workspace tells that it is there.
            weighed = weigh::weigh(&roles, person, place, RecordStore::Works, &nothing);
            others = Vec::new();
        }
        let mut rules: Vec<Rule> = weighed
            .roles
            .iter()
            .filter(|(_, weight)| all || *weight != Weight::Stranger)
            .map(|(held, weight)| Rule {
                role: held.role.name.clone(),
                applies: *weight == Weight::Applies,
                why: match weight {
                    Weight::Applies => format!(
                        "member by {}; it holds for the workspace",
                        match held.lent {
                            Some(lent) => format!("the WorkspaceAccess `{}`", lent.object),
                            None => held
                                .role
                                .by(person)
                                .unwrap_or_else(|| "the word of Kubernetes RBAC".to_owned()),
                        }
                    ),
                    Weight::NotLent => {
                        "it is for whoever a WorkspaceAccess of the workspace's namespace lends it to, and none does"
                            .to_owned()
                    }
                    Weight::LentBeyond => {
                        "a WorkspaceAccess lends it, which its `lending` lets it do neither in every namespace nor to everybody"
                            .to_owned()
                    }
                    Weight::Stranger => "none of its groups, addresses and domains is the person's".to_owned(),
                    Weight::NotByRbac => {
                        "it is for whoever Kubernetes RBAC lets in, which is not said of the person".to_owned()
                    }
                    Weight::Elsewhere => "it is for other workspaces".to_owned(),
                    Weight::NotOwner => "it is for workspaces that the person owns".to_owned(),
                    Weight::GlassWhole => "it is for when the record store is down".to_owned(),
                    Weight::NeedsStore => "the record store is down".to_owned(),
                    Weight::OpensNothing => "it opens no workspace".to_owned(),
                    Weight::OtherLogin(login) => {
                        format!("it is for another login than `{login}`, which a role before it names")
                    }
                },
            })
            .collect();
        rules.extend(others);
        let mut explanation = Explanation {
            user: person.user.to_owned(),
            workspace: name.to_string(),
            verdict: Verdict::Denied,
            why: None,
            login: None,
            capabilities: Vec::new(),
            longest: None,
            recording: None,
            rules,
        };
        match terms {
            Ok(terms) => {
                explanation.verdict = Verdict::Granted;
                explanation.login = Some(terms.login.to_string());
                explanation.capabilities = words(&terms);
                explanation.longest = Some(humantime::format_duration(terms.longest).to_string());
                explanation.recording = Some(RecordingSaid {
                    input: terms.recording.input,
                    bulk_limit: terms.recording.bulk_limit,
                    mode: terms.recording.mode.as_str(),
                    unacked: terms.recording.unacked,
                    stall: humantime::format_duration(terms.recording.stall).to_string(),
                });
            }
            Err(why) => explanation.why = Some(why),
        }
        explanation
    }
}
