//! A server that forgets, hangs, throttles and talks nonsense. What a real one does is tested on a real one.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::*;
use crate::kube::{
    connect,
    fake::{Answer, FakeServer},
};
use crate::testing::eventually;

/// A server with two scripts: what lists of pods answer, and what watches of them do. The last one is for ever.
struct Scripted {
    server: FakeServer,
    lists: Script,
    watches: Script,
    directory: Directory,
    discovery: Discovery,
    stop: CancellationToken,
    _following: tokio::task::JoinSet<()>,
}

type Step = Box<dyn Fn() -> Answer + Send>;
type Script = Arc<Guarded<VecDeque<Step>>>;

fn next(script: &Script) -> Answer {
    script.with(|steps| match steps.len() {
        0 => Answer::Hang,
        1 => steps[0](),
        _ => steps.pop_front().unwrap()(),
    })
}

fn page(version: &str, pods: &[&str]) -> Answer {
    let pods: Vec<Value> = pods.iter().map(|uid| bare(uid)).collect();
    Answer::json(&json!({ "kind": "PodList", "metadata": { "resourceVersion": version }, "items": pods }))
}

/// A pod `a` with this uid that runs.
fn bare(uid: &str) -> Value {
    json!({
        "metadata": { "name": "a", "namespace": "devenv", "uid": uid, "resourceVersion": "9" },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// A watch that says these lines and then nothing more.
fn lines(all: Vec<Value>) -> Answer {
    let (tell, told) = said(all);
    Answer::Lines(told, Some(tell))
}

/// A watch that says these lines and is closed.
fn closed(all: Vec<Value>) -> Answer {
    let (_, told) = said(all);
    Answer::Lines(told, None)
}

fn said(all: Vec<Value>) -> (mpsc::Sender<String>, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel(64);
    for line in all {
        tell.try_send(line.to_string()).unwrap();
    }
    (tell, told)
}

async fn scripted(lists: Vec<Step>, watches: Vec<Step>, max_age: Duration) -> Scripted {
    let (lists, watches): (Script, Script) = (
        Arc::new(Guarded::new(lists.into())),
        Arc::new(Guarded::new(watches.into())),
    );
    let (list, watch) = (Arc::clone(&lists), Arc::clone(&watches));
    let server = FakeServer::start(move |request| match request.uri().query() {
        None | Some("") => Answer::json(&json!({
            "major": "1", "minor": "34", "gitVersion": "v1", "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "",
        })),
        Some(query) if query.contains("watch=true") => next(&watch),
        Some(_) => next(&list),
    })
    .await;
    let rule = Rule {
        owner_kind: None,
        ..rule()
    };
    let client = connect(&server.settings()).await.unwrap().client();
    let discovery = Discovery::new(client, &[rule], max_age);
    let (directory, stop) = (Directory::default(), CancellationToken::new());
    let mut following = tokio::task::JoinSet::new();
    following.spawn(discovery.clone().run(directory.clone(), stop.clone()));
    Scripted {
        server,
        lists,
        watches,
        directory,
        discovery,
        stop,
        _following: following,
    }
}

impl Scripted {
    fn uid(&self) -> Option<String> {
        let one = self.directory.list().first()?.life.clone()?;
        Some(one.uid.to_string())
    }

    async fn has(&self, uid: Option<&str>) {
        eventually(|| self.uid().as_deref() == uid).await;
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn gone() -> Value {
    json!({ "type": "ERROR", "object": { "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410 } })
}

#[tokio::test]
async fn a_watch_that_is_too_old_has_everything_listed_anew_and_what_vanished_is_noticed() {
    type Made = fn() -> Answer;
    let answers: [Made; 2] = [|| closed(vec![gone()]), || Answer::refused(410, "too old")];
    for answer in answers {
        let lists: Vec<Step> = vec![Box::new(|| page("1", &["u1"])), Box::new(|| page("2", &["u2"]))];
        let watches: Vec<Step> = vec![Box::new(answer), Box::new(|| lines(vec![]))];
        let scripted = scripted(lists, watches, LONG).await;
        scripted.has(Some("u2")).await;
        scripted.stop.cancel();
    }
    let lists: Vec<Step> = vec![Box::new(|| page("1", &["u1"])), Box::new(|| page("2", &[]))];
    let (tell, told) = mpsc::channel(1);
    let told = Guarded::new(Some(told));
    let first = move || {
        told.with(Option::take)
            .map_or(Answer::Hang, |told| Answer::Lines(told, None))
    };
    let scripted = scripted(lists, vec![Box::new(first), Box::new(|| lines(vec![]))], LONG).await;
    scripted.has(Some("u1")).await;
    tell.send(gone().to_string()).await.unwrap();
    scripted.has(None).await;
}

#[tokio::test]
async fn changes_come_through_watches_that_close_break_and_talk_nonsense() {
    let event = |kind: &str, uid: &str| json!({ "type": kind, "object": bare(uid) });
    let bookmark = json!({ "type": "BOOKMARK", "object": { "kind": "Pod", "apiVersion": "v1", "metadata": { "resourceVersion": "8" } } });
    let watches: Vec<Step> = vec![
        Box::new({
            let (mark, added) = (bookmark.clone(), event("ADDED", "u1"));
            move || closed(vec![mark.clone(), added.clone()])
        }),
        Box::new(|| Answer::Text(200, "<html>nothing of the kind</html>\n".to_owned())),
        Box::new(|| Answer::refused(429, "slow down")),
        Box::new(|| Answer::refused(500, "etcd")),
        Box::new(|| Answer::Hang),
        Box::new({
            let (old, new) = (event("DELETED", "u1"), event("ADDED", "u2"));
            move || lines(vec![old.clone(), new.clone()])
        }),
    ];
    let scripted = scripted(vec![Box::new(|| page("1", &[]))], watches, LONG).await;
    scripted.has(Some("u1")).await;
    scripted.has(Some("u2")).await;
    assert_eq!(scripted.lists.with(|steps| steps.len()), 1);
    assert_eq!(scripted.watches.with(|steps| steps.len()), 1, "each was met");
    assert_eq!(
        scripted.discovery.current(),
        Ok(()),
        "and it says that it is well again"
    );
}

#[tokio::test]
async fn a_missing_permission_is_told_and_what_was_known_serves_until_it_is_too_old() {
    let said = "pods is forbidden: User \"gateway\" cannot watch resource \"pods\" in the namespace \"devenv\"";
    let watches: Vec<Step> = vec![Box::new(move || Answer::refused(403, said))];
    let lists: Vec<Step> = vec![Box::new(|| page("1", &["u1"]))];
    let scripted = scripted(lists, watches, Duration::from_millis(1500)).await;
    scripted.has(Some("u1")).await;
    eventually(|| {
        scripted
            .discovery
            .current()
            .is_err_and(|why| why.contains(said) && why.contains("behind since"))
    })
    .await;
    assert_eq!(
        scripted.discovery.ready(),
        Ok(()),
        "the server is there, and people are served"
    );
    let state = || scripted.directory.list()[0].state.clone();
    assert_eq!(state(), State::Running);
    eventually(|| matches!(state(), State::Failed(_))).await;
    assert_eq!(scripted.uid().as_deref(), Some("u1"), "who is inside stays");
    scripted
        .watches
        .with(|steps| *steps = VecDeque::from([Box::new(|| lines(vec![])) as Step]));
    eventually(|| state() == State::Running).await;
    assert_eq!(scripted.discovery.current(), Ok(()));
}

#[tokio::test]
async fn nothing_is_served_before_everything_was_listed_once() {
    let lists: Vec<Step> = vec![
        Box::new(|| Answer::refused(503, "not yet")),
        Box::new(|| page("1", &["u1"])),
    ];
    let scripted = scripted(lists, vec![Box::new(|| lines(vec![]))], LONG).await;
    assert!(scripted.discovery.ready().is_err());
    scripted.has(Some("u1")).await;
    eventually(|| scripted.discovery.ready().is_ok()).await;
    assert!(scripted.server.requests() >= 3);
}

#[tokio::test]
async fn heartbeats_and_versions_change_nothing() {
    let (tell, told) = mpsc::channel(1024);
    let told = Guarded::new(Some(told));
    let watches: Vec<Step> = vec![Box::new(move || {
        told.with(Option::take)
            .map_or(Answer::Hang, |told| Answer::Lines(told, None))
    })];
    let scripted = scripted(vec![Box::new(|| page("1", &["u1"]))], watches, LONG).await;
    scripted.has(Some("u1")).await;
    let before = scripted.directory.list();
    let mut changes = scripted.directory.changes();
    changes.mark_unchanged();
    for version in 0..1000 {
        let mut pod = bare("u1");
        pod["metadata"]["resourceVersion"] = json!(version.to_string());
        pod["status"]["conditions"][0]["lastProbeTime"] = json!(version.to_string());
        pod["metadata"]["annotations"] = json!({ "someone.else/heartbeat": version.to_string() });
        tell.send(json!({ "type": "MODIFIED", "object": pod }).to_string())
            .await
            .unwrap();
    }
    tell.send(json!({ "type": "DELETED", "object": bare("u1") }).to_string())
        .await
        .unwrap();
    scripted.has(None).await;
    assert_eq!(before.len(), 1);
    assert_eq!(*changes.borrow_and_update(), 2, "listed, and deleted");
}
