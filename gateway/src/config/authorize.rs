//! `[authorize]`: who besides the policy has a say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use toml::de::DeValue;

use super::document::{Section, duration, text};

/// `[authorize]`.
#[derive(Debug, Clone)]
pub struct Authorize {
    /// How Kubernetes RBAC is asked about the workspaces of a rule, by the rule's name.
    pub rbac: BTreeMap<String, Rbac>,
    /// The rules about whose workspaces `WorkspaceAccess` objects of their namespaces have a say.
    pub access: BTreeSet<String>,
    /// What the API server puts in front of the names of people.
    pub username_prefix: String,
    /// The same of groups.
    pub groups_prefix: String,
    /// How old an answer may be.
    pub cache: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Default for Authorize {
    fn default() -> Self {
        Self {
            rbac: BTreeMap::new(),
            access: BTreeSet::new(),
            username_prefix: String::new(),
            groups_prefix: String::new(),
            cache: CACHE,
            timeout: TIMEOUT,
        }
    }
}

/// `[[authorize.rbac]]`: what a person has to be allowed to do in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rbac {
    /// Whether the policy has to agree.
    pub require: Require,
    /// `create`.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// `pods`.
    pub resource: String,
    /// `exec`; empty for none.
    pub subresource: String,
    /// On which object.
    pub name: Named,
}

/// Whose yes is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// That of the policy and that of RBAC.
    Both,
    /// One of them.
    Either,
}

/// The object that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The workspace's pod.
    Pod,
    /// What the pod belongs to.
    Owner,
    /// None: the question is about all objects of the namespace.
    None,
}

/// Reads the section; `rules` are the names of the rules that there are.
pub(super) fn read(section: &Section<'_>, rules: Option<&[&str]>) -> Option<Authorize> {
    let username_prefix = section.or("username-prefix", String::new(), prefix);
    let groups_prefix = section.or("groups-prefix", String::new(), prefix);
    let cache = section.or("cache", CACHE, duration(Duration::ZERO, LONGEST_CACHE));
    let timeout = section.or("timeout", TIMEOUT, duration(SHORTEST_TIMEOUT, LONGEST_TIMEOUT));
    let mut rbac = BTreeMap::new();
    for (rule, one) in section.sections("rbac", read_rbac) {
        let shown = rule.escape_debug().to_string();
        // What is wrong with [kubernetes] itself is told there.
        if rules.is_some_and(|rules| !rules.contains(&rule.as_str())) {
            section.fault_at(
                "rbac",
                format!("there is no rule `{shown}` in [[kubernetes.workspaces]]"),
            );
        }
        if rbac.insert(rule, one).is_some() {
            section.fault_at("rbac", format!("the rule `{shown}` is there more than once"));
        }
    }
    let mut access = BTreeSet::new();
    for rule in section.sections("workspace-access", |one| one.required("rule", text)) {
        let shown = rule.escape_debug().to_string();
        if rules.is_some_and(|rules| !rules.contains(&rule.as_str())) {
            section.fault_at(
                "workspace-access",
                format!("there is no rule `{shown}` in [[kubernetes.workspaces]]"),
            );
        }
        if !access.insert(rule) {
            section.fault_at(
                "workspace-access",
                format!("the rule `{shown}` is there more than once"),
            );
        }
    }
    Some(Authorize {
        rbac,
        access,
        username_prefix,
        groups_prefix,
        cache,
        timeout,
    })
}

fn read_rbac(section: &Section<'_>) -> Option<(String, Rbac)> {
    let rule = section.required("rule", text);
    let require = section.required("require", |value| match text(value)?.as_str() {
        "both" => Ok(Require::Both),
        "either" => Ok(Require::Either),
        _ => Err("must be \"both\" (the policy and RBAC) or \"either\"".to_owned()),
    });
    let verb = section.required("verb", word);
    let group = section.or("group", String::new(), |value| match value.as_str() {
        Some("") => Ok(String::new()),
        _ => word(value),
    });
    let resource = section.required("resource", word);
    let subresource = section.or("subresource", String::new(), word);
    let name = section.or("name", Named::Pod, |value| match text(value)?.as_str() {
        "pod" => Ok(Named::Pod),
        "owner" => Ok(Named::Owner),
        "none" => Ok(Named::None),
        _ => Err("must be \"pod\", \"owner\" or \"none\"".to_owned()),
    });
    Some((
        rule?,
        Rbac {
            require: require?,
            verb: verb?,
            group,
            resource: resource?,
            subresource,
            name,
        },
    ))
}

/// A verb, a group or a plural, exactly: `*` would ask whether everything is allowed.
fn word(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    match !text.is_empty() && text.len() <= 253 && text.bytes().all(good) {
        true => Ok(text),
        false => Err(format!(
            "`{}` is not what Kubernetes has there: lower-case letters, digits, `-` and `.`",
            text.escape_debug()
        )),
    }
}

fn prefix(value: &DeValue<'_>) -> Result<String, String> {
    if value.as_str() == Some("") {
        return Ok(String::new());
    }
    let text = text(value)?;
    let plain = |character: char| !character.is_control() && !crate::oidc::is_hidden(character);
    match text.len() <= 256 && text.chars().all(plain) && !text.starts_with("system:") {
        true => Ok(text),
        false => Err("must be at most 256 plain characters, and not begin with `system:`".to_owned()),
    }
}

const CACHE: Duration = Duration::from_secs(10);
const LONGEST_CACHE: Duration = Duration::from_secs(60);
/// Somebody waits at a prompt.
const TIMEOUT: Duration = Duration::from_secs(3);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
