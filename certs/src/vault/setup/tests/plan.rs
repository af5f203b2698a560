//! Steps against what a Vault holds: made, changed, left alone, refused.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    super::{GatewayLogin, Kind, Live, Names, Needs, Plan, Step, Verdict, plan::name_accessor, steps},
    needs, people,
};
use crate::{
    Capabilities, HostKey, Login, Recording, RecordingMode, RemoteForward, SessionRequest, Sftp, Terms, WorkspaceName,
    WorkspaceUid,
};

/// A Vault that holds these steps, and shows them as Vault does.
fn holding(steps: &[Step]) -> Live {
    steps
        .iter()
        .map(|step| {
            let mut body = step.body.clone();
            name_accessor(&mut body, "jwt", "auth_jwt_1");
            match step.kind {
                Kind::Engine | Kind::Auth => {
                    body.insert("accessor".into(), "auth_jwt_1".into());
                }
                Kind::CaKey => body = object(json!({ "public_key": "ssh-ed25519 AAAA" })),
                _ => {}
            }
            (step.path.clone(), body)
        })
        .collect()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn as_people() -> Needs {
    Needs {
        user_login: Some(people()),
        ..needs()
    }
}

fn find<'a>(plan: &'a Plan, path: &str) -> &'a super::super::Change {
    plan.changes.iter().find(|change| change.path == path).unwrap()
}

#[test]
fn an_empty_vault_gets_everything_in_an_order_that_works() {
    let plan = Plan::of(steps(&as_people()), &Live::new());
    assert_eq!(plan.count(Verdict::Create), plan.changes.len());
    let place = |path: &str| plan.changes.iter().position(|change| change.path == path).unwrap();
    for (first, then) in [
        ("sys/mounts/ssh", "ssh/config/ca"),
        ("sys/mounts/ssh", "ssh/roles/doorward-session"),
        ("sys/auth/jwt", "auth/jwt/config"),
        ("auth/jwt/config", "auth/jwt/role/doorward-user"),
        ("sys/auth/jwt", "ssh/roles/doorward-session"),
        ("sys/auth/approle", "auth/approle/role/doorward-gateway"),
    ] {
        assert!(place(first) < place(then), "{first} before {then}");
    }
}

#[test]
fn what_is_there_stays() {
    for needs in [needs(), as_people()] {
        let all = steps(&needs);
        let plan = Plan::of(all.clone(), &holding(&all));
        assert!(
            plan.is_done(),
            "{:#?}",
            plan.changes
                .iter()
                .filter(|one| one.verdict != Verdict::Same)
                .collect::<Vec<_>>()
        );
    }
}

/// Vault writes some things in its own way: lists in another order, nothing for what it does not know.
#[test]
fn vaults_own_spelling_is_no_change() {
    let all = steps(&needs());
    let mut live = holding(&all);
    let role = live.get_mut("ssh/roles/doorward-session").unwrap();
    role.insert("allowed_users".into(), "operator,node".into());
    role.remove("allow_empty_principals");
    role.remove("default_extensions");
    role.insert("algorithm_signer".into(), "default".into());
    let login = live.get_mut("auth/approle/role/doorward-gateway").unwrap();
    login.insert("token_bound_cidrs".into(), Value::Null);
    let policy = live.get_mut("sys/policies/acl/doorward-gateway").unwrap();
    let text = policy["policy"].as_str().unwrap().trim_end().to_owned();
    policy.insert("policy".into(), text.into());
    assert!(Plan::of(all, &live).is_done());
}

#[test]
fn a_role_that_was_widened_is_narrowed_again() {
    let all = steps(&needs());
    let mut live = holding(&all);
    let role = live.get_mut("ssh/roles/doorward-session").unwrap();
    for (field, wide) in [
        ("allowed_users", json!("*")),
        ("allow_empty_principals", json!(true)),
        ("allowed_critical_options", json!("")),
        ("max_ttl", json!(2_764_800)),
        ("default_user", json!("root")),
        ("allow_host_certificates", json!(true)),
        ("default_extensions", json!({ "permit-pty": "" })),
    ] {
        role.insert(field.into(), wide);
    }
    let plan = Plan::of(all, &live);
    let change = find(&plan, "ssh/roles/doorward-session");
    assert_eq!(change.verdict, Verdict::Change);
    let fields: Vec<_> = change.fields.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields.len(), 7, "{fields:?}");
    let users = change.fields.iter().find(|one| one.field == "allowed_users").unwrap();
    assert_eq!((&users.old, &users.new), (&json!("*"), &json!("node,operator")));
    // What is written is the whole role: Vault puts defaults in place of what is left out.
    assert_eq!(change.body["ttl"], json!(180));
    assert_eq!(plan.count(Verdict::Same), plan.changes.len() - 1);
}

#[test]
fn a_key_is_never_touched_and_what_others_tuned_stays() {
    let all = steps(&needs());
    let mut live = holding(&all);
    live.insert("ssh/config/ca".into(), object(json!({ "public_key": "ssh-rsa AAAA" })));
    live.insert(
        "sys/mounts/ssh/tune".into(),
        object(json!({ "audit_non_hmac_request_keys": ["ttl", "key_id"], "max_lease_ttl": 7 })),
    );
    let plan = Plan::of(all, &live);
    assert_eq!(find(&plan, "ssh/config/ca").verdict, Verdict::Same);
    let tuned = find(&plan, "sys/mounts/ssh/tune");
    assert_eq!(tuned.verdict, Verdict::Change);
    assert_eq!(
        tuned.body["audit_non_hmac_request_keys"],
        json!(["ttl", "key_id", "cert_type", "valid_principals"])
    );
    assert!(!tuned.body.contains_key("max_lease_ttl"));
}

#[test]
fn what_is_somebody_elses_is_a_conflict() {
    let all = steps(&as_people());
    let mut live = holding(&all);
    live.insert(
        "sys/mounts/ssh-host".into(),
        object(json!({ "type": "kv", "description": "" })),
    );
    live.insert(
        "sys/auth/approle".into(),
        object(json!({ "type": "userpass", "description": "" })),
    );
    live.insert(
        "sys/auth/jwt".into(),
        object(json!({ "type": "jwt", "description": "CI", "accessor": "auth_jwt_1" })),
    );
    let config = live.get_mut("auth/jwt/config").unwrap();
    config.insert("bound_issuer".into(), "https://ci.example".into());
    let plan = Plan::of(all.clone(), &live);
    for path in ["sys/mounts/ssh-host", "sys/auth/approle", "auth/jwt/config"] {
        let change = find(&plan, path);
        assert_eq!(change.verdict, Verdict::Conflict, "{path}");
        assert!(change.conflict.as_ref().unwrap().contains("choose another"), "{path}");
    }
    // The same at a mount that was made for Doorward is a change.
    live.insert(
        "sys/auth/jwt".into(),
        object(json!({ "type": "jwt", "description": "Doorward: where people log in", "accessor": "auth_jwt_1" })),
    );
    assert_eq!(find(&Plan::of(all, &live), "auth/jwt/config").verdict, Verdict::Change);
}

#[test]
fn signed_as_the_person_means_that_persons_name() {
    let all = steps(&as_people());
    let live = holding(&all);
    let plan = Plan::of(all.clone(), &Live::new());
    let unknown = &find(&plan, "ssh/roles/doorward-session").body["allowed_users"];
    assert_eq!(
        unknown,
        "{{identity.entity.aliases.(accessor of jwt).name}},node,operator"
    );
    let mut live = live;
    live.remove("ssh/roles/doorward-session");
    let plan = Plan::of(all, &live);
    let role = &find(&plan, "ssh/roles/doorward-session").body;
    assert_eq!(
        role["allowed_users"],
        "{{identity.entity.aliases.auth_jwt_1.name}},node,operator"
    );
    assert_eq!(role["allowed_users_template"], true);
    // Nobody but people signs sessions then.
    let gateway = find(&plan, "sys/policies/acl/doorward-gateway").verdict;
    assert_eq!(gateway, Verdict::Same);
    let texts: Vec<String> = steps(&as_people())
        .into_iter()
        .filter(|step| step.kind == Kind::Policy)
        .map(|step| step.body["policy"].as_str().unwrap().to_owned())
        .collect();
    let signs = |text: &str| text.contains("\"ssh/sign/doorward-session\"");
    assert_eq!(texts.iter().map(|text| signs(text)).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn contradictions_are_told() {
    for (broken, expected) in [
        (
            Needs {
                host_mount: "ssh".into(),
                ..needs()
            },
            "they must be two",
        ),
        (
            Needs {
                link_role: "doorward-session".into(),
                ..needs()
            },
            "pass for a gateway",
        ),
        (
            Needs {
                user_login: Some(super::super::UserLogin {
                    role: "doorward-gateway".into(),
                    ..people()
                }),
                ..needs()
            },
            "the gateway's rights",
        ),
        (
            Needs {
                login: GatewayLogin::AppRole {
                    mount: "jwt".into(),
                    role: "doorward-gateway".into(),
                },
                ..as_people()
            },
            "two kinds of login",
        ),
        (
            Needs {
                login: GatewayLogin::Jwt {
                    mount: "jwt".into(),
                    role: "doorward-gateway".into(),
                    issuer: "https://cluster.example".into(),
                    subject: "s".into(),
                    audience: "a".into(),
                },
                ..as_people()
            },
            "two issuers",
        ),
    ] {
        let told = broken.contradiction().unwrap_or_default();
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert_eq!(needs().contradiction(), None);
    assert_eq!(as_people().contradiction(), None);
}

#[test]
fn any_name_is_asked_for_only_where_it_has_to_be() {
    let any = Needs {
        logins: Names::Any,
        hosts: Names::Any,
        ..needs()
    };
    let role = |needs: &Needs, path: &str| steps(needs).into_iter().find(|step| step.path == path).unwrap().body;
    assert_eq!(role(&any, "ssh/roles/doorward-session")["allowed_users"], "*");
    assert_eq!(role(&any, "ssh-host/roles/doorward-host")["allowed_domains"], "*");
    let as_people = Needs {
        user_login: Some(people()),
        ..any
    };
    // A person's own name suffices there, whatever it is.
    assert_eq!(
        role(&as_people, "ssh/roles/doorward-session")["allowed_users"],
        "{{identity.entity.aliases.(accessor of jwt).name}}"
    );
}

/// The extensions of a session that may do everything that there is to be allowed.
fn everything() -> BTreeSet<String> {
    let request = SessionRequest {
        subject: HostKey::generate().unwrap().public_key().clone(),
        session: uuid::Uuid::now_v7(),
        workspace: WorkspaceName::try_from("devenv-0").unwrap(),
        workspace_uid: WorkspaceUid::try_from("uid-0").unwrap(),
        user: "bob".into(),
        terms: Terms {
            login: Login::try_from("node").unwrap(),
            // Every field by name: a new one has to be thought of here.
            capabilities: Capabilities {
                shell: true,
                exec: true,
                pty: true,
                sftp: Sftp::ReadWrite,
                agent_forwarding: true,
                x11_forwarding: true,
                local_forward: vec!["*:*".into()],
                remote_forward: RemoteForward::Any,
            },
            recording: Recording {
                input: true,
                bulk_limit: 1,
                mode: RecordingMode::BestEffort,
                unacked: 1,
                stall: Duration::from_secs(1),
            },
            longest: Duration::from_secs(3600),
        },
        valid_for: Duration::from_secs(60),
    };
    request.wanted().unwrap().extensions.into_keys().collect()
}

#[test]
fn the_role_of_sessions_allows_what_sessions_carry_and_nothing_else() {
    for needs in [needs(), as_people()] {
        let role = steps(&needs)
            .into_iter()
            .find(|step| step.path == "ssh/roles/doorward-session")
            .unwrap();
        let allowed = role.body["allowed_extensions"].as_str().unwrap();
        let allowed: BTreeSet<String> = allowed.split(',').map(str::to_owned).collect();
        assert_eq!(allowed, everything());
    }
}

/// No name that the agent reads is left out of the list, so that none can be granted which Vault does not sign.
#[test]
fn every_extension_that_has_a_name_is_in_the_one_list() {
    let source = include_str!("../../../extension.rs");
    let names: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub(crate) const ")?.split_once(": &str = \""))
        .filter_map(|(_, rest)| rest.strip_suffix("\";"))
        .filter(|name| *name != crate::extension::NAMESPACE)
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(crate::extension::OF_SESSIONS.contains(&name), "{name}");
    }
}
