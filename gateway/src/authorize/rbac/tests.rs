//! What is asked, of whom, and how often.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use doorward_certs::{Login, WorkspaceName};
use serde_json::{Value, json};

use super::*;
use crate::{
    config,
    kube::{
        connect,
        fake::{Answer as Served, FakeServer},
    },
    oidc::Identity,
    workspace::{OwnerObject, Place, State},
};

fn settings(cache: Duration) -> Authorize {
    let rbac = config::Rbac {
        require: Require::Both,
        verb: "create".to_owned(),
        group: String::new(),
        resource: "pods".to_owned(),
        subresource: "exec".to_owned(),
        name: Named::Pod,
    };
    let owner = config::Rbac {
        group: "vteam.example".to_owned(),
        resource: "sessions".to_owned(),
        subresource: "enter".to_owned(),
        name: Named::Owner,
        ..rbac.clone()
    };
    let none = config::Rbac {
        name: Named::None,
        ..rbac.clone()
    };
    Authorize {
        rbac: [("pod", rbac), ("owner", owner), ("none", none)]
            .map(|(rule, one)| (rule.to_owned(), one))
            .into(),
        access: Default::default(),
        username_prefix: "oidc:".to_owned(),
        groups_prefix: String::new(),
        cache,
        timeout: Duration::from_millis(500),
    }
}

fn workspace(rule: &str, pod: Option<&str>) -> Workspace {
    Workspace {
        name: WorkspaceName::try_from("w").unwrap(),
        login: Login::try_from("node").unwrap(),
        owner: None,
        place: Some(Place {
            namespace: "team".to_owned(),
            pod: pod.map(str::to_owned),
            owner: Some(OwnerObject {
                api_version: "vteam.example/v1".to_owned(),
                kind: "Session".to_owned(),
                name: "s".to_owned(),
            }),
            rule: rule.to_owned(),
            ..Place::default()
        }),
        state: State::Running,
        life: None,
        notes: Default::default(),
    }
}

/// A server that allows what this says, with what it was asked.
async fn server(allow: impl Fn(&Value) -> bool + Send + Sync + 'static) -> (FakeServer, Arc<Mutex<Vec<Value>>>) {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let log = Arc::clone(&asked);
    let server = FakeServer::start(move |request| {
        assert_eq!(
            request.uri().path(),
            "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        );
        let question: Value = serde_json::from_slice(request.body()).unwrap();
        let spec = question["spec"].clone();
        let allowed = allow(&spec);
        log.lock().unwrap().push(spec);
        Served::json(
            &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {}, "status": {"allowed": allowed, "reason": "because\u{1b}[2J of it"}}),
        )
    })
    .await;
    (server, asked)
}

async fn rbac(server: &FakeServer, cache: Duration) -> Rbac {
    Rbac::new(connect(&server.settings()).await.unwrap().client(), &settings(cache))
}

#[tokio::test]
async fn the_question_is_the_persons_as_the_server_knows_them_and_the_workspaces() {
    let (server, asked) = server(|spec| spec["user"] == "oidc:bob").await;
    let rbac = rbac(&server, Duration::ZERO).await;
    let bob = Identity::for_test("bob", &["developers", "system:masters"]);
    let groups = json!(["developers", "system:authenticated"]);
    for (rule, pod, attributes) in [
        (
            "pod",
            Some("pod-0"),
            json!({"namespace": "team", "verb": "create", "resource": "pods", "subresource": "exec", "name": "pod-0"}),
        ),
        // Asleep: about any pod, which asks no less.
        (
            "pod",
            None,
            json!({"namespace": "team", "verb": "create", "resource": "pods", "subresource": "exec"}),
        ),
        (
            "owner",
            Some("pod-0"),
            json!({"namespace": "team", "verb": "create", "group": "vteam.example", "resource": "sessions",
                "subresource": "enter", "name": "s"}),
        ),
        (
            "none",
            Some("pod-0"),
            json!({"namespace": "team", "verb": "create", "resource": "pods", "subresource": "exec"}),
        ),
    ] {
        let (_, act) = rbac.question(&workspace(rule, pod)).unwrap();
        let told = rbac.may(bob.person(), &act, rbac.oldest()).await.unwrap();
        assert!(told.asked && told.answer.allowed);
        assert_eq!(told.answer.reason, "because\u{fffd}[2J of it");
        let spec = asked.lock().unwrap().pop().unwrap();
        assert_eq!(
            spec,
            json!({"user": "oidc:bob", "groups": groups, "resourceAttributes": attributes})
        );
    }
    assert_eq!(rbac.question(&workspace("unmentioned", Some("pod-0"))), None);
    let mut written = workspace("pod", Some("pod-0"));
    written.place = None;
    assert_eq!(rbac.question(&written), None);
}

#[tokio::test]
async fn nobody_becomes_one_of_the_servers_own_by_what_a_provider_says() {
    let (server, asked) = server(|_| true).await;
    let mut settings = settings(Duration::ZERO);
    settings.username_prefix = String::new();
    let rbac = Rbac::new(connect(&server.settings()).await.unwrap().client(), &settings);
    let (_, act) = rbac.question(&workspace("pod", Some("pod-0"))).unwrap();
    let admin = Identity::for_test("system:admin", &[]);
    let told = rbac.may(admin.person(), &act, rbac.oldest()).await.unwrap();
    assert!(!told.answer.allowed && !told.asked);
    // Nor by a prefix that makes one of two halves.
    settings.username_prefix = "system".to_owned();
    let rbac = Rbac::new(connect(&server.settings()).await.unwrap().client(), &settings);
    let half = Identity::for_test(":admin", &[]);
    let told = rbac.may(half.person(), &act, rbac.oldest()).await.unwrap();
    assert!(!told.answer.allowed);
    assert_eq!(asked.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn an_answer_is_believed_for_a_while_and_for_that_person_and_act_alone() {
    let open = Arc::new(AtomicUsize::new(1));
    let still = Arc::clone(&open);
    let (server, _) = server(move |_| still.load(Ordering::SeqCst) == 1).await;
    let rbac = rbac(&server, Duration::from_secs(60)).await;
    let (bob, other) = (Identity::for_test("bob", &["a"]), Identity::for_test("bob", &["b"]));
    let (_, act) = rbac.question(&workspace("pod", Some("pod-0"))).unwrap();
    let (_, elsewhere) = rbac.question(&workspace("pod", Some("pod-1"))).unwrap();
    let began = Instant::now();
    assert!(rbac.may(bob.person(), &act, rbac.oldest()).await.unwrap().asked);
    open.store(0, Ordering::SeqCst);
    let known = rbac.may(bob.person(), &act, rbac.oldest()).await.unwrap();
    assert!(known.answer.allowed && !known.asked);
    assert_eq!(server.requests(), 1);
    assert!(
        !rbac
            .may(bob.person(), &elsewhere, rbac.oldest())
            .await
            .unwrap()
            .answer
            .allowed
    );
    assert!(
        !rbac
            .may(other.person(), &act, rbac.oldest())
            .await
            .unwrap()
            .answer
            .allowed
    );
    assert_eq!(server.requests(), 3);
    // What was answered since a second look began will do; what was before will not.
    assert!(!rbac.may(bob.person(), &act, began).await.unwrap().asked);
    let fresh = rbac.may(bob.person(), &act, Instant::now()).await.unwrap();
    assert!(fresh.asked && !fresh.answer.allowed);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let (server, _) = server(|_| true).await;
    let rbac = rbac(&server, Duration::from_secs(60)).await;
    let answer = Answer {
        allowed: true,
        reason: String::new(),
    };
    rbac.known.with(|known| {
        for number in 0..MOST_KNOWN {
            known.insert(digest(&number.to_string()), (answer.clone(), Instant::now()));
        }
    });
    let (_, act) = rbac.question(&workspace("pod", Some("pod-0"))).unwrap();
    let bob = Identity::for_test("bob", &[]);
    for _ in 0..2 {
        assert!(rbac.may(bob.person(), &act, rbac.oldest()).await.unwrap().asked);
    }
    assert_eq!(rbac.known.with(|known| known.len()), MOST_KNOWN);
}

#[tokio::test]
async fn a_server_in_trouble_is_named_within_the_deadline() {
    type Trouble = (fn() -> Served, &'static str);
    let cases: [Trouble; 4] = [
        (|| Served::Hang, "kube-hanging"),
        (|| Served::refused(403, "may not"), "kube-forbidden"),
        (|| Served::refused(500, "etcd"), "kube-refused"),
        (
            || Served::json(&json!({"kind": "SubjectAccessReview", "metadata": {}, "spec": {}})),
            "kube-garbage",
        ),
    ];
    let bob = Identity::for_test("bob", &[]);
    for (answer, code) in cases {
        let server = FakeServer::start(move |_| answer()).await;
        let rbac = rbac(&server, Duration::from_secs(60)).await;
        let (_, act) = rbac.question(&workspace("pod", Some("pod-0"))).unwrap();
        assert!(rbac.ready().is_ok());
        let failed = rbac.may(bob.person(), &act, rbac.oldest()).await.err().unwrap();
        assert_eq!(failed.code(), code, "{failed}");
        // A review without an answer is one all the same.
        assert_eq!(rbac.ready().is_ok(), code == "kube-garbage", "{code}");
        assert_eq!(rbac.as_if(bob.person()).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn whom_the_server_knows_itself_is_asked_about_as_it_said() {
    let (server, asked) = server(|_| true).await;
    let rbac = rbac(&server, Duration::ZERO).await;
    let said = k8s_openapi::api::authentication::v1::UserInfo {
        username: Some("system:serviceaccount:ci:deployer".to_owned()),
        uid: Some("u-1".to_owned()),
        groups: Some(vec!["system:serviceaccounts".to_owned(), "devs".to_owned()]),
        extra: Some([("scopes".to_owned(), vec!["user:full".to_owned()])].into()),
    };
    let who = Identity::for_test("kubernetes:ci", &["kubernetes:devs"]).with_cluster(Subject::of_review(&said));
    let (_, act) = rbac.question(&workspace("pod", Some("pod-0"))).unwrap();
    assert!(
        rbac.may(who.person(), &act, rbac.oldest())
            .await
            .unwrap()
            .answer
            .allowed
    );
    let spec = asked.lock().unwrap()[0].clone();
    assert_eq!(spec["user"], said.username.unwrap());
    assert_eq!(spec["uid"], "u-1");
    assert_eq!(spec["groups"], json!(["system:serviceaccounts", "devs"]));
    assert_eq!(spec["extra"], json!({ "scopes": ["user:full"] }));
}
