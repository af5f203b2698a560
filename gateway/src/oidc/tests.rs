//! Tokens good and bad, and issuers that misbehave.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    fake::{Answer, FakeIssuer, Key, bearer, now},
    *,
};
use crate::config::{ClaimPath, GroupsForm, TokenKind};

/// A check of tokens beside its issuer; its tasks end with it.
struct Bench {
    issuer: FakeIssuer,
    key: Key,
    identities: Arc<Identities>,
    _stop: tokio_util::sync::DropGuard,
}

async fn check_of(
    issuer: &FakeIssuer,
    change: impl FnOnce(&mut Oidc),
) -> (Arc<Identities>, tokio_util::sync::DropGuard) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut settings = issuer.settings();
    change(&mut settings);
    let tasks = Tasks::new(CancellationToken::new());
    let identities = Arc::new(Identities::start(settings, &tasks).unwrap());
    (identities, tasks.closing().clone().drop_guard())
}

async fn bench(change: impl FnOnce(&mut Oidc)) -> Bench {
    let key = Key::new("one", Algorithm::ES256);
    let issuer = FakeIssuer::start(&[&key]).await;
    let (identities, stop) = check_of(&issuer, change).await;
    eventually(|| identities.ready().is_ok()).await;
    Bench {
        issuer,
        key,
        identities,
        _stop: stop,
    }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the condition never came");
}

impl Bench {
    async fn code(&self, token: &BearerToken) -> &'static str {
        match self.identities.identify(token).await {
            Ok(_) => "good",
            Err(refusal) => refusal.code().as_str(),
        }
    }

    /// The result for good claims with a change.
    async fn with(&self, change: impl FnOnce(&mut Value)) -> &'static str {
        let mut claims = self.issuer.claims();
        change(&mut claims);
        self.code(&self.key.token(&claims)).await
    }

    /// The result for a good header with a change.
    async fn with_header(&self, change: impl FnOnce(&mut Value)) -> &'static str {
        let mut header = self.key.header();
        change(&mut header);
        self.code(&bearer(
            &self.key.sign(&header.to_string(), &self.issuer.claims().to_string()),
        ))
        .await
    }
}

fn without(name: &'static str) -> impl FnOnce(&mut Value) {
    move |claims| {
        claims.as_object_mut().unwrap().remove(name).unwrap();
    }
}

fn set(name: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |claims| claims[name] = value
}

#[tokio::test]
async fn a_good_token_is_somebody() {
    let bench = bench(|_| {}).await;
    let who = bench
        .identities
        .identify(&bench.key.token(&bench.issuer.claims()))
        .await
        .unwrap();
    assert_eq!(
        (who.user(), who.subject(), who.issuer()),
        ("bob", "0b5e1d7e-bob", bench.issuer.url.as_str())
    );
    assert_eq!(who.groups().iter().collect::<Vec<_>>(), ["developers"]);
    assert!(who.expires() > SystemTime::now());
}

#[tokio::test]
async fn every_allowed_algorithm_is_taken_and_no_other() {
    let keys = [
        Key::new("rs", Algorithm::RS256),
        Key::new("ps", Algorithm::PS256),
        Key::new("ed", Algorithm::EdDSA),
    ];
    let issuer = FakeIssuer::start(&keys.each_ref()).await;
    let (identities, _stop) = check_of(&issuer, |_| {}).await;
    eventually(|| identities.ready().is_ok()).await;
    let code = |key: &Key| {
        let (identities, token) = (Arc::clone(&identities), key.token(&issuer.claims()));
        async move {
            identities
                .identify(&token)
                .await
                .map(|_| ())
                .map_err(|refusal| refusal.code())
        }
    };
    assert_eq!(code(&keys[0]).await, Ok(()));
    assert_eq!(
        code(&keys[1]).await,
        Err(RefusalCode::TokenUntrusted),
        "PS256 is not in the list"
    );
    assert_eq!(code(&keys[2]).await, Ok(()));
}

/// B1: the algorithm is ours to choose.
#[tokio::test]
async fn algorithm_confusion_is_refused() {
    let rsa = Key::new("one", Algorithm::RS256);
    let issuer = FakeIssuer::start(&[&rsa]).await;
    let (identities, _stop) = check_of(&issuer, |settings| settings.algorithms.push(Algorithm::PS256)).await;
    eventually(|| identities.ready().is_ok()).await;
    let claims = issuer.claims().to_string();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let mut tokens = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "rs256", "RS256 "] {
        let header = json!({ "alg": alg, "kid": "one" }).to_string();
        tokens.push(format!("{}.{}.", part(&header), part(&claims)));
        tokens.push(format!("{}.{}.{}", part(&header), part(&claims), part("signature")));
    }
    // HMAC keyed with what is public.
    for secret in [rsa.public["n"].as_str().unwrap().to_owned(), rsa.public.to_string()] {
        let message = format!("{}.{}", part(r#"{"alg":"HS256","kid":"one"}"#), part(&claims));
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        tokens.push(format!("{message}.{signature}"));
    }
    // Signed as RS256 and called PS256, and called by the algorithm of another kind of key.
    for alg in ["PS256", "ES256", "EdDSA"] {
        tokens.push(rsa.sign(&json!({ "alg": alg, "kid": "one" }).to_string(), &claims));
    }
    for token in tokens {
        let refusal = identities.identify(&bearer(&token)).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::TokenUntrusted, "{token}: {refusal}");
    }
    assert_eq!(issuer.fetched(), 1);
}

#[tokio::test]
async fn a_signature_of_zeros_or_of_other_claims_is_refused() {
    let bench = bench(|_| {}).await;
    let good = bench
        .key
        .sign(&bench.key.header().to_string(), &bench.issuer.claims().to_string());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let mut richer = bench.issuer.claims();
    richer["groups"] = json!(["admins"]);
    let other = bench.key.sign(&bench.key.header().to_string(), &richer.to_string());
    let (_, other_signature) = other.rsplit_once('.').unwrap();
    for signature in [
        URL_SAFE_NO_PAD.encode([0; 64]),
        URL_SAFE_NO_PAD.encode([]),
        other_signature.to_owned(),
    ] {
        assert_eq!(
            bench.code(&bearer(&format!("{signed}.{signature}"))).await,
            "token-untrusted"
        );
    }
    for form in ["a", "a.b", "a.b.c.d", "..", "a.b.c", "e30.e30.", "e30.e30.AA"] {
        assert_eq!(bench.code(&bearer(form)).await, "token-malformed", "{form}");
    }
}

/// B2: keys that a token brings are not looked at, and nobody is asked for them.
#[tokio::test]
async fn keys_in_the_header_are_refused_and_never_fetched() {
    let bench = bench(|_| {}).await;
    let elsewhere = format!("{}/elsewhere", bench.issuer.url);
    for (name, value) in [
        ("jwk", bench.key.public.clone()),
        ("jku", json!(elsewhere)),
        ("x5u", json!(elsewhere)),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        assert_eq!(bench.with_header(set(name, value)).await, "token-untrusted", "{name}");
    }
    assert_eq!((bench.issuer.elsewhere(), bench.issuer.fetched()), (0, 1));
}

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

#[tokio::test]
async fn key_ids_that_are_none_are_refused() {
    let bench = bench(|_| {}).await;
    for id in [
        json!(""),
        json!("x".repeat(257)),
        json!(1),
        json!(null),
        json!(["one"]),
        json!({"kid": "one"}),
    ] {
        assert_eq!(bench.with_header(set("kid", id)).await, "token-untrusted");
    }
    // Without a key id: taken only where one key alone can be meant.
    assert_eq!(bench.with_header(without("kid")).await, "good");
    let (one, other) = (Key::new("one", Algorithm::ES256), Key::new("other", Algorithm::ES256));
    let issuer = FakeIssuer::start(&[&one, &other]).await;
    let (identities, _stop) = check_of(&issuer, |_| {}).await;
    eventually(|| identities.ready().is_ok()).await;
    let token = bearer(&one.sign(r#"{"alg":"ES256"}"#, &issuer.claims().to_string()));
    assert_eq!(
        identities.identify(&token).await.unwrap_err().code(),
        RefusalCode::TokenUntrusted
    );
}

/// B4, B6: for us, by our issuer, through a program that may.
#[tokio::test]
async fn audience_party_and_issuer_are_exact() {
    let bench = bench(|settings| settings.authorized_parties.push("doorward-ci".to_owned())).await;
    let slash = format!("{}/", bench.issuer.url);
    let other = bench.issuer.url.replace("one", "two");
    for (name, value, code) in [
        ("aud", json!("doorward-gateway"), "good"),
        ("aud", json!(["account", "doorward-gateway"]), "good"),
        ("aud", json!("account"), "token-foreign"),
        ("aud", json!(["account"]), "token-foreign"),
        ("aud", json!([]), "token-foreign"),
        ("aud", json!("doorward-gateway "), "token-foreign"),
        ("aud", json!("Doorward-Gateway"), "token-foreign"),
        ("aud", json!([["doorward-gateway"]]), "token-claims"),
        ("aud", json!({"doorward-gateway": true}), "token-claims"),
        ("aud", json!(["doorward-gateway", 1]), "token-claims"),
        ("aud", json!(null), "token-claims"),
        ("azp", json!("doorward-ci"), "good"),
        ("azp", json!("grafana"), "token-foreign"),
        ("azp", json!(["doorward"]), "token-claims"),
        ("azp", json!(null), "token-claims"),
        ("client_id", json!("doorward"), "good"),
        ("client_id", json!("grafana"), "token-foreign"),
        ("iss", json!(slash), "token-foreign"),
        ("iss", json!(other), "token-foreign"),
        ("iss", json!([bench.issuer.url]), "token-claims"),
    ] {
        let shown = format!("{name} {value}");
        assert_eq!(bench.with(set(name, value)).await, code, "{shown}");
    }
    assert_eq!(bench.with(without("aud")).await, "token-foreign");
    assert_eq!(bench.with(without("azp")).await, "token-foreign");
    assert_eq!(bench.with(without("iss")).await, "token-claims");
    let by_client = |claims: &mut Value| {
        without("azp")(claims);
        set("client_id", json!("doorward"))(claims);
    };
    assert_eq!(bench.with(by_client).await, "good");
}

/// B5: access tokens alone, where access tokens are wanted; ID tokens alone, where those are.
#[tokio::test]
async fn tokens_of_another_kind_are_refused() {
    let access = bench(|_| {}).await;
    for (typ, code) in [
        ("JWT", "good"),
        ("at+jwt", "good"),
        ("application/at+jwt", "good"),
        ("AT+JWT", "good"),
        ("logout+jwt", "token-kind"),
        ("dpop+jwt", "token-kind"),
        ("secevent+jwt", "token-kind"),
        ("id+jwt", "token-kind"),
        ("JOSE", "token-kind"),
        ("", "token-kind"),
    ] {
        assert_eq!(access.with_header(set("typ", json!(typ))).await, code, "{typ}");
    }
    assert_eq!(access.with_header(set("typ", json!(["JWT"]))).await, "token-kind");
    assert_eq!(access.with_header(without("typ")).await, "good");
    for typ in ["Refresh", "Offline", "Logout", "ID", "DPoP", "bearer", ""] {
        assert_eq!(access.with(set("typ", json!(typ))).await, "token-kind", "{typ}");
    }
    assert_eq!(access.with(set("typ", json!(1))).await, "token-kind");
    assert_eq!(access.with(without("typ")).await, "good");
    for (name, value) in [
        ("at_hash", json!("x")),
        ("c_hash", json!("x")),
        (
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
        ("cnf", json!({"jkt": "x"})),
    ] {
        assert_eq!(access.with(set(name, value)).await, "token-kind", "{name}");
    }
    let id = bench(|settings| settings.token_kind = TokenKind::Id).await;
    assert_eq!(id.with(set("typ", json!("ID"))).await, "good");
    assert_eq!(id.with(set("typ", json!("Bearer"))).await, "token-kind");
    assert_eq!(id.with_header(set("typ", json!("at+jwt"))).await, "token-kind");
}

/// B8: times are integers, there, and not far from now.
#[tokio::test]
async fn times_are_checked_as_integers() {
    let bench = bench(|_| {}).await;
    for (name, value, code) in [
        ("exp", json!(now() - 50), "good"),
        ("exp", json!(now() - 70), "token-expired"),
        ("exp", json!(0), "token-expired"),
        ("exp", json!("9999999999"), "token-claims"),
        ("exp", json!(-1), "token-claims"),
        ("exp", json!(now() as f64 + 300.5), "token-claims"),
        ("exp", json!(null), "token-claims"),
        ("exp", json!(u64::MAX), "token-claims"),
        ("exp", json!([now() + 300]), "token-claims"),
        ("nbf", json!(now() + 50), "good"),
        ("nbf", json!(now() + 70), "token-early"),
        ("nbf", json!("0"), "token-claims"),
        ("nbf", json!("99999999999"), "token-claims"),
        ("nbf", json!(null), "token-claims"),
        ("nbf", json!(-1), "token-claims"),
        ("iat", json!(now() + 50), "good"),
        ("iat", json!(now() + 70), "token-early"),
        ("iat", json!("now"), "token-claims"),
        ("iat", json!(1.5), "token-claims"),
    ] {
        let shown = format!("{name} {value}");
        assert_eq!(bench.with(set(name, value)).await, code, "{shown}");
    }
    assert_eq!(bench.with(without("exp")).await, "token-claims");
    assert_eq!(bench.with(without("iat")).await, "token-claims");
    let huge = bench
        .issuer
        .claims()
        .to_string()
        .replacen("\"exp\":", "\"exp\":1e400,\"old\":", 1);
    let token = bearer(&bench.key.sign(&bench.key.header().to_string(), &huge));
    assert_eq!(bench.code(&token).await, "token-malformed");
}

/// B9: what stands twice is refused, in the claims and in the header.
#[tokio::test]
async fn names_that_stand_twice_are_refused() {
    let bench = bench(|_| {}).await;
    let claims = bench.issuer.claims().to_string();
    for twice in ["sub", "groups", "preferred_username", "exp", "aud", "iss"] {
        let doubled = claims.replacen('{', &format!("{{\"{twice}\":[\"admins\"],"), 1);
        let token = bearer(&bench.key.sign(&bench.key.header().to_string(), &doubled));
        assert_eq!(bench.code(&token).await, "token-malformed", "{twice}");
    }
    let header = bench.key.header().to_string().replacen('{', "{\"alg\":\"none\",", 1);
    assert_eq!(
        bench.code(&bearer(&bench.key.sign(&header, &claims))).await,
        "token-malformed"
    );
}

/// B9: groups have the form that was configured, or there are none.
#[tokio::test]
async fn groups_are_never_guessed() {
    let many = |count: usize| json!((0..count).map(|number| format!("g{number}")).collect::<Vec<_>>());
    let array = bench(|_| {}).await;
    for (value, code) in [
        (json!([]), "good"),
        (json!(["/developers", "Developers", "d\u{435}velopers"]), "good"),
        (many(1000), "good"),
        (many(1001), "token-claims"),
        (json!("developers"), "token-claims"),
        (json!([["developers"]]), "token-claims"),
        (json!([1]), "token-claims"),
        (json!([null]), "token-claims"),
        (json!({"developers": true}), "token-claims"),
        (json!(null), "token-claims"),
        (json!([""]), "token-claims"),
        (json!(["a\nb"]), "token-claims"),
        (json!(["x".repeat(257)]), "token-claims"),
    ] {
        let shown = value.to_string();
        assert_eq!(array.with(set("groups", value)).await, code, "{shown}");
    }
    assert_eq!(array.with(without("groups")).await, "good");
    let string = bench(|settings| settings.groups_form = GroupsForm::String).await;
    assert_eq!(string.with(set("groups", json!("developers"))).await, "good");
    assert_eq!(string.with(set("groups", json!(["developers"]))).await, "token-claims");
    // 100,000 groups do not fit into a token that is looked at.
    let mut claims = array.issuer.claims();
    claims["groups"] = many(100_000);
    assert!(BearerToken::new(&array.key.sign("{}", &claims.to_string())).is_err());
}

#[tokio::test]
async fn claims_are_found_by_their_path() {
    let bench = bench(|settings| {
        settings.groups_claim = ClaimPath::parse("resource_access.doorward\\.example.roles").unwrap();
        settings.user_claim = ClaimPath::parse("person.name").unwrap();
    })
    .await;
    let mut claims = bench.issuer.claims();
    claims["resource_access"] = json!({ "doorward.example": { "roles": ["operators"] } });
    claims["person"] = json!({ "name": "bea" });
    let who = bench.identities.identify(&bench.key.token(&claims)).await.unwrap();
    assert_eq!(
        (who.user(), who.groups().iter().next().unwrap().as_str()),
        ("bea", "operators")
    );
    claims["resource_access"] = json!("operators");
    assert_eq!(bench.code(&bench.key.token(&claims)).await, "token-claims");
    for bad in ["", ".", "a..b", "a.", "a\\b", "a\\"] {
        assert!(ClaimPath::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn names_that_could_deceive_are_refused() {
    let bench = bench(|_| {}).await;
    for (name, code) in [
        ("b\u{f6}b", "good"),
        ("bob@example.org", "good"),
        ("", "token-claims"),
        ("bob\n", "token-claims"),
        ("bob\u{0}", "token-claims"),
        ("bob\u{1b}[31m", "token-claims"),
        ("bob\u{202e}nimda", "token-claims"),
        ("b\u{200b}ob", "token-claims"),
    ] {
        assert_eq!(
            bench.with(set("preferred_username", json!(name))).await,
            code,
            "{name:?}"
        );
    }
    assert_eq!(
        bench.with(set("preferred_username", json!("x".repeat(257)))).await,
        "token-claims"
    );
    assert_eq!(bench.with(set("preferred_username", json!(7))).await, "token-claims");
    assert_eq!(bench.with(without("preferred_username")).await, "token-claims");
    assert_eq!(bench.with(without("sub")).await, "token-claims");
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
    for answer in bad {
        let bench = bench(|settings| {
            settings.keys_refresh = Duration::from_millis(10);
            settings.keys_max_age = Duration::from_millis(1500);
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
    }
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
    assert!(begun.elapsed() < Duration::from_secs(1));
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

#[test]
fn a_bearer_token_is_bounded_and_shows_nothing() {
    assert!(BearerToken::new(&"a".repeat(16 * 1024)).is_ok());
    for bad in ["", "a b", "a\r\nb", "t\u{f6}ken", &"a".repeat(16 * 1024 + 1)] {
        assert!(BearerToken::new(bad).is_err());
    }
    assert!(!format!("{:?}", bearer("secret.token.value")).contains("secret"));
}
