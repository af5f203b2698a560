//! Tokens that the API server reads: who of them comes in, how often it is asked, and what its silence means.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    kube::{
        connect,
        fake::{Answer, FakeServer},
    },
    oidc::{
        Identities, ShownProof,
        fake::{FakeIssuer, Key, bearer},
    },
    tasks::Tasks,
};

fn settings() -> TokenReview {
    TokenReview {
        audiences: Vec::new(),
        user_prefix: "k:".to_owned(),
        groups_prefix: "g:".to_owned(),
        groups: None,
        service_accounts: BTreeSet::from(["ci/deployer".to_owned()]),
        cache: Duration::ZERO,
        timeout: Duration::from_secs(3),
        per_second: 1000,
    }
}

/// An API server that knows these tokens, until told otherwise.
struct Bench {
    server: FakeServer,
    cluster: ClusterTokens,
    users: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Answers in place of a review.
    instead: Arc<Mutex<Option<(u16, &'static str)>>>,
    /// What was asked.
    asked: Arc<Mutex<Vec<Value>>>,
}

async fn bench(settings: TokenReview) -> Bench {
    let users: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
    let instead: Arc<Mutex<Option<(u16, &'static str)>>> = Arc::default();
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (known, other, log) = (Arc::clone(&users), Arc::clone(&instead), Arc::clone(&asked));
    let server = FakeServer::start(move |request| {
        assert_eq!(request.uri().path(), "/apis/authentication.k8s.io/v1/tokenreviews");
        let spec = serde_json::from_slice::<Value>(request.body()).unwrap()["spec"].clone();
        log.lock().unwrap().push(spec.clone());
        if let Some((code, message)) = *other.lock().unwrap() {
            return match code {
                0 => Answer::Hang,
                code => Answer::refused(code, message),
            };
        }
        let user = known.lock().unwrap().get(spec["token"].as_str().unwrap()).cloned();
        let status = match user {
            Some(user) => json!({ "authenticated": true, "user": user, "audiences": spec["audiences"] }),
            None => json!({ "error": "[invalid bearer token]" }),
        };
        Answer::json(
            &json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
            "spec": spec, "status": status }),
        )
    })
    .await;
    let client = connect(&server.settings()).await.unwrap().client();
    let bench = Bench {
        cluster: ClusterTokens::new(client, &settings),
        server,
        users,
        instead,
        asked,
    };
    bench.knows(
        "alices",
        json!({ "username": "alice", "uid": "u-1", "groups": ["devs", "system:authenticated"],
            "extra": { "scopes.authorization.openshift.io": ["user:full"] } }),
    );
    bench
}

impl Bench {
    fn knows(&self, token: &str, user: Value) {
        self.users.lock().unwrap().insert(token.to_owned(), user);
    }

    fn answers(&self, instead: Option<(u16, &'static str)>) {
        *self.instead.lock().unwrap() = instead;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    async fn code(&self, token: &str) -> &'static str {
        match self.cluster.identify(&bearer(token)).await {
            Ok(_) => "good",
            Err(refusal) => refusal.code().as_str(),
        }
    }
}

fn token(text: &str) -> BearerToken {
    BearerToken::new(text).unwrap()
}

#[tokio::test]
async fn a_person_is_who_the_server_says_without_what_is_its_own() {
    let bench = bench(settings()).await;
    let who = bench.cluster.identify(&bearer("alices")).await.unwrap();
    assert_eq!((who.user(), who.issuer()), ("k:alice", NAME));
    assert_eq!(who.groups().iter().collect::<Vec<_>>(), ["g:devs"]);
    assert!(who.email().is_none() && who.login().is_none());
    // To the server itself they are who it said, and no name of ours.
    let subject = who.person().cluster.unwrap();
    assert_eq!((subject.user(), subject.uid()), ("alice", Some("u-1")));
    assert_eq!(subject.groups(), ["devs", "system:authenticated"]);
    assert_eq!(bench.asked.lock().unwrap()[0], json!({ "token": "alices" }));
    bench.knows("bobs", json!({ "username": "bob", "groups": [""] }));
    let who = bench.cluster.identify(&bearer("bobs")).await.unwrap();
    assert!(who.groups().is_empty(), "{who:?}");
    let named = TokenReview {
        groups: Some(BTreeSet::from(["ops".to_owned()])),
        ..settings()
    };
    let bench = super::tests::bench(named).await;
    let who = bench.cluster.identify(&bearer("alices")).await.unwrap();
    assert!(who.groups().is_empty(), "{who:?}");
}

#[tokio::test]
async fn who_is_not_a_person_does_not_come_in() {
    let bench = bench(settings()).await;
    let scoped =
        |scopes: &[&str]| json!({ "username": "bob", "extra": { "scopes.authorization.openshift.io": scopes } });
    for (user, code) in [
        (json!({ "username": "bob" }), "good"),
        (json!({ "username": "system:serviceaccount:ci:deployer" }), "good"),
        (json!({ "username": "system:serviceaccount:ci:other" }), "token-kind"),
        (json!({ "username": "system:serviceaccount:ci/deployer" }), "token-kind"),
        (
            json!({ "username": "system:serviceaccount:ci:deployer:x" }),
            "token-kind",
        ),
        (json!({ "username": "system:admin" }), "token-kind"),
        (json!({ "username": "system:anonymous" }), "token-kind"),
        (scoped(&["user:full"]), "good"),
        (scoped(&["user:info", "user:full"]), "good"),
        (scoped(&["user:info", "user:check-access"]), "token-kind"),
        (scoped(&[]), "token-kind"),
        (json!({ "username": "" }), "token-claims"),
        (json!({}), "token-claims"),
        (json!({ "username": "b\u{202e}ob" }), "token-claims"),
        (json!({ "username": "b\nob" }), "token-claims"),
        (json!({ "username": "b".repeat(300) }), "token-claims"),
        (json!({ "username": "bob", "groups": ["a\u{0}b"] }), "token-claims"),
        (
            json!({ "username": "bob", "groups": (0..1001).map(|n| n.to_string()).collect::<Vec<_>>() }),
            "token-claims",
        ),
        (
            json!({ "username": "bob", "extra": { "x": ["y".repeat(300_000)] } }),
            "token-claims",
        ),
    ] {
        bench.knows("bobs", user.clone());
        assert_eq!(bench.code("bobs").await, code, "{user}");
    }
    assert_eq!(bench.code("nobodys").await, "token-expired");
}

#[tokio::test]
async fn a_token_must_be_for_an_audience_of_ours_where_we_have_any() {
    let ours = TokenReview {
        audiences: vec!["doorward".to_owned()],
        ..settings()
    };
    let bench = bench(ours).await;
    assert_eq!(bench.code("alices").await, "good");
    assert_eq!(bench.asked.lock().unwrap()[0]["audiences"], json!(["doorward"]));
}

#[tokio::test]
async fn an_answer_serves_for_a_while_and_one_question_all_who_wait() {
    let bench = bench(TokenReview {
        cache: Duration::from_secs(10),
        ..settings()
    })
    .await;
    let all = (0..50).map(|_| bench.code("alices"));
    let codes = futures_util::future::join_all(all).await;
    assert!(codes.iter().all(|code| *code == "good"), "{codes:?}");
    assert_eq!(bench.asked(), 1);
    assert_eq!(bench.code("nobodys").await, "token-expired");
    assert_eq!(bench.code("nobodys").await, "token-expired");
    assert_eq!(bench.asked(), 2);
    // A second look asks, and what it hears is what the next one hears.
    let who = bench.cluster.identify(&bearer("alices")).await.unwrap();
    bench.users.lock().unwrap().clear();
    let again = bench.cluster.recheck(&who, &token("alices")).await;
    assert!(matches!(again, Recheck::Over(_)), "{again:?}");
    assert_eq!(bench.code("alices").await, "token-expired");
    assert_eq!(bench.asked(), 3);
    assert_eq!(bench.cluster.reviews.kept(), (2, 0, 0));
}

#[tokio::test]
async fn a_flood_of_nonsense_is_none_at_the_server_and_keeps_nobody_out() {
    let bench = bench(TokenReview {
        per_second: 5,
        timeout: Duration::from_millis(400),
        ..settings()
    })
    .await;
    assert_eq!(bench.code("alices").await, "good");
    let mut shown: Vec<_> = (0..200).map(|n| bearer(&format!("nonsense-{n}"))).collect();
    shown.push(bearer("alices"));
    let all = shown.iter().map(|shown| bench.cluster.identify(shown));
    let mut answers = futures_util::future::join_all(all).await;
    // Who was good before is asked about all the same.
    assert_eq!(answers.pop().unwrap().unwrap().user(), "k:alice");
    let busy = |refusal: &&Refusal| refusal.code() == RefusalCode::Overloaded && refusal.retry_after().is_some();
    assert!(answers.iter().filter_map(|one| one.as_ref().err()).filter(busy).count() > 150);
    assert!(bench.asked() < 50, "{}", bench.asked());
    let (known, good, under_way) = bench.cluster.reviews.kept();
    assert!(known < 50 && good == 1 && under_way == 0, "{known} {good} {under_way}");
}

#[tokio::test]
async fn a_flood_from_one_address_leaves_turns_for_newcomers_elsewhere() {
    let bench = bench(TokenReview {
        per_second: 5,
        timeout: Duration::from_secs(4),
        ..settings()
    })
    .await;
    let [flooding, elsewhere] = [1, 2].map(|last| std::net::IpAddr::from([192, 0, 2, last]));
    let mut shown: Vec<_> = (0..200)
        .map(|n| bearer(&format!("nonsense-{n}")).from(flooding))
        .collect();
    shown.push(bearer("alices").from(elsewhere));
    let all = shown.iter().map(|shown| bench.cluster.identify(shown));
    let mut answers = futures_util::future::join_all(all).await;
    assert_eq!(answers.pop().unwrap().unwrap().user(), "k:alice");
    let asked = bench.asked();
    assert!(asked < 20, "{asked}");
}

#[tokio::test]
async fn who_goes_away_leaves_nothing_behind() {
    let bench = bench(settings()).await;
    bench.answers(Some((0, "")));
    let shown = bearer("alices");
    let waits = bench.cluster.identify(&shown);
    let mut waits = Box::pin(waits);
    while bench.asked() == 0 {
        let moment = tokio::time::timeout(Duration::from_millis(5), &mut waits).await;
        assert!(moment.is_err());
    }
    assert_eq!(bench.cluster.reviews.kept().2, 1);
    drop(waits);
    assert_eq!(bench.cluster.reviews.kept().2, 0);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_opens_nothing_and_ends_nothing() {
    let bench = bench(TokenReview {
        timeout: Duration::from_millis(500),
        ..settings()
    })
    .await;
    let who = bench.cluster.identify(&bearer("alices")).await.unwrap();
    assert!(bench.cluster.ready().is_ok());
    for (code, message, expected) in [
        (0, "", "kube-hanging"),
        (500, "etcd", "kube-refused"),
        (403, "tokenreviews is forbidden", "kube-forbidden"),
        (401, "Unauthorized", "kube-unauthorised"),
    ] {
        bench.answers(Some((code, message)));
        let refusal = bench.cluster.identify(&bearer("alices")).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::KubernetesDown, "{code}");
        assert!(refusal.text().contains(expected), "{refusal}");
        assert!(!refusal.to_string().contains("alices"), "{refusal}");
        assert!(bench.cluster.ready().unwrap_err().contains(expected));
        assert!(bench.cluster.reach().await.unwrap_err().contains(expected));
        let again = bench.cluster.recheck(&who, &token("alices")).await;
        assert!(
            matches!(&again, Recheck::Unknown(why) if why.contains(expected)),
            "{again:?}"
        );
    }
    // Where nobody is sent any more because of that, nobody would ask again.
    bench.cluster.reviews.age_trouble(Duration::from_secs(15));
    assert!(bench.cluster.ready().is_ok());
    bench.answers(None);
    let again = bench.cluster.recheck(&who, &token("alices")).await;
    assert!(matches!(again, Recheck::Good(_)), "{again:?}");
    assert!(bench.cluster.ready().is_ok() && bench.cluster.reach().await.is_ok());
    // The same name, and another person: deleted, and made again.
    bench.knows("alices", json!({ "username": "alice", "uid": "u-2" }));
    let again = bench.cluster.recheck(&who, &token("alices")).await;
    assert!(matches!(again, Recheck::Over(_)), "{again:?}");
}

#[tokio::test]
async fn a_token_of_an_issuer_is_the_issuers_to_judge_and_every_other_the_clusters() {
    let bench = bench(settings()).await;
    let key = Key::new("one", Algorithm::ES256);
    let issuer = FakeIssuer::start(&[&key]).await;
    let tasks = Tasks::new(CancellationToken::new());
    let identities = Identities::start(&[issuer.settings()], Duration::from_secs(1), &tasks).unwrap();
    let identities = identities.with_cluster(Some(bench.cluster));
    assert_eq!(
        identities.identify(&key.token(&issuer.claims())).await.unwrap().user(),
        "bob"
    );
    let stranger = Key::new("one", Algorithm::ES256);
    let forged = identities
        .identify(&stranger.token(&issuer.claims()))
        .await
        .unwrap_err();
    assert_eq!(forged.code(), RefusalCode::TokenUntrusted);
    assert_eq!(
        bench.server.requests(),
        0,
        "the cluster was asked about an issuer's token"
    );
    let mut foreign = issuer.claims();
    foreign["iss"] = json!("https://kubernetes.default.svc");
    let foreign = key.token(&foreign);
    assert_eq!(
        identities.identify(&foreign).await.unwrap_err().code(),
        RefusalCode::TokenExpired
    );
    assert_eq!(identities.identify(&bearer("alices")).await.unwrap().user(), "k:alice");
    assert_eq!(bench.server.requests(), 2);
    let proof = ShownProof {
        jwt: token("a.b.c"),
        method: "GET".to_owned(),
        host: "gw".to_owned(),
        path: "/".to_owned(),
    };
    let bound = Presented::with_proof(token("alices"), proof);
    assert_eq!(
        identities.identify(&bound).await.unwrap_err().code(),
        RefusalCode::ProofInvalid
    );
    // The cluster logs nobody out by such tokens.
    assert!(identities.log_out(&token("alices")).await.is_err());
    assert_eq!(identities.cluster_ready(), Some(Ok(())));
    assert!(identities.introspects(NAME) && !identities.introspects(&issuer.url));
    assert_eq!(bench.server.requests(), 2);
    tasks.closing().cancel();
}
