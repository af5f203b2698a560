//! A change that is judged alone comes to what judging everything comes to.

use doorward_certs::{Login, WorkspaceName, WorkspaceUid};

use super::*;
use crate::{
    kube::{
        connect,
        fake::{Answer, FakeServer},
    },
    workspace::{Enrolment, Notes},
};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// Two rules that quarrel over pods: a set's, with people from a map, and any with a label, in namespaces that come and go.
fn rules() -> [Rule; 2] {
    let set = Rule {
        ordinals: 3,
        owner: Some(Template::parse("{annotation:person}").unwrap()),
        assigned_by: Some(AssignedBy::ConfigMap("people".to_owned())),
        ..super::rule()
    };
    let any = Rule {
        name: "any".to_owned(),
        namespaces: Namespaces::Selected("doorward=yes".to_owned()),
        owner_kind: None,
        workspace: Template::parse("{label:session}").unwrap(),
        owner: Some(Template::parse("{annotation:person}").unwrap()),
        agent_port: Port::Named("ssh".to_owned()),
        claims: Some("app=devenv".to_owned()),
        ..super::rule()
    };
    [set, any]
}

/// One from the configuration, whose name and uid a pod could claim.
fn configured() -> Workspace {
    Workspace {
        name: WorkspaceName::try_from("devenv-2").unwrap(),
        login: Login::try_from("node").unwrap(),
        owner: None,
        place: None,
        state: State::Running,
        life: Some(Life {
            uid: WorkspaceUid::try_from("u3").unwrap(),
            address: "10.9.9.9:1".to_owned(),
            enrolment: Enrolment::None,
        }),
        notes: Notes::default(),
    }
}

fn random_pod(random: &mut Random, name: &str) -> Object {
    let uid = format!("u{}", random.below(7));
    pod(name, &uid, |pod| {
        let metadata = &mut pod["metadata"];
        metadata["labels"]["session"] = random
            .of(&["quiet-fox", "loud-owl", "devenv-1", "devenv-2", "No Name"])
            .into();
        metadata["annotations"] = json!({ "person": random.of(&["alice", "bob", "", "a\u{202e}b"]) });
        if random.below(3) == 0 {
            metadata["ownerReferences"][0]["uid"] = random.of(&["another", "set"]).into();
        }
        if random.below(5) == 0 {
            metadata["ownerReferences"] = json!([]);
        }
        little(random, pod);
    })
}

/// What changes of a pod while it lives.
fn little(random: &mut Random, pod: &mut Value) {
    match random.below(6) {
        0 => pod["metadata"]["annotations"]["person"] = random.of(&["alice", "bob", "", "a\u{202e}b"]).into(),
        1 => pod["status"]["phase"] = random.of(&["Running", "Pending", "Failed"]).into(),
        2 => pod["status"]["podIP"] = random.of(&["10.0.0.1", "10.0.0.2", "nonsense"]).into(),
        3 => pod["status"]["conditions"][0]["status"] = random.of(&["True", "False"]).into(),
        4 => pod["metadata"]["annotations"]["doorward.dev/agent-port"] = random.of(&["22", "0", "7022"]).into(),
        _ => pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into(),
    }
}

fn change(random: &mut Random, rules: &[Shelves], pods: &mut BTreeMap<String, Object>) {
    let mut version = String::new();
    let both = random.below(3);
    let meant = rules.iter().enumerate().filter(|(at, _)| both == 2 || *at == both);
    let shelves: Vec<_> = meant.map(|(_, rule)| &rule.pods[0]).collect();
    let name = random.of(&["devenv-0", "devenv-1", "devenv-2", "devenv-7", "stray"]);
    let known = pods.get(name).cloned();
    match (random.below(24), known) {
        (0, _) => rules[0].owners[0].put(set(random.below(4) as u32), &mut version),
        (1, _) => rules[0].owners[0].remove(set(0), &mut version),
        (2, _) => {
            let people = json!({ "metadata": { "name": "people", "namespace": "devenv" },
                "data": { "devenv-1": random.of(&["carol", "dave", ""]), "devenv-9": "erin" } });
            rules[0].assigned[0].put(object(people), &mut version);
        }
        (3, _) => {
            let mut namespace = json!({ "metadata": { "name": "devenv", "uid": "ns" } });
            if random.below(2) == 0 {
                namespace["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
            }
            rules[1]
                .namespaces
                .as_ref()
                .unwrap()
                .put(object(namespace), &mut version);
        }
        (4, _) => {
            let session = random.of(&["quiet-fox", "devenv-0", "sleepy-cat"]);
            let claim = json!({ "metadata": { "name": "claim", "namespace": "devenv", "uid": "claim", "labels": { "session": session } } });
            rules[1].claims[0].put(object(claim), &mut version);
        }
        (5, Some(pod)) => shelves.iter().for_each(|shelf| shelf.remove(pod.clone(), &mut version)),
        (6..=8, _) | (_, None) => {
            let pod = random_pod(random, name);
            shelves.iter().for_each(|shelf| shelf.put(pod.clone(), &mut version));
            pods.insert(name.to_owned(), pod);
        }
        (_, Some(mut pod)) => {
            // By way of what a server would say.
            let status = &mut pod.status;
            match random.below(4) {
                0 => status.pod_ip = Some(random.of(&["10.0.0.1", "10.0.0.2", "nonsense"]).to_owned()),
                1 => status.phase = Some(random.of(&["Running", "Pending", "Failed"]).to_owned()),
                2 => status.pod_ip = None,
                _ => {
                    let person = random.of(&["alice", "bob", "", "a\u{202e}b"]).to_owned();
                    let annotations = pod.metadata.annotations.get_or_insert_default();
                    annotations.insert("person".to_owned(), person);
                }
            }
            shelves.iter().for_each(|shelf| shelf.put(pod.clone(), &mut version));
            pods.insert(name.to_owned(), pod);
        }
    }
}

fn lives(directory: &Directory) -> Vec<(WorkspaceName, Life)> {
    let all = directory.list();
    let living = all.iter().filter_map(|one| Some((one.name.clone(), one.life.clone()?)));
    living.collect()
}

async fn discovery(rules: &[Rule]) -> Discovery {
    let server = FakeServer::start(|_| Answer::Hang).await;
    let client = connect(&server.settings()).await.unwrap().client();
    let discovery = Discovery::new(client, rules, Duration::from_secs(3600));
    for shelf in discovery.0.rules.iter().flat_map(Shelves::all) {
        shelf.set(Vec::new());
    }
    discovery
}

#[tokio::test]
async fn changes_judged_alone_come_to_what_judging_everything_does() {
    let seed = std::env::var("DOORWARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>).max(1);
    println!("DOORWARD_SEED={seed}");
    let mut random = Random(seed);
    let discovery = discovery(&rules()).await;
    let (mut alone, mut whole) = (0, 0);
    for _ in 0..20 {
        for shelf in discovery.0.rules.iter().flat_map(Shelves::all) {
            shelf.set(Vec::new());
        }
        let directory = Directory::new([configured()]);
        let (mut known, mut pods) = (None, BTreeMap::new());
        for _ in 0..100 {
            for _ in 0..=random.below(2) {
                change(&mut random, &discovery.0.rules, &mut pods);
            }
            let marker = WorkspaceName::try_from("marker").unwrap();
            known
                .iter_mut()
                .for_each(|known: &mut Known| _ = known.shared.insert(marker.clone()));
            let before = (lives(&directory), directory.lives());
            let changes = directory.changes();
            let list = directory.list();
            discovery.judge(&directory, &mut known);
            match known.as_ref().is_some_and(|known| known.shared.contains(&marker)) {
                true => alone += 1,
                false => whole += 1,
            }
            let problems = discovery.0.problems.with(|problems| problems.clone());
            let anew = Directory::new([configured()]);
            discovery.judge_all(&anew, &mut None);
            assert_eq!(directory.list(), anew.list());
            assert_eq!(directory.clashes(), anew.clashes());
            assert_eq!(problems, discovery.0.problems.with(|problems| problems.clone()));
            assert_eq!(changes.has_changed().unwrap(), directory.list() != list);
            assert_eq!(directory.lives() != before.1, lives(&directory) != before.0);
        }
    }
    assert!(alone > 200 && whole > 200, "{alone} alone, {whole} whole");
}

#[tokio::test]
async fn a_pod_that_changes_has_no_other_judged() {
    let discovery = discovery(&[Rule {
        owner_kind: None,
        ..super::rule()
    }])
    .await;
    let shelf = &discovery.0.rules[0].pods[0];
    let named = |index: usize, ready: &str| {
        let name = format!("pod-{index}");
        pod(&name, &name, |pod| {
            pod["status"]["conditions"][0]["status"] = json!(ready)
        })
    };
    shelf.set((0..100).map(|index| named(index, "True")).collect());
    let (directory, mut known) = (Directory::default(), None);
    discovery.judge(&directory, &mut known);
    let stands = |known: &Option<Known>| {
        let pods = &known.as_ref().unwrap().rules[0].as_ref().unwrap().pods;
        pods.values()
            .map(|stand| std::ptr::from_ref(stand).addr())
            .collect::<BTreeSet<_>>()
    };
    let (before, judged, was) = (directory.list(), stands(&known), directory.lives());
    shelf.put(named(7, "False"), &mut String::new());
    discovery.judge(&directory, &mut known);
    let after = directory.list();
    let same = before.iter().zip(&after).filter(|(old, new)| Arc::ptr_eq(old, new));
    assert_eq!((same.count(), after.len()), (99, 100));
    assert_eq!(stands(&known), judged, "nothing was judged anew");
    assert_eq!(directory.lives(), was, "links have nothing to do");
    let name = WorkspaceName::try_from("pod-7").unwrap();
    assert!(matches!(directory.find(&name).unwrap().state, State::Starting(_)));
}
