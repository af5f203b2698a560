//! Each role against one person and one workspace: whether it applies, and why not. The decision and its explanation
//! are made of the same weighing, so that they cannot differ.

use std::time::Duration;

use doorward_certs::{Capabilities, Login, RecordingMode, Terms};

use super::roles::{Role, Roles, wider};
use crate::{
    authorize::Heard,
    oidc::{LoginFault, Person},
    refusal::{Refusal, RefusalCode},
    workspace::Workspace,
};

/// All roles, weighed, in the order of the file.
pub(super) struct Weighed<'r> {
    pub(super) roles: Vec<(&'r Role, Weight)>,
    login: Result<Login, LoginFault>,
    /// Whether those apply that are for a store that is down.
    pub(super) glass: bool,
    heard: &'r Heard,
    /// Whether one of the roles that apply is the person's by what the policy says itself.
    own: bool,
}

/// What a role came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Weight {
    /// It applies.
    Applies,
    /// The person is no member.
    Stranger,
    /// It is for whoever Kubernetes RBAC lets in, and that is not said.
    NotByRbac,
    /// It is for other workspaces.
    Elsewhere,
    /// It is for workspaces of their owners, and the person does not own this one.
    NotOwner,
    /// It opens no workspace.
    OpensNothing,
    /// It is for when the record store is down, and it is not; or roles that apply can do without the store.
    GlassWhole,
    /// The record store is down, and roles for that apply in its place.
    NeedsStore,
    /// It is for another login than the first that was named.
    OtherLogin(Login),
}

/// Whether recordings can be stored at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordStore {
    /// They can.
    Works,
    /// They cannot: strict sessions are refused, and roles with `break-glass` apply.
    Down,
}

/// Weighs all roles. Roles with `break-glass` apply alone, and only where the others would need a store that is down.
pub(super) fn weigh<'r>(
    roles: &'r Roles,
    person: Person<'_>,
    workspace: &Workspace,
    store: RecordStore,
    heard: &'r Heard,
) -> Weighed<'r> {
    let usual = weigh_either(roles, person, workspace, false, heard);
    if store == RecordStore::Works {
        return usual;
    }
    let broken = weigh_either(roles, person, workspace, true, heard);
    let can_do_without = usual.mode() == Some(RecordingMode::BestEffort);
    if can_do_without || broken.applying().next().is_none() {
        usual
    } else {
        broken
    }
}

/// Weighs all roles, of which those with `break-glass` apply, or the others.
fn weigh_either<'r>(
    roles: &'r Roles,
    person: Person<'_>,
    workspace: &Workspace,
    glass: bool,
    heard: &'r Heard,
) -> Weighed<'r> {
    let mut weighed: Vec<(&Role, Weight)> = roles
        .0
        .iter()
        .map(|role| {
            // Everything is looked at, so that every answer takes the same work.
            let (member, holds, covers) = (
                role.is_of(person) | (role.is_by_rbac() & heard.lets_in()),
                role.holds_for(workspace, person),
                role.names(workspace.name.as_str()),
            );
            let weight = match (member, role.opens(), covers, holds) {
                (false, ..) if role.is_by_rbac() => Weight::NotByRbac,
                (false, ..) => Weight::Stranger,
                (_, false, ..) => Weight::OpensNothing,
                (_, _, false, _) => Weight::Elsewhere,
                (_, _, _, false) => Weight::NotOwner,
                _ if role.break_glass && !glass => Weight::GlassWhole,
                _ if glass && !role.break_glass => Weight::NeedsStore,
                _ => Weight::Applies,
            };
            (role, weight)
        })
        .collect();
    let named = weighed
        .iter()
        .filter(|(_, weight)| *weight == Weight::Applies)
        .find_map(|(role, _)| role.login.clone());
    if let Some(login) = &named {
        for (role, weight) in &mut weighed {
            if *weight == Weight::Applies && role.login.as_ref().is_some_and(|own| own != login) {
                *weight = Weight::OtherLogin(login.clone());
            }
        }
    }
    let login = match (named, person.login) {
        (Some(login), _) => Ok(login),
        (None, Some(made)) => made.clone(),
        (None, None) => Ok(workspace.login.clone()),
    };
    let applies = |(role, weight): &(&Role, Weight)| *weight == Weight::Applies && role.is_of(person);
    Weighed {
        own: weighed.iter().any(applies),
        roles: weighed,
        login,
        glass,
        heard,
    }
}

impl<'r> Weighed<'r> {
    /// The roles that apply.
    pub(super) fn applying(&self) -> impl Iterator<Item = &'r Role> {
        self.roles
            .iter()
            .filter(|(_, weight)| *weight == Weight::Applies)
            .map(|(role, _)| *role)
    }

    /// What gives way where records cannot be stored; nothing if no role applies.
    fn mode(&self) -> Option<RecordingMode> {
        self.applying().map(|role| role.recording.mode).min()
    }

    /// How long the recording is kept after its end, the longest of all roles; for ever if one does not say.
    pub(super) fn keep(&self) -> Option<Duration> {
        let all: Option<Vec<Duration>> = self.applying().map(|role| role.keep).collect();
        all.and_then(|all| all.into_iter().max())
    }

    /// For how long the workspace may be kept awake, the longest of all roles; zero if not at all.
    pub(super) fn keep_awake(&self) -> Duration {
        self.applying().map(|role| role.keep_awake).max().unwrap_or_default()
    }

    /// What the applying roles allow together.
    pub(super) fn terms(&self) -> Result<Terms, Refusal> {
        let denied = |why: &str| match self.heard.said() {
            Some(said) => Err(Refusal::denied(format!("{why}; {said}"))),
            None => Err(Refusal::denied(why.to_owned())),
        };
        if self.applying().next().is_none() {
            return denied("no role of the person holds for the workspace");
        }
        if self.heard.forbids() {
            return denied("roles of the person hold for the workspace, and RBAC has to agree");
        }
        if self.heard.needs_policy() && !self.own {
            return denied("RBAC alone does not open the workspace: a role of the person has to hold as well");
        }
        let login = self.login.clone().map_err(|fault| {
            Refusal::new(RefusalCode::LoginRefused, fault.to_string())
                .with_hint("your platform team can give you a login in the gateway's configuration")
                .with_detail(format!("no login: {fault}"))
        })?;
        let mut capabilities = Capabilities::default();
        let recordings = self.applying().map(|role| role.recording);
        let recording = recordings
            .reduce(doorward_certs::Recording::strictest)
            .unwrap_or_default();
        let mut longest = Duration::ZERO;
        for role in self.applying() {
            let own = &role.capabilities;
            capabilities.shell |= own.shell;
            capabilities.exec |= own.exec;
            capabilities.pty |= own.pty;
            capabilities.sftp = wider(capabilities.sftp, own.sftp);
            capabilities.agent_forwarding |= own.agent_forwarding;
            capabilities.x11_forwarding |= own.x11_forwarding;
            capabilities.remote_forward = capabilities.remote_forward.max(own.remote_forward);
            for destination in &own.local_forward {
                if !capabilities.local_forward.contains(destination) {
                    capabilities.local_forward.push(destination.clone());
                }
            }
            longest = longest.max(role.longest);
        }
        capabilities.local_forward.sort();
        Ok(Terms {
            login,
            capabilities,
            recording,
            longest,
        })
    }
}
