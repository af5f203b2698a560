//! Answers of an API server, good and bad. What a real one answers is tested on a real one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::kube::{
    connect,
    fake::{Answer, FakeServer},
};

fn token(claims: &Value) -> Token {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    Token::new(&format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims)))
}

fn good() -> Token {
    token(&json!({"aud": ["doorward"], "exp": 9_999_999_999_u64, "kubernetes.io": {"pod": {"name": "p"}}}))
}

fn yes() -> Value {
    json!({
        "authenticated": true, "audiences": ["doorward"],
        "user": {
            "username": "system:serviceaccount:team-a:devenv", "uid": "sa-uid", "groups": ["system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["devenv-0"],
                "authentication.kubernetes.io/pod-uid": ["pod-uid"],
            },
        },
    })
}

fn review(status: &Value) -> Answer {
    Answer::json(&json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status,
    }))
}

async fn asked(token: &Token, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Result<BoundPod, ReviewError> {
    let server = FakeServer::start(move |_| answer()).await;
    let cluster = connect(&server.settings()).await.unwrap();
    let reviewed = Reviewer::new(cluster.client(), "doorward".to_owned()).pod(token).await;
    assert_eq!(server.requests(), 1, "one question for one attempt");
    reviewed
}

#[tokio::test]
async fn the_pod_is_the_one_that_the_server_names() {
    let pod = asked(&good(), || review(&yes())).await.unwrap();
    assert!(pod.is("team-a", "devenv-0", "pod-uid"));
    for (namespace, name, uid) in [
        ("team-b", "devenv-0", "pod-uid"),
        ("team-a", "devenv-1", "pod-uid"),
        ("team-a", "devenv-0", "another-uid"),
    ] {
        assert!(!pod.is(namespace, name, uid));
    }
}

#[tokio::test]
async fn an_answer_that_lacks_anything_proves_nothing() {
    type Spoil = fn(&mut Value);
    let cases: [(Spoil, &str); 9] = [
        (|status| status["audiences"] = json!([]), "enrol-token-audience"),
        (|status| status["audiences"] = json!(null), "enrol-token-audience"),
        (
            |status| status["audiences"] = json!(["doorward-2"]),
            "enrol-token-audience",
        ),
        (|status| status["authenticated"] = json!(false), "enrol-token-refused"),
        (|status| status["authenticated"] = json!(null), "enrol-token-refused"),
        (
            |status| status["user"] = json!({"username": "alice"}),
            "enrol-token-no-service-account",
        ),
        (|status| status["user"]["extra"] = json!({}), "enrol-token-unbound"),
        (
            |status| status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] = json!(["a", "b"]),
            "enrol-token-unbound",
        ),
        (
            |status| status["user"]["extra"]["authentication.kubernetes.io/pod-name"] = json!([""]),
            "enrol-token-unbound",
        ),
    ];
    for (spoil, code) in cases {
        let mut status = yes();
        spoil(&mut status);
        let shown = status.to_string();
        let refused = asked(&good(), move || review(&status)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{shown}");
    }
    let refused = asked(&good(), || review(&json!(null))).await.unwrap_err();
    assert_eq!(refused.code(), "enrol-token-refused");
}

#[tokio::test]
async fn why_a_token_is_refused_is_told_apart() {
    let pod = json!({"pod": {"name": "p"}});
    for (token, said, code) in [
        (
            token(&json!({"aud": "other", "exp": 1, "kubernetes.io": pod})),
            "no",
            "enrol-token-audience",
        ),
        (
            token(&json!({"aud": "doorward", "exp": 1, "kubernetes.io": pod})),
            "no",
            "enrol-token-expired",
        ),
        (
            token(&json!({"aud": ["doorward"], "kubernetes.io": {}})),
            "no",
            "enrol-token-unbound",
        ),
        (good(), "service account token has been invalidated", "enrol-token-gone"),
        (
            good(),
            "pod UID (a) does not match service account pod ref claim (b)",
            "enrol-token-gone",
        ),
        (good(), "\u{1b}[31mno", "enrol-token-refused"),
        (Token::new("opaque"), "no", "enrol-token-refused"),
        (Token::new("a.%%%.c"), "no", "enrol-token-refused"),
        (Token::new("a.b.c.d"), "no", "enrol-token-refused"),
    ] {
        let status = json!({"authenticated": false, "error": said});
        let refused = asked(&token, move || review(&status)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{token:?} {said}");
        let text = format!("{refused} {refused:?}");
        assert!(!text.contains('\u{1b}') && !text.contains(token.reveal()), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_in_trouble_is_named_and_left_alone() {
    type Trouble = (fn() -> Answer, &'static str);
    let cases: [Trouble; 5] = [
        (|| Answer::Hang, "kube-hanging"),
        (|| Answer::HalfBody, "kube-hanging"),
        (|| Answer::refused(403, "may not"), "kube-forbidden"),
        (|| Answer::refused(500, "etcd"), "kube-refused"),
        (|| Answer::Text(200, "<html>".to_owned()), "kube-garbage"),
    ];
    for (answer, code) in cases {
        assert_eq!(asked(&good(), answer).await.unwrap_err().code(), code);
    }
    let server = FakeServer::start(|_| Answer::refused(429, "too many")).await;
    let cluster = connect(&server.settings()).await.unwrap();
    let reviewer = Reviewer::new(cluster.client(), "doorward".to_owned());
    assert_eq!(reviewer.pod(&good()).await.unwrap_err().code(), "kube-throttled");
    assert!(
        reviewer.ask.rests(Duration::from_secs(3600)),
        "the server is to be left alone"
    );
    let before = server.requests();
    assert_eq!(reviewer.pod(&good()).await.unwrap_err().code(), "kube-throttled");
    assert_eq!(server.requests(), before);
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_there_are_places() {
    let server = FakeServer::start(|_| Answer::Hang).await;
    let cluster = connect(&server.settings()).await.unwrap();
    let reviewer = Reviewer::new(cluster.client(), "doorward".to_owned());
    let places = reviewer
        .ask
        .places()
        .acquire_many(u32::try_from(AT_ONCE).unwrap())
        .await
        .unwrap();
    assert_eq!(reviewer.pod(&good()).await.unwrap_err().code(), "enrol-busy");
    assert_eq!(server.requests(), 0);
    drop(places);
    assert_eq!(reviewer.pod(&good()).await.unwrap_err().code(), "kube-hanging");
}
