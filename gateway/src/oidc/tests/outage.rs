//! Clocks that are wrong and issuers that do not answer: what the person is told, and how soon.

use serde_json::json;

use super::{
    super::fake::{Answer, now},
    *,
};

/// A minute of difference is forgiven, ten are not, and then the clock is named.
#[tokio::test]
async fn a_clock_that_is_wrong_is_named() {
    let bench = bench(|_| {}).await;
    let shifted = |seconds: i64, life: u64| {
        let issued = now().checked_add_signed(seconds).unwrap();
        let mut claims = bench.issuer.claims();
        claims["iat"] = json!(issued);
        claims["nbf"] = json!(issued);
        claims["exp"] = json!(issued + life);
        bench.key.token(&claims)
    };
    assert_eq!(bench.code(&shifted(58, 300)).await, "good");
    assert_eq!(bench.code(&shifted(-60, 300)).await, "good");
    assert_eq!(bench.code(&shifted(-60, 10)).await, "good");
    for (token, code) in [
        (shifted(600, 300), RefusalCode::TokenEarly),
        (shifted(-600, 300), RefusalCode::TokenExpired),
    ] {
        let refusal = bench.identities.identify(&token).await.unwrap_err();
        assert_eq!(refusal.code(), code);
        assert!(refusal.hint().unwrap().contains("clock"), "{refusal:?}");
    }
}

/// Whatever the issuer does, a token that cannot be checked is refused in time, by a refusal that names it.
#[tokio::test]
async fn an_issuer_that_cannot_be_asked_is_named_in_time() {
    let large = format!("{{\"keys\":[],\"pad\":\"{}\"}}", "x".repeat(300 * 1024));
    let answers = [
        Answer::Never,
        Answer::Status(500),
        Answer::Status(404),
        Answer::Redirect,
        Answer::Text("<html>".to_owned()),
        Answer::Text(large),
    ];
    let refused = answers.map(|answer| async move {
        let key = Key::new("one", Algorithm::ES256);
        let issuer = FakeIssuer::absent(&[&key]).await;
        issuer.keys_answer(answer.clone());
        issuer.appear().await;
        let (identities, _stop) =
            check_of(&issuer, |settings| settings.keys_cool_down = Duration::from_millis(10)).await;
        let refusal = identities.identify(&key.token(&issuer.claims())).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::IdentityProviderDown, "{answer:?}");
        assert!(refusal.text().contains("identity provider"), "{refusal}");
        assert!(refusal.hint().unwrap().contains("platform team"), "{refusal:?}");
        assert_eq!(issuer.elsewhere(), 0);
    });
    futures_util::future::join_all(refused).await;
}

/// The bound is one that the person at the prompt is promised, so that it stands in the code as a sum.
#[test]
fn the_wait_for_an_issuer_is_shorter_than_five_seconds() {
    assert!(WITHIN < Duration::from_secs(5));
}

/// An unknown key while the issuer hangs: it may be a new one, so that the issuer is what is named.
#[tokio::test]
async fn a_new_key_during_an_outage_is_not_called_forged() {
    let bench = bench(|settings| settings.keys_cool_down = Duration::from_millis(10)).await;
    bench.issuer.keys_answer(Answer::Never);
    let newer = Key::new("newer", Algorithm::ES256);
    let token = newer.token(&bench.issuer.claims());
    eventually_refused(&bench, &token, "identity-provider-down").await;
    assert_eq!(bench.with(|_| {}).await, "good");
    bench.issuer.publish(&[&bench.key, &newer]);
    bench.issuer.keys_answer(Answer::Good);
    eventually_refused(&bench, &token, "good").await;
}

async fn eventually_refused(bench: &Bench, token: &Presented, code: &str) {
    let begun = Instant::now();
    while bench.code(token).await != code {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came to {code}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
