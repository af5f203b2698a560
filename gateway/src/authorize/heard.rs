//! What the authorisers besides the policy have said: a proof that they were asked, which only this folder makes.

use crate::{
    config::Require,
    kube::{
        access,
        rights::{Act, Answer},
    },
    policy::Rule,
};

/// What the authorisers besides the policy have said of one person and one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub(super) rbac: Option<Said>,
    pub(super) access: Option<access::Said>,
}

/// What Kubernetes RBAC said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) require: Require,
    pub(super) act: Act,
    pub(super) answer: Answer,
}

impl Heard {
    /// Whether Kubernetes RBAC lets the person in: they are members of the roles for such people.
    pub(crate) fn lets_in(&self) -> bool {
        self.rbac.as_ref().is_some_and(|said| said.answer.allowed)
    }

    /// Whether a role that is the person's by what the policy says itself is needed.
    pub(crate) fn needs_policy(&self) -> bool {
        self.rbac.as_ref().is_none_or(|said| said.require == Require::Both)
    }

    /// Whether nothing that the policy says lets the person in.
    pub(crate) fn forbids(&self) -> bool {
        let both = |said: &Said| said.require == Require::Both && !said.answer.allowed;
        self.rbac.as_ref().is_some_and(both)
    }

    /// The roles that objects of the workspace's namespace lend the person.
    pub(crate) fn lent(&self) -> &[access::Lent] {
        self.access.as_ref().map_or(&[], |said| &said.lent)
    }

    /// What was said, for operators.
    pub(crate) fn said(&self) -> Option<String> {
        let all = [self.said_by_rbac(), self.access.as_ref().map(ToString::to_string)];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn said_by_rbac(&self) -> Option<String> {
        let Said { act, answer, .. } = self.rbac.as_ref()?;
        let word = match answer.allowed {
            true => "allows to",
            false => "does not allow to",
        };
        let reason = match answer.reason.is_empty() {
            true => String::new(),
            false => format!(": {}", answer.reason),
        };
        Some(format!("Kubernetes RBAC {word} {act}{reason}"))
    }

    /// The same as lines of an explanation.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        let rbac = self.said_by_rbac().map(|why| Rule {
            role: "kubernetes".to_owned(),
            applies: self.lets_in(),
            why,
        });
        let access = self.access.as_ref().map(|said| Rule {
            role: "workspace-access".to_owned(),
            applies: !said.lent.is_empty(),
            why: said.to_string(),
        });
        rbac.into_iter().chain(access).collect()
    }

    /// What is heard where nobody but the policy has a say.
    pub(crate) fn nothing() -> Self {
        Self {
            rbac: None,
            access: None,
        }
    }
}

#[cfg(test)]
impl Heard {
    /// RBAC says this.
    pub(crate) fn rbac(require: Require, allowed: bool) -> Self {
        let act = Act {
            namespace: "team".to_owned(),
            verb: "create".to_owned(),
            group: String::new(),
            resource: "pods".to_owned(),
            subresource: "exec".to_owned(),
            name: "pod-0".to_owned(),
        };
        let answer = Answer {
            allowed,
            reason: "because".to_owned(),
        };
        Self {
            rbac: Some(Said { require, act, answer }),
            access: None,
        }
    }

    /// Objects say this besides.
    pub(crate) fn and_access(mut self, said: access::Said) -> Self {
        self.access = Some(said);
        self
    }
}
