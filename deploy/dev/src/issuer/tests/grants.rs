//! Refresh, revocation and the device grant.

use super::*;

#[tokio::test]
async fn refresh_rotates_and_reuse_ends_the_login() {
    let bench = Bench::new().await;
    let first = bench.tokens_for("bob").await;
    let (status, second) = bench.refresh(&first["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(bench.read(&second["access_token"], "doorward-gateway").await.is_ok());
    assert_eq!(bench.refresh(&first["refresh_token"]).await.1["error"], "invalid_grant");
    assert_eq!(
        bench.refresh(&second["refresh_token"]).await.1["error"],
        "invalid_grant"
    );
}

#[tokio::test]
async fn refresh_sees_groups_and_the_disabled() {
    let bench = Bench::new().await;
    let tokens = bench.tokens_for("bob").await;
    bench
        .issuer
        .edit_person("bob", |bob| bob.groups = vec!["admins".to_owned()])
        .unwrap();
    let (_, tokens) = bench.refresh(&tokens["refresh_token"]).await;
    let access = bench.read(&tokens["access_token"], "doorward-gateway").await.unwrap();
    assert_eq!(access["groups"], json!(["admins"]));
    bench.issuer.edit_person("bob", |bob| bob.enabled = false).unwrap();
    assert_eq!(
        bench.refresh(&tokens["refresh_token"]).await.1["error"],
        "invalid_grant"
    );
}

#[tokio::test]
async fn revocation_ends_a_login_and_says_nothing_about_other_tokens() {
    let bench = Bench::new().await;
    let tokens = bench.tokens_for("bob").await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    for token in ["nonsense", refresh, refresh] {
        let (status, _) = bench
            .post("/revoke", &[("client_id", "doorward"), ("token", token)])
            .await;
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(
        bench.refresh(&tokens["refresh_token"]).await.1["error"],
        "invalid_grant"
    );
}

#[tokio::test]
async fn the_device_grant_waits_for_the_person_and_keeps_its_verifier() {
    let bench = Bench::new().await;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let form = [
        ("client_id", "doorward"),
        ("scope", "openid"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    let (_, device) = bench.post("/device-authorization", &form).await;
    let poll = |verifier: &'static str| {
        let form = [
            ("grant_type", token::DEVICE_GRANT),
            ("client_id", "doorward"),
            ("device_code", device["device_code"].as_str().unwrap()),
            ("code_verifier", verifier),
        ];
        let bench = &bench;
        async move { bench.post("/token", &form).await.1 }
    };
    assert_eq!(poll(VERIFIER).await["error"], "authorization_pending");
    assert_eq!(poll(VERIFIER).await["error"], "slow_down");

    let page = Url::parse(device["verification_uri"].as_str().unwrap()).unwrap();
    let user_code = device["user_code"].as_str().unwrap();
    assert!(
        bench
            .browser
            .approve_device(&page, user_code, "bob", "wrong")
            .await
            .is_err()
    );
    assert!(
        bench
            .browser
            .approve_device(&page, "BBBB-BBBB", "bob", "bob-pw")
            .await
            .is_err()
    );
    bench
        .browser
        .approve_device(&page, user_code, "bob", "bob-pw")
        .await
        .unwrap();
    bench.clock.advance(Duration::from_secs(20));
    let tokens = poll(VERIFIER).await;
    let access = bench.read(&tokens["access_token"], "doorward-gateway").await.unwrap();
    assert_eq!(access["preferred_username"], "bob");
    assert_eq!(poll(VERIFIER).await["error"], "invalid_grant");

    let (_, device) = bench.post("/device-authorization", &form).await;
    bench
        .browser
        .approve_device(&page, device["user_code"].as_str().unwrap(), "bob", "bob-pw")
        .await
        .unwrap();
    let form = [
        ("grant_type", token::DEVICE_GRANT),
        ("client_id", "doorward"),
        ("device_code", device["device_code"].as_str().unwrap()),
    ];
    assert_eq!(bench.post("/token", &form).await.1["error"], "invalid_grant");
}
