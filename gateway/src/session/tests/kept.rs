//! Keeping a workspace awake: for whom, for how long, where it is written down, and what is on record of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::guarded::Guarded;
use crate::kube::fake::{Answer, FakeServer};
use crate::workspace::{KEEP_UNTIL, OwnerObject, Place, Source, State, Workspace, moment};

const PATH: &str = "/v1/workspaces/devenv-0/keep";
/// A person who may enter and keep nothing, and one who may keep a little.
const ROLES: &str = "[[role]]\nname = \"guest\"\ngroups = [\"guests\"]\nworkspaces = [\"devenv-0\"]\nallow = [\"exec\"]\n\
                     [[role]]\nname = \"keeper\"\ngroups = [\"developers\"]\nworkspaces = [\"devenv-0\"]\nallow = [\"exec\"]\n\
                     keep = \"8h\"\n\
                     [[role]]\nname = \"lesser\"\ngroups = [\"developers\"]\nworkspaces = [\"devenv-*\"]\nallow = [\"exec\"]\n\
                     keep = \"1h\"\n";

/// The annotations of what is there, by path.
type Objects = Arc<Guarded<BTreeMap<String, serde_json::Map<String, Value>>>>;

/// An API server that has a pod and what it belongs to, and takes merge patches of their annotations.
async fn server(objects: &Objects) -> FakeServer {
    let objects = Arc::clone(objects);
    FakeServer::start(move |request| {
        let path = request.uri().path();
        objects.with(|all| {
            let Some(annotations) = all.get_mut(path) else {
                return Answer::refused(404, "not here");
            };
            if request.method() == "PATCH" {
                let patch: Value = serde_json::from_slice(request.body()).unwrap();
                for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
                    match value.is_null() {
                        true => drop(annotations.remove(key)),
                        false => drop(annotations.insert(key.clone(), value.clone())),
                    }
                }
            }
            Answer::json(&json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "x", "namespace": "devenv", "uid": "uid-0", "resourceVersion": "1", "annotations": annotations},
            }))
        })
    })
    .await
}

const POD: &str = "/api/v1/namespaces/devenv/pods/devenv-0";
const SET: &str = "/apis/apps/v1/namespaces/devenv/statefulsets/devenv";

fn more(server: &FakeServer) -> String {
    format!(
        "[kubernetes]\nserver = \"{}\"\nservice-account = \"{}\"\n\
         [[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"devenv\"]\npods = \"app=x\"\nlogin = \"node\"\nagent-port = 1\n\
         [[kubernetes.usage]]\nrule = \"r\"\nowner = true\n",
        server.url(),
        server.folder.path().display()
    )
}

/// Puts both workspaces into the cluster, as pods of one set, the other kept for so long.
fn place(bench: &Bench, other_kept: Duration) {
    let directory = &bench.running.gateway().workspaces;
    let placed = directory.list().into_iter().map(|one| {
        let mut one = Workspace::clone(&one);
        one.place = Some(Place {
            namespace: "devenv".to_owned(),
            rule: "r".to_owned(),
            pod: Some(one.name.to_string()),
            owner: Some(OwnerObject {
                api_version: "apps/v1".to_owned(),
                kind: "StatefulSet".to_owned(),
                name: "devenv".to_owned(),
            }),
            ..Place::default()
        });
        if one.name.as_str() == "devenv-1" {
            one.notes.keep_until = Some(SystemTime::now() + other_kept);
        }
        one
    });
    directory.replace(Source::Configuration, placed.collect());
}

fn hours(at: SystemTime) -> u64 {
    (at.duration_since(SystemTime::now()).unwrap().as_secs() + 60) / 3600
}

#[tokio::test]
async fn who_may_keeps_it_as_long_as_the_roles_say_and_it_is_written_down() {
    let objects: Objects = Arc::default();
    objects.with(|all| all.extend([POD, SET].map(|path| (path.to_owned(), Default::default()))));
    let noted = |path: &str| {
        let text = objects.with(|all| Some(all[path].get(KEEP_UNTIL)?.as_str()?.to_owned()));
        text.and_then(|text| moment(&text))
    };
    let server = server(&objects).await;
    let (bench, _agent) = with_agent(Manner::default(), ROLES, &more(&server)).await;
    place(&bench, Duration::from_secs(6 * 3600));
    let bob = bench.token(|_| {});
    let put = async |body: Value| bench.send_as("PUT", &bob, PATH, &body.to_string()).await;

    let listed = bench.get_as(&bob, "/v1/workspaces").await.json();
    assert_eq!(listed["workspaces"][0]["keep-longest"], 8 * 3600, "{listed}");
    let kept = put(json!({ "for": 4 * 3600 })).await;
    assert_eq!(kept.status(), 200, "{}", kept.text);
    assert_eq!(moment(kept.json()["keep-until"].as_str().unwrap()), noted(POD));
    assert_eq!(hours(noted(POD).unwrap()), 4);
    assert_eq!(hours(noted(SET).unwrap()), 6, "another of the set is kept for longer");
    // A later wish counts, also where it is the shorter one.
    let until = crate::locks::rfc3339(SystemTime::now() + Duration::from_secs(7200));
    assert_eq!(put(json!({ "until": until })).await.status(), 200);
    assert_eq!(hours(noted(POD).unwrap()), 2);

    let over = put(json!({ "for": 8 * 3600 + 1 })).await;
    assert_eq!(
        (over.status(), over.json()["code"].clone()),
        (403, json!("keep-refused"))
    );
    assert!(over.json()["detail"].as_str().unwrap().contains("8h"), "{}", over.text);
    for bad in [
        json!({}),
        json!({ "for": 3600, "until": until }),
        json!({ "for": 0 }),
        json!({ "for": -1 }),
        json!({ "until": "2020-01-01T00:00:00Z" }),
        json!({ "until": "soon" }),
        json!({ "for": 3600, "user": "carol" }),
    ] {
        assert_eq!(put(bad.clone()).await.status(), 400, "{bad}");
    }
    assert_eq!(put(json!({ "for": u64::MAX })).await.status(), 403);
    assert_eq!(hours(noted(POD).unwrap()), 2, "a refusal changes nothing");

    let off = bench.send_as("DELETE", &bob, PATH, "").await;
    assert_eq!(off.status(), 200, "{}", off.text);
    assert_eq!(noted(POD), None);
    assert_eq!(hours(noted(SET).unwrap()), 6, "the other is still kept");

    // Somebody who may enter and whose role keeps nothing; and those who may not enter at all.
    let guest = bench.token(|claims| claims["groups"] = json!(["guests"]));
    let refused = bench
        .send_as("PUT", &guest, PATH, &json!({ "for": 60 }).to_string())
        .await;
    assert_eq!(refused.json()["code"], "keep-refused");
    assert!(
        refused.json()["hint"].as_str().unwrap().contains("keep ="),
        "{}",
        refused.text
    );
    let stranger = bench.token(|claims| claims["groups"] = json!([]));
    let mut answers = Vec::new();
    for name in ["devenv-0", "no-such"] {
        let path = format!("/v1/workspaces/{name}/keep");
        for (method, body) in [("PUT", json!({ "for": 60 }).to_string()), ("DELETE", String::new())] {
            let mut answer = bench.send_as(method, &stranger, &path, &body).await.json();
            answer["instance"] = Value::Null;
            assert_eq!(answer["code"], "denied", "{answer}");
            answers.push(answer);
        }
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");

    let events = journal(stop(bench).await.path());
    let kept: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::WorkspaceKept(said) => Some((said.user.as_str(), said.workspace_uid.as_str(), said.until > 0)),
            Event::KeepReleased(said) => Some((said.user.as_str(), said.workspace_uid.as_str(), false)),
            _ => None,
        })
        .collect();
    assert_eq!(
        kept,
        [("bob", "uid-0", true), ("bob", "uid-0", true), ("bob", "uid-0", false)]
    );
    let refused = |code: &str| {
        let all = events
            .iter()
            .filter(|event| matches!(event, Event::Denied(denied) if denied.code == code));
        all.count()
    };
    assert_eq!((refused("keep-refused"), refused("denied")), (3, 4));
}

#[tokio::test]
async fn what_sleeps_cannot_be_kept_and_what_could_not_be_told_is_no_success() {
    let objects: Objects = Arc::default();
    // The set is not there.
    objects.with(|all| all.extend([(POD.to_owned(), Default::default())]));
    let server = server(&objects).await;
    let (bench, _agent) = with_agent(Manner::default(), ROLES, &more(&server)).await;
    let bob = bench.token(|_| {});
    let put = async || {
        bench
            .send_as("PUT", &bob, PATH, &json!({ "for": 60 }).to_string())
            .await
            .json()
    };
    let code = async || put().await["code"].as_str().unwrap_or("none").to_owned();
    // A workspace of the configuration has no pod to write on.
    assert_eq!(code().await, "keep-refused");
    place(&bench, Duration::ZERO);
    assert_eq!(code().await, "keep-failed", "the set is not there");
    objects.with(|all| all.insert(SET.to_owned(), Default::default()));
    assert_eq!(code().await, "none");
    let change = |change: fn(&mut Workspace)| {
        let directory = &bench.running.gateway().workspaces;
        let mut all: Vec<_> = directory.list().iter().map(|one| Workspace::clone(one)).collect();
        all.iter_mut().for_each(change);
        directory.replace(Source::Configuration, all);
    };
    change(|one| one.place.as_mut().unwrap().pod = None);
    assert_eq!(code().await, "keep-failed", "nothing was written anywhere");
    change(|one| {
        (one.life, one.state) = (None, State::Asleep);
    });
    let asleep = put().await;
    assert_eq!(asleep["code"], "asleep", "{asleep}");
    assert!(
        asleep["hint"].as_str().unwrap().contains("nothing to keep awake"),
        "{asleep}"
    );
    stop(bench).await;
}
