//! The plan of a set-up, and that `deploy/vault` says the same.

mod agents;
mod deploy;
mod plan;
mod shell;
mod terraform;
mod width;

use std::time::Duration;

use super::*;
use crate::vault::PodLogin;

/// Needs as most have them: the gateway logs in by AppRole and signs for itself.
pub(super) fn needs() -> Needs {
    Needs {
        user_mount: "ssh".into(),
        host_mount: "ssh-host".into(),
        session_role: "doorward-session".into(),
        link_role: "doorward-link".into(),
        host_role: "doorward-host".into(),
        logins: Names::These(vec!["node".into(), "operator".into()]),
        hosts: Names::These(vec!["devenv-0".into()]),
        session_life: Duration::from_secs(180),
        link_life: Duration::from_secs(86_400),
        host_life: Duration::from_secs(30 * 86_400),
        login: GatewayLogin::AppRole {
            mount: "approle".into(),
            role: "doorward-gateway".into(),
        },
        agents: None,
        user_login: None,
    }
}

/// Needs where agents have their host certificates signed for themselves.
pub(super) fn at_vault(method: PodLogin) -> Needs {
    let agents = AgentLogin {
        method,
        mount: "doorward-agents".into(),
        role: "doorward-agent".into(),
        namespaces: Names::These(vec!["devenv".into()]),
        audience: "vault".into(),
        cluster: "https://kubernetes.default.svc".into(),
        cluster_ca: String::new(),
    };
    Needs {
        agents: Some(agents),
        ..needs()
    }
}

/// How people log in, where they do.
pub(super) fn people() -> UserLogin {
    UserLogin {
        mount: "jwt".into(),
        role: "doorward-user".into(),
        issuer: "https://issuer.example".into(),
        issuer_ca: String::new(),
        audience: "doorward-gateway".into(),
        user_claim: "/preferred_username".into(),
    }
}
