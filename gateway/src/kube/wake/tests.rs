//! What is asked of an API server to wake a workspace, and what becomes of its refusals. That a real one does it is tested on
//! a real one.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::{
    kube::{
        connect,
        fake::{Answer, FakeServer},
    },
    wake::tests_workspace,
};

/// A sleeping pod of a StatefulSet.
fn workspace(pod: &str) -> Workspace {
    let mut workspace = tests_workspace("devenv-2", "devenv");
    let place = workspace.place.as_mut().unwrap();
    place.pod = Some(pod.to_owned());
    place.owner = Some(OwnerObject {
        api_version: "apps/v1".to_owned(),
        kind: "StatefulSet".to_owned(),
        name: "devenv".to_owned(),
    });
    workspace
}

fn set(replicas: i32, start: Option<i32>) -> Answer {
    let ordinals = start.map(|start| json!({ "start": start }));
    Answer::json(&json!({
        "apiVersion": "apps/v1", "kind": "StatefulSetList", "metadata": {},
        "items": [{
            "metadata": { "name": "devenv", "namespace": "devenv", "resourceVersion": "41" },
            "spec": { "replicas": replicas, "ordinals": ordinals, "serviceName": "devenv",
                      "selector": {}, "template": {} },
        }],
    }))
}

type Asked = Arc<Mutex<Vec<(String, String)>>>;

async fn server(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (FakeServer, Cluster, Asked) {
    let asked: Asked = Arc::default();
    let log = Arc::clone(&asked);
    let server = FakeServer::start(move |request| {
        let (method, target) = (request.method().to_string(), request.uri().to_string());
        log.lock().unwrap().push((method.clone(), target));
        answer(&method)
    })
    .await;
    let cluster = connect(&server.settings()).await.unwrap();
    (server, cluster, asked)
}

fn scaled() -> Answer {
    Answer::json(&json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {}, "spec": { "replicas": 3 } }))
}

#[tokio::test]
async fn a_set_is_made_as_large_as_the_pod_needs_and_never_smaller() {
    // Replicas, first ordinal: whether a patch is sent for devenv-2.
    for (replicas, start, patched) in [
        (0, None, true),
        (2, None, true),
        (3, None, false),
        (7, None, false),
        (0, Some(2), true),
        (1, Some(2), false),
    ] {
        let (_server, cluster, asked) = server(move |method| match method {
            "GET" => set(replicas, start),
            _ => scaled(),
        })
        .await;
        scale(&cluster, &workspace("devenv-2")).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 1 + usize::from(patched), "{replicas} {start:?}: {asked:?}");
        if patched {
            assert_eq!(asked[1].0, "PATCH");
            assert!(
                asked[1]
                    .1
                    .starts_with("/apis/apps/v1/namespaces/devenv/statefulsets/devenv/scale?")
            );
        }
    }
    for odd in [
        "devenv-02",
        "devenv-",
        "other-2",
        "devenv--1",
        "devenv-99999999999",
        "devenv-10000",
    ] {
        let (_server, cluster, asked) = server(|_| set(0, None)).await;
        let error = scale(&cluster, &workspace(odd)).await.unwrap_err();
        assert!(matches!(error, WakeError::Misfit(_)), "{odd}: {error}");
        assert!(asked.lock().unwrap().iter().all(|(method, _)| method == "GET"), "{odd}");
    }
}

#[tokio::test]
async fn a_deployment_that_has_none_is_given_one_pod() {
    for (replicas, patched) in [(0, true), (1, false), (3, false)] {
        let (_server, cluster, asked) = server(move |method| match method {
            "GET" => Answer::json(&json!({
                "apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {},
                "items": [{
                    "metadata": { "name": "ide", "namespace": "devenv", "resourceVersion": "41" },
                    "spec": { "replicas": replicas, "selector": {}, "template": {} },
                }],
            })),
            _ => scaled(),
        })
        .await;
        let mut workspace = workspace("ide");
        workspace.place.as_mut().unwrap().owner = Some(OwnerObject {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "ide".to_owned(),
        });
        scale(&cluster, &workspace).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 1 + usize::from(patched), "{replicas}: {asked:?}");
        if patched {
            assert_eq!(asked[1].0, "PATCH");
            assert!(
                asked[1]
                    .1
                    .starts_with("/apis/apps/v1/namespaces/devenv/deployments/ide/scale?")
            );
        }
    }
}

#[tokio::test]
async fn who_takes_a_step_at_the_same_time_is_looked_at_again_and_a_missing_right_is_named() {
    let conflicts = Arc::new(Mutex::new(2));
    let left = Arc::clone(&conflicts);
    let (_server, cluster, asked) = server(move |method| {
        if method == "GET" {
            return set(0, None);
        }
        let mut left = left.lock().unwrap();
        match *left {
            0 => scaled(),
            _ => {
                *left -= 1;
                Answer::refused(409, "the object has been modified")
            }
        }
    })
    .await;
    scale(&cluster, &workspace("devenv-2")).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 6);
    let (_server, cluster, asked) = server(|method| match method {
        "GET" => set(0, None),
        _ => Answer::refused(409, "the object has been modified"),
    })
    .await;
    scale(&cluster, &workspace("devenv-2")).await.unwrap_err();
    assert!(asked.lock().unwrap().len() < 40, "it gives up");
    let (_server, cluster, _) = server(|method| match method {
        "GET" => set(0, None),
        _ => Answer::refused(403, "no"),
    })
    .await;
    let error = scale(&cluster, &workspace("devenv-2")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "patch statefulsets/scale in devenv: a permission is missing: no"
    );
}

#[tokio::test]
async fn an_annotation_is_set_on_what_the_pod_belongs_to() {
    let (_server, cluster, asked) = server(|_| {
        Answer::json(&json!({ "apiVersion": "example.com/v1", "kind": "Workspace", "metadata": { "name": "w" } }))
    })
    .await;
    let mut workspace = workspace("x");
    workspace.place.as_mut().unwrap().owner = Some(OwnerObject {
        api_version: "example.com/v1".to_owned(),
        kind: "Workspace".to_owned(),
        name: "w".to_owned(),
    });
    let set = |text: &str| {
        BTreeMap::from([(
            "example.com/wake".to_owned(),
            Template::parse(text, crate::wake::Scope::Wake).unwrap(),
        )])
    };
    let facts = Facts {
        workspace: &workspace,
        user: "bob",
        usage: None,
    };
    let mut order = Annotate {
        set: set("{user}"),
        plural: None,
    };
    annotate(&cluster, &order, &facts).await.unwrap();
    order.plural = Some("workspacen".to_owned());
    annotate(&cluster, &order, &facts).await.unwrap();
    order.set = set("{label:missing}");
    let error = annotate(&cluster, &order, &facts).await.unwrap_err();
    assert!(matches!(error, WakeError::Misfit(_)));
    let asked = asked.lock().unwrap().clone();
    let paths: Vec<&str> = asked
        .iter()
        .map(|(_, target)| target.split('?').next().unwrap())
        .collect();
    let below = "/apis/example.com/v1/namespaces/devenv";
    assert_eq!(
        paths,
        [format!("{below}/workspaces/w"), format!("{below}/workspacen/w")]
    );
}

#[tokio::test]
async fn events_are_told_once_and_a_pod_that_cannot_be_made_is_an_end() {
    let round = Arc::new(Mutex::new(0));
    let count = Arc::clone(&round);
    let (_server, cluster, _) = server(move |_| {
        let mut round = count.lock().unwrap();
        *round += 1;
        let event = |uid: &str, reason: &str, message: &str| {
            json!({ "metadata": { "uid": uid, "name": uid, "namespace": "devenv" }, "involvedObject": {},
                    "reason": reason, "message": message })
        };
        let mut items: Vec<Value> = vec![event("1", "FailedCreate", "what was before")];
        // Two names are asked for in each round.
        if *round > 2 {
            items.push(event("2", "Pulling", "Pulling image \"x\"\u{1b}[2J"));
        }
        Answer::json(&json!({ "apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": items }))
    })
    .await;
    let place = workspace("devenv-2").place.unwrap();
    let mut said = Vec::new();
    let told = follow(&cluster, &place, |text| said.push(text.to_owned()));
    let enough = async {
        while *round.lock().unwrap() < 7 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        why = told => panic!("{why}"),
        () = enough => {}
    }
    assert_eq!(said, ["Pulling image \"x\"\u{fffd}[2J"]);
}
