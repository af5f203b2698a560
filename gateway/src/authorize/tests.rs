//! A whole gateway that asks an API server: who gets in, what a refusal tells, and what an outage and a second look do.

mod access;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::{
    kube::fake::{Answer, FakeServer},
    testing::{Bench, eventually},
    workspace::{Place, Source, State, Workspace},
};

/// What the server does, and what it was asked.
#[derive(Default)]
struct Cluster {
    down: AtomicBool,
    allow: Mutex<Vec<(&'static str, &'static str)>>,
    asked: AtomicUsize,
}

impl Cluster {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answer(&self, request: &http::Request<bytes::Bytes>) -> Answer {
        if !request.uri().path().ends_with("/subjectaccessreviews") {
            return Answer::refused(404, "not here");
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Answer::refused(500, "etcd is away");
        }
        let question: Value = serde_json::from_slice(request.body()).unwrap();
        let (user, pod) = (
            &question["spec"]["user"],
            &question["spec"]["resourceAttributes"]["name"],
        );
        let allowed = self
            .allow
            .lock()
            .unwrap()
            .iter()
            .any(|(who, what)| user == who && pod == what);
        Answer::json(
            &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {}, "status": {"allowed": allowed, "reason": "the binding `team-a`"}}),
        )
    }
}

/// A gateway with the pods `devenv-0` and `devenv-1` of a cluster, and `static-0` of its configuration. For `bob` of `developers`
/// the policy opens `devenv-0` and `static-0`; whoever RBAC lets in gets `exec` everywhere.
async fn start(require: &str) -> (Bench, Arc<Cluster>, FakeServer) {
    let cluster = Arc::new(Cluster::default());
    let serving = Arc::clone(&cluster);
    let server = FakeServer::start(move |request| serving.answer(request)).await;
    let policy = "[[role]]\nname = \"developer\"\ngroups = [\"developers\"]\nworkspaces = [\"devenv-0\", \"static-0\"]\n\
                  allow = [\"shell\"]\n[[role]]\nname = \"by-rbac\"\nrbac = true\nworkspaces = [\"*\"]\nallow = [\"exec\"]\n\
                  [[role]]\nname = \"helpdesk\"\ngroups = [\"helpdesk\"]\nworkspaces = [\"*\"]\nallow = []\nmay = [\"explain\"]\n";
    let more = format!(
        "[[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"team\"]\npods = \"app=x\"\nlogin = \"node\"\nagent-port = 1\n\
         [authorize]\ntimeout = \"2s\"\n[[authorize.rbac]]\nrule = \"r\"\nrequire = \"{require}\"\nverb = \"create\"\n\
         resource = \"pods\"\nsubresource = \"exec\"\n"
    );
    (gateway(&server, policy, &more).await, cluster, server)
}

/// A gateway with this policy, the pods `devenv-0` and `devenv-1` of the namespace `team`, and `static-0` of its configuration.
/// `more` goes on in the section of the cluster.
async fn gateway(server: &FakeServer, policy: &str, more: &str) -> Bench {
    let (url, account) = (server.url().to_string(), server.folder.path().display().to_string());
    let folder = crate::testing::folder();
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let more = format!(
        "[session]\nrecheck-interval = \"1h\"\n[kubernetes]\nserver = \"{url}\"\nservice-account = \"{account}\"\n{more}"
    );
    let bench = Bench::in_folder(folder, |text| text + &more).await;
    bench.issuer.appear().await;
    eventually(|| bench.running.gateway().identities.ready().is_ok()).await;
    let directory = &bench.running.gateway().workspaces;
    let all = directory.list();
    let first = all.iter().find(|one| one.name.as_str() == "devenv-0").unwrap();
    let pod = |name: &str, placed: bool| Workspace {
        name: doorward_certs::WorkspaceName::try_from(name).unwrap(),
        owner: None,
        state: State::Asleep,
        life: None,
        place: placed.then(|| Place {
            namespace: "team".to_owned(),
            pod: Some(name.to_owned()),
            rule: "r".to_owned(),
            ..Place::default()
        }),
        ..Workspace::clone(first)
    };
    let workspaces = vec![pod("devenv-0", true), pod("devenv-1", true), pod("static-0", false)];
    directory.replace(Source::Configuration, workspaces);
    bench
}

/// Who the claims say, asks for a tunnel: status, code and what an operator reads.
async fn connect(bench: &Bench, user: &str, groups: &[&str], workspace: &str) -> (u16, String) {
    let reply = bench
        .get(
            &format!("/v1/connect/{workspace}"),
            &format!(
                "Authorization: Bearer {}\r\n{}",
                token(bench, user, groups),
                crate::testing::UPGRADE
            ),
        )
        .await;
    (
        reply.status(),
        reply.json()["code"].as_str().unwrap_or_default().to_owned(),
    )
}

fn token(bench: &Bench, user: &str, groups: &[&str]) -> String {
    bench.token(|claims| {
        claims["preferred_username"] = json!(user);
        claims["sub"] = json!(user);
        claims["groups"] = json!(groups);
    })
}

/// Refused for the workspace's sake alone: whoever reads this may enter.
const IN: (u16, &str) = (409, "asleep");
const OUT: (u16, &str) = (403, "denied");

async fn is(bench: &Bench, user: &str, groups: &[&str], workspace: &str, expected: (u16, &str)) {
    let got = connect(bench, user, groups, workspace).await;
    assert_eq!((got.0, got.1.as_str()), expected, "{user} {workspace}");
}

#[tokio::test]
async fn both_have_to_agree_where_both_are_required() {
    let (bench, cluster, _server) = start("both").await;
    let developers = ["developers"];
    *cluster.allow.lock().unwrap() = vec![("bob", "devenv-0"), ("bob", "devenv-1"), ("carol", "devenv-0")];
    is(&bench, "bob", &developers, "devenv-0", IN).await;
    is(&bench, "bob", &developers, "devenv-1", OUT).await;
    is(&bench, "carol", &[], "devenv-0", OUT).await;
    is(&bench, "dora", &developers, "devenv-0", OUT).await;
    // Nobody asks RBAC about what no rule has found.
    is(&bench, "bob", &developers, "static-0", IN).await;
    let listed = bench
        .get_as(&token(&bench, "bob", &developers), "/v1/workspaces")
        .await
        .json();
    let names: Vec<_> = listed["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["devenv-0", "static-0"]);
    // What RBAC lets people do adds to what their roles allow.
    assert_eq!(listed["workspaces"][0]["capabilities"], json!(["shell", "exec"]));
}

#[tokio::test]
async fn one_is_enough_where_either_is_required() {
    let (bench, cluster, _server) = start("either").await;
    *cluster.allow.lock().unwrap() = vec![("carol", "devenv-1")];
    is(&bench, "bob", &["developers"], "devenv-0", IN).await;
    is(&bench, "carol", &[], "devenv-1", IN).await;
    is(&bench, "carol", &[], "devenv-0", OUT).await;
    is(&bench, "carol", &[], "static-0", OUT).await;
    let listed = bench
        .get_as(&token(&bench, "carol", &[]), "/v1/workspaces")
        .await
        .json();
    assert_eq!(listed["workspaces"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["workspaces"][0]["capabilities"], json!(["exec"]));
}

#[tokio::test]
async fn a_refusal_costs_one_question_whatever_it_is_for() {
    let (bench, cluster, _server) = start("both").await;
    // Forbidden by RBAC, forbidden by the policy, not there, not RBAC's; each again, when some answers are known.
    for workspace in ["devenv-0", "devenv-1", "devenv-7", "static-0"] {
        for _ in 0..2 {
            let before = cluster.asked();
            is(&bench, "dora", &[], workspace, OUT).await;
            assert_eq!(cluster.asked() - before, 1, "{workspace}");
        }
    }
    // A list may be answered from memory: it is not about a name that somebody tries.
    let path = "/v1/workspaces";
    let dora = token(&bench, "dora", &[]);
    let before = cluster.asked();
    assert_eq!(bench.get_as(&dora, path).await.json()["workspaces"], json!([]));
    assert_eq!(cluster.asked(), before, "everything was known");
    for workspace in ["devenv-1", "devenv-7", "static-0"] {
        let before = cluster.asked();
        let path = format!("/v1/explain?workspace={workspace}");
        let mut said = bench.get_as(&dora, &path).await.json();
        assert_eq!(cluster.asked() - before, 1, "{workspace}");
        said["workspace"] = json!("x");
        let explained = bench.get_as(&dora, "/v1/explain?workspace=devenv-8").await.json();
        let mut explained = explained;
        explained["workspace"] = json!("x");
        assert_eq!(said, explained, "{workspace}");
    }
}

#[tokio::test]
async fn an_outage_refuses_all_alike_and_names_what_is_down() {
    let (bench, cluster, _server) = start("both").await;
    *cluster.allow.lock().unwrap() = vec![("bob", "devenv-0")];
    let developers = ["developers"];
    cluster.down.store(true, Ordering::SeqCst);
    for workspace in ["devenv-0", "devenv-1", "devenv-7"] {
        let path = format!("/v1/connect/{workspace}");
        let lines = format!(
            "Authorization: Bearer {}\r\n{}",
            token(&bench, "bob", &developers),
            crate::testing::UPGRADE
        );
        let reply = bench.get(&path, &lines).await;
        assert_eq!(reply.status(), 503, "{}", reply.text);
        assert_eq!(reply.json()["code"], "kubernetes-down");
        assert!(
            reply.json()["detail"].as_str().unwrap().contains("kube-refused"),
            "{}",
            reply.text
        );
    }
    let list = bench.get_as(&token(&bench, "bob", &developers), "/v1/workspaces").await;
    assert_eq!(list.status(), 503, "{}", list.text);
    is(&bench, "bob", &developers, "static-0", IN).await;
    cluster.down.store(false, Ordering::SeqCst);
    is(&bench, "bob", &developers, "devenv-0", IN).await;
}

#[tokio::test]
async fn an_explanation_and_the_journal_say_what_rbac_said() {
    let (bench, cluster, _server) = start("both").await;
    *cluster.allow.lock().unwrap() = vec![("bob", "devenv-0")];
    let ask = |user: &'static str, groups: &'static [&'static str], query: &'static str| {
        let (bench, token) = (&bench, token(&bench, user, groups));
        async move { bench.get_as(&token, &format!("/v1/explain?{query}")).await.json() }
    };
    let own = ask("bob", &["developers"], "workspace=devenv-0").await;
    assert_eq!(own["verdict"], "granted", "{own}");
    let line = own["rules"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&line["role"], &line["applies"], &line["why"]),
        (
            &json!("kubernetes"),
            &json!(true),
            &json!("Kubernetes RBAC allows to create pods/exec devenv-0 in team: the binding `team-a`")
        )
    );
    let other = ask("zoe", &["helpdesk"], "workspace=devenv-0&user=dora&groups=developers").await;
    assert_eq!(other["verdict"], "denied");
    let line = other["rules"].as_array().unwrap().last().unwrap();
    assert!(
        line["why"]
            .as_str()
            .unwrap()
            .contains("does not allow to create pods/exec"),
        "{other}"
    );
    is(&bench, "dora", &["developers"], "devenv-0", OUT).await;
    let folder = stop(bench).await;
    let details: Vec<String> = crate::session::tests::journal(folder.path())
        .into_iter()
        .filter_map(|event| match event {
            doorward_audit::Event::Denied(denied) => Some(denied.detail),
            _ => None,
        })
        .collect();
    let said = "Kubernetes RBAC does not allow to create pods/exec devenv-0 in team: the binding `team-a`";
    assert!(details.iter().any(|detail| detail.contains(said)), "{details:?}");
}

async fn stop(bench: Bench) -> tempfile::TempDir {
    bench.stop.cancel();
    bench.running.finish(&bench.stop).await;
    bench.folder
}

#[tokio::test]
async fn many_workspaces_are_asked_about_once_and_so_many_at_a_time() {
    let (bench, cluster, _server) = start("either").await;
    let directory = &bench.running.gateway().workspaces;
    let all = directory.list();
    let first = all.iter().find(|one| one.name.as_str() == "devenv-0").unwrap();
    let many = (0..500).map(|number| {
        let mut one = Workspace::clone(first);
        one.name = doorward_certs::WorkspaceName::try_from(format!("w-{number}")).unwrap();
        one.place.as_mut().unwrap().pod = Some(format!("w-{number}"));
        one
    });
    directory.replace(Source::Configuration, many.collect());
    let dora = token(&bench, "dora", &[]);
    for _ in 0..2 {
        let listed = bench.get_as(&dora, "/v1/workspaces").await;
        assert_eq!(listed.json()["workspaces"], json!([]), "{}", listed.text);
        assert_eq!(cluster.asked(), 500);
    }
}
