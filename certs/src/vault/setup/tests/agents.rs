//! A set-up in which agents have their host certificates signed for themselves.

use serde_json::{Map, Value, json};

use super::{super::*, at_vault, needs, people};
use crate::vault::PodLogin;

fn body<'a>(steps: &'a [Step], path: &str) -> &'a Map<String, Value> {
    let found = steps.iter().find(|step| step.path == path);
    &found.unwrap_or_else(|| panic!("no step {path}")).body
}

fn policy(steps: &[Step], name: &str) -> String {
    let body = body(steps, &format!("sys/policies/acl/{name}"));
    body["policy"].as_str().unwrap().to_owned()
}

#[test]
fn the_gateway_is_denied_every_way_to_a_host_certificate() {
    for method in [PodLogin::Jwt, PodLogin::Kubernetes] {
        let steps = steps(&at_vault(method));
        let gateway = policy(&steps, "doorward-gateway");
        for act in ["sign", "issue"] {
            let denied = format!("path \"ssh-host/{act}/*\" {{\n  capabilities = [\"deny\"]\n}}");
            assert!(gateway.contains(&denied), "{gateway}");
        }
        assert!(!gateway.contains("ssh-host/sign/doorward-host"), "{gateway}");
        let agent = policy(&steps, "doorward-agent");
        assert!(agent.contains("path \"ssh-host/sign/doorward-host\""), "{agent}");
        assert_eq!(agent.matches("path ").count(), 1, "one right, and no other: {agent}");
    }
    let usual = policy(&steps(&needs()), "doorward-gateway");
    assert!(
        !usual.contains("deny\"") && !usual.contains("capabilities-self"),
        "{usual}"
    );
}

#[test]
fn the_role_signs_for_the_pod_that_asks() {
    let of = "identity.entity.aliases.(accessor of doorward-agents).metadata";
    let jwt = steps(&at_vault(PodLogin::Jwt));
    let role = body(&jwt, "ssh-host/roles/doorward-host");
    let name = format!("{{{{{of}.pod_name}}}}");
    assert_eq!(role["allowed_domains"], json!(format!("{name},{name}.doorward")));
    assert_eq!(role["allowed_domains_template"], json!(true));
    assert_eq!(role["allowed_extensions"], json!(""), "nobody says a UID");
    assert_eq!(
        role["default_extensions"],
        json!({ "workspace@doorward": format!("{{{{{of}.pod_uid}}}}") })
    );
    let login = body(&jwt, "auth/doorward-agents/role/doorward-agent");
    assert_eq!(login["user_claim"], "/kubernetes.io/pod/uid", "one alias for each pod");
    assert_eq!(login["bound_claims"], json!({ "/kubernetes.io/namespace": ["devenv"] }));

    let account = steps(&at_vault(PodLogin::Kubernetes));
    let role = body(&account, "ssh-host/roles/doorward-host");
    assert!(
        role["allowed_domains"]
            .as_str()
            .unwrap()
            .contains(&format!("{of}.service_account_name"))
    );
    let login = body(&account, "auth/doorward-agents/role/doorward-agent");
    assert_eq!(login["audience"], "vault");
    assert_eq!(login["bound_service_account_namespaces"], json!(["devenv"]));
    for steps in [jwt, account] {
        let login = body(&steps, "auth/doorward-agents/role/doorward-agent");
        assert_eq!(login["token_type"], "batch");
        assert_eq!(login["token_policies"], json!(["doorward-agent"]));
        assert_eq!(login["token_no_default_policy"], json!(true));
    }
}

#[test]
fn each_accessor_is_put_where_its_own_mount_is_named() {
    let all = steps(&Needs {
        user_login: Some(people()),
        ..at_vault(PodLogin::Jwt)
    });
    let mut live = Live::new();
    for (mount, kind) in [("jwt", "jwt"), ("doorward-agents", "jwt")] {
        let there = json!({ "type": kind, "accessor": format!("auth_{mount}_1"), "description": "Doorward: x" });
        live.insert(format!("sys/auth/{mount}"), there.as_object().unwrap().clone());
    }
    let plan = Plan::of(all, &live);
    let body = |path: &str| {
        let change = plan.changes.iter().find(|change| change.path == path).unwrap();
        Value::Object(change.body.clone()).to_string()
    };
    let host = body("ssh-host/roles/doorward-host");
    assert_eq!(host.matches("auth_doorward-agents_1").count(), 3, "{host}");
    let session = body("ssh/roles/doorward-session");
    assert!(
        session.contains("auth_jwt_1") && !session.contains("agents"),
        "{session}"
    );
    assert!(!host.contains("accessor of") && !session.contains("accessor of"));
}

#[test]
fn agents_share_nothing_with_those_who_may_do_something_else() {
    let with = |change: fn(&mut AgentLogin)| {
        let mut needs = Needs {
            user_login: Some(people()),
            ..at_vault(PodLogin::Jwt)
        };
        change(needs.agents.as_mut().unwrap());
        needs.contradiction().unwrap_or_default()
    };
    assert_eq!(with(|_| {}), "");
    assert!(with(|agents| agents.role = "doorward-gateway".into()).contains("share the role"));
    assert!(with(|agents| agents.role = "doorward-user".into()).contains("share the role"));
    assert!(with(|agents| agents.mount = "jwt".into()).contains("share the mount"));
    assert!(with(|agents| agents.mount = "approle".into()).contains("share the mount"));
    assert!(with(|agents| agents.namespaces = Names::These(Vec::new())).contains("no namespace"));
    let any = with(|agents| {
        agents.method = PodLogin::Kubernetes;
        agents.namespaces = Names::Any;
    });
    assert!(any.contains("name the namespaces"), "{any}");
}
