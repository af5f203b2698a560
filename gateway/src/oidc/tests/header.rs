//! The header and the signature: which algorithm, which key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::json;

use super::*;

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
    let der = super::super::fake::rsa_public();
    let body = base64::engine::general_purpose::STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    for secret in [
        rsa.public["n"].as_str().unwrap().as_bytes(),
        rsa.public.to_string().as_bytes(),
        pem.as_bytes(),
        pem.trim_end().as_bytes(),
        &der,
    ] {
        let message = format!("{}.{}", part(r#"{"alg":"HS256","kid":"one"}"#), part(&claims));
        let key = EncodingKey::from_secret(secret);
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

/// No byte of a token can be another, can be left out, or can stand twice: also not where base64 has bits to spare.
#[tokio::test]
async fn a_token_has_one_spelling() {
    let bench = bench(|_| {}).await;
    let good = bench
        .key
        .sign(&bench.key.header().to_string(), &bench.issuer.claims().to_string());
    let whole = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/~";
    for at in 0..good.len() {
        let (before, after) = (&good[..at], &good[at + 1..]);
        let own = &good[at..=at];
        // The last of each part is where bits are to spare.
        let last = after.is_empty() || after.starts_with('.');
        let others = whole.chars().filter(|other| !own.contains(*other));
        let mut spellings: Vec<String> = others.map(|other| format!("{before}{other}{after}")).collect();
        if !last {
            spellings.truncate(2);
        }
        spellings.extend([format!("{before}{after}"), format!("{before}{own}{own}{after}")]);
        for spelling in spellings.iter().filter(|one| **one != good) {
            assert_ne!(bench.code(&bearer(spelling)).await, "good", "{at}: {spelling}");
        }
    }
    assert_eq!(bench.code(&bearer(&good)).await, "good");
    for padded in [format!("{good}="), format!("{good}=="), good.replace('.', "=.")] {
        assert_ne!(bench.code(&bearer(&padded)).await, "good", "{padded}");
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
    // One that names a place, a file or a statement is a name like any other: nobody is asked, nothing is opened.
    let fetched = bench.issuer.fetched();
    for id in [
        format!("{}/elsewhere", bench.issuer.url),
        "file:///etc/passwd".to_owned(),
        "../../../../dev/null".to_owned(),
        "one' UNION SELECT 'x".to_owned(),
        "one\0".to_owned(),
        "|id".to_owned(),
    ] {
        assert_eq!(bench.with_header(set("kid", json!(id))).await, "token-untrusted");
    }
    assert_eq!((bench.issuer.elsewhere(), bench.issuer.fetched()), (0, fetched));
    // A megabyte does not fit into a token that is looked at.
    let mut header = bench.key.header();
    header["kid"] = json!("x".repeat(1024 * 1024));
    assert!(BearerToken::new(&bench.key.sign(&header.to_string(), "{}")).is_err());
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
