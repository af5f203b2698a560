//! What the objects say of one person and one workspace.

use std::time::SystemTime;

use super::{Access, Narrower};
use crate::{
    kube::KubeError,
    oidc::Person,
    workspace::{Workspace, line},
};

/// Which object it is, as it was when it was heard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The generation of what it says.
    pub generation: i64,
}

/// A role that an object lends somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// The object.
    pub object: Object,
    /// The role of the policy.
    pub role: String,
    /// How much less than that it lends.
    pub narrower: Narrower,
    /// By what it names the person.
    pub by: String,
}

/// What the objects of a workspace's namespace say of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The namespace.
    pub namespace: String,
    /// What they lend, in the order of their names.
    pub lent: Vec<Lent>,
    /// Names of some that mean the workspace and not the person: those could say yes.
    pub others: Vec<String>,
}

impl Access {
    /// What is said of the person and the workspace by all objects that are in force; nothing where they have no say.
    ///
    /// # Errors
    /// The objects are not known well enough.
    pub(crate) fn hear(&self, who: Person<'_>, workspace: &Workspace) -> Result<Option<Said>, KubeError> {
        let Some(place) = workspace
            .place
            .as_ref()
            .filter(|place| self.0.rules.contains_key(&place.rule))
        else {
            return Ok(None);
        };
        self.known()?;
        let now = SystemTime::now();
        let mut said = Said {
            namespace: place.namespace.clone(),
            lent: Vec::new(),
            others: Vec::new(),
        };
        let all = self.0.watches.iter().flat_map(|watch| watch.store.of(&place.namespace));
        for object in all.filter(|object| !object.going) {
            let Ok(spec) = &object.spec else { continue };
            if spec.is_over(now) || !spec.means(workspace) {
                continue;
            }
            match spec.names(who) {
                Some(by) => said.lent.push(Lent {
                    object: Object {
                        namespace: object.namespace.clone(),
                        name: object.name.clone(),
                        uid: object.uid.clone(),
                        generation: object.generation,
                    },
                    role: spec.role.clone(),
                    narrower: spec.narrower.clone(),
                    by,
                }),
                None if said.others.len() < MOST_OTHERS => said.others.push(object.name.clone()),
                None => {}
            }
        }
        Ok(Some(said))
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespace = &self.namespace;
        if self.lent.is_empty() {
            write!(
                formatter,
                "no WorkspaceAccess in force in {namespace} lets the person into the workspace"
            )?;
            return match self.others.is_empty() {
                true => Ok(()),
                false => write!(formatter, "; for others do {}", self.others.join(", ")),
            };
        }
        for (at, lent) in self.lent.iter().take(MOST_SHOWN).enumerate() {
            let Lent { object, role, by, .. } = lent;
            let (uid, generation) = (line(&object.uid), object.generation);
            let before = if at == 0 { "" } else { "; " };
            write!(
                formatter,
                "{before}the WorkspaceAccess {object} (uid {uid}, generation {generation}) lends "
            )?;
            write!(formatter, "the role `{}` {}", line(role), line(by))?;
        }
        match self.lent.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(formatter, "; {more} more do"),
        }
    }
}

const MOST_SHOWN: usize = 8;
const MOST_OTHERS: usize = 8;
