//! Whether a role that is there would sign too much, or too little to be of use.
//!
//! A role need not have been made by our set-up: it is judged by what it lets through, not by how it differs.

use serde_json::{Map, Value};

use super::steps::NO_OPTION;
use crate::{GATEWAY_PRINCIPAL, LONGEST_HOST_LIFE, LONGEST_LINK_LIFE, LONGEST_SESSION_LIFE, extension as ext};

/// What a role is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It signs sessions as the gateway.
    Session,
    /// It signs sessions as the person.
    SessionAsUser,
    /// It signs links.
    Link,
    /// It signs host certificates, for the gateway.
    Host,
    /// It signs host certificates, for each agent its own.
    OwnHost,
}

/// What is wrong with a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Whether it cannot work like that; otherwise it works, and lets through too much.
    pub useless: bool,
    /// What it lets through, or what it lacks.
    pub text: String,
}

/// What is wrong with this role of the SSH engine, as Vault shows it.
#[must_use]
pub fn flaws(role: &Map<String, Value>, purpose: Purpose) -> Vec<Flaw> {
    let role = Role(role);
    let mut all = Vec::new();
    let mut wide = |text: &str| {
        all.push(Flaw {
            useless: false,
            text: text.to_owned(),
        });
    };
    let (user, host) = (
        role.flag("allow_user_certificates"),
        role.flag("allow_host_certificates"),
    );
    let for_hosts = matches!(purpose, Purpose::Host | Purpose::OwnHost);
    if for_hosts && user {
        wide("it signs user certificates too, which would open workspaces (allow_user_certificates)");
    }
    if !for_hosts && host {
        wide("it signs host certificates too, with which anybody passes for a workspace (allow_host_certificates)");
    }
    if role.flag("allow_empty_principals") {
        wide("it signs certificates without principals, which open every account (allow_empty_principals)");
    }
    let users = role.text("allowed_users");
    match purpose {
        Purpose::Session if users == "*" => wide("it lets anyone in as anyone (allowed_users = \"*\")"),
        Purpose::SessionAsUser if users == "*" => {
            wide("it lets every person in as anyone (allowed_users = \"*\" where people sign for themselves)");
        }
        Purpose::Link if users != GATEWAY_PRINCIPAL && !users.is_empty() => {
            wide("it signs for others than the gateway (allowed_users)");
        }
        Purpose::Session | Purpose::SessionAsUser if users.split(',').any(|one| one.trim() == GATEWAY_PRINCIPAL) => {
            wide("it signs the gateway's own principal for sessions (allowed_users)");
        }
        _ => {}
    }
    let own = purpose == Purpose::OwnHost;
    if own {
        let names = role.text("allowed_domains");
        let bound = |name: &str| name.contains("{{identity.entity.");
        if !role.flag("allowed_domains_template") || !names.split(',').all(bound) {
            wide("it lets an agent take the name of another's workspace (allowed_domains is not bound to who asks)");
        }
        if role.flag("allow_subdomains") {
            wide("it signs every name below an agent's own (allow_subdomains)");
        }
    }
    if role.text("allowed_extensions") == "*" {
        wide("it signs any extension (allowed_extensions = \"*\")");
    }
    let options = role.text("allowed_critical_options");
    if options.is_empty() {
        wide("it signs any critical option, because none is named (allowed_critical_options)");
    } else if options != NO_OPTION {
        wide("it signs critical options, which Doorward never asks for (allowed_critical_options)");
    }
    if (role.is_filled("default_extensions") && !own) || role.is_filled("default_critical_options") {
        wide("it adds what was not asked for (default_extensions, default_critical_options)");
    }
    if !role.text("default_user").is_empty() {
        wide("it puts in an account where none is asked for (default_user)");
    }
    let longest = match purpose {
        Purpose::Session | Purpose::SessionAsUser => LONGEST_SESSION_LIFE,
        Purpose::Link => LONGEST_LINK_LIFE,
        Purpose::Host | Purpose::OwnHost => LONGEST_HOST_LIFE,
    };
    match role.seconds("max_ttl") {
        0 => wide("its certificates may live as long as the mount allows, often 32 days (max_ttl)"),
        life if life > longest.as_secs() => wide(&format!(
            "its certificates may live for {life} s, above the {} s that are ever believed (max_ttl)",
            longest.as_secs()
        )),
        _ => {}
    }
    all.extend(lacks(&role, purpose));
    all
}

fn lacks(role: &Role<'_>, purpose: Purpose) -> Vec<Flaw> {
    let mut all = Vec::new();
    let mut need = |lacking: bool, text: &str| {
        if lacking {
            all.push(Flaw {
                useless: true,
                text: text.to_owned(),
            });
        }
    };
    need(
        role.text("key_type") != "ca",
        "it signs nothing (key_type is not \"ca\")",
    );
    need(
        !role.flag("allow_user_key_ids"),
        "it refuses our key ids (allow_user_key_ids)",
    );
    let wanted: Vec<&str> = match purpose {
        Purpose::Session | Purpose::SessionAsUser => ext::OF_SESSIONS.to_vec(),
        Purpose::Link => Vec::new(),
        // The role writes it itself, or lets it be asked for.
        Purpose::OwnHost if role.fills("default_extensions", ext::WORKSPACE) => Vec::new(),
        Purpose::Host | Purpose::OwnHost => vec![ext::WORKSPACE],
    };
    let allowed = role.text("allowed_extensions");
    let missing: Vec<&str> = match allowed {
        "*" => Vec::new(),
        _ => wanted
            .into_iter()
            .filter(|name| !allowed.split(',').any(|one| one == *name))
            .collect(),
    };
    need(
        !missing.is_empty(),
        &format!(
            "it refuses extensions that Doorward writes (allowed_extensions lacks {})",
            missing.join(", ")
        ),
    );
    let (kind, names) = match purpose {
        Purpose::Host | Purpose::OwnHost => ("allow_host_certificates", "allowed_domains"),
        _ => ("allow_user_certificates", "allowed_users"),
    };
    need(
        !role.flag(kind),
        &format!("it does not sign the kind of certificate that it is for ({kind})"),
    );
    need(
        role.text(names).is_empty(),
        &format!("it allows no name at all ({names})"),
    );
    need(
        matches!(purpose, Purpose::Host | Purpose::OwnHost) && !role.flag("allow_bare_domains"),
        "it refuses the workspaces' own names (allow_bare_domains)",
    );
    need(
        purpose == Purpose::SessionAsUser
            && role.text("allowed_users").contains("{{")
            && !role.flag("allowed_users_template"),
        "it takes its template for a name (allowed_users_template)",
    );
    all
}

struct Role<'a>(&'a Map<String, Value>);

impl<'a> Role<'a> {
    fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn text(&self, name: &str) -> &'a str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn seconds(&self, name: &str) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    fn is_filled(&self, name: &str) -> bool {
        self.0
            .get(name)
            .and_then(Value::as_object)
            .is_some_and(|all| !all.is_empty())
    }

    fn fills(&self, name: &str, key: &str) -> bool {
        self.0.get(name).is_some_and(|all| all.get(key).is_some())
    }
}
