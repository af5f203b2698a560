//! Publishing where the API server hangs, and where several gateways publish for one workspace.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::{
    guarded::Guarded,
    kube::fake::{Answer, FakeServer},
    testing::{Bench, eventually},
    workspace::{LAST_USE, Place, Source, moment},
};

/// A pod as an API server keeps it: its version, what its annotation said, in order, and whether the server hangs.
#[derive(Default)]
struct Pod {
    written: Guarded<Vec<String>>,
    hangs: AtomicBool,
}

impl Pod {
    fn answer(&self, request: &http::Request<bytes::Bytes>) -> Answer {
        if request.uri().path() != "/api/v1/namespaces/devenv/pods/devenv-0" {
            return Answer::refused(404, "not here");
        }
        if self.hangs.load(Ordering::SeqCst) {
            return Answer::Hang;
        }
        self.written.with(|written| {
            let version = written.len().to_string();
            if request.method() == "PATCH" {
                let patch: Value = serde_json::from_slice(request.body()).unwrap();
                if patch["metadata"]["resourceVersion"] != version.as_str() {
                    return Answer::refused(409, "the object has been modified");
                }
                written.push(patch["metadata"]["annotations"][LAST_USE].as_str().unwrap().to_owned());
            }
            let annotations: BTreeMap<_, _> = written.last().map(|last| (LAST_USE, last)).into_iter().collect();
            Answer::json(&json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "devenv-0", "namespace": "devenv", "uid": "uid-0",
                    "resourceVersion": written.len().to_string(), "annotations": annotations},
            }))
        })
    }

    fn last(&self) -> Option<SystemTime> {
        self.written
            .with(|written| written.last().and_then(|text| moment(text)))
    }
}

async fn gateway(server: &FakeServer) -> Bench {
    patient(server, "500ms").await
}

/// A gateway that waits for the server so long.
async fn patient(server: &FakeServer, timeout: &str) -> Bench {
    let bench = Bench::with(&format!(
        "[kubernetes]\nserver = \"{}\"\nservice-account = \"{}\"\ntimeout = \"{timeout}\"\n\
         [[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"devenv\"]\npods = \"app=x\"\nlogin = \"node\"\nagent-port = 1\n\
         [[kubernetes.usage]]\nrule = \"r\"\nevery = \"1s\"\n",
        server.url(),
        server.folder.path().display()
    ))
    .await;
    let directory = &bench.running.gateway().workspaces;
    let placed = directory.list().into_iter().map(|one| Workspace {
        place: Some(Place {
            namespace: "devenv".to_owned(),
            rule: "r".to_owned(),
            pod: Some(one.name.to_string()),
            ..Place::default()
        }),
        ..Workspace::clone(&one)
    });
    directory.replace(Source::Configuration, placed.collect());
    bench
}

fn used(bench: &Bench, ago: u64) {
    let gateway = bench.running.gateway();
    let name = WorkspaceName::try_from("devenv-0").unwrap();
    let uid = WorkspaceUid::try_from("uid-0").unwrap();
    gateway.usage.used(&name, &uid, Duration::from_secs(ago));
}

/// Whether the pod says that it was used about so long ago.
fn says(pod: &Pod, ago: u64) -> bool {
    let since = pod.last().and_then(|at| at.elapsed().ok());
    since.is_some_and(|since| since.as_secs().abs_diff(ago) < 30)
}

async fn server() -> (Arc<Pod>, FakeServer) {
    let pod = Arc::new(Pod::default());
    let answering = Arc::clone(&pod);
    let server = FakeServer::start(move |request| answering.answer(request)).await;
    (pod, server)
}

#[tokio::test]
async fn a_server_that_hangs_delays_nobody_and_hears_the_latest_afterwards() {
    let (pod, server) = server().await;
    let bench = gateway(&server).await;
    used(&bench, 5000);
    eventually(|| says(&pod, 5000)).await;
    pod.hangs.store(true, Ordering::SeqCst);
    let asked = server.requests();
    used(&bench, 3000);
    // What is under way hangs; who asks the gateway is answered all the same, with what was heard.
    eventually(|| server.requests() > asked).await;
    used(&bench, 1000);
    let listed = bench.get_as(&bench.token(|_| {}), "/v1/workspaces").await.json();
    let known = listed["workspaces"][0]["last-use"].as_str().and_then(moment).unwrap();
    assert!(known.elapsed().unwrap().as_secs().abs_diff(1000) < 30, "{listed}");
    assert!(says(&pod, 5000));
    pod.hangs.store(false, Ordering::SeqCst);
    eventually(|| says(&pod, 1000)).await;
    assert!(pod.written.with(|written| written.is_sorted()));
}

#[tokio::test]
async fn several_gateways_never_set_it_back() {
    let (pod, server) = server().await;
    let (one, other) = (gateway(&server).await, gateway(&server).await);
    for ago in (1..20_u64).rev() {
        // Each is told of times of its own; the older word comes later every other time.
        let (first, second) = if ago % 2 == 0 { (&one, &other) } else { (&other, &one) };
        used(first, ago * 100);
        used(second, ago * 100 + 50);
        eventually(|| pod.last().is_some()).await;
    }
    eventually(|| says(&pod, 100)).await;
    pod.written.with(|written| {
        assert!(written.windows(2).all(|two| two[0] < two[1]), "{written:?}");
    });
}

#[tokio::test]
async fn a_server_that_hangs_does_not_keep_a_gateway_that_stops() {
    let (pod, server) = server().await;
    let bench = patient(&server, "30s").await;
    pod.hangs.store(true, Ordering::SeqCst);
    let asked = server.requests();
    used(&bench, 100);
    eventually(|| server.requests() > asked).await;
    let Bench { running, stop, .. } = bench;
    stop.cancel();
    let drained = running.finish(&tokio_util::sync::CancellationToken::new()).await;
    assert_ne!(drained, crate::tasks::Drained::Abandoned);
}
