//! Each role against one person and one workspace: whether it applies, and why not. The decision and its explanation
//! are made of the same weighing, so that they cannot differ.

use std::time::Duration;

use doorward_certs::{Capabilities, Login, RecordingMode, Terms};

use super::{
    lend::Held,
    roles::{Role, Roles, wider},
};
use crate::{
    authorize::Heard,
    kube::access::Object,
    oidc::{LoginFault, Person},
    refusal::{Refusal, RefusalCode},
    workspace::Workspace,
};

/// All roles, weighed, in the order of the file.
pub(super) struct Weighed<'r> {
    pub(super) roles: Vec<(Held<'r>, Weight)>,
    login: Result<Login, LoginFault>,
    /// Whether those apply that are for a store that is down.
    pub(super) glass: bool,
    heard: &'r Heard,
    /// Whether one of the roles that apply is the person's by what the policy says itself, or lends within its bounds.
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
    /// It is for whoever an object of the namespace lends it to, and none does.
    NotLent,
    /// An object lends it, which the policy does not let objects of that namespace do, or not to this person.
    LentBeyond,
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
    let mut weighed: Vec<(Held<'r>, Weight)> = held(roles, person, heard)
        .map(|(held, member)| {
            let role = held.role;
            // Everything is looked at, so that every answer takes the same work.
            let (holds, covers) = (role.holds_for(workspace, person), role.names(workspace.name.as_str()));
            let weight = match (member, held.opens(), covers, holds) {
                (false, ..)
                    if heard
                        .lent()
                        .iter()
                        .any(|lent| role.is_grantable() && lent.role == role.name) =>
                {
                    Weight::LentBeyond
                }
                (false, ..) if role.is_grantable() => Weight::NotLent,
                (false, ..) if role.is_by_rbac() => Weight::NotByRbac,
                (false, ..) => Weight::Stranger,
                (_, false, ..) => Weight::OpensNothing,
                (_, _, false, _) => Weight::Elsewhere,
                (_, _, _, false) => Weight::NotOwner,
                _ if role.break_glass && !glass => Weight::GlassWhole,
                _ if glass && !role.break_glass => Weight::NeedsStore,
                _ => Weight::Applies,
            };
            (held, weight)
        })
        .collect();
    let applying = |lent: bool| {
        let all = weighed.iter().filter(|(_, weight)| *weight == Weight::Applies);
        all.map(|(held, _)| *held)
            .filter(move |held| held.lent.is_some() == lent)
    };
    let name = |lent: bool| applying(lent).find_map(|held| held.role.login.clone());
    // What is lent never makes another account of somebody who has one.
    let named = name(false).or_else(|| match applying(false).next() {
        Some(_) => None,
        None => name(true),
    });
    let login = match (named, person.login) {
        (Some(login), _) => Ok(login),
        (None, Some(made)) => made.clone(),
        (None, None) => Ok(workspace.login.clone()),
    };
    if let Ok(login) = &login {
        for (held, weight) in &mut weighed {
            if *weight == Weight::Applies && held.role.login.as_ref().is_some_and(|own| own != login) {
                *weight = Weight::OtherLogin(login.clone());
            }
        }
    }
    let applies = |(held, weight): &(Held<'_>, Weight)| {
        *weight == Weight::Applies && (held.lent.is_some() || held.role.is_of(person))
    };
    Weighed {
        own: weighed.iter().any(applies),
        roles: weighed,
        login,
        glass,
        heard,
    }
}

/// Every role as the person has it, and whether they have it at all: once for what they are themselves, and once for each object
/// that lends it.
fn held<'r>(roles: &'r Roles, person: Person<'_>, heard: &'r Heard) -> impl Iterator<Item = (Held<'r>, bool)> {
    roles.0.iter().flat_map(move |role: &'r Role| {
        let member = role.is_of(person) | (role.is_by_rbac() & heard.lets_in());
        let lent = heard
            .lent()
            .iter()
            .filter(move |lent| lent.role == role.name && role.is_lent_in(&lent.object.namespace))
            .filter(move |_| role.is_lent_to(person));
        let lent = lent.map(move |lent| Held { role, lent: Some(lent) });
        let is_lent = lent.clone().next().is_some();
        let own = Some((Held { role, lent: None }, member)).filter(|_| member || !is_lent);
        own.into_iter().chain(lent.map(|held| (held, true)))
    })
}

impl<'r> Weighed<'r> {
    /// The roles that apply.
    pub(super) fn applying(&self) -> impl Iterator<Item = Held<'r>> {
        self.roles
            .iter()
            .filter(|(_, weight)| *weight == Weight::Applies)
            .map(|(held, _)| *held)
    }

    /// The names of the roles that apply, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let mut all: Vec<String> = self.applying().map(|held| held.role.name.clone()).collect();
        all.dedup();
        all
    }

    /// The objects that lend roles that apply, each with its role.
    pub(super) fn lent(&self) -> Vec<(Object, String)> {
        let lent = self.applying().filter_map(|held| held.lent);
        lent.map(|lent| (lent.object.clone(), lent.role.clone())).collect()
    }

    /// What gives way where records cannot be stored; nothing if no role applies.
    fn mode(&self) -> Option<RecordingMode> {
        self.applying().map(|held| held.recording().mode).min()
    }

    /// How long the recording is kept after its end, the longest of all roles; for ever if one does not say.
    pub(super) fn keep(&self) -> Option<Duration> {
        let all: Option<Vec<Duration>> = self.applying().map(|held| held.role.keep).collect();
        all.and_then(|all| all.into_iter().max())
    }

    /// For how long the workspace may be kept awake, the longest of all roles; zero if not at all.
    pub(super) fn keep_awake(&self) -> Duration {
        self.applying()
            .map(|held| held.role.keep_awake)
            .max()
            .unwrap_or_default()
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
        let recordings = self.applying().map(|held| held.recording());
        let recording = recordings
            .reduce(doorward_certs::Recording::strictest)
            .unwrap_or_default();
        let mut longest = Duration::ZERO;
        // The person's own first: of what is lent is left out what a certificate has no place for.
        let (own, lent): (Vec<Held<'_>>, Vec<Held<'_>>) = self.applying().partition(|held| held.lent.is_none());
        for held in own.into_iter().chain(lent) {
            let one = held.capabilities();
            capabilities.shell |= one.shell;
            capabilities.exec |= one.exec;
            capabilities.pty |= one.pty;
            capabilities.sftp = wider(capabilities.sftp, one.sftp);
            capabilities.agent_forwarding |= one.agent_forwarding;
            capabilities.x11_forwarding |= one.x11_forwarding;
            capabilities.remote_forward = capabilities.remote_forward.max(one.remote_forward);
            for destination in one.local_forward {
                let all = &mut capabilities.local_forward;
                let length: usize = all.iter().map(|one| one.len() + 1).sum();
                let fits = all.len() < Capabilities::MOST_FORWARDS
                    && length + destination.len() < Capabilities::LONGEST_FORWARDS;
                if !all.contains(&destination) && (held.lent.is_none() || fits) {
                    all.push(destination);
                }
            }
            longest = longest.max(held.longest());
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
