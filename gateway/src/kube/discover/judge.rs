//! From what was seen to workspaces. Pure: the same objects give the same workspaces.
//!
//! A value that makes no valid name, login or person makes no workspace; it is a problem that operators are told. Whoever can
//! make a pod can write its labels: where a rule names a StatefulSet, only the pod that this set itself has at an ordinal counts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use doorward_certs::{Login, WorkspaceName, WorkspaceUid};

use super::{
    known::{Outcome, Ruled, Stand},
    rule::{AssignedBy, Kind, Namespaces, OUR_DOMAIN, PORT_ANNOTATION, Port, Rule},
    seen::{Meta, Object},
    shelf::{Fresh, Key, Shelf},
    state,
    template::{Template, Values},
};
use crate::{
    oidc::is_hidden,
    workspace::{Enrolment, KEEP_UNTIL, LAST_USE, Life, Notes, OwnerObject, Place, State, Workspace, line, moment},
};

/// What a rule is judged by.
#[derive(Debug)]
pub(super) struct Shelves {
    pub(super) rule: Rule,
    pub(super) pods: Vec<Arc<Shelf>>,
    pub(super) owners: Vec<Arc<Shelf>>,
    pub(super) between: Vec<Arc<Shelf>>,
    pub(super) claims: Vec<Arc<Shelf>>,
    pub(super) assigned: Vec<Arc<Shelf>>,
    pub(super) namespaces: Option<Arc<Shelf>>,
}

/// Why an object that a rule means is no workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Namespace and name of the object.
    pub object: String,
    /// Why, in a sentence.
    pub why: String,
}

/// What a rule makes of the cluster.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) workspaces: Vec<Workspace>,
    pub(super) problems: BTreeSet<Problem>,
    /// How it came to that.
    pub(super) ruled: Ruled,
    /// Names of pods that gave way to another of their controller, or of which something is not known.
    pub(super) shared: HashSet<WorkspaceName>,
}

impl Shelves {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Shelf>> {
        let of_pods = self.pods.iter().chain(&self.owners).chain(&self.between);
        of_pods
            .chain(&self.claims)
            .chain(&self.assigned)
            .chain(&self.namespaces)
    }

    /// Judges everything; `taken` holds the pods that earlier rules have.
    pub(super) fn judge(&self, taken: &mut HashSet<String>) -> Judged {
        let mut judged = Judged::default();
        let namespaces = self.namespaces.as_ref().map(|shelf| {
            let all = shelf.objects();
            let living = all.iter().filter(|namespace| !namespace.is_going());
            living
                .map(|namespace| namespace.metadata.name.clone())
                .collect::<HashSet<_>>()
        });
        let inside = |object: &Object| {
            let namespace = &object.metadata.namespace;
            namespaces.as_ref().is_none_or(|all| all.contains(namespace))
        };
        let sorted = |shelves: &[Arc<Shelf>]| {
            let mut all: Vec<_> = shelves.iter().flat_map(|shelf| shelf.objects()).collect();
            all.sort_by(|one, other| key(one).cmp(&key(other)));
            all
        };
        let of = |shelves: &[Arc<Shelf>]| {
            let mut all = sorted(shelves);
            all.retain(|object| inside(object));
            all
        };
        let people = self.people(&of(&self.assigned), &of(&self.owners));
        let mut there = HashSet::new();
        let mut by_owner = HashMap::new();
        for pod in sorted(&self.pods) {
            let own = (inside(&pod) && !taken.contains(&pod.metadata.uid)).then(|| self.owner_of(&pod));
            let outcome = match own.flatten() {
                None => Outcome::Elsewhere,
                Some(owner) => {
                    there.insert((pod.metadata.namespace.clone(), pod.metadata.name.clone()));
                    taken.insert(pod.metadata.uid.clone());
                    let (owner, owner_uid) = owner.unzip();
                    match self.of_pod(&pod, owner, &people) {
                        Ok((workspace, unknown)) => {
                            let name = workspace.name.clone();
                            if let Some(why) = unknown {
                                judged.problem(&pod.metadata, why);
                                // What comes next takes the problem away, or is another: all is judged then.
                                judged.shared.insert(name.clone());
                            }
                            let key = owner_uid.map(|uid| (name.clone(), uid));
                            let made = pod.metadata.creation_timestamp.clone().unwrap_or_default();
                            judged.take(workspace, made, key, &mut by_owner);
                            Outcome::Named(name)
                        }
                        Err(why) => {
                            judged.problem(&pod.metadata, why.clone());
                            Outcome::Unfit(why)
                        }
                    }
                }
            };
            let (namespace, name) = key(&pod);
            let key = (namespace.to_owned(), name.to_owned());
            judged.ruled.pods.insert(key, Stand { pod, outcome });
        }
        let mut names: HashSet<WorkspaceName> = judged.workspaces.iter().map(|one| one.name.clone()).collect();
        for owner in of(&self.owners) {
            self.asleep_of_owner(&owner, &people, &there, &mut names, &mut judged);
        }
        for claim in of(&self.claims).into_iter().filter(|claim| !claim.is_going()) {
            let seen = Seen::of(&claim.metadata, None, None);
            match self.workspace(&seen, None, &people) {
                Ok(found) if names.insert(found.name.clone()) => judged.workspaces.push(found),
                Ok(_) => {}
                Err(why) => judged.problem(&claim.metadata, why),
            }
        }
        judged.ruled.people = people;
        judged
    }

    /// Which pods have changed since the last time; nothing if anything else has, or so many that there is no telling.
    pub(super) fn changed_pods(&self) -> Option<Vec<Key>> {
        let mut pods = Some(Vec::new());
        // Each is asked, whatever the others say: what is taken here is new to nobody any more.
        for shelf in self.all() {
            match (shelf.fresh(), &mut pods) {
                (Fresh::These(keys), _) if keys.is_empty() => {}
                (Fresh::These(keys), Some(pods)) if shelf.place.kind == Kind::Pod => pods.extend(keys),
                _ => pods = None,
            }
        }
        pods
    }

    pub(super) fn pod(&self, (namespace, name): &Key) -> Option<Arc<Object>> {
        self.pods.iter().find_map(|shelf| shelf.find(namespace, name))
    }

    /// What is made of a pod that was found to be the rule's.
    pub(super) fn of_known_pod(&self, pod: &Object, people: &People) -> Result<Workspace, String> {
        let owner = self.owner_of(pod).ok_or("it is the rule's no more")?;
        match self.of_pod(pod, owner.map(|(object, _)| object), people)? {
            (workspace, None) => Ok(workspace),
            (_, Some(unknown)) => Err(unknown),
        }
    }

    /// The object that a pod belongs to, with its uid; nothing if it is not the rule's.
    fn owner_of(&self, pod: &Object) -> Option<Option<(OwnerObject, String)>> {
        let reference = pod.controller();
        let Some(kind) = &self.rule.owner_kind else {
            return Some(reference.map(|reference| (owner(reference), reference.uid.clone())));
        };
        let mut reference = reference?.clone();
        if reference.kind != *kind {
            let namespace = &pod.metadata.namespace;
            let between = self.between.iter();
            let mut found = between.filter(|shelf| shelf.place.kind.name() == reference.kind);
            let between = found.find_map(|shelf| shelf.find(namespace, &reference.name))?;
            if between.metadata.uid != reference.uid {
                return None;
            }
            reference = between.controller()?.clone();
        }
        if reference.kind != *kind {
            return None;
        }
        if kind == "StatefulSet" {
            let namespace = &pod.metadata.namespace;
            let set = self
                .owners
                .iter()
                .find_map(|shelf| shelf.find(namespace, &reference.name))?;
            let ordinal = ordinal(&pod.metadata.name, &reference.name)?;
            if set.metadata.uid != reference.uid || ordinal < start(&set) {
                return None;
            }
        }
        Some(Some((owner(&reference), reference.uid)))
    }

    /// The workspace that a pod is, and what is not known of it, in a sentence.
    fn of_pod(
        &self,
        pod: &Object,
        owner: Option<OwnerObject>,
        people: &People,
    ) -> Result<(Workspace, Option<String>), String> {
        let seen = Seen::of(&pod.metadata, Some(&pod.metadata.name), owner.as_ref());
        let mut workspace = self.workspace(&seen, owner.clone(), people)?;
        let (state, runs) = state::of_pod(pod);
        let uid = WorkspaceUid::try_from(pod.metadata.uid.as_str()).map_err(|error| format!("its uid: {error}"))?;
        let port = self.port(pod)?;
        workspace.state = state;
        if let Some(place) = &mut workspace.place {
            place.pod = Some(pod.metadata.name.clone());
        }
        if runs && let Some(ip) = &pod.status.pod_ip {
            let ip: IpAddr = ip.parse().map_err(|_| "its IP address is none".to_owned())?;
            workspace.life = Some(Life {
                uid,
                address: SocketAddr::new(ip, port).to_string(),
                enrolment: Enrolment::ServiceAccount {
                    namespace: pod.metadata.namespace.clone(),
                    pod: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                },
            });
        }
        let up_time = self.rule.up_time.as_ref();
        let stop = up_time.map_or(Ok(None), |up_time| up_time.stop(pod, &seen, workspace.notes.keep_until));
        let (stop, unknown) = stop.map_or_else(|why| (None, Some(why)), |stop| (stop, None));
        workspace.notes.stop = stop;
        Ok((workspace, unknown))
    }

    fn port(&self, pod: &Object) -> Result<u16, String> {
        if let Some(said) = pod.annotation(PORT_ANNOTATION) {
            let port = said.parse().ok().filter(|port| *port != 0);
            return port.ok_or_else(|| format!("the annotation `{PORT_ANNOTATION}` is no port"));
        }
        match &self.rule.agent_port {
            Port::Number(port) => Ok(*port),
            Port::Named(name) => {
                let containers = pod.spec.containers.iter().flatten();
                let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
                let found = ports.find(|port| port.name.as_ref() == Some(name));
                let found = found.map(|port| port.container_port).filter(|port| *port != 0);
                found.ok_or_else(|| format!("no container has a port `{name}`"))
            }
        }
    }

    /// What a rule makes of a name, its labels and its person; asleep until there is more.
    fn workspace(&self, seen: &Seen<'_>, owner: Option<OwnerObject>, people: &People) -> Result<Workspace, String> {
        let rule = &self.rule;
        let name = fill(&rule.workspace, seen, "name")?;
        let name = WorkspaceName::try_from(name.as_str()).map_err(|error| format!("`{}`: {error}", line(&name)))?;
        let login = fill(&rule.login, seen, "login")?;
        let login = Login::try_from(login.as_str()).map_err(|error| format!("`{}`: {error}", line(&login)))?;
        let assigned = seen
            .pod()
            .and_then(|pod| people.get(&(seen.namespace().to_owned(), pod.to_owned())));
        let person = match (assigned, &rule.owner) {
            (Some(person), _) => Some(person.clone()),
            // Where the label is missing the workspace is nobody's.
            (None, Some(template)) => template.fill(seen).ok().filter(|person| !person.is_empty()),
            (None, None) => None,
        };
        if let Some(person) = &person
            && !is_person(person)
        {
            return Err(format!("`{}` is nobody's name", line(person)));
        }
        let map = |kept: &Option<BTreeMap<String, String>>| kept.clone().unwrap_or_default();
        let mut annotations = map(&seen.meta.annotations);
        let mut noted = |key| annotations.remove(key).as_deref().and_then(moment);
        let (last_use, keep_until) = (noted(LAST_USE), noted(KEEP_UNTIL));
        Ok(Workspace {
            name,
            login,
            owner: person,
            place: Some(Place {
                namespace: seen.namespace().to_owned(),
                pod: seen.pod().map(str::to_owned),
                owner,
                labels: map(&seen.meta.labels),
                annotations,
                rule: rule.name.clone(),
            }),
            state: State::Asleep,
            life: None,
            notes: Notes {
                last_use,
                keep_until,
                stop: None,
            },
        })
    }

    /// The workspaces of an owner that have no pod.
    fn asleep_of_owner(
        &self,
        object: &Object,
        people: &People,
        there: &HashSet<(String, String)>,
        names: &mut HashSet<WorkspaceName>,
        judged: &mut Judged,
    ) {
        if object.is_going() {
            return;
        }
        let Some(kind) = self.rule.watches_owners() else { return };
        let (namespace, set) = (&object.metadata.namespace, &object.metadata.name);
        let as_owner = OwnerObject {
            api_version: "apps/v1".to_owned(),
            kind: kind.name().to_owned(),
            name: set.clone(),
        };
        let wanted = object.spec.replicas.unwrap_or(1);
        let template = object.spec.template.clone().unwrap_or_default().metadata;
        let mut meta = Meta {
            namespace: namespace.clone(),
            name: set.clone(),
            ..template
        };
        // What is said of the owner itself is known while there is no pod.
        for (key, value) in object.metadata.annotations.iter().flatten() {
            // When a set was used is not when each of its pods was.
            let of_all = kind == Kind::StatefulSet && [LAST_USE, KEEP_UNTIL].contains(&key.as_str());
            if key.starts_with(OUR_DOMAIN) && !of_all {
                let annotations = meta.annotations.get_or_insert_default();
                annotations.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let mut add = |pod: Option<&str>, runs: bool| {
            let seen = Seen::of(&meta, pod, Some(&as_owner));
            match self.workspace(&seen, Some(as_owner.clone()), people) {
                Ok(mut found) => {
                    if names.insert(found.name.clone()) {
                        if runs {
                            found.state = State::Starting("waits for its pod".to_owned());
                        }
                        judged.workspaces.push(found);
                    }
                }
                Err(why) => judged.problem(&object.metadata, why),
            }
        };
        if kind.name() != "StatefulSet" {
            // One with a pod has given its name already.
            return add(None, wanted > 0);
        }
        let first = start(object);
        let running = first..first.saturating_add(wanted.min(MOST_ORDINALS));
        let known = first..first.saturating_add(self.rule.ordinals.min(MOST_ORDINALS));
        let assigned = people.range((namespace.clone(), String::new())..);
        let assigned = assigned.take_while(|((place, _), _)| place == namespace);
        let assigned = assigned
            .filter_map(|((_, pod), _)| ordinal(pod, set))
            .filter(|ordinal| *ordinal >= first);
        let all: BTreeSet<u32> = running.clone().chain(known).chain(assigned).collect();
        for ordinal in all {
            let pod = format!("{set}-{ordinal}");
            if !there.contains(&(namespace.clone(), pod.clone())) {
                add(Some(&pod), running.contains(&ordinal));
            }
        }
    }

    /// Who is written down for which pod.
    fn people(&self, maps: &[Arc<Object>], owners: &[Arc<Object>]) -> People {
        let mut people = People::new();
        match &self.rule.assigned_by {
            Some(AssignedBy::ConfigMap(_)) => {
                for map in maps {
                    for (pod, person) in map.data.iter().flatten().take(MOST_ASSIGNED) {
                        let person = person.trim();
                        if !person.is_empty() {
                            people.insert((map.metadata.namespace.clone(), pod.clone()), person.to_owned());
                        }
                    }
                }
            }
            Some(AssignedBy::Annotation(key)) => {
                for object in owners {
                    let pairs = object.annotation(key).unwrap_or_default().split([',', '\n']);
                    for (pod, person) in pairs.filter_map(|pair| pair.split_once('=')).take(MOST_ASSIGNED) {
                        let key = (object.metadata.namespace.clone(), pod.trim().to_owned());
                        people.insert(key, person.trim().to_owned());
                    }
                }
            }
            None => {}
        }
        people
    }
}

fn key(object: &Object) -> (&str, &str) {
    (&object.metadata.namespace, &object.metadata.name)
}

/// Pods, by namespace and name, to people.
pub(super) type People = BTreeMap<(String, String), String>;

impl Judged {
    /// Takes a workspace. Of two pods that one controller has made for one name, one gives way: the one that ends, the one that
    /// does not run yet, or else the younger. So a rolling update cuts nobody before the old pod goes.
    fn take(
        &mut self,
        workspace: Workspace,
        made: String,
        key: Option<(WorkspaceName, String)>,
        by_owner: &mut HashMap<(WorkspaceName, String), (usize, String)>,
    ) {
        let known = key.as_ref().and_then(|key| by_owner.get_mut(key));
        if let Some((place, other_made)) = known
            && let Some(other) = self.workspaces.get_mut(*place)
        {
            self.shared.insert(workspace.name.clone());
            // The less is the better.
            let rank = |one: &Workspace| (is_over(one), one.life.is_none());
            if (rank(&workspace), &made) < (rank(other), &*other_made) {
                (*other, *other_made) = (workspace, made);
            }
            return;
        }
        by_owner.extend(key.map(|key| (key, (self.workspaces.len(), made))));
        self.workspaces.push(workspace);
    }

    fn problem(&mut self, meta: &Meta, why: String) {
        if self.problems.len() < MOST_PROBLEMS {
            let object = line(&format!("{}/{}", meta.namespace, meta.name));
            self.problems.insert(Problem { object, why });
        }
    }
}

fn is_over(workspace: &Workspace) -> bool {
    matches!(workspace.state, State::Stopping | State::Failed(_))
}

/// The values of an object that is, or would be, a pod.
struct Seen<'a> {
    meta: &'a Meta,
    pod: Option<&'a str>,
    owner: Option<&'a OwnerObject>,
}

impl<'a> Seen<'a> {
    fn of(meta: &'a Meta, pod: Option<&'a str>, owner: Option<&'a OwnerObject>) -> Self {
        Self { meta, pod, owner }
    }
}

impl Values for Seen<'_> {
    fn pod(&self) -> Option<&str> {
        self.pod
    }

    fn namespace(&self) -> &str {
        &self.meta.namespace
    }

    fn owner(&self) -> Option<&str> {
        self.owner.map(|owner| owner.name.as_str())
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.meta.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.meta.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

fn fill(template: &Template, seen: &Seen<'_>, what: &str) -> Result<String, String> {
    template
        .fill(seen)
        .map_err(|missing| format!("there is no {what}: it has not {missing}"))
}

fn owner(reference: &super::seen::Reference) -> OwnerObject {
    OwnerObject {
        api_version: reference.api_version.clone(),
        kind: reference.kind.clone(),
        name: reference.name.clone(),
    }
}

/// The ordinal of a StatefulSet's pod, in the one way that it is written.
fn ordinal(pod: &str, set: &str) -> Option<u32> {
    let text = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: u32 = text.parse().ok()?;
    (ordinal.to_string() == text).then_some(ordinal)
}

fn start(set: &Object) -> u32 {
    set.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start)
}

fn is_person(text: &str) -> bool {
    let hidden = |character: char| character.is_control() || is_hidden(character);
    !text.is_empty() && text.len() <= 256 && !text.chars().any(hidden)
}

/// Whether a rule looks everywhere.
pub(super) fn is_everywhere(rule: &Rule) -> bool {
    matches!(rule.namespaces, Namespaces::Selected(_))
}

const MOST_ORDINALS: u32 = 10_000;
const MOST_ASSIGNED: usize = 20_000;
const MOST_PROBLEMS: usize = 200;
