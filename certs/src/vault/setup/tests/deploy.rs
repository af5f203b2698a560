//! What the shell script and the Terraform files are made of: the steps of every kind of set-up, with a mark wherever
//! something is a parameter.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use serde_json::{Map, Value};

use super::super::{GatewayLogin, Kind, Names, Needs, Step, UserLogin, steps};

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
        "longest life of a host certificate in seconds",
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

/// The rest of what people choose, written out because the two choices switch steps on and off.
pub(super) const MORE: [Parameter; 2] = [
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
];

/// When a step is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Login(&'static str),
    SignAs(&'static str),
}

/// A step of some kinds of set-up.
pub(super) struct Marked {
    pub(super) step: Step,
    pub(super) when: When,
}

const LOGINS: [&str; 4] = ["kubernetes", "approle", "jwt", "token-file"];
const SIGN_AS: [&str; 2] = ["gateway", "user"];

/// The steps of every kind of set-up, in an order in which they can be done.
pub(super) fn marked() -> Vec<Marked> {
    let variants: Vec<(&str, &str, Vec<Step>)> = LOGINS
        .into_iter()
        .flat_map(|login| SIGN_AS.map(|sign_as| (login, sign_as, steps(&needs(login, sign_as)))))
        .collect();
    let mut all: Vec<Step> = Vec::new();
    for step in variants.iter().flat_map(|(_, _, steps)| steps) {
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
            let holds: Vec<_> = variants.iter().filter(|(_, _, steps)| steps.contains(&step)).collect();
            let logins: BTreeSet<&str> = holds.iter().map(|(login, _, _)| *login).collect();
            let sign_as: BTreeSet<&str> = holds.iter().map(|(_, sign_as, _)| *sign_as).collect();
            assert_eq!(
                holds.len(),
                logins.len() * sign_as.len(),
                "no simple condition: {}",
                step.path
            );
            let only =
                |all: &[&'static str], some: &BTreeSet<&str>| all.iter().find(|one| some.contains(*one)).copied();
            let when = match (logins.len(), sign_as.len()) {
                (4, 2) => When::Always,
                (4, 1) => When::SignAs(only(&SIGN_AS, &sign_as).unwrap()),
                (1, 2) => When::Login(only(&LOGINS, &logins).unwrap()),
                _ => panic!("no simple condition: {}", step.path),
            };
            Marked { step, when }
        })
        .collect()
}

/// The needs of one kind of set-up, with marks for what people choose.
fn needs(login: &str, sign_as: &str) -> Needs {
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
        login: match login {
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
        agents: None,
        user_login: (sign_as == "user").then(|| UserLogin {
            mount: "@user-login-mount@".into(),
            role: "@user-login-role@".into(),
            issuer: "@issuer@".into(),
            issuer_ca: "@issuer-ca@".into(),
            audience: "@audience@".into(),
            user_claim: "@user-claim@".into(),
        }),
    }
}

/// Everything that people choose, but how the gateway logs in and as whom it signs.
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
