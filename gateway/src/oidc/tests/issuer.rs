//! The issuer: its keys rotate, it goes away, it hangs, it says what it should not.

use serde_json::json;

use super::{super::fake::Answer, *};

/// B3: an unknown key id asks the issuer at most once per cool-down, however many ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_key_ids_share_one_fetch() {
    let bench = bench(|settings| settings.keys_cool_down = Duration::from_millis(300)).await;
    tokio::time::sleep(Duration::from_millis(310)).await;
    let before = bench.issuer.fetched();
    let foreign = Key::new("foreign", Algorithm::ES256);
    let hostile = ["../../dev/null", "http://127.0.0.1:1/", "' OR 1=1 --", "%00", "\u{0}"];
    let checks = (0..1000).map(|number| {
        let mut header = foreign.header();
        header["kid"] = match hostile.get(number) {
            Some(id) => json!(id),
            None => json!(format!("unknown-{number}")),
        };
        let token = bearer(&foreign.sign(&header.to_string(), &bench.issuer.claims().to_string()));
        let identities = Arc::clone(&bench.identities);
        async move { identities.identify(&token).await.unwrap_err().code() }
    });
    let begun = std::time::Instant::now();
    let codes = futures_util::future::join_all(checks).await;
    let took = begun.elapsed();
    assert!(
        codes.iter().all(|code| *code == RefusalCode::TokenUntrusted),
        "{codes:?}"
    );
    let allowed = 1 + usize::try_from(took.as_millis() / 300).unwrap();
    let fetched = bench.issuer.fetched() - before;
    assert!((1..=allowed).contains(&fetched), "{fetched} fetches in {took:?}");
    assert_eq!(bench.with(|_| {}).await, "good");
}

/// B10: a new key is found when it is met, a withdrawn one is believed no longer than until the next fetch.
#[tokio::test]
async fn keys_rotate() {
    let bench = bench(|settings| {
        settings.keys_cool_down = Duration::from_millis(20);
        settings.keys_refresh = Duration::from_millis(50);
    })
    .await;
    let newer = Key::new("newer", Algorithm::ES256);
    bench.issuer.publish(&[&bench.key, &newer]);
    let token = newer.token(&bench.issuer.claims());
    let begun = std::time::Instant::now();
    while bench.code(&token).await != "good" {
        assert!(begun.elapsed() < Duration::from_secs(10), "the new key was never found");
    }
    bench.issuer.publish(&[&newer]);
    let begun = std::time::Instant::now();
    while bench.with(|_| {}).await == "good" {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the withdrawn key is still believed"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.with(|_| {}).await, "token-untrusted");
}

/// B10: while the issuer cannot be asked, known keys are believed, up to their limit; then nothing is.
#[tokio::test]
async fn an_outage_is_survived_up_to_a_limit() {
    let bad = [
        Answer::Status(500),
        Answer::Text("{\"keys\":[]}".to_owned()),
        Answer::Text("<html>".to_owned()),
        Answer::Text(format!("{{\"keys\":[],\"pad\":\"{}\"}}", "x".repeat(300 * 1024))),
        Answer::Redirect,
    ];
    let survived = bad.map(|answer| async move {
        let bench = bench(|settings| {
            settings.keys_refresh = Duration::from_millis(10);
            settings.keys_max_age = Duration::from_secs(4);
        })
        .await;
        bench.issuer.keys_answer(answer.clone());
        let before = bench.issuer.fetched();
        eventually(|| bench.issuer.fetched() > before + 1).await;
        assert_eq!(bench.with(|_| {}).await, "good", "{answer:?}");
        eventually(|| bench.identities.ready().is_err()).await;
        assert_eq!(bench.with(|_| {}).await, "identity-provider-down", "{answer:?}");
        bench.issuer.keys_answer(Answer::Good);
        eventually(|| bench.identities.ready().is_ok()).await;
        assert_eq!(bench.with(|_| {}).await, "good", "{answer:?}");
        assert_eq!(bench.issuer.elsewhere(), 0, "a redirect was followed");
    });
    futures_util::future::join_all(survived).await;
}

#[tokio::test]
async fn an_issuer_that_hangs_stalls_nobody_whose_key_is_known() {
    let bench = bench(|settings| {
        settings.keys_cool_down = Duration::from_millis(10);
        settings.keys_refresh = Duration::from_millis(10);
    })
    .await;
    bench.issuer.keys_answer(Answer::Never);
    let before = bench.issuer.fetched();
    eventually(|| bench.issuer.fetched() > before).await;
    let begun = std::time::Instant::now();
    assert_eq!(bench.with(|_| {}).await, "good");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn an_issuer_that_comes_late_is_found() {
    let key = Key::new("one", Algorithm::ES256);
    let issuer = FakeIssuer::absent(&[&key]).await;
    let (identities, _stop) = check_of(&issuer, |_| {}).await;
    let token = key.token(&issuer.claims());
    let refusal = identities.identify(&token).await.unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::IdentityProviderDown);
    assert!(refusal.text().contains("identity provider"), "{refusal}");
    assert!(identities.ready().unwrap_err().contains("cannot be asked"));
    issuer.appear().await;
    eventually(|| identities.ready().is_ok()).await;
    assert!(identities.identify(&token).await.is_ok());
    issuer.vanish();
    assert!(identities.identify(&token).await.is_ok());
}

/// B6: a discovery document of somebody else, or one that points elsewhere, is not believed.
#[tokio::test]
async fn discovery_is_checked() {
    let key = Key::new("one", Algorithm::ES256);
    let issuer = FakeIssuer::absent(&[&key]).await;
    let keys = format!("{}/keys", issuer.url);
    for (document, said) in [
        (
            json!({ "issuer": format!("{}/", issuer.url), "jwks_uri": keys }),
            "of the issuer",
        ),
        (
            json!({ "issuer": issuer.url.replace("one", "two"), "jwks_uri": keys }),
            "of the issuer",
        ),
        (
            json!({ "issuer": issuer.url, "jwks_uri": "http://198.51.100.7/keys" }),
            "not to be trusted",
        ),
        (
            json!({ "issuer": issuer.url, "jwks_uri": "file:///etc/passwd" }),
            "not to be trusted",
        ),
        (json!({ "issuer": issuer.url }), "something else"),
        (json!([]), "something else"),
    ] {
        issuer.discovery_answers(Answer::Text(document.to_string()));
        issuer.appear().await;
        let (identities, _stop) = check_of(&issuer, |_| {}).await;
        eventually(|| identities.ready().is_err_and(|why| why.contains(said))).await;
        assert_eq!(issuer.fetched(), 0);
        issuer.vanish();
        eventually(|| std::net::TcpListener::bind(issuer.url.split('/').nth(2).unwrap()).is_ok()).await;
    }
}

#[tokio::test]
async fn keys_of_no_use_are_left_out() {
    let (good, other) = (Key::new("good", Algorithm::ES256), Key::new("other", Algorithm::ES256));
    let change = |key: &Key, id: &str, change: &dyn Fn(&mut Value)| {
        let mut public = key.public.clone();
        public["kid"] = id.into();
        change(&mut public);
        public
    };
    let issuer = FakeIssuer::start(&[]).await;
    issuer.publish_values(vec![
        json!("no key"),
        json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256", "use": "sig" }),
        json!({ "kty": "RSA", "n": "wQ", "e": "AQAB", "kid": "weak", "use": "sig" }),
        change(&other, "encryption", &|key| key["use"] = "enc".into()),
        change(&other, "operations", &|key| {
            key.as_object_mut().unwrap().remove("use");
            key["key_ops"] = json!(["sign"]);
        }),
        change(&other, "elsewhere", &|key| key["alg"] = "ES384".into()),
        good.public.clone(),
    ]);
    let (identities, _stop) = check_of(&issuer, |_| {}).await;
    eventually(|| identities.ready().is_ok()).await;
    assert!(identities.identify(&good.token(&issuer.claims())).await.is_ok());
    for id in ["encryption", "operations", "elsewhere", "weak", "secret"] {
        let mut header = other.header();
        header["kid"] = id.into();
        let token = bearer(&other.sign(&header.to_string(), &issuer.claims().to_string()));
        let refusal = identities.identify(&token).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::TokenUntrusted, "{id}: {refusal}");
    }
}
