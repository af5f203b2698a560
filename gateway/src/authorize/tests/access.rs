//! A whole gateway that hears the objects of a namespace: whom they let in, and what holds while the API server is away.

use std::{collections::HashMap, time::Duration};

use tokio::sync::mpsc;

use super::*;

const COLLECTION: &str = "/apis/doorward.dev/v1alpha1/namespaces/team/workspaceaccesses";

/// The API server's side.
#[derive(Default)]
struct Objects {
    down: AtomicBool,
    listed: Mutex<Vec<Value>>,
    /// Where the events of the present watch go.
    watch: Mutex<Option<mpsc::Sender<String>>>,
    /// The conditions that were written, by the path that they were written to.
    written: Mutex<HashMap<String, Value>>,
}

impl Objects {
    fn answer(&self, request: &http::Request<bytes::Bytes>) -> Answer {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if self.down.load(Ordering::SeqCst) {
            return Answer::refused(500, "etcd is away");
        }
        if path == COLLECTION && query.contains("watch=true") {
            let (sender, lines) = mpsc::channel(16);
            *self.watch.lock().unwrap() = Some(sender);
            return Answer::Lines(lines, None);
        }
        if path == COLLECTION {
            let items = self.listed.lock().unwrap().clone();
            return Answer::json(&json!({"metadata": {"resourceVersion": "1"}, "items": items}));
        }
        if path.ends_with("/status") && request.method() == http::Method::PATCH {
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            let conditions = body["status"]["conditions"].clone();
            self.written.lock().unwrap().insert(path.to_owned(), conditions);
            return Answer::json(&body);
        }
        Answer::refused(404, "not here")
    }

    async fn tell(&self, kind: &str, object: &Value) {
        eventually(|| self.watch.lock().unwrap().is_some()).await;
        let sender = self.watch.lock().unwrap().clone().unwrap();
        sender
            .send(json!({"type": kind, "object": object}).to_string())
            .await
            .unwrap();
    }

    fn reason(&self, name: &str) -> String {
        let written = self.written.lock().unwrap();
        let found = written.get(&format!("{COLLECTION}/{name}/status"));
        found
            .map(|all| all[0]["reason"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    }
}

fn object(name: &str, version: u32, change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({
        "subjects": [{"kind": "User", "name": "eve"}], "workspaces": {"names": ["devenv-0", "static-0"]}, "role": "lendable",
    });
    change(&mut spec);
    json!({
        "apiVersion": "doorward.dev/v1alpha1", "kind": "WorkspaceAccess", "spec": spec,
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("uid-{name}"), "generation": version,
            "resourceVersion": version.to_string(),
        },
    })
}

async fn start(listed: Vec<Value>) -> (Bench, Arc<Objects>, FakeServer) {
    let objects = Arc::new(Objects::default());
    *objects.listed.lock().unwrap() = listed;
    let serving = Arc::clone(&objects);
    let server = FakeServer::start(move |request| serving.answer(request)).await;
    let more = "max-age = \"1s\"\n[[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"team\"]\npods = \"app=x\"\n\
                login = \"node\"\nagent-port = 1\n[authorize]\n[[authorize.workspace-access]]\nrule = \"r\"\n";
    let policy = "[[role]]\nname = \"developer\"\ngroups = [\"developers\"]\nworkspaces = [\"devenv-0\", \"static-0\"]\n\
                  allow = [\"shell\"]\n[[role]]\nname = \"lendable\"\ngrantable = true\nworkspaces = [\"*\"]\nallow = [\"exec\"]\n\
                  [[role]]\nname = \"helpdesk\"\ngroups = [\"helpdesk\"]\nworkspaces = [\"*\"]\nallow = []\nmay = [\"explain\"]\n";
    (super::gateway(&server, policy, more).await, objects, server)
}

/// Waits until somebody hears this.
async fn hears(bench: &Bench, user: &str, workspace: &str, expected: (u16, &str)) {
    for _ in 0..2_000 {
        let got = connect(bench, user, &[], workspace).await;
        if (got.0, got.1.as_str()) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is(bench, user, &[], workspace, expected).await;
}

#[tokio::test]
async fn objects_let_in_whom_they_name_where_they_are_and_for_as_long_as_they_are_there() {
    let elsewhere = object("elsewhere", 1, |spec| {
        spec["workspaces"] = json!({"names": ["devenv-9"]})
    });
    let (bench, objects, _server) = start(vec![object("reviewers", 1, |_| {}), elsewhere]).await;
    hears(&bench, "eve", "devenv-0", IN).await;
    is(&bench, "eve", &[], "devenv-1", OUT).await;
    // It is in no namespace, whatever its name is.
    is(&bench, "eve", &[], "static-0", OUT).await;
    is(&bench, "mallory", &[], "devenv-0", OUT).await;
    eventually(|| objects.reason("reviewers") == "Accepted").await;

    let explain = "/v1/explain?workspace=devenv-0&user=mallory";
    let said = bench.get_as(&token(&bench, "zoe", &["helpdesk"]), explain).await.json();
    let line = said["rules"].as_array().unwrap().last().unwrap()["why"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        line.contains("no WorkspaceAccess in force in team") && line.contains("reviewers"),
        "{said}"
    );

    // What is not good is told, and nothing else suffers.
    let bad = object("bad", 2, |spec| spec["role"] = json!("developer"));
    objects.tell("ADDED", &bad).await;
    eventually(|| objects.reason("bad") == "RoleNotGrantable").await;
    is(&bench, "eve", &[], "devenv-0", IN).await;

    let over = object("reviewers", 3, |spec| spec["expires"] = json!("2001-01-01T00:00:00Z"));
    objects.tell("MODIFIED", &over).await;
    hears(&bench, "eve", "devenv-0", OUT).await;
    objects.tell("MODIFIED", &object("reviewers", 4, |_| {})).await;
    hears(&bench, "eve", "devenv-0", IN).await;
    objects.tell("DELETED", &object("reviewers", 5, |_| {})).await;
    hears(&bench, "eve", "devenv-0", OUT).await;
}

#[tokio::test]
async fn what_was_known_decides_while_the_server_is_away_and_then_nothing_but_the_policy() {
    let (bench, objects, _server) = start(vec![object("reviewers", 1, |_| {})]).await;
    hears(&bench, "eve", "devenv-0", IN).await;
    objects.down.store(true, Ordering::SeqCst);
    is(&bench, "eve", &[], "devenv-0", IN).await;
    objects.watch.lock().unwrap().take();
    // Its own watch has ended; the test does not say when that is too long ago.
    hears(&bench, "eve", "devenv-0", (503, "kubernetes-down")).await;
    for workspace in ["devenv-1", "devenv-7", "static-0"] {
        is(&bench, "eve", &[], workspace, (503, "kubernetes-down")).await;
    }
    is(&bench, "bob", &["developers"], "devenv-0", IN).await;
    let list = bench.get_as(&token(&bench, "eve", &[]), "/v1/workspaces").await;
    assert_eq!(list.status(), 503, "{}", list.text);
    objects.down.store(false, Ordering::SeqCst);
    hears(&bench, "eve", "devenv-0", IN).await;
    is(&bench, "eve", &[], "devenv-7", OUT).await;
}
