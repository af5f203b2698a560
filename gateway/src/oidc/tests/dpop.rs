//! RFC 9449: a bound token is of use with its proof alone, and a proof for one request alone.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{
    super::{
        fake::{Holder, now},
        replay::digest,
    },
    *,
};
use crate::config::Dpop;

fn shown(token: &str, proof: &str) -> Presented {
    Presented::with_proof(
        BearerToken::new(token).unwrap(),
        ShownProof {
            jwt: BearerToken::new(proof).unwrap(),
            method: "GET".to_owned(),
            host: "gw.example:8443".to_owned(),
            path: "/v1/me".to_owned(),
        },
    )
}

fn bound(bench: &Bench, thumbprint: &str) -> String {
    let mut claims = bench.issuer.claims();
    // As Keycloak writes it.
    claims["typ"] = json!("DPoP");
    claims["cnf"] = json!({ "jkt": thumbprint, "kc-jkt-type": "DPoP" });
    bench.key.sign(&bench.key.header().to_string(), &claims.to_string())
}

#[tokio::test]
async fn a_bound_token_needs_its_proof() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let bench = bench(|settings| settings.dpop = Dpop::Optional).await;
        let holder = Holder::new(algorithm);
        let token = bound(&bench, &holder.thumbprint());
        let good = holder.proof(&token, |_, _| {});
        assert_eq!(bench.code(&shown(&token, &good)).await, "good", "{algorithm:?}");
        assert_eq!(bench.code(&shown(&token, &good)).await, "proof-invalid", "shown again");
        assert_eq!(bench.code(&bearer(&token)).await, "proof-missing");
        // One that is not bound is a bearer token, and a proof beside it proves nothing.
        assert_eq!(bench.with(|_| {}).await, "good");
        let free = bench
            .key
            .sign(&bench.key.header().to_string(), &bench.issuer.claims().to_string());
        let proof = holder.proof(&free, |_, _| {});
        assert_eq!(bench.code(&shown(&free, &proof)).await, "token-kind");
    }
}

/// The list is about the issuer's signatures, as with an issuer that signs by RSA alone; people's keys are of another kind.
#[tokio::test]
async fn a_proof_by_our_clients_algorithm_is_taken_whatever_the_issuer_signs_with() {
    let key = Key::new("one", Algorithm::RS256);
    let issuer = FakeIssuer::start(&[&key]).await;
    let rsa_alone = |settings: &mut Oidc| {
        settings.dpop = Dpop::Required;
        settings.algorithms = vec![Algorithm::RS256];
    };
    let (identities, stop) = check_of(&issuer, rsa_alone).await;
    eventually(|| identities.ready().is_ok()).await;
    let bench = Bench {
        issuer,
        key,
        identities,
        _stop: stop,
    };
    for (algorithm, wanted) in [(Algorithm::ES256, "good"), (Algorithm::EdDSA, "proof-invalid")] {
        let holder = Holder::new(algorithm);
        let token = bound(&bench, &holder.thumbprint());
        let proof = holder.proof(&token, |_, _| {});
        assert_eq!(bench.code(&shown(&token, &proof)).await, wanted, "{algorithm:?}");
    }
}

#[tokio::test]
async fn the_configuration_says_whether_tokens_are_bound() {
    let holder = Holder::new(Algorithm::ES256);
    let off = bench(|_| {}).await;
    let token = bound(&off, &holder.thumbprint());
    let proof = holder.proof(&token, |_, _| {});
    assert_eq!(off.code(&shown(&token, &proof)).await, "token-kind");
    assert_eq!(off.code(&bearer(&token)).await, "token-kind");
    let required = bench(|settings| settings.dpop = Dpop::Required).await;
    assert_eq!(required.with(|_| {}).await, "proof-missing");
    let token = bound(&required, &holder.thumbprint());
    let proof = holder.proof(&token, |_, _| {});
    assert_eq!(required.code(&shown(&token, &proof)).await, "good");
    for cnf in [
        json!({}),
        json!("x"),
        json!(null),
        json!({ "jkt": 1 }),
        json!({ "x5t#S256": "x" }),
        json!({ "jkt": holder.thumbprint(), "x5t#S256": "x" }),
        json!({ "jkt": holder.thumbprint(), "jwk": holder.jwk() }),
    ] {
        assert_eq!(required.with(set("cnf", cnf.clone())).await, "token-kind", "{cnf}");
    }
}

#[tokio::test]
async fn a_proof_is_of_this_request_this_token_this_key_and_now() {
    let bench = bench(|settings| settings.dpop = Dpop::Required).await;
    let (holder, other) = (Holder::new(Algorithm::ES256), Holder::new(Algorithm::ES256));
    let token = bound(&bench, &holder.thumbprint());
    type Change = Box<dyn FnOnce(&mut Value, &mut Value)>;
    let header = |name: &'static str, value: Value| -> (String, Change) {
        let name_of = format!("header {name} {value}");
        (name_of, Box::new(move |header, _| header[name] = value))
    };
    let claim = |name: &'static str, value: Value| -> (String, Change) {
        let name_of = format!("claim {name} {value}");
        (name_of, Box::new(move |_, claims| claims[name] = value))
    };
    let mut private = holder.jwk();
    private["d"] = json!("AAAA");
    let elsewhere = format!("{}/elsewhere", bench.issuer.url);
    let cases = [
        header("typ", json!("JWT")),
        header("typ", json!("DPoP+JWT")),
        header("typ", json!(null)),
        header("alg", json!("none")),
        header("alg", json!("HS256")),
        header("alg", json!("RS256")),
        header("alg", json!("ES384")),
        header("jwk", private),
        header("jwk", other.jwk()),
        header("jwk", json!({ "kty": "oct", "k": "c2VjcmV0" })),
        header("jwk", json!("key")),
        header("jku", json!(elsewhere)),
        header("x5u", json!(elsewhere)),
        header("x5c", json!(["AAAA"])),
        header("crit", json!(["exp"])),
        claim("htm", json!("POST")),
        claim("htm", json!("get")),
        claim("htu", json!("https://gw.example:8443/v1/locks")),
        claim("htu", json!("https://evil.example/v1/me")),
        claim("htu", json!("http://gw.example:8443/v1/me")),
        claim("htu", json!("/v1/me")),
        claim("htu", json!(["https://gw.example:8443/v1/me"])),
        claim("iat", json!(now() - 62)),
        claim("iat", json!(now() + 65)),
        claim("iat", json!(now().to_string())),
        claim("iat", json!(null)),
        claim("ath", json!(URL_SAFE_NO_PAD.encode(digest("another")))),
        claim("ath", json!("")),
        claim("ath", json!(null)),
        claim("jti", json!("")),
        claim("jti", json!(7)),
        claim("jti", json!("x".repeat(300))),
    ];
    for (name, change) in cases {
        let proof = holder.proof(&token, change);
        assert_eq!(bench.code(&shown(&token, &proof)).await, "proof-invalid", "{name}");
    }
    // Signed by another key than the one that it shows.
    let (head, claims) = (holder.header().to_string(), Holder::claims(&token).to_string());
    let forged = other.key.sign(&head, &claims);
    assert_eq!(bench.code(&shown(&token, &forged)).await, "proof-invalid");
    let twice = holder.key.sign(&head, &claims.replacen('{', "{\"htm\":\"GET\",", 1));
    assert_eq!(bench.code(&shown(&token, &twice)).await, "proof-invalid");
    for form in ["a", "a.b", "a.b.c", "a.b.c.d", ".."] {
        assert_eq!(bench.code(&shown(&token, form)).await, "proof-invalid", "{form}");
    }
    // The edges of the window, and a query that does not count.
    for (name, value) in [
        ("iat", json!(now() - 50)),
        ("iat", json!(now() + 50)),
        ("htu", json!("https://gw.example:8443/v1/me?x=y")),
    ] {
        let proof = holder.proof(&token, |_, claims| claims[name] = value);
        assert_eq!(bench.code(&shown(&token, &proof)).await, "good", "{name}");
    }
    assert_eq!((bench.issuer.elsewhere(), bench.issuer.fetched()), (0, 1));
}
