//! The claims: exact types, exact names, for us, now.

use doorward_certs::WorkspaceName;
use serde_json::json;

use super::{super::fake::now, *};
use crate::config::{ClaimPath, GroupsForm, TokenKind};

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

/// Keycloak's realm roles as groups.
#[tokio::test]
async fn realm_roles_can_be_groups() {
    let bench = bench(|settings| settings.groups_claim = ClaimPath::parse("realm_access.roles").unwrap()).await;
    let mut claims = bench.issuer.claims();
    claims["realm_access"] = json!({ "roles": ["doorward-developer"] });
    let who = bench.identities.identify(&bench.key.token(&claims)).await.unwrap();
    assert_eq!(who.groups().iter().collect::<Vec<_>>(), ["doorward-developer"]);
    for (value, code) in [
        (json!({}), "good"),
        (json!({ "roles": "doorward-developer" }), "token-claims"),
        (json!({ "roles": [["doorward-developer"]] }), "token-claims"),
        (json!(["doorward-developer"]), "token-claims"),
        (json!(null), "token-claims"),
    ] {
        let shown = value.to_string();
        assert_eq!(bench.with(set("realm_access", value)).await, code, "{shown}");
    }
}

#[tokio::test]
async fn the_issuer_may_assign_workspaces() {
    let bench = bench(|settings| settings.workspaces_claim = Some(ClaimPath::parse("devenv").unwrap())).await;
    for (value, names) in [
        (json!("devenv-0"), vec!["devenv-0"]),
        (json!(["devenv-0", "devenv-3"]), vec!["devenv-0", "devenv-3"]),
        (json!([]), vec![]),
    ] {
        let mut claims = bench.issuer.claims();
        claims["devenv"] = value;
        let who = bench.identities.identify(&bench.key.token(&claims)).await.unwrap();
        let found: Vec<&str> = who.workspaces().iter().map(WorkspaceName::as_str).collect();
        assert_eq!(found, names);
    }
    let nobodys = bench
        .identities
        .identify(&bench.key.token(&bench.issuer.claims()))
        .await;
    assert!(nobodys.unwrap().workspaces().is_empty());
    for bad in [
        json!(null),
        json!(0),
        json!(""),
        json!("*"),
        json!("../x"),
        json!("Devenv-0"),
        json!(["devenv-0", 1]),
        json!([["devenv-0"]]),
        json!({ "devenv-0": true }),
        json!(vec!["devenv-0"; 101]),
    ] {
        let shown = bad.to_string();
        assert_eq!(bench.with(set("devenv", bad)).await, "token-claims", "{shown}");
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
