//! `deploy/vault/terraform`: made from the steps.
//!
//! Mounts and policies are resources of their own; roles and keys are written to their paths in the API's own words, so that
//! what is written does not depend on the provider's version.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value};

use super::{
    super::{Kind, Step, step::accessor_of},
    deploy::{CHOICES, Marked, OF_AGENTS, Of, committed, marked, parameters, sorted},
};

#[test]
fn the_files_are_what_the_steps_say() {
    assert!(HEAD.contains(&format!("\"agents\" ? {OF_AGENTS} : ")));
    committed("terraform/main.tf", HEAD);
    for file in FILES {
        committed(&format!("terraform/{}.tf", file.name), &resources(&file));
    }
    committed("terraform/variables.tf", &variables());
}

const HEAD: &str = r#"# Sets Vault up for a Doorward gateway, as `doorward-gateway vault apply` does. Made from the same source: do not change here.

locals {
  login_mount = var.login_mount == "" ? var.login : var.login_mount
  # An empty list allows any.
  principals = contains(var.logins, "*") ? [] : var.logins
  host_life  = coalesce(var.host_life, var.host_certificates == "agents" ? 86400 : 2592000)
}
"#;

/// One file of the module, by what its resources are for.
struct File {
    name: &'static str,
    says: &'static str,
    holds: fn(Kind) -> bool,
}

const FILES: [File; 4] = [
    File {
        name: "engines",
        says: "The SSH engines and the keys of their CAs.",
        holds: |kind| matches!(kind, Kind::Engine | Kind::CaKey),
    },
    File {
        name: "policies",
        says: "What the gateway, people and agents may do.",
        holds: |kind| matches!(kind, Kind::Policy),
    },
    File {
        name: "logins",
        says: "How the gateway, people and agents log in.",
        holds: |kind| matches!(kind, Kind::Auth | Kind::AuthConfig | Kind::AuthCluster | Kind::AuthRole),
    },
    File {
        name: "roles",
        says: "What is signed, and for how long.",
        holds: |kind| matches!(kind, Kind::SshRole),
    },
];

fn resources(file: &File) -> String {
    let all = marked();
    // They are written with their engine.
    let tunings: BTreeMap<String, Map<String, Value>> = all
        .iter()
        .filter(|one| one.step.kind == Kind::Tuning)
        .map(|one| (one.step.path.replace("/tune", ""), one.step.body.clone()))
        .collect();
    let mut text = format!(
        "# {} Made from the same source as main.tf: do not change here.\n",
        file.says
    );
    for one in all.iter().filter(|one| (file.holds)(one.step.kind)) {
        text.push('\n');
        text.push_str(&resource(&name(one), one, tunings.get(&one.step.path)));
    }
    text
}

#[test]
fn every_step_is_in_one_file() {
    for one in marked().iter().filter(|one| one.step.kind != Kind::Tuning) {
        let files = FILES.iter().filter(|file| (file.holds)(one.step.kind)).count();
        assert_eq!(files, 1, "{}", one.step.path);
    }
}

/// A name that says what it is, told apart by the choice that it belongs to.
fn name(one: &Marked) -> String {
    let path = &one.step.path;
    let base = match path.as_str() {
        "sys/mounts/@user-mount@" => "user",
        "sys/mounts/@host-mount@" => "host",
        "@user-mount@/config/ca" => "user_ca",
        "@host-mount@/config/ca" => "host_ca",
        "@user-mount@/roles/@session-role@" => "session",
        "@user-mount@/roles/@link-role@" => "link",
        "@host-mount@/roles/@host-role@" => "host",
        "sys/policies/acl/@login-role@" => "gateway",
        "sys/policies/acl/@user-login-role@" | "sys/auth/@user-login-mount@" => "people",
        "sys/auth/@login-mount@" => "gateway",
        "auth/@login-mount@/config" => "gateway_config",
        "auth/@login-mount@/role/@login-role@" => "gateway_login",
        "auth/@user-login-mount@/config" => "people_config",
        "auth/@user-login-mount@/role/@user-login-role@" => "people_login",
        "sys/policies/acl/@agent-role@" | "sys/auth/@agent-mount@" => "agents",
        "auth/@agent-mount@/config" => "agents_config",
        "auth/@agent-mount@/role/@agent-role@" => "agents_login",
        other => panic!("no name for {other}"),
    };
    let mut name = base.to_owned();
    if let Some(method) = one.when.of("login") {
        write!(name, "_{method}").unwrap();
    }
    let told_apart = base == "session" || base == "host" || (base == "gateway" && path.contains("policies"));
    if let Some(whom) = one.when.of("sign_as").filter(|_| told_apart) {
        write!(name, "_as_{whom}").unwrap();
    }
    if let Some(whom) = one.when.of("host_certificates").filter(|_| told_apart) {
        write!(name, "_hosts_by_{whom}").unwrap();
    }
    if let Some(method) = one.when.of("agent_method") {
        write!(name, "_{method}").unwrap();
    }
    name
}

fn resource(name: &str, one: &Marked, tuning: Option<&Map<String, Value>>) -> String {
    let Step { kind, path, what, body } = &one.step;
    let conditions: Vec<String> = one
        .when
        .conditions()
        .map(|(choice, value)| format!("var.{choice} == \"{value}\""))
        .collect();
    let count = match conditions.is_empty() {
        true => String::new(),
        false => format!("  count = {} ? 1 : 0\n\n", conditions.join(" && ")),
    };
    let (of, lines) = match kind {
        Kind::Engine => {
            let mut all = body.clone();
            all.extend(tuning.cloned().unwrap_or_default());
            all.insert("path".into(), path.trim_start_matches("sys/mounts/").into());
            ("vault_mount", fields(&all))
        }
        Kind::Auth => {
            let mut all = body.clone();
            all.insert("path".into(), path.trim_start_matches("sys/auth/").into());
            ("vault_auth_backend", fields(&all))
        }
        Kind::Policy => {
            let text = filled(body["policy"].as_str().unwrap())
                .replace("[\"${join(\",\", var.logins)}\"]", "${jsonencode(local.principals)}");
            let indented: String = text
                .trim_end()
                .lines()
                .map(|line| match line {
                    "" => "\n".to_owned(),
                    line => format!("    {line}\n"),
                })
                .collect();
            let name = expression(path.trim_start_matches("sys/policies/acl/"));
            (
                "vault_policy",
                format!("  name   = {name}\n  policy = <<-EOT\n{indented}  EOT\n"),
            )
        }
        _ => ("vault_generic_endpoint", endpoint(*kind, path, body)),
    };
    format!("# {what}\nresource \"{of}\" \"{name}\" {{\n{count}{lines}}}\n")
}

fn endpoint(kind: Kind, path: &str, body: &Map<String, Value>) -> String {
    let mut path = path.to_owned();
    // The mounts' resources and not their names: so Terraform knows what comes first.
    for (mark, resource) in [
        ("@user-mount@", "${vault_mount.user.path}"),
        ("@host-mount@", "${vault_mount.host.path}"),
        (
            "@login-mount@",
            "${one(concat(vault_auth_backend.gateway_kubernetes, vault_auth_backend.gateway_approle, vault_auth_backend.gateway_jwt)).path}",
        ),
        ("@user-login-mount@", "${vault_auth_backend.people[0].path}"),
        (
            "@agent-mount@",
            "${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).path}",
        ),
    ] {
        path = path.replace(mark, resource);
    }
    let mut text = format!(
        "  path                 = \"{}\"\n  ignore_absent_fields = true\n",
        filled(&path)
    );
    match kind {
        // A key is made once, and never read back: it would be made anew.
        Kind::CaKey => text.push_str("  disable_read         = true\n  disable_delete       = true\n"),
        Kind::AuthConfig | Kind::AuthCluster => text.push_str("  disable_delete       = true\n"),
        _ => {}
    }
    text.push_str("\n  data_json = jsonencode({\n");
    let longest = body.keys().map(String::len).max().unwrap_or_default();
    for (name, value) in sorted(body) {
        writeln!(text, "    {name:<longest$} = {}", hcl(value)).unwrap();
    }
    text.push_str("  })\n");
    if kind == Kind::CaKey {
        text.push_str("\n  lifecycle {\n    prevent_destroy = true\n  }\n");
    }
    text
}

fn fields(body: &Map<String, Value>) -> String {
    let longest = body.keys().map(String::len).max().unwrap_or_default();
    sorted(body)
        .into_iter()
        .map(|(name, value)| format!("  {name:<longest$} = {}\n", hcl(value)))
        .collect()
}

fn hcl(value: &Value) -> String {
    match value {
        Value::String(text) => expression(text),
        Value::Array(all) => match all.as_slice() {
            [Value::String(one)] if one == "@logins@" => "var.logins".to_owned(),
            [Value::String(one)] if one == "@agent-namespaces@" => "var.agent_namespaces".to_owned(),
            all => format!("[{}]", all.iter().map(hcl).collect::<Vec<_>>().join(", ")),
        },
        Value::Object(all) => {
            let all: Vec<String> = sorted(all)
                .into_iter()
                .map(|(name, value)| match name.contains('/') {
                    true => format!("\"{name}\" = {}", hcl(value)),
                    false => format!("{name} = {}", hcl(value)),
                })
                .collect();
            if all.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", all.join(", "))
            }
        }
        other => {
            let text = other.to_string();
            let number = parameters().find(|one| one.kind == Of::Seconds && one.mark == text);
            number.map_or(text, |one| match one.name {
                "host_life" => "local.host_life".to_owned(),
                name => format!("var.{name}"),
            })
        }
    }
}

/// A text, or the variable itself where the text is nothing else.
fn expression(text: &str) -> String {
    let filled = filled(text);
    match filled.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(inner) if !inner.contains("${") => inner.to_owned(),
        _ => format!("\"{filled}\""),
    }
}

fn filled(text: &str) -> String {
    let mut text = text.replace(
        &accessor_of("@user-login-mount@"),
        "${vault_auth_backend.people[0].accessor}",
    );
    text = text.replace(
        &accessor_of("@agent-mount@"),
        "${one(concat(vault_auth_backend.agents_jwt, vault_auth_backend.agents_kubernetes)).accessor}",
    );
    for parameter in parameters() {
        let reference = match parameter.kind {
            Of::Names => format!("${{join(\",\", var.{})}}", parameter.name),
            _ if parameter.name == "login_mount" => "${local.login_mount}".to_owned(),
            _ => format!("${{var.{}}}", parameter.name),
        };
        text = text.replace(parameter.mark, &reference);
    }
    text
}

fn variables() -> String {
    let mut text = String::from("# What may be chosen. Made from the same source as main.tf: do not change here.\n");
    for choice in &CHOICES {
        let (name, says, default, allowed) = (choice.name, choice.says, choice.values[0], choice.values);
        let allowed = allowed
            .iter()
            .map(|one| format!("\"{one}\""))
            .collect::<Vec<_>>()
            .join(", ");
        write!(
            text,
            "\nvariable \"{name}\" {{\n  description = \"{says}\"\n  type        = string\n  default     = \"{default}\"\n\n  \
             validation {{\n    condition     = contains([{allowed}], var.{name})\n    error_message = \"One of {}.\"\n  }}\n}}\n",
            allowed.replace('"', "")
        )
        .unwrap();
    }
    for one in parameters() {
        let (kind, default) = match one.kind {
            Of::Text | Of::Pem => ("string", format!("\"{}\"", one.default)),
            // Which it is depends on a choice.
            Of::Seconds if one.name == "host_life" => ("number", "null".to_owned()),
            Of::Seconds => ("number", one.default.to_owned()),
            Of::Names => ("list(string)", format!("[\"{}\"]", one.default)),
        };
        let says = one.says.replace('`', "");
        write!(
            text,
            "\nvariable \"{}\" {{\n  description = \"{says}\"\n  type        = {kind}\n  default     = {default}\n}}\n",
            one.name
        )
        .unwrap();
    }
    text
}
