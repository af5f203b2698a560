//! `[kubernetes]`: the cluster whose pods are workspaces, and how its API server is reached.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    document::{Section, duration, text},
    read::{DAY, HOUR, path, secret},
};
use crate::kube::discover::Rule;

mod rule;

/// `[kubernetes]`.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// How the API server is reached.
    pub access: KubernetesAccess,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long what was last known of the cluster serves while nothing is heard of it.
    pub max_age: Duration,
    /// Which pods are workspaces.
    pub workspaces: Vec<Rule>,
    /// The audience of the tokens with which pods prove who they are.
    pub audience: String,
    /// How the workspaces of a rule are woken, by the rule's name.
    pub wakes: std::collections::BTreeMap<String, crate::wake::Way>,
    /// Where the use of the workspaces of a rule is published, by the rule's name.
    pub usage: std::collections::BTreeMap<String, crate::usage::Publication>,
}

/// Where the API server is, and who we are there.
#[derive(Debug, Clone)]
pub enum KubernetesAccess {
    /// As the service account of the gateway's own pod.
    ServiceAccount {
        /// The server.
        server: Url,
        /// The folder with `token`, `ca.crt` and `namespace`.
        folder: PathBuf,
    },
    /// As a kubeconfig file says.
    Kubeconfig(PathBuf),
}

/// Reads the section.
pub(super) fn read(section: &Section<'_>, base: &Path) -> Option<Kubernetes> {
    let timeout = section.or(
        "timeout",
        TIMEOUT,
        duration(Duration::from_millis(100), Duration::from_secs(60)),
    );
    let access = match section.has("kubeconfig") {
        true => {
            for key in ["server", "service-account"] {
                if section.has(key) {
                    section.fault_at(
                        key,
                        format!("`{key}` is for the service account, and there is `kubeconfig`"),
                    );
                }
            }
            section
                .required("kubeconfig", secret(base))
                .map(KubernetesAccess::Kubeconfig)
        }
        false => {
            let server = section.or("server", Url::parse(SERVER).ok(), |value| server(value).map(Some));
            let folder = section.or("service-account", PathBuf::from(FOLDER), path(base));
            server.map(|server| KubernetesAccess::ServiceAccount { server, folder })
        }
    };
    let max_age = section.or("max-age", HOUR, duration(Duration::from_secs(1), DAY * 7));
    let mut workspaces = section.sections("workspaces", rule::read);
    for (place, one) in workspaces.iter().enumerate() {
        if workspaces.iter().take(place).any(|other| other.name == one.name) {
            section.fault_at("workspaces", format!("the rule `{}` is there more than once", one.name));
        }
    }
    let audience = section.or("audience", AUDIENCE.to_owned(), text);
    let wakes = wakes(section, base);
    for (name, way) in &wakes {
        let fault = |why: String| section.fault_at("wake", why);
        match workspaces.iter_mut().find(|one| one.name == *name) {
            None => fault(format!(
                "there is no rule `{}` in [[kubernetes.workspaces]]",
                name.escape_debug()
            )),
            Some(rule) => {
                way.keys(&mut rule.kept);
                let scaled = matches!(rule.owner_kind.as_deref(), Some("StatefulSet" | "Deployment"));
                if matches!(way.act, crate::wake::Act::Scale) && !scaled {
                    fault(format!(
                        "`scale` is for `owner-kind = \"StatefulSet\"` or `\"Deployment\"`, and the rule `{}` has neither",
                        name.escape_debug()
                    ));
                }
            }
        }
    }
    let mut usage = std::collections::BTreeMap::new();
    for (rule, publication) in section.sections("usage", |one| super::usage::read(one, base)) {
        let name = rule.escape_debug().to_string();
        match workspaces.iter_mut().find(|one| one.name == rule) {
            Some(rule) => publication.keys(&mut rule.kept),
            None => section.fault_at(
                "usage",
                format!("there is no rule `{name}` in [[kubernetes.workspaces]]"),
            ),
        }
        if usage.insert(rule, publication).is_some() {
            section.fault_at("usage", format!("the use of the rule `{name}` is there more than once"));
        }
    }
    up_times(section, &mut workspaces);
    Some(Kubernetes {
        access: access?,
        timeout,
        max_age,
        workspaces,
        audience,
        wakes,
        usage,
    })
}

/// Reads each `[[kubernetes.up-time]]`, for its rule.
fn up_times(section: &Section<'_>, workspaces: &mut [Rule]) {
    for (name, up_time) in section.sections("up-time", super::up_time::read) {
        let fault = |why: String| section.fault_at("up-time", why);
        let shown = name.escape_debug();
        match workspaces.iter_mut().find(|one| one.name == name) {
            None => fault(format!("there is no rule `{shown}` in [[kubernetes.workspaces]]")),
            Some(rule) if rule.up_time.is_some() => {
                fault(format!("the up-time of the rule `{shown}` is there more than once"));
            }
            Some(rule) => rule.up_time = Some(up_time),
        }
    }
}

/// Reads each `[[kubernetes.wake]]`.
fn wakes(section: &Section<'_>, base: &Path) -> std::collections::BTreeMap<String, crate::wake::Way> {
    let mut all = std::collections::BTreeMap::new();
    let read = section.sections("wake", |one| {
        let rule = one.required("rule", text);
        let way = super::wake::read(one, base);
        Some((rule?, way?))
    });
    for (rule, way) in read {
        if all.insert(rule.clone(), way).is_some() {
            let rule = rule.escape_debug();
            section.fault_at(
                "wake",
                format!("the workspaces of the rule `{rule}` are woken in more than one way"),
            );
        }
    }
    all
}

fn server(value: &toml::de::DeValue<'_>) -> Result<Url, String> {
    let text = text(value)?;
    let url = Url::parse(&text).map_err(|error| format!("`{}` is no URL: {error}", text.escape_debug()))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    match url.scheme() == "https" && url.has_host() && plain {
        true => Ok(url),
        false => Err("must be `https://host[:port]`".to_owned()),
    }
}

const SERVER: &str = "https://kubernetes.default.svc";
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const AUDIENCE: &str = "doorward";
const TIMEOUT: Duration = Duration::from_secs(10);
