//! What is made of a cluster's objects, and what is not; and a server that misbehaves.

mod changes;
mod faults;
mod states;
mod up_time;

use serde_json::{Value, json};

use super::{judge::Judged, rule::Port, seen::Object, template::Template, *};
use crate::workspace::Life;

pub(super) fn rule() -> Rule {
    Rule {
        name: "devenv".to_owned(),
        namespaces: Namespaces::These(vec!["devenv".to_owned()]),
        pods: "app=devenv".to_owned(),
        owners: "app=devenv".to_owned(),
        owner_kind: Some("StatefulSet".to_owned()),
        workspace: Template::parse("{pod}").unwrap(),
        owner: None,
        login: Template::parse("node").unwrap(),
        agent_port: Port::Number(7022),
        assigned_by: None,
        ordinals: 0,
        claims: None,
        kept: rule::Kept::default(),
        up_time: None,
    }
}

pub(super) fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

/// A pod of a StatefulSet that runs.
pub(super) fn pod(name: &str, uid: &str, change: impl FnOnce(&mut Value)) -> Object {
    let mut value = json!({
        "metadata": {
            "name": name, "namespace": "devenv", "uid": uid, "resourceVersion": "7",
            "labels": { "app": "devenv" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "devenv", "uid": "set", "controller": true }],
        },
        "spec": { "containers": [{ "name": "main", "ports": [{ "name": "ssh", "containerPort": 2222, "protocol": "TCP" }] }] },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{ "type": "Ready", "status": "True", "lastProbeTime": null }],
        },
    });
    change(&mut value);
    object(value)
}

pub(super) fn set(replicas: u32) -> Object {
    object(json!({
        "metadata": { "name": "devenv", "namespace": "devenv", "uid": "set" },
        "spec": { "replicas": replicas, "template": { "metadata": { "labels": { "app": "devenv" } } } },
    }))
}

struct Cluster(Shelves);

impl Cluster {
    fn new(rule: &Rule) -> Self {
        Self(shelves(rule, &Arc::default()))
    }

    fn with(self, pods: Vec<Object>, owners: Vec<Object>) -> Self {
        self.0.pods[0].set(pods);
        if let Some(shelf) = self.0.owners.first() {
            shelf.set(owners);
        }
        self
    }

    fn judge(&self) -> Judged {
        self.0.judge(&mut HashSet::new())
    }
}

fn shown(judged: &Judged) -> Vec<String> {
    let one = |one: &Workspace| {
        let owner = one.owner.as_deref().unwrap_or("-");
        format!("{} {} {owner}", one.name, one.state)
    };
    judged.workspaces.iter().map(one).collect()
}

fn address(life: &Option<Life>) -> &str {
    life.as_ref().map_or("none", |life| &life.address)
}

#[test]
fn a_set_has_its_pods_and_those_that_sleep() {
    let mut rule = rule();
    rule.ordinals = 4;
    let cluster = Cluster::new(&rule).with(vec![pod("devenv-0", "u0", |_| {})], vec![set(2)]);
    let judged = cluster.judge();
    assert_eq!(
        shown(&judged),
        [
            "devenv-0 running -",
            "devenv-1 starting: waits for its pod -",
            "devenv-2 asleep -",
            "devenv-3 asleep -",
        ]
    );
    let first = &judged.workspaces[0];
    assert_eq!(address(&first.life), "10.0.0.1:7022");
    assert_eq!(first.life.as_ref().unwrap().uid.as_str(), "u0");
    assert_eq!(judged.problems.len(), 0);
    cluster.0.owners[0].set(vec![set(0)]);
    cluster.0.pods[0].set(Vec::new());
    assert!(
        cluster
            .judge()
            .workspaces
            .iter()
            .all(|one| one.state == State::Asleep && one.life.is_none())
    );
}

#[test]
fn only_the_pod_that_a_set_has_at_an_ordinal_is_its_workspace() {
    let claims = |name: &str, change: &dyn Fn(&mut Value)| pod(name, name, change);
    let pods = vec![
        claims("devenv-0", &|_| {}),
        claims("evil", &|_| {}),
        claims("devenv-00", &|_| {}),
        claims("devenv-1", &|pod| {
            pod["metadata"]["ownerReferences"][0]["uid"] = json!("another set")
        }),
        claims("devenv-2", &|pod| {
            pod["metadata"]["ownerReferences"][0]["controller"] = json!(false)
        }),
        claims("devenv-3", &|pod| pod["metadata"]["ownerReferences"] = json!([])),
        claims("devenv-4", &|pod| {
            pod["metadata"]["ownerReferences"][0]["kind"] = json!("Job")
        }),
    ];
    let judged = Cluster::new(&rule()).with(pods, vec![set(1)]).judge();
    assert_eq!(shown(&judged), ["devenv-0 running -"]);
}

#[test]
fn two_pods_that_give_one_name_are_both_told_to_the_directory_which_serves_neither() {
    let rule = Rule {
        owner_kind: None,
        workspace: Template::parse("{label:session}").unwrap(),
        ..rule()
    };
    let named = |name: &str, uid: &str| {
        pod(name, uid, |pod| {
            pod["metadata"]["labels"]["session"] = json!("quiet-fox");
            pod["metadata"]["ownerReferences"] = json!([]);
        })
    };
    let judged = Cluster::new(&rule)
        .with(vec![named("a", "ua"), named("b", "ub")], vec![])
        .judge();
    let directory = Directory::default();
    directory.replace(Source::Kubernetes, judged.workspaces);
    let listed = directory.list();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].life.is_none() && matches!(listed[0].state, State::Failed(_)));
}

#[test]
fn of_two_pods_of_one_controller_the_one_that_goes_gives_way() {
    let rule = Rule {
        owner_kind: Some("AgenticSession".to_owned()),
        workspace: Template::parse("{owner}").unwrap(),
        ..rule()
    };
    let cluster = Cluster::new(&rule);
    let of_job = |name: &str, uid: &str, going: bool| {
        pod(name, uid, |pod| {
            pod["metadata"]["ownerReferences"][0] =
                json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "job-uid", "controller": true });
            if going {
                pod["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            }
        })
    };
    let job = json!({ "metadata": { "name": "job", "namespace": "devenv", "uid": "job-uid", "ownerReferences": [
        { "apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession", "name": "quiet-fox", "uid": "cr", "controller": true }
    ] } });
    cluster.0.between[0].set(vec![object(job)]);
    for pods in [
        vec![of_job("a", "ua", true), of_job("b", "ub", false)],
        vec![of_job("a", "ub", false), of_job("b", "ua", true)],
    ] {
        cluster.0.pods[0].set(pods);
        let judged = cluster.judge();
        assert_eq!(shown(&judged), ["quiet-fox running -"]);
        assert_eq!(judged.workspaces[0].life.as_ref().unwrap().uid.as_str(), "ub");
    }
    // Both live: the one that runs, and of two that run the elder, however they are called. Nobody is put out by a rolling update.
    let made = |name: &str, uid: &str, at: &str, runs: bool| {
        let mut one = of_job(name, uid, false);
        one.metadata.creation_timestamp = Some(format!("2030-01-01T00:00:0{at}Z"));
        if !runs {
            (one.status.pod_ip, one.status.conditions) = (None, None);
        }
        one
    };
    for (pods, chosen) in [
        (vec![made("a", "ua", "2", true), made("b", "ub", "1", true)], "ub"),
        (vec![made("a", "ua", "1", true), made("b", "ub", "2", true)], "ua"),
        (vec![made("a", "ua", "1", false), made("b", "ub", "2", true)], "ub"),
        (vec![made("a", "ua", "1", true), made("b", "ub", "1", true)], "ua"),
        (
            vec![
                made("a", "ua", "1", true),
                made("b", "ub", "2", false),
                of_job("c", "uc", true),
            ],
            "ua",
        ),
    ] {
        cluster.0.pods[0].set(pods);
        let judged = cluster.judge();
        assert_eq!(shown(&judged), ["quiet-fox running -"]);
        assert_eq!(judged.workspaces[0].life.as_ref().unwrap().uid.as_str(), chosen);
        let name = doorward_certs::WorkspaceName::try_from("quiet-fox").unwrap();
        assert!(
            judged.shared.contains(&name),
            "a change of one is judged with the other"
        );
    }
    // A Job of that name that is not the pod's own proves nothing.
    cluster.0.pods[0].set(vec![pod("x", "ux", |pod| {
        pod["metadata"]["ownerReferences"][0] =
            json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "earlier", "controller": true });
    })]);
    assert_eq!(cluster.judge().workspaces.len(), 0);
}

#[test]
fn a_value_that_makes_no_valid_name_login_or_person_makes_no_workspace() {
    let rule = Rule {
        owner_kind: None,
        workspace: Template::parse("{label:name}").unwrap(),
        login: Template::parse("{label:login}").unwrap(),
        owner: Some(Template::parse("{annotation:person}").unwrap()),
        ..rule()
    };
    let named = |uid: &str, name: &str, login: &str, person: &str| {
        pod(uid, uid, |pod| {
            pod["metadata"]["labels"] = json!({ "name": name, "login": login });
            pod["metadata"]["annotations"] = json!({ "person": person });
        })
    };
    let bad = vec![
        named("a", "../etc", "node", "alice"),
        named("b", "Upper", "node", "alice"),
        named("c", "x".repeat(300).as_str(), "node", "alice"),
        named("d", "good", "-rf", "alice"),
        named("e", "good", "root;id", "alice"),
        named("f", "good", "node", "al\u{202e}ice"),
        named("g", "good", "node", "al\nice"),
        named("h", "good", "node", "x".repeat(257).as_str()),
        pod("i", "i", |_| {}),
        pod("j", "j", |pod| {
            pod["metadata"]["labels"] = json!({ "name": "good", "login": "node" });
            pod["metadata"]["annotations"] = json!({ "doorward.dev/agent-port": "0" });
        }),
    ];
    let count = bad.len();
    let judged = Cluster::new(&rule).with(bad, vec![]).judge();
    assert_eq!(shown(&judged), Vec::<String>::new());
    assert_eq!(judged.problems.len(), count);
    for problem in &judged.problems {
        assert!(
            !problem.why.contains(['\n', '\u{202e}']) && problem.why.len() < 500,
            "{problem:?}"
        );
    }
    let good = vec![
        named("k", "good", "node", "alice@example.com"),
        named("l", "bare", "node", ""),
    ];
    let judged = Cluster::new(&rule).with(good, vec![]).judge();
    assert_eq!(shown(&judged), ["good running alice@example.com", "bare running -"]);
}

#[test]
fn people_are_assigned_by_a_config_map_or_by_an_annotation_also_while_their_pod_sleeps() {
    let by_map = Rule {
        assigned_by: Some(AssignedBy::ConfigMap("people".to_owned())),
        owner: Some(Template::parse("nobody@example.com").unwrap()),
        ..rule()
    };
    let cluster = Cluster::new(&by_map).with(vec![pod("devenv-0", "u0", |_| {})], vec![set(1)]);
    cluster.0.assigned[0].set(vec![object(json!({
        "metadata": { "name": "people", "namespace": "devenv" },
        "data": { "devenv-0": "alice@example.com\n", "devenv-2": "bob", "other-1": "x", "devenv-03": "x" },
    }))]);
    assert_eq!(
        shown(&cluster.judge()),
        ["devenv-0 running alice@example.com", "devenv-2 asleep bob"]
    );
    let by_annotation = Rule {
        assigned_by: Some(AssignedBy::Annotation("example.com/people".to_owned())),
        ..rule()
    };
    let mut owner = set(0);
    owner.metadata.annotations = Some(BTreeMap::from([(
        "example.com/people".to_owned(),
        "devenv-0 = alice, devenv-1=bob,devenv-1-x=carol, nonsense".to_owned(),
    )]));
    let judged = Cluster::new(&by_annotation).with(vec![], vec![owner]).judge();
    assert_eq!(shown(&judged), ["devenv-0 asleep alice", "devenv-1 asleep bob"]);
}

#[test]
fn claims_tell_of_workspaces_without_a_pod() {
    let rule = Rule {
        owner_kind: None,
        workspace: Template::parse("code-{label:user}").unwrap(),
        owner: Some(Template::parse("{label:user}").unwrap()),
        claims: Some("app=code-server".to_owned()),
        ..rule()
    };
    let cluster = Cluster::new(&rule).with(
        vec![pod("code-server-ann", "ua", |pod| {
            pod["metadata"]["labels"]["user"] = json!("ann")
        })],
        vec![],
    );
    let claim = |user: &str| {
        object(
            json!({ "metadata": { "name": format!("workspace-{user}"), "namespace": "devenv", "uid": user, "labels": { "user": user } } }),
        )
    };
    cluster.0.claims[0].set(vec![claim("ann"), claim("ben")]);
    assert_eq!(shown(&cluster.judge()), ["code-ann running ann", "code-ben asleep ben"]);
}

#[test]
fn a_deployment_at_nothing_sleeps_and_its_pods_are_found_through_their_replica_set() {
    let rule = Rule {
        owner_kind: Some("Deployment".to_owned()),
        workspace: Template::parse("{owner}").unwrap(),
        ..rule()
    };
    let deployment = |replicas: u32| {
        object(json!({
            "metadata": { "name": "ide", "namespace": "devenv", "uid": "d" },
            "spec": { "replicas": replicas, "template": { "metadata": {} } },
        }))
    };
    let cluster = Cluster::new(&rule).with(vec![], vec![deployment(0)]);
    assert_eq!(shown(&cluster.judge()), ["ide asleep -"]);
    cluster.0.owners[0].set(vec![deployment(1)]);
    assert_eq!(shown(&cluster.judge()), ["ide starting: waits for its pod -"]);
    cluster.0.between[0].set(vec![object(json!({ "metadata": { "name": "ide-1", "namespace": "devenv", "uid": "rs",
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "ide", "uid": "d", "controller": true }] } }))]);
    cluster.0.pods[0].set(vec![pod("ide-1-x", "p", |pod| {
        pod["metadata"]["ownerReferences"][0] =
            json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "ide-1", "uid": "rs", "controller": true });
    })]);
    assert_eq!(shown(&cluster.judge()), ["ide running -"]);
}

#[test]
fn selected_namespaces_come_and_go() {
    let rule = Rule {
        namespaces: Namespaces::Selected("doorward=yes".to_owned()),
        ..rule()
    };
    let cluster = Cluster::new(&rule).with(vec![pod("devenv-0", "u0", |_| {})], vec![set(1)]);
    let namespaces = cluster.0.namespaces.as_ref().unwrap();
    assert_eq!(cluster.judge().workspaces.len(), 0);
    namespaces.set(vec![object(json!({ "metadata": { "name": "devenv" } }))]);
    assert_eq!(shown(&cluster.judge()), ["devenv-0 running -"]);
    namespaces.set(vec![object(
        json!({ "metadata": { "name": "devenv", "deletionTimestamp": "2030-01-01T00:00:00Z" } }),
    )]);
    assert_eq!(cluster.judge().workspaces.len(), 0);
}

#[test]
fn the_port_is_a_number_a_name_or_the_pods_own_word() {
    let of = |port: Port, change: &dyn Fn(&mut Value)| {
        let rule = Rule {
            agent_port: port,
            ..rule()
        };
        let judged = Cluster::new(&rule)
            .with(vec![pod("devenv-0", "u0", change)], vec![set(1)])
            .judge();
        judged.workspaces.first().map(|one| address(&one.life).to_owned())
    };
    let named = || Port::Named("ssh".to_owned());
    assert_eq!(of(named(), &|_| {}).as_deref(), Some("10.0.0.1:2222"));
    let said = |pod: &mut Value| pod["metadata"]["annotations"] = json!({ "doorward.dev/agent-port": "4711" });
    assert_eq!(of(named(), &said).as_deref(), Some("10.0.0.1:4711"));
    let six = |pod: &mut Value| pod["status"]["podIP"] = json!("fd00::1");
    assert_eq!(of(Port::Number(22), &six).as_deref(), Some("[fd00::1]:22"));
    let evil = |pod: &mut Value| pod["status"]["podIP"] = json!("evil.example");
    // Neither the pod, nor a sleeping one in its place.
    assert_eq!(of(named(), &evil), None);
}

#[test]
fn templates_are_checked_when_they_are_read() {
    for bad in [
        "",
        "{",
        "}",
        "{pod",
        "a}b",
        "{nothing}",
        "{label:}",
        "{label:a b}",
        "{pod:x}",
        "{{pod}}",
    ] {
        assert!(Template::parse(bad).is_err(), "{bad}");
    }
    for good in [
        "node",
        "{pod}",
        "a-{ordinal}.{namespace}",
        "{label:app.kubernetes.io/name}",
        "{annotation:x/y}",
    ] {
        assert!(Template::parse(good).is_ok(), "{good}");
    }
}
