//! What Kubernetes RBAC says later of somebody who is in.

use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;

use super::dismissed::{ending, open};
use super::*;
use crate::kube::fake::{Answer, FakeServer};
use crate::workspace::{Place, Source, Workspace};

const YES: u8 = 0;
const NO: u8 = 1;
const AWAY: u8 = 2;

#[tokio::test]
async fn an_outage_ends_nothing_and_a_no_ends_the_session_at_the_next_look() {
    let says = Arc::new(AtomicU8::new(YES));
    let said = Arc::clone(&says);
    let server = FakeServer::start(move |request| {
        if !request.uri().path().ends_with("/subjectaccessreviews") {
            return Answer::refused(404, "not here");
        }
        match said.load(Ordering::SeqCst) {
            AWAY => Answer::refused(503, "not now"),
            word => Answer::json(
                &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "metadata": {}, "spec": {}, "status": {"allowed": word == YES}}),
            ),
        }
    })
    .await;
    let more = format!(
        "[session]\nrecheck-interval = \"20ms\"\n[kubernetes]\nserver = \"{}\"\nservice-account = \"{}\"\n\
         [[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"team\"]\npods = \"app=x\"\nlogin = \"node\"\nagent-port = 1\n\
         [authorize]\n[[authorize.rbac]]\nrule = \"r\"\nrequire = \"both\"\nverb = \"create\"\nresource = \"pods\"\n",
        server.url(),
        server.folder.path().display()
    );
    let (bench, mut agent) = with_agent(Manner::default(), "", &more).await;
    let directory = &bench.running.gateway().workspaces;
    let placed = directory.list().into_iter().map(|one| Workspace {
        place: Some(Place {
            namespace: "team".to_owned(),
            rule: "r".to_owned(),
            ..Place::default()
        }),
        ..Workspace::clone(&one)
    });
    directory.replace(Source::Configuration, placed.collect());
    let session = open(&bench, &mut agent).await;
    let gateway = Arc::clone(bench.running.gateway());
    let look = async |least: usize| {
        let looks = crate::recheck::looks();
        eventually(|| crate::recheck::looks() > looks + least).await;
    };
    says.store(AWAY, Ordering::SeqCst);
    let asked = server.requests();
    eventually(|| server.requests() > asked + 3).await;
    look(3).await;
    assert_eq!(gateway.sessions.dismissal(session.session), None, "an outage ended it");
    says.store(YES, Ordering::SeqCst);
    let asked = server.requests();
    eventually(|| server.requests() > asked + 3).await;
    look(3).await;
    assert_eq!(gateway.sessions.dismissal(session.session), None);
    says.store(NO, Ordering::SeqCst);
    let (code, text) = ending(session).await;
    assert_eq!(code, "revoked");
    assert!(text.contains("you may no longer enter this workspace"), "{text}");
    assert_eq!(refused(&bench).await, (403, "denied".to_owned()));
    drop(gateway);
    let events = journal(stop(bench).await.path());
    let suspended: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::RecheckSuspended(said) => Some((said.issuer.as_str(), said.why.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(suspended.len(), 1, "{suspended:?}");
    assert_eq!(suspended[0].0, "kubernetes");
    assert!(suspended[0].1.contains("kube-refused"), "{suspended:?}");
}
