//! What an object says, checked: whom it lets in where, and by which role.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use doorward_certs::{Capabilities, WorkspaceName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::selector::{Selector, Written};
use crate::{
    oidc::{Email, Person, is_hidden},
    policy::capabilities,
    workspace::{Workspace, line, moment},
};

/// `spec` as it is written. A member that is not known here may narrow what is lent, so that it is not passed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    pub(super) subjects: Vec<Subject>,
    pub(super) workspaces: Places,
    pub(super) role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allow: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) longest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recording: Option<Recording>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<String>,
}

/// Somebody, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    pub(super) kind: String,
    pub(super) name: String,
}

/// Workspaces, as they are written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Places {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) selector: Option<Written>,
}

/// What is recorded beyond what the role has recorded, as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Recording {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<bool>,
}

/// What an object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    users: BTreeSet<String>,
    emails: BTreeSet<Email>,
    groups: BTreeSet<String>,
    names: Option<BTreeSet<WorkspaceName>>,
    selector: Option<Selector>,
    pub(super) role: String,
    pub(super) narrower: Narrower,
    pub(super) expires: Option<SystemTime>,
}

/// How much less than its role an object lends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrower {
    /// At most this.
    pub allow: Option<Capabilities>,
    /// At most so long.
    pub longest: Option<Duration>,
    /// Recorded strictly, whatever the role says.
    pub strict: bool,
    /// What is typed is recorded, whatever the role says.
    pub input: bool,
}

/// Why an object cannot be in force: a word from a closed set, and a sentence for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl Spec {
    /// Checks what an object says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(written: Value) -> Result<Self, Fault> {
        let document: Document = serde_json::from_value(written)
            .map_err(|error| Fault::new("Malformed", format!("spec: {}", line(&error.to_string()))))?;
        let mut spec = Self {
            users: BTreeSet::new(),
            emails: BTreeSet::new(),
            groups: BTreeSet::new(),
            names: None,
            selector: None,
            role: printable(document.role, LONGEST_NAME)
                .ok_or_else(|| Fault::new("BadRole", "`role` is not a name that a role can have"))?,
            narrower: Narrower::default(),
            expires: None,
        };
        spec.read_subjects(document.subjects)?;
        spec.read_places(document.workspaces)?;
        let bad = |message: String| Fault::new("BadTerms", message);
        if let Some(words) = document.allow {
            if words.len() > MOST_WORDS {
                return Err(bad(format!("`allow` has at most {MOST_WORDS} words")));
            }
            spec.narrower.allow = Some(capabilities(&words).map_err(|why| bad(format!("`allow`: {}", line(&why))))?);
        }
        if let Some(text) = document.longest {
            let longest =
                duration(&text).ok_or_else(|| bad("`longest` is a number and one of s, m, h, d: 8h".to_owned()))?;
            spec.narrower.longest = Some(longest);
        }
        if let Some(recording) = document.recording {
            spec.narrower.strict = match recording.mode.as_deref() {
                None => false,
                Some("strict") => true,
                Some(_) => {
                    return Err(bad(
                        "`recording.mode` can be `strict` alone: nothing makes it less".to_owned()
                    ));
                }
            };
            spec.narrower.input = recording.input.unwrap_or_default();
        }
        if let Some(text) = document.expires {
            let at = Some(text).filter(|text| text.len() <= 64).as_deref().and_then(moment);
            spec.expires = Some(at.ok_or_else(|| bad("`expires` is no time as RFC 3339 has it".to_owned()))?);
        }
        Ok(spec)
    }

    fn read_subjects(&mut self, subjects: Vec<Subject>) -> Result<(), Fault> {
        let bad = |message: String| Fault::new("BadSubject", message);
        if subjects.is_empty() || subjects.len() > MOST_SUBJECTS {
            return Err(bad(format!("`subjects` names 1 to {MOST_SUBJECTS}")));
        }
        for Subject { kind, name } in subjects {
            let name = printable(name, LONGEST_NAME).ok_or_else(|| {
                bad(format!(
                    "a subject's name has 1 to {LONGEST_NAME} bytes, and nothing that is not seen or turns the direction"
                ))
            })?;
            match kind.as_str() {
                "User" => drop(self.users.insert(name)),
                "Group" => drop(self.groups.insert(name)),
                "Email" => {
                    let email = Email::parse(&name);
                    let email = email.ok_or_else(|| bad(format!("`{}` is no e-mail address", line(&name))))?;
                    self.emails.insert(email);
                }
                _ => return Err(bad("a subject's kind is none of User, Email and Group".to_owned())),
            }
        }
        Ok(())
    }

    fn read_places(&mut self, places: Places) -> Result<(), Fault> {
        let bad = |message: String| Fault::new("BadWorkspaces", message);
        if places.names.is_none() && places.selector.is_none() {
            return Err(bad(
                "`workspaces` has neither `names` nor `selector`; an empty selector means all of the namespace"
                    .to_owned(),
            ));
        }
        if let Some(names) = places.names {
            if names.is_empty() || names.len() > MOST_NAMES {
                return Err(bad(format!("`workspaces.names` has 1 to {MOST_NAMES}")));
            }
            let read = names.iter().map(|name| {
                WorkspaceName::try_from(name.as_str()).map_err(|error| bad(format!("`{}`: {error}", line(name))))
            });
            self.names = Some(read.collect::<Result<_, _>>()?);
        }
        if let Some(selector) = places.selector {
            self.selector = Some(Selector::read(selector).map_err(|why| Fault::new("BadSelector", why))?);
        }
        Ok(())
    }

    /// By what it names the person: exact names, nothing folded (but the case of a domain).
    pub(super) fn names(&self, person: Person<'_>) -> Option<String> {
        if self.users.contains(person.user) {
            return Some("by name".to_owned());
        }
        if let Some(email) = person.email.filter(|email| self.emails.contains(email)) {
            return Some(format!("by the e-mail address `{email}`"));
        }
        let group = self.groups.intersection(person.groups).next()?;
        Some(format!("by the group `{group}`"))
    }

    /// Whether it means this workspace, which is one of its namespace. Where it has both names and a selector, both must hold.
    pub(super) fn means(&self, workspace: &Workspace) -> bool {
        let selected = |selector: &Selector| {
            let place = workspace.place.as_ref();
            place.is_some_and(|place| selector.matches(&place.labels))
        };
        self.names.as_ref().is_none_or(|names| names.contains(&workspace.name))
            && self.selector.as_ref().is_none_or(selected)
    }

    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

fn printable(text: String, most: usize) -> Option<String> {
    let hidden = |character: char| character.is_control() || is_hidden(character);
    let good = !text.is_empty() && text.len() <= most && !text.chars().any(hidden) && text.trim() == text;
    good.then_some(text)
}

/// A whole number and a unit.
fn duration(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number = text.get(..text.len() - 1)?;
    let good = (1..=5).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|number| good && *number > 0)?;
    Some(Duration::from_secs(number * unit))
}

/// Subjects of one object.
pub(super) const MOST_SUBJECTS: usize = 64;
/// Names of workspaces in one object.
pub(super) const MOST_NAMES: usize = 64;
/// Words of `allow`.
pub(super) const MOST_WORDS: usize = 32;
/// Bytes of a name.
pub(super) const LONGEST_NAME: usize = 256;
