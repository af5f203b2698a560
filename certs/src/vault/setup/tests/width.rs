//! Each way in which a role lets through too much, or cannot work, is told; our own roles have none.

use serde_json::{Map, Value, json};

use super::{
    super::{Kind, Names, Needs, Purpose, flaws, steps},
    at_vault, needs, people,
};
use crate::vault::PodLogin;

fn role(needs: &Needs, name: &str) -> Map<String, Value> {
    let mut all = steps(needs).into_iter();
    all.find(|step| step.kind == Kind::SshRole && step.path.ends_with(name))
        .unwrap()
        .body
}

fn texts(role: &Map<String, Value>, purpose: Purpose) -> Vec<(bool, String)> {
    flaws(role, purpose)
        .into_iter()
        .map(|flaw| (flaw.useless, flaw.text))
        .collect()
}

#[test]
fn our_own_roles_are_good() {
    let people = Needs {
        user_login: Some(people()),
        ..needs()
    };
    for (needs, name, purpose) in [
        (needs(), "doorward-session", Purpose::Session),
        (people, "doorward-session", Purpose::SessionAsUser),
        (needs(), "doorward-link", Purpose::Link),
        (needs(), "doorward-host", Purpose::Host),
        (at_vault(PodLogin::Jwt), "doorward-host", Purpose::OwnHost),
        (at_vault(PodLogin::Kubernetes), "doorward-host", Purpose::OwnHost),
    ] {
        assert_eq!(texts(&role(&needs, name), purpose), [], "{name}");
    }
    let any = Needs {
        logins: Names::Any,
        ..needs()
    };
    assert_eq!(texts(&role(&any, "doorward-session"), Purpose::Session).len(), 1);
}

#[test]
fn each_flaw_is_told() {
    use Purpose::{Host, Link, OwnHost, Session, SessionAsUser};
    for (purpose, field, value, useless, expected) in [
        (Session, "allowed_users", json!("*"), false, "anyone in as anyone"),
        (
            SessionAsUser,
            "allowed_users",
            json!("*"),
            false,
            "every person in as anyone",
        ),
        (
            Session,
            "allowed_users",
            json!("node,doorward-gateway"),
            false,
            "the gateway's own principal",
        ),
        (Session, "allowed_users", json!(""), true, "no name at all"),
        (
            Session,
            "allow_empty_principals",
            json!(true),
            false,
            "without principals",
        ),
        (Session, "allowed_extensions", json!("*"), false, "any extension"),
        (
            Session,
            "allowed_extensions",
            json!("permit-pty"),
            true,
            "allowed_extensions lacks",
        ),
        (
            Session,
            "allowed_critical_options",
            json!(""),
            false,
            "any critical option",
        ),
        (
            Session,
            "allowed_critical_options",
            json!("force-command"),
            false,
            "never asks for",
        ),
        (
            Session,
            "allow_host_certificates",
            json!(true),
            false,
            "passes for a workspace",
        ),
        (Session, "max_ttl", json!(0), false, "32 days"),
        (Session, "max_ttl", json!(86_400), false, "86400 s, above the 3600 s"),
        (
            Session,
            "default_extensions",
            json!({ "permit-pty": "" }),
            false,
            "not asked for",
        ),
        (Session, "default_user", json!("root"), false, "default_user"),
        (Session, "allow_user_key_ids", json!(false), true, "our key ids"),
        (
            Session,
            "allow_user_certificates",
            json!(false),
            true,
            "allow_user_certificates",
        ),
        (Session, "key_type", json!("otp"), true, "signs nothing"),
        (
            SessionAsUser,
            "allowed_users_template",
            json!(false),
            true,
            "template for a name",
        ),
        (Link, "allowed_users", json!("*"), false, "others than the gateway"),
        (
            Link,
            "allowed_users",
            json!("doorward-gateway,node"),
            false,
            "others than the gateway",
        ),
        (Link, "max_ttl", json!(30 * 86_400), false, "max_ttl"),
        (Host, "allow_user_certificates", json!(true), false, "open workspaces"),
        (
            Host,
            "allow_host_certificates",
            json!(false),
            true,
            "allow_host_certificates",
        ),
        (Host, "allow_bare_domains", json!(false), true, "own names"),
        (Host, "allowed_domains", json!(""), true, "no name at all"),
        (OwnHost, "allowed_domains", json!("*"), false, "another's workspace"),
        (
            OwnHost,
            "allowed_domains",
            json!("devenv-0"),
            false,
            "another's workspace",
        ),
        (
            OwnHost,
            "allowed_domains_template",
            json!(false),
            false,
            "another's workspace",
        ),
        (OwnHost, "allow_subdomains", json!(true), false, "every name below"),
        (
            OwnHost,
            "default_extensions",
            json!({}),
            true,
            "lacks workspace@doorward",
        ),
        (
            OwnHost,
            "allow_user_certificates",
            json!(true),
            false,
            "open workspaces",
        ),
    ] {
        let (needs, name) = match purpose {
            Session => (needs(), "doorward-session"),
            SessionAsUser => (
                Needs {
                    user_login: Some(people()),
                    ..needs()
                },
                "doorward-session",
            ),
            Link => (needs(), "doorward-link"),
            Host => (needs(), "doorward-host"),
            OwnHost => (at_vault(PodLogin::Jwt), "doorward-host"),
        };
        let mut role = role(&needs, name);
        role.insert(field.to_owned(), value);
        let told = texts(&role, purpose);
        assert!(
            told.iter()
                .any(|(is_useless, text)| *is_useless == useless && text.contains(expected)),
            "{field}: {told:?}"
        );
        assert_eq!(told.len(), 1, "{field}: {told:?}");
    }
}
