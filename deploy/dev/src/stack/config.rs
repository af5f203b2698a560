//! The configuration files of a stack's programs. Paths in them are relative to the file.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::layout::{Layout, write_private};
use super::{Error, WORKSPACES, keys};

/// Where the gateway listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatewayAddresses {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
}

/// Who says who people are.
pub(super) struct Issuer<'a> {
    pub url: &'a str,
    pub algorithm: &'a str,
    /// The file with the secret of the gateway's own client, where the issuer is asked about open sessions.
    pub secret_file: Option<&'a str>,
}

pub(super) fn write_gateway(
    layout: &Layout,
    addresses: GatewayAddresses,
    issuer: &Issuer<'_>,
    authority: Authority<'_>,
    login: &str,
    agents: &[SocketAddr],
    more: &str,
) -> Result<(), Error> {
    let workspaces = WORKSPACES.iter().zip(agents).map(|(name, address)| GatewayWorkspace {
        name,
        address: *address,
        uid: uid(name),
        login,
        owner: "bob",
        join_token_file: join_token(name),
    });
    let file = GatewayFile {
        state_directory: "state",
        workspace_names: &["devenv-*"],
        listen: Listen {
            address: addresses.listen,
            certificate: keys::TLS_CERTIFICATE,
            key: keys::TLS_KEY,
        },
        admin: Admin {
            address: addresses.admin,
        },
        oidc: Oidc {
            issuer: issuer.url,
            client_id: "doorward",
            audience: "doorward-gateway",
            algorithms: &[issuer.algorithm],
            user_claim: "preferred_username",
            groups_claim: "groups",
            groups_form: "array",
            authorized_parties: &["doorward"],
            introspection: issuer.secret_file.map(|file| Introspection {
                client_id: "doorward-gateway",
                client_secret_file: file,
                cache: "0s",
            }),
        },
        session: issuer.secret_file.map(|_| Session { recheck_interval: "1s" }),
        authority,
        link: Link { key: "gateway.key" },
        records: Records {
            directory: "state/records",
        },
        policy: Policy { file: "policy.toml" },
        workspace: workspaces.collect(),
    };
    write(layout, GATEWAY_FILE, &file, more)
}

/// The stack's own policy, or another.
pub(super) fn write_policy(layout: &Layout, policy: Option<&str>) -> Result<(), Error> {
    let text = policy.unwrap_or(include_str!("policy.toml"));
    write_private(&layout.file("policy.toml"), text.as_bytes())
}

/// Changes the gateway's configuration as it was written.
pub(super) fn change_gateway(layout: &Layout, change: impl FnOnce(&mut toml::Table)) -> Result<(), Error> {
    let path = layout.file(GATEWAY_FILE);
    let text = fs::read_to_string(&path).map_err(Error::file("read", path))?;
    let mut file = text.parse().map_err(|error: toml::de::Error| Error::Key {
        what: "sense of a configuration",
        why: error.to_string(),
    })?;
    change(&mut file);
    write(layout, GATEWAY_FILE, &file, "")
}

/// `gateway` is where the gateway will listen: on one machine the agent cannot tell its ports by their address.
pub(super) fn write_agent(
    layout: &Layout,
    login: &str,
    listen: &[SocketAddr],
    gateway: GatewayAddresses,
) -> Result<(), Error> {
    let workspaces = WORKSPACES.iter().zip(listen).map(|(name, address)| AgentWorkspace {
        name,
        uid: uid(name),
        listen: *address,
        host_key: format!("agent/{name}.key"),
        host_certificate: host_certificate(name),
        join_token_file: join_token(name),
        login,
        home: format!("home/{name}"),
        never_forward_to: [gateway.listen, gateway.admin],
    });
    let file = AgentFile {
        user_ca_file: format!("{}.pub", keys::USER_CA),
        host_ca_file: format!("{}.pub", keys::HOST_CA),
        workspace: workspaces.collect(),
    };
    write(layout, "agent.toml", &file, "")
}

/// Relative to the stack's folder.
pub(super) fn join_token(workspace: &str) -> String {
    format!("agent/{workspace}.join")
}

/// Relative to the stack's folder.
pub(super) fn host_certificate(workspace: &str) -> String {
    format!("agent/{workspace}-cert.pub")
}

/// The workspaces stay the same ones from run to run: same home, same uid.
fn uid(workspace: &str) -> String {
    format!("dev-{workspace}")
}

/// `more` stands behind the rest.
fn write(layout: &Layout, name: &str, file: &impl Serialize, more: &str) -> Result<(), Error> {
    let text = toml::to_string(file).map_err(|error| Error::Key {
        what: "a configuration",
        why: error.to_string(),
    })?;
    write_private(&layout.file(name), format!("{text}\n{more}").as_bytes())
}

/// The gateway's configuration.
pub(super) const GATEWAY_FILE: &str = "gateway.toml";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct GatewayFile<'a> {
    state_directory: &'a str,
    workspace_names: &'a [&'a str],
    listen: Listen<'a>,
    admin: Admin,
    oidc: Oidc<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session<'a>>,
    authority: Authority<'a>,
    link: Link<'a>,
    records: Records<'a>,
    policy: Policy<'a>,
    workspace: Vec<GatewayWorkspace<'a>>,
}

#[derive(Serialize)]
struct Listen<'a> {
    address: SocketAddr,
    certificate: &'a str,
    key: &'a str,
}

#[derive(Serialize)]
struct Admin {
    address: SocketAddr,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Oidc<'a> {
    issuer: &'a str,
    client_id: &'a str,
    audience: &'a str,
    algorithms: &'a [&'a str],
    user_claim: &'a str,
    groups_claim: &'a str,
    groups_form: &'a str,
    authorized_parties: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    introspection: Option<Introspection<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Introspection<'a> {
    client_id: &'a str,
    client_secret_file: &'a str,
    cache: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Session<'a> {
    recheck_interval: &'a str,
}

/// Who signs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Authority<'a> {
    /// The stack's own CA keys.
    Local(Local<'a>),
    Vault(Vault<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Local<'a> {
    pub user_ca: &'a str,
    pub host_ca: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Vault<'a> {
    pub address: String,
    pub ca: &'a Path,
    pub sign_as: &'a str,
    pub login: AppRole<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_login: Option<UserLogin<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct AppRole<'a> {
    pub method: &'a str,
    pub role_id_file: &'a str,
    pub secret_id_file: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct UserLogin<'a> {
    pub mount: &'a str,
    pub role: &'a str,
}

#[derive(Serialize)]
struct Link<'a> {
    key: &'a str,
}

#[derive(Serialize)]
struct Records<'a> {
    directory: &'a str,
}

#[derive(Serialize)]
struct Policy<'a> {
    file: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct GatewayWorkspace<'a> {
    name: &'a str,
    address: SocketAddr,
    uid: String,
    login: &'a str,
    owner: &'a str,
    join_token_file: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct AgentFile<'a> {
    user_ca_file: String,
    host_ca_file: String,
    workspace: Vec<AgentWorkspace<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct AgentWorkspace<'a> {
    name: &'a str,
    uid: String,
    listen: SocketAddr,
    host_key: String,
    host_certificate: String,
    join_token_file: String,
    login: &'a str,
    home: String,
    never_forward_to: [SocketAddr; 2],
}
