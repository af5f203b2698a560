//! D2: what becomes a login and what does not; e-mail addresses that count and those that do not.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::config::{ClaimPath, LoginRule, Template};

fn rule(claim: Option<&str>, domain: Option<&str>, template: Option<Template>) -> LoginRule {
    LoginRule::Claim {
        claim: claim.map(|path| ClaimPath::parse(path).unwrap()),
        domain: domain.map(str::to_owned),
        template,
    }
}

async fn login_of(bench: &Bench, change: impl FnOnce(&mut Value)) -> Result<String, LoginFault> {
    let mut claims = bench.issuer.claims();
    change(&mut claims);
    let who = bench.identities.identify(&bench.key.token(&claims)).await.unwrap();
    who.login().unwrap().clone().map(|login| login.to_string())
}

/// The list of D2, each as somebody's name at the identity provider, by each rule that makes a login of it.
#[tokio::test]
async fn names_that_are_no_logins_are_refused_before_anything_is_signed() {
    let plain = bench(|settings| settings.login = Some(rule(Some("login"), None, None))).await;
    let dev = Template::parse("dev-{user}").unwrap();
    let templated = bench(|settings| settings.login = Some(rule(Some("login"), None, Some(dev)))).await;
    for name in [
        "bob,root",
        "bob,",
        "*",
        "dev*",
        "b?b",
        "!bob",
        "bob smith",
        " bob",
        "bob ",
        "bob\0",
        "bob\nroot",
        "bob\r",
        "bob\t",
        "bob\u{1b}[31m",
        "",
        "Bob",
        "b\u{f6}b",
        "b\u{43e}b",
        "\u{ff42}ob",
        "bob\u{200b}",
        "\u{202e}bob",
        "bob@x.org",
        "../bob",
        "bob/..",
        "bob;id",
        "$(id)",
        "{user}",
        &"b".repeat(64),
        &"b".repeat(1000),
    ] {
        for bench in [&plain, &templated] {
            let made = login_of(bench, set("login", json!(name))).await;
            assert!(matches!(made, Err(LoginFault::Form(_))), "{name:?}: {made:?}");
        }
    }
    for value in [json!(7), json!(["bob"]), json!({ "bob": true }), json!(null)] {
        assert_eq!(login_of(&plain, set("login", value)).await, Err(LoginFault::Missing));
    }
    assert_eq!(login_of(&plain, |_| {}).await, Err(LoginFault::Missing));
    assert_eq!(
        login_of(&plain, set("login", json!("bob.s-1_x"))).await.unwrap(),
        "bob.s-1_x"
    );
    assert_eq!(
        login_of(&plain, set("login", json!("root"))).await,
        Err(LoginFault::Root)
    );
    assert!(login_of(&plain, set("login", json!("doorward-gateway"))).await.is_err());
    assert_eq!(
        login_of(&templated, set("login", json!("root"))).await.unwrap(),
        "dev-root"
    );
    assert_eq!(
        login_of(&templated, set("login", json!("7up"))).await.unwrap(),
        "dev-7up"
    );
    assert!(login_of(&templated, set("login", json!("b".repeat(29)))).await.is_err());
    // 64 KiB do not fit into a token that is looked at.
    let mut claims = plain.issuer.claims();
    claims["login"] = json!("b".repeat(64 * 1024));
    assert!(BearerToken::new(&plain.key.sign("{}", &claims.to_string())).is_err());
}

#[tokio::test]
async fn an_address_becomes_its_local_part_in_its_own_domain_alone() {
    let bench = bench(|settings| settings.login = Some(rule(None, Some("x.org"), None))).await;
    let of = |name: &'static str| login_of(&bench, set("preferred_username", json!(name)));
    assert_eq!(of("bob@x.org").await.unwrap(), "bob");
    assert_eq!(of("bob@X.ORG").await.unwrap(), "bob");
    for other in [
        "bob@evil.org",
        "bob",
        "bob@x.org.evil.org",
        "bob@sub.x.org",
        "bob@x.org@evil.org",
        "bob@evil.org@x.org",
        "@x.org",
        "bob@x.org.",
        "bob @x.org",
        "bob@\u{445}.org",
        "bob,root@x.org",
    ] {
        assert_eq!(of(other).await, Err(LoginFault::Domain("x.org".to_owned())), "{other}");
    }
    for name in ["Bob@x.org", "b*b@x.org", "bob+root@x.org", "b?@x.org"] {
        let made = of(name).await;
        assert!(matches!(made, Err(LoginFault::Form(_))), "{name}: {made:?}");
    }
    assert_eq!(of("root@x.org").await, Err(LoginFault::Root));
}

/// A login made of the e-mail claim needs an address that the issuer has verified.
#[tokio::test]
async fn an_address_that_nobody_verified_makes_no_login() {
    let bench = bench(|settings| settings.login = Some(rule(Some("email"), Some("x.org"), None))).await;
    let of = |verified: Value| {
        login_of(&bench, move |claims| {
            claims["email"] = json!("bob@x.org");
            claims["email_verified"] = verified;
        })
    };
    assert_eq!(of(json!(true)).await.unwrap(), "bob");
    for not in [json!(false), json!("true"), json!(1), json!(null)] {
        assert_eq!(of(not.clone()).await, Err(LoginFault::Missing), "{not}");
    }
}

#[tokio::test]
async fn a_table_is_exact_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logins.toml");
    std::fs::write(&file, "[logins]\n\"bob\" = \"bsmith\"\n\"root@x.org\" = \"root\"\n").unwrap();
    let table = file.clone();
    let bench = bench(move |settings| settings.login = Some(LoginRule::Table { file: table })).await;
    let of = |name: &'static str| login_of(&bench, set("preferred_username", json!(name)));
    assert_eq!(of("bob").await.unwrap(), "bsmith");
    assert_eq!(of("root@x.org").await.unwrap(), "root");
    for other in ["Bob", "bob@x.org", "b*", "b\u{43e}b"] {
        assert_eq!(of(other).await, Err(LoginFault::Unlisted), "{other}");
    }
    // One that is not good leaves the old one.
    std::fs::write(&file, "[logins]\nbob = \"b,ob\"\n").unwrap();
    assert_eq!(of("bob").await.unwrap(), "bsmith");
    std::fs::write(folder.path().join("new"), "[logins]\nbob = \"robert\"\n").unwrap();
    std::fs::rename(folder.path().join("new"), &file).unwrap();
    let begun = Instant::now();
    while of("bob").await != Ok("robert".to_owned()) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the table was not read again"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_address_counts_only_if_it_is_verified_and_the_issuer_may_speak_for_it() {
    let own = BTreeSet::from(["x.org".to_owned()]);
    let bench = bench(|settings| settings.email_domains = Some(own)).await;
    let email = |address: Value, verified: Value| {
        let mut claims = bench.issuer.claims();
        claims["email"] = address;
        claims["email_verified"] = verified;
        let token = bench.key.token(&claims);
        let identities = Arc::clone(&bench.identities);
        async move {
            let who = identities.identify(&token).await;
            who.map(|who| who.email().map(ToString::to_string))
                .map_err(|refusal| refusal.code())
        }
    };
    let counts = Ok(Some("bob@x.org".to_owned()));
    assert_eq!(email(json!("bob@x.org"), json!(true)).await, counts);
    assert_eq!(email(json!("bob@X.org"), json!(true)).await, counts);
    for verified in [
        json!(false),
        json!("true"),
        json!("false"),
        json!(1),
        json!([true]),
        json!(null),
    ] {
        assert_eq!(
            email(json!("bob@x.org"), verified.clone()).await,
            Ok(None),
            "{verified}"
        );
    }
    for address in [
        "bob@y.org",
        "bob@sub.x.org",
        "bob@x.org.evil.org",
        "bob",
        "bob@x.org\n",
        "",
    ] {
        assert_eq!(email(json!(address), json!(true)).await, Ok(None), "{address}");
    }
    assert_eq!(email(json!(null), json!(true)).await, Ok(None));
    for wrong in [json!(["bob@x.org"]), json!(7), json!({ "bob@x.org": true })] {
        assert_eq!(email(wrong, json!(true)).await, Err(RefusalCode::TokenClaims));
    }
}
