//! `[[kubernetes.workspaces]]`: which pods are workspaces.

use toml::de::DeValue;

use crate::{
    config::document::{Section, count, list, text},
    kube::discover::{
        Rule,
        rule::{AssignedBy, Kept, Namespaces, Port},
        template::{Template, is_key},
    },
};

pub(super) fn read(section: &Section<'_>) -> Option<Rule> {
    let name = section.required("name", text);
    let namespaces = match (section.has("namespaces"), section.has("namespace-selector")) {
        (true, false) => section.required("namespaces", |value| {
            let all = list(namespace)(value)?;
            match all.is_empty() {
                true => Err("must name at least one".to_owned()),
                false => Ok(Namespaces::These(all)),
            }
        }),
        (false, true) => section
            .required("namespace-selector", selector)
            .map(Namespaces::Selected),
        _ => {
            section.fault("a rule needs `namespaces` or `namespace-selector`, and not both");
            None
        }
    };
    let pods = section.or("pods", String::new(), selector);
    let owners = section.or("owners", pods.clone(), selector);
    let owner_kind = section.optional("owner-kind", kind);
    let workspace = section.or("workspace", Template::parse("{pod}").ok(), |value| {
        template(value).map(Some)
    });
    let owner = section.optional("owner", template);
    let login = section.required("login", template);
    let agent_port = section.required("agent-port", port);
    let assigned_by = match (
        section.has("assigned-by-config-map"),
        section.has("assigned-by-annotation"),
    ) {
        (true, true) => {
            section.fault("one of `assigned-by-config-map` and `assigned-by-annotation` alone says whose a pod is");
            None
        }
        (true, false) => section
            .optional("assigned-by-config-map", object)
            .map(AssignedBy::ConfigMap),
        (false, _) => section
            .optional("assigned-by-annotation", key)
            .map(AssignedBy::Annotation),
    };
    let ordinals = section.or("ordinals", 0, |value| count(10_000)(value).map(|count| count as u32));
    let claims = section.optional("claims", selector);
    if pods.is_empty() && owner_kind.is_none() {
        section.fault("a rule needs `pods` or `owner-kind`: every pod of a namespace is hardly meant");
    }
    if owner_kind.as_deref() != Some("StatefulSet")
        && (ordinals > 0 || matches!(assigned_by, Some(AssignedBy::Annotation(_))))
    {
        section.fault("`ordinals` and `assigned-by-annotation` are for `owner-kind = \"StatefulSet\"`");
    }
    Some(Rule {
        name: name?,
        namespaces: namespaces?,
        pods,
        owners,
        owner_kind,
        workspace: workspace?,
        owner,
        login: login?,
        agent_port: agent_port?,
        assigned_by,
        ordinals,
        claims,
        // What wakes the rule's workspaces asks for more.
        kept: Kept::default(),
        up_time: None,
    })
}

/// A DNS label (RFC 1123), as namespaces are called.
fn namespace(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match text.len() <= 63 && is_name(&text) && !text.contains('.') {
        true => Ok(text),
        false => Err(format!("`{}` is no name of a namespace", text.escape_debug())),
    }
}

/// The name of an object (RFC 1123).
fn object(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match text.len() <= 253 && is_name(&text) {
        true => Ok(text),
        false => Err(format!("`{}` is no name of an object", text.escape_debug())),
    }
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.bytes().all(inner) && outer(text.bytes().next()) && outer(text.bytes().last())
}

fn selector(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let good = |character: char| character.is_ascii_alphanumeric() || "-_./=!,() ".contains(character);
    match text.len() <= 1024 && text.chars().all(good) {
        true => Ok(text),
        false => Err(format!("`{}` is no label selector", text.escape_debug())),
    }
}

fn kind(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(text),
        false => Err(format!("`{}` is no kind, such as `StatefulSet`", text.escape_debug())),
    }
}

fn key(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match is_key(&text) {
        true => Ok(text),
        false => Err(format!("`{}` is no key of an annotation", text.escape_debug())),
    }
}

fn template(value: &DeValue<'_>) -> Result<Template, String> {
    Template::parse(&text(value)?)
}

fn port(value: &DeValue<'_>) -> Result<Port, String> {
    match value {
        DeValue::Integer(_) => count(65_535)(value).map(|port| Port::Number(port as u16)),
        _ => {
            let name = text(value)?;
            match name.len() <= 15 && is_name(&name) {
                true => Ok(Port::Named(name)),
                false => Err(format!(
                    "`{}` is neither a port nor the name of one",
                    name.escape_debug()
                )),
            }
        }
    }
}
