//! The authorization code flow.

use super::*;

#[tokio::test]
async fn the_code_flow_gives_tokens_that_a_relying_party_accepts() {
    let bench = Bench::new().await;
    let to = bench
        .browser
        .log_in(&bench.authorize_url(&[]), "bob", "bob-pw")
        .await
        .unwrap();
    assert_eq!(param(&to, "state").as_deref(), Some("st at&e"));
    assert_eq!(param(&to, "iss").as_deref(), Some(bench.issuer.url()));
    let (status, tokens) = bench.redeem(&param(&to, "code").unwrap(), &[]).await;
    assert_eq!(
        (status, &tokens["token_type"], &tokens["expires_in"]),
        (StatusCode::OK, &json!("Bearer"), &json!(300))
    );

    let access = bench.read(&tokens["access_token"], "doorward-gateway").await.unwrap();
    assert_eq!(access["preferred_username"], "bob");
    assert_eq!(access["groups"], json!(["developers"]));
    assert_eq!(
        (&access["azp"], &access["client_id"]),
        (&json!("doorward"), &json!("doorward"))
    );
    assert_eq!(
        decode_header(tokens["access_token"].as_str().unwrap())
            .unwrap()
            .typ
            .as_deref(),
        Some("at+jwt")
    );
    let id = bench.read(&tokens["id_token"], "doorward").await.unwrap();
    assert_eq!((&id["nonce"], &id["sub"]), (&json!("n-1"), &access["sub"]));
    assert!(bench.read(&tokens["id_token"], "doorward-gateway").await.is_err());
}

#[tokio::test]
async fn a_person_without_groups_has_no_groups_claim() {
    let bench = Bench::new().await;
    let tokens = bench.tokens_for("mallory").await;
    let access = bench.read(&tokens["access_token"], "doorward-gateway").await.unwrap();
    assert!(access.get("groups").is_none());
}

#[tokio::test]
async fn a_code_is_bound_to_its_verifier_redirect_and_time_and_used_once() {
    let bench = Bench::new().await;
    let wrong = "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wrong";
    for change in [
        ("code_verifier", wrong),
        ("code_verifier", ""),
        ("redirect_uri", "http://127.0.0.1:2/callback"),
    ] {
        let code = bench.code_for("bob").await;
        let (status, body) = bench.redeem(&code, &[change]).await;
        assert_eq!(
            (status, &body["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_grant")),
            "{change:?}"
        );
        let (_, body) = bench.redeem(&code, &[]).await;
        assert_eq!(body["error"], "invalid_grant", "one wrong attempt uses the code up");
    }
    let code = bench.code_for("bob").await;
    bench.clock.advance(Duration::from_secs(61));
    assert_eq!(bench.redeem(&code, &[]).await.1["error"], "invalid_grant");

    let code = bench.code_for("bob").await;
    let (_, tokens) = bench.redeem(&code, &[]).await;
    assert_eq!(bench.redeem(&code, &[]).await.1["error"], "invalid_grant");
    let (_, body) = bench.refresh(&tokens["refresh_token"]).await;
    assert_eq!(body["error"], "invalid_grant", "a replayed code ends what it gave");
}

#[tokio::test]
async fn a_bad_request_is_told_to_the_client_only_when_the_client_is_known() {
    let bench = Bench::new().await;
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", "groups"), "invalid_scope"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("request", "eyJ"), "request_not_supported"),
        (("prompt", "none"), "login_required"),
    ] {
        let answer = bench.http.get(bench.authorize_url(&[change])).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{change:?}");
        let to = Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
        assert_eq!(param(&to, "error").as_deref(), Some(error));
        assert_eq!(param(&to, "state").as_deref(), Some("st at&e"));
    }
    for change in [
        ("client_id", "other"),
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", ""),
    ] {
        let url = bench.authorize_url(&[change]);
        assert_eq!(
            bench.http.get(url.clone()).send().await.unwrap().status(),
            StatusCode::BAD_REQUEST,
            "{change:?}"
        );
        let form = [("username", "bob"), ("password", "bob-pw")];
        let answer = bench.http.post(url).form(&form).send().await.unwrap();
        assert!(
            answer.status() == StatusCode::BAD_REQUEST && !answer.headers().contains_key("location"),
            "{change:?}"
        );
    }
    let twice = format!("{}&client_id=doorward", bench.authorize_url(&[]));
    assert_eq!(
        bench.http.get(twice).send().await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn wrong_passwords_are_refused_and_bounded() {
    let bench = Bench::new().await;
    let url = bench.authorize_url(&[]);
    let mut statuses = Vec::new();
    for _ in 0..11 {
        let form = [("username", "bob\"><script>"), ("password", "guess")];
        let answer = bench.http.post(url.clone()).form(&form).send().await.unwrap();
        statuses.push(answer.status());
        assert!(!answer.text().await.unwrap().contains("<script"));
    }
    assert_eq!(statuses.pop(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert!(statuses.iter().all(|&status| status == StatusCode::UNAUTHORIZED));
}
