//! Agents in pods, which prove by a token of their service account which one they are in.

use super::*;

/// A gateway that knows devenv-0 as a pod, and an API server that answers this about any token.
async fn pod_links(rig: &Rig, address: &str, status: serde_json::Value) -> (Links, FakeServer) {
    let answer = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status,
    });
    let server = FakeServer::start(move |_| Answer::json(&answer)).await;
    let cluster = crate::kube::connect(&server.settings()).await.unwrap();
    let reviewer = Reviewer::new(cluster.client(), "doorward".to_owned());
    let links = Links::new(
        Arc::clone(&rig.authority),
        Arc::clone(&rig.credential),
        Enrolments::open(rig.dir.path()).unwrap().with_reviewer(Some(reviewer)),
        rig.store.clone(),
        rig.journal.clone(),
        Usage::default(),
    );
    let enrolment = Enrolment::ServiceAccount {
        namespace: "team-a".into(),
        pod: "devenv-0".into(),
        uid: "uid-0".into(),
    };
    links.keep_to([Target {
        name: name(),
        life: Life {
            uid: uid(),
            address: address.to_owned(),
            enrolment,
        },
    }]);
    (links, server)
}

fn bound(namespace: &str, pod: &str, pod_uid: &str) -> serde_json::Value {
    let extra = serde_json::json!({
        "authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [pod_uid],
    });
    serde_json::json!({
        "authenticated": true, "audiences": ["doorward"],
        "user": {"username": format!("system:serviceaccount:{namespace}:default"), "extra": extra},
    })
}

#[tokio::test]
async fn a_pod_is_enrolled_by_its_own_token_and_again_by_that_alone() {
    let rig = Rig::new().await;
    let agent = FakeAgent::start(Manner {
        pod_token: Some("the.pods.token".into()),
        renew: true,
        ..Manner::default()
    })
    .await;
    let (links, server) = pod_links(&rig, &agent.address, bound("team-a", "devenv-0", "uid-0")).await;
    until("the link is up", || is_up(&links)).await;
    // At the greeting, and for the renewal that it asks for at once.
    until("the token was reviewed twice", || server.requests() == 2).await;
    until("the agent has its certificate", || {
        agent.manner.certificate.with(|own| own.is_some())
    })
    .await;
    let certificate = agent.manner.certificate.with(|own| own.clone()).unwrap();
    let trusted = rig.authority.host_ca().await.unwrap();
    let key = agent.manner.key.public_bytes();
    let verified = verify_host(&certificate, &trusted, key, &name(), &uid(), SystemTime::now()).unwrap();
    let left = verified.valid_before().duration_since(SystemTime::now()).unwrap();
    assert!(left <= handshake::POD_LIFE, "{left:?}");
    links.close().await;
}

#[tokio::test]
async fn what_proves_another_pod_or_nothing_enrols_nobody_and_is_on_record() {
    let pod = || Some("the.pods.token".to_owned());
    let cases = [
        (pod(), bound("team-b", "devenv-0", "uid-0"), "enrol-other-pod"),
        (pod(), bound("team-a", "devenv-1", "uid-0"), "enrol-other-pod"),
        (pod(), bound("team-a", "devenv-0", "uid-before"), "enrol-other-pod"),
        (
            pod(),
            serde_json::json!({"authenticated": false}),
            "enrol-token-refused",
        ),
        (None, bound("team-a", "devenv-0", "uid-0"), "enrol-no-pod-token"),
    ];
    for (pod_token, status, code) in cases {
        let rig = Rig::new().await;
        // A join token is no way in for a pod.
        let manner = Manner {
            token: Some(TOKEN.into()),
            pod_token,
            ..Manner::default()
        };
        let agent = FakeAgent::start(manner).await;
        let (links, _server) = pod_links(&rig, &agent.address, status).await;
        let reason = down(&links).await;
        assert!(agent.manner.certificate.with(|own| own.is_none()), "{reason}");
        links.close().await;
        let events = until_refused(&rig, code).await;
        assert!(!format!("{events:?} {reason}").contains("the.pods.token"));
    }
}

#[tokio::test]
async fn a_good_certificate_needs_no_api_server_and_renews_nothing_without_the_token() {
    let rig = Rig::new().await;
    // Past half its life, and asking for more.
    let manner = Manner {
        renew: true,
        ..known(&rig, Duration::from_secs(3600)).await
    };
    let old = manner.certificate.with(|own| own.clone());
    let agent = FakeAgent::start(manner).await;
    let (links, server) = pod_links(&rig, &agent.address, bound("team-a", "devenv-0", "uid-0")).await;
    until("the link is up", || is_up(&links)).await;
    until_refused(&rig, "enrol-no-pod-token").await;
    assert!(is_up(&links));
    assert_eq!(agent.manner.certificate.with(|own| own.clone()), old);
    assert_eq!(server.requests(), 0);
    links.close().await;
}

/// Waits until an enrolment that was refused for this reason is on record; the whole record.
async fn until_refused(rig: &Rig, code: &str) -> Vec<Event> {
    let found = |event: &Event| {
        matches!(event, Event::EnrolRefused(refused)
            if (refused.code.as_str(), refused.workspace.as_str(), refused.uid.as_str()) == (code, "devenv-0", "uid-0"))
    };
    until(code, || recorded(rig).iter().any(found)).await;
    recorded(rig)
}
