//! Back-channel logout: whom it meets, what it refuses, and that tokens of a login that is over open nothing.

use serde_json::json;

use super::{super::fake::now, *};

fn logout(bench: &Bench) -> Value {
    json!({
        "iss": bench.issuer.url,
        "aud": "doorward",
        "iat": now(),
        "exp": now() + 120,
        "jti": uuid::Uuid::now_v7().to_string(),
        "sub": "0b5e1d7e-bob",
        "sid": "login-1",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    })
}

fn header(bench: &Bench) -> Value {
    let mut header = bench.key.header();
    header["typ"] = json!("logout+jwt");
    header
}

async fn send(bench: &Bench, header: &Value, claims: &str) -> Result<LoggedOut, Refusal> {
    let token = bench.key.sign(&header.to_string(), claims);
    bench.identities.log_out(&BearerToken::new(&token).unwrap()).await
}

#[tokio::test]
async fn a_logout_ends_the_tokens_of_that_login() {
    let bench = bench(|_| {}).await;
    let of = |sid: Option<&str>, issued: u64| {
        let mut claims = bench.issuer.claims();
        claims["iat"] = json!(issued);
        if let Some(sid) = sid {
            claims["sid"] = json!(sid);
        }
        bench.key.token(&claims)
    };
    let (mine, other, none) = (of(Some("login-1"), now()), of(Some("login-2"), now()), of(None, now()));
    let identity = bench.identities.identify(&mine).await.unwrap();
    let said = send(&bench, &header(&bench), &logout(&bench).to_string())
        .await
        .unwrap();
    assert!(said.meets(&identity));
    assert!(bench.identities.not_logged_out(&identity).is_err());
    assert_eq!(bench.code(&mine).await, "token-revoked");
    assert_eq!(bench.code(&other).await, "good");
    assert!(!said.meets(&bench.identities.identify(&other).await.unwrap()));
    // Nobody knows of which login it is: its session ends, and the person may come again.
    assert!(said.meets(&bench.identities.identify(&none).await.unwrap()));
    // Without a login's name it is all of the person's that were issued before.
    let mut all = logout(&bench);
    all.as_object_mut().unwrap().remove("sid");
    send(&bench, &header(&bench), &all.to_string()).await.unwrap();
    assert_eq!(bench.code(&other).await, "token-revoked");
    assert_eq!(bench.code(&of(Some("login-3"), now() + 30)).await, "good");
    let mut somebody = bench.issuer.claims();
    somebody["sub"] = json!("another");
    assert_eq!(bench.code(&bench.key.token(&somebody)).await, "good");
}

#[tokio::test]
async fn what_is_no_logout_token_is_refused() {
    let bench = bench(|_| {}).await;
    let good = logout(&bench).to_string();
    assert!(send(&bench, &header(&bench), &good).await.is_ok());
    let again = send(&bench, &header(&bench), &good).await.unwrap_err();
    assert!(again.detail().contains("before"), "{again}");
    for typ in [json!("JWT"), json!("at+jwt"), json!(null), json!("")] {
        let mut header = header(&bench);
        header["typ"] = typ;
        assert!(send(&bench, &header, &logout(&bench).to_string()).await.is_err());
    }
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("aud", json!("grafana")),
        ("aud", json!(["grafana"])),
        ("aud", json!({ "doorward": true })),
        ("iat", json!(now() - 300)),
        ("iat", json!(now() + 120)),
        ("iat", json!(now().to_string())),
        ("exp", json!(now() - 120)),
        ("jti", json!(7)),
        ("sub", json!(["0b5e1d7e-bob"])),
        ("sid", json!(7)),
        ("nonce", json!("x")),
        ("events", json!({})),
        ("events", json!([event])),
        ("events", json!(event)),
        ("events", json!({ event: true })),
    ] {
        let mut claims = logout(&bench);
        claims[name] = value.clone();
        let result = send(&bench, &header(&bench), &claims.to_string()).await;
        assert!(result.is_err(), "{name} {value}");
    }
    for gone in [&["sub", "sid"][..], &["iat"], &["jti"], &["events"], &["iss"], &["aud"]] {
        let mut claims = logout(&bench);
        for name in gone {
            claims.as_object_mut().unwrap().remove(*name);
        }
        assert!(
            send(&bench, &header(&bench), &claims.to_string()).await.is_err(),
            "{gone:?}"
        );
    }
    // Signed by somebody else, and an ordinary token in its place.
    let foreign = Key::new("one", Algorithm::ES256);
    let token = foreign.sign(&header(&bench).to_string(), &logout(&bench).to_string());
    assert!(
        bench
            .identities
            .log_out(&BearerToken::new(&token).unwrap())
            .await
            .is_err()
    );
    let access = bench
        .key
        .sign(&bench.key.header().to_string(), &bench.issuer.claims().to_string());
    assert!(
        bench
            .identities
            .log_out(&BearerToken::new(&access).unwrap())
            .await
            .is_err()
    );
    // And the other way round: a logout token opens nothing.
    let token = bench
        .key
        .sign(&header(&bench).to_string(), &bench.issuer.claims().to_string());
    assert_eq!(bench.code(&bearer(&token)).await, "token-kind");
}
