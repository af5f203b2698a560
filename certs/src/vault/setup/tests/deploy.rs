//! What the shell scripts and the Terraform files are made of: the steps of every kind of set-up, with a mark wherever
//! something is a parameter.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use serde_json::{Map, Value};

use super::super::{AgentLogin, GatewayLogin, Kind, Names, Needs, Step, UserLogin, steps};
use crate::vault::PodLogin;

/// Something that people choose.
pub(super) struct Parameter {
    /// Its mark in the steps. Numbers cannot hold one: theirs is a number that nobody would choose.
    pub(super) mark: &'static str,
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) kind: Of,
    pub(super) says: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Text,
    Seconds,
    /// Names with commas between them; in Terraform a list.
    Names,
    /// A certificate, PEM.
    Pem,
}

const fn one(mark: &'static str, name: &'static str, default: &'static str, kind: Of, says: &'static str) -> Parameter {
    Parameter {
        mark,
        name,
        default,
        kind,
        says,
    }
}

const SESSION_LIFE: u64 = 4_000_000_001;
const LINK_LIFE: u64 = 4_000_000_002;
const HOST_LIFE: u64 = 4_000_000_003;
/// How long the host certificates are good for that agents have signed themselves, in seconds, where nobody says otherwise.
pub(super) const OF_AGENTS: u64 = 86_400;

pub(super) const PARAMETERS: [Parameter; 22] = [
    one(
        "@user-mount@",
        "user_mount",
        "ssh",
        Of::Text,
        "SSH engine with the user CA (user-mount)",
    ),
    one(
        "@host-mount@",
        "host_mount",
        "ssh-host",
        Of::Text,
        "SSH engine with the host CA (host-mount)",
    ),
    one(
        "@session-role@",
        "session_role",
        "doorward-session",
        Of::Text,
        "role that signs sessions (session-role)",
    ),
    one(
        "@link-role@",
        "link_role",
        "doorward-link",
        Of::Text,
        "role that signs the gateway's own certificate (link-role)",
    ),
    one(
        "@host-role@",
        "host_role",
        "doorward-host",
        Of::Text,
        "role that signs host certificates (host-role)",
    ),
    one(
        "@logins@",
        "logins",
        "node",
        Of::Names,
        "accounts that sessions may be for: those of the workspaces and of the roles",
    ),
    one(
        "@hosts@",
        "hosts",
        "*",
        Of::Names,
        "names of host certificates: each workspace, and each with .doorward behind it; * for any",
    ),
    one(
        "4000000001",
        "session_life",
        "180",
        Of::Seconds,
        "longest life of a session certificate in seconds (certificate-life)",
    ),
    one(
        "4000000002",
        "link_life",
        "86400",
        Of::Seconds,
        "longest life of the gateway's own certificate in seconds",
    ),
    one(
        "4000000003",
        "host_life",
        "2592000",
        Of::Seconds,
        "longest life of a host certificate in seconds; a day where agents have them signed",
    ),
    one(
        "@login-mount@",
        "login_mount",
        "",
        Of::Text,
        "mount of the gateway's auth method; default: the method's name",
    ),
    one(
        "@login-role@",
        "login_role",
        "doorward-gateway",
        Of::Text,
        "the gateway's role there, and the name of its policy",
    ),
    one(
        "@service-account@",
        "service_account",
        "doorward-gateway",
        Of::Text,
        "kubernetes: the gateway's service account",
    ),
    one(
        "@namespace@",
        "namespace",
        "doorward",
        Of::Text,
        "kubernetes: the namespace of that account",
    ),
    one(
        "@api-server@",
        "api_server",
        "https://kubernetes.default.svc",
        Of::Text,
        "kubernetes: the API server as Vault reaches it",
    ),
    one(
        "@login-issuer@",
        "login_issuer",
        "",
        Of::Text,
        "jwt: the issuer of the gateway's own token",
    ),
    one(
        "@login-subject@",
        "login_subject",
        "",
        Of::Text,
        "jwt: the `sub` of that token",
    ),
    one(
        "@login-audience@",
        "login_audience",
        "vault",
        Of::Text,
        "jwt: the audience of that token",
    ),
    one(
        "@user-login-mount@",
        "user_login_mount",
        "jwt",
        Of::Text,
        "sign-as user: mount of the JWT auth method",
    ),
    one(
        "@user-login-role@",
        "user_login_role",
        "doorward-user",
        Of::Text,
        "sign-as user: people's role there, and the name of their policy",
    ),
    one(
        "@issuer@",
        "issuer",
        "",
        Of::Text,
        "sign-as user: the issuer of people's tokens",
    ),
    one(
        "@issuer-ca@",
        "issuer_ca",
        "",
        Of::Pem,
        "sign-as user: CA of that issuer's TLS, PEM; empty for those of Vault's system",
    ),
];

/// The rest of what people choose.
pub(super) const MORE: [Parameter; 8] = [
    one(
        "@audience@",
        "audience",
        "doorward-gateway",
        Of::Text,
        "sign-as user: the audience of people's tokens",
    ),
    one(
        "@user-claim@",
        "user_claim",
        "/preferred_username",
        Of::Text,
        "sign-as user: where the person's name stands, as a JSON pointer",
    ),
    one(
        "@agent-mount@",
        "agent_mount",
        "doorward-agents",
        Of::Text,
        "host certificates for agents: the mount of their auth method, which nothing else uses",
    ),
    one(
        "@agent-role@",
        "agent_role",
        "doorward-agent",
        Of::Text,
        "host certificates for agents: their role there, and the name of its policy",
    ),
    one(
        "@agent-audience@",
        "agent_audience",
        "vault",
        Of::Text,
        "host certificates for agents: the audience of the pods' tokens, which must not be the gateway's",
    ),
    one(
        "@agent-namespaces@",
        "agent_namespaces",
        "devenv",
        Of::Names,
        "host certificates for agents: the namespaces of their pods",
    ),
    one(
        "@agent-cluster@",
        "agent_cluster",
        "https://kubernetes.default.svc",
        Of::Text,
        "host certificates for agents: the issuer of the cluster's tokens (jwt), or its API server (kubernetes)",
    ),
    one(
        "@agent-cluster-ca@",
        "agent_cluster_ca",
        "",
        Of::Pem,
        "host certificates for agents: CA of that server's TLS, PEM; empty for those of Vault's system",
    ),
];

/// A choice that switches steps on and off.
pub(super) struct Choice {
    pub(super) name: &'static str,
    pub(super) says: &'static str,
    /// The first one is the default.
    pub(super) values: &'static [&'static str],
}

/// The choices, in the order in which a condition names them.
pub(super) const CHOICES: [Choice; 4] = [
    Choice {
        name: "login",
        says: "How the gateway logs in",
        values: &["kubernetes", "approle", "jwt", "token-file"],
    },
    Choice {
        name: "sign_as",
        says: "As whom sessions are signed (sign-as)",
        values: &["gateway", "user"],
    },
    Choice {
        name: "host_certificates",
        says: "Who has host certificates signed (host-certificates)",
        values: &["gateway", "agents"],
    },
    Choice {
        name: "agent_method",
        says: "How Vault knows pods: jwt binds name and uid of the pod, kubernetes the service account alone",
        values: &["jwt", "kubernetes"],
    },
];

/// When a step is to be done: for each choice the value that it has to have, if one has.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct When(pub(super) [Option<&'static str>; CHOICES.len()]);

impl When {
    pub(super) fn is_always(&self) -> bool {
        *self == Self::default()
    }

    /// The conditions, all of which must hold: name of the choice and its value.
    pub(super) fn conditions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        CHOICES
            .iter()
            .zip(self.0)
            .filter_map(|(choice, value)| Some((choice.name, value?)))
    }

    /// Leaves out what depends on a choice that has been made.
    pub(super) fn settle(&mut self, choice: &str) {
        for (one, value) in CHOICES.iter().zip(&mut self.0) {
            if one.name == choice {
                *value = None;
            }
        }
    }

    pub(super) fn of(&self, choice: &str) -> Option<&'static str> {
        self.conditions()
            .find(|(name, _)| *name == choice)
            .map(|(_, value)| value)
    }
}

/// A step of some kinds of set-up.
pub(super) struct Marked {
    pub(super) step: Step,
    pub(super) when: When,
}

/// The steps of every kind of set-up, in an order in which they can be done.
pub(super) fn marked() -> Vec<Marked> {
    let mut kinds: Vec<Vec<&'static str>> = vec![Vec::new()];
    for choice in &CHOICES {
        let longer = |kind: Vec<&'static str>| choice.values.iter().map(move |value| [&kind[..], &[*value]].concat());
        kinds = kinds.into_iter().flat_map(longer).collect();
    }
    let variants: Vec<(Vec<&str>, Vec<Step>)> = kinds
        .into_iter()
        .map(|kind| (kind.clone(), steps(&needs(&kind))))
        .collect();
    let mut all: Vec<Step> = Vec::new();
    for step in variants.iter().flat_map(|(_, steps)| steps) {
        if !all.contains(step) {
            all.push(step.clone());
        }
    }
    all.sort_by_key(|step| match step.kind {
        Kind::Engine | Kind::CaKey | Kind::Tuning => 0,
        Kind::Policy => 1,
        Kind::Auth => 2,
        Kind::AuthConfig | Kind::AuthCluster => 3,
        Kind::AuthRole => 4,
        Kind::SshRole => 5,
    });
    all.into_iter()
        .map(|step| {
            let holds: Vec<_> = variants.iter().filter(|(_, steps)| steps.contains(&step)).collect();
            let mut product = 1;
            let when = std::array::from_fn(|place| {
                let values: BTreeSet<&'static str> = holds.iter().map(|(kind, _)| kind[place]).collect();
                product *= values.len();
                match values.len() {
                    1 => values.first().copied(),
                    some => {
                        assert_eq!(some, CHOICES[place].values.len(), "no simple condition: {}", step.path);
                        None
                    }
                }
            });
            assert_eq!(holds.len(), product, "no simple condition: {}", step.path);
            Marked { step, when: When(when) }
        })
        .collect()
}

/// The needs of one kind of set-up, with marks for what people choose.
fn needs(kind: &[&str]) -> Needs {
    let [login, sign_as, hosts, method] = kind else {
        panic!("another number of choices");
    };
    let (mount, role) = ("@login-mount@".to_owned(), "@login-role@".to_owned());
    Needs {
        user_mount: "@user-mount@".into(),
        host_mount: "@host-mount@".into(),
        session_role: "@session-role@".into(),
        link_role: "@link-role@".into(),
        host_role: "@host-role@".into(),
        logins: Names::These(vec!["@logins@".into()]),
        hosts: Names::These(vec!["@hosts@".into()]),
        session_life: Duration::from_secs(SESSION_LIFE),
        link_life: Duration::from_secs(LINK_LIFE),
        host_life: Duration::from_secs(HOST_LIFE),
        login: match *login {
            "kubernetes" => GatewayLogin::Kubernetes {
                mount,
                role,
                service_account: "@service-account@".into(),
                namespace: "@namespace@".into(),
                api_server: "@api-server@".into(),
            },
            "approle" => GatewayLogin::AppRole { mount, role },
            "jwt" => GatewayLogin::Jwt {
                mount,
                role,
                issuer: "@login-issuer@".into(),
                subject: "@login-subject@".into(),
                audience: "@login-audience@".into(),
            },
            _ => GatewayLogin::TokenFile { policy: role },
        },
        agents: (*hosts == "agents").then(|| AgentLogin {
            method: match *method {
                "jwt" => PodLogin::Jwt,
                _ => PodLogin::Kubernetes,
            },
            mount: "@agent-mount@".into(),
            role: "@agent-role@".into(),
            namespaces: Names::These(vec!["@agent-namespaces@".into()]),
            audience: "@agent-audience@".into(),
            cluster: "@agent-cluster@".into(),
            cluster_ca: "@agent-cluster-ca@".into(),
        }),
        user_login: (*sign_as == "user").then(|| UserLogin {
            mount: "@user-login-mount@".into(),
            role: "@user-login-role@".into(),
            issuer: "@issuer@".into(),
            issuer_ca: "@issuer-ca@".into(),
            audience: "@audience@".into(),
            user_claim: "@user-claim@".into(),
        }),
    }
}

/// Everything that people choose, but for the choices.
pub(super) fn parameters() -> impl Iterator<Item = &'static Parameter> {
    PARAMETERS.iter().chain(&MORE)
}

/// Holds a file of `deploy/vault` against what it has to be, or writes it.
pub(super) fn committed(name: &str, due: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/vault")
        .join(name);
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, due).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == due,
        "deploy/vault/{name} says something else than the plan; DOORWARD_REGENERATE=1 writes it anew"
    );
}

/// The parts of an object, in the order of their names.
pub(super) fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = map.iter().collect();
    all.sort_by_key(|(name, _)| *name);
    all
}
