//! The least that a gateway needs of a Vault: two CAs, three roles, one policy, one AppRole.

use serde_json::{Value, json};

use super::Api;
use crate::parts::Error;

/// What is set up, under names of one's own, so that several can share a server.
#[derive(Clone, Debug)]
pub struct SetUp {
    /// The mount of the SSH engine with the user CA.
    pub user_mount: String,
    /// The mount of the SSH engine with the host CA.
    pub host_mount: String,
    /// Who may be logged in as.
    pub logins: Vec<String>,
    /// The policy, and the AppRole at the mount `approle`.
    pub gateway: String,
}

/// How the gateway logs in.
#[derive(Clone)]
pub struct AppRole {
    /// Its name, as it were.
    pub role_id: String,
    /// Its password, as it were.
    pub secret_id: String,
}

impl SetUp {
    /// The names that the gateway has by default.
    #[must_use]
    pub fn new(login: &str) -> Self {
        Self {
            user_mount: "ssh".to_owned(),
            host_mount: "ssh-host".to_owned(),
            logins: vec![login.to_owned()],
            gateway: "doorward-gateway".to_owned(),
        }
    }

    /// The same for one of several that share a server.
    #[must_use]
    pub fn named(login: &str, name: &str) -> Self {
        Self {
            user_mount: format!("{name}/ssh"),
            host_mount: format!("{name}/ssh-host"),
            gateway: format!("{name}-gateway"),
            ..Self::new(login)
        }
    }

    /// Makes it all with new CA keys, and a login for the gateway.
    ///
    /// # Errors
    /// Vault refuses, for one because something of it is there.
    pub async fn apply(&self, root: &Api) -> Result<AppRole, Error> {
        let key = json!({"generate_signing_key": true, "key_type": "ed25519"});
        for mount in [&self.user_mount, &self.host_mount] {
            self.mount(root, mount, &key).await?;
        }
        self.roles_and_login(root).await
    }

    /// Makes one mount, with a CA key as Vault is told of it.
    ///
    /// # Errors
    /// Vault refuses, for one because the mount is there.
    pub async fn mount(&self, root: &Api, mount: &str, key: &Value) -> Result<(), Error> {
        let engine = json!({"type": "ssh", "config": {"max_lease_ttl": "768h"}});
        root.write(&format!("sys/mounts/{mount}"), &engine).await?;
        root.write(&format!("{mount}/config/ca"), key).await?;
        // What an auditor has to join by is in plain text.
        let plain = json!({"audit_non_hmac_request_keys": AUDITED, "audit_non_hmac_response_keys": ["serial_number"]});
        root.write(&format!("sys/mounts/{mount}/tune"), &plain).await.map(drop)
    }

    /// Makes roles and policy, and a login for the gateway.
    ///
    /// # Errors
    /// Vault refuses.
    pub async fn roles_and_login(&self, root: &Api) -> Result<AppRole, Error> {
        for (mount, role, body) in self.roles() {
            root.write(&format!("{mount}/roles/{role}"), &body).await?;
        }
        let policy = json!({"policy": self.policy()});
        root.write(&format!("sys/policies/acl/{}", self.gateway), &policy)
            .await?;
        self.login(root).await
    }

    /// Lets people log in with the tokens of an issuer, and sign sessions with what they get: at the mount
    /// [`PEOPLE_MOUNT`], as [`PEOPLE_ROLE`].
    ///
    /// # Errors
    /// Vault refuses, or cannot read the issuer's discovery document.
    pub async fn people(&self, root: &Api, issuer: &str) -> Result<(), Error> {
        let sign = format!("{}/sign/doorward-session", self.user_mount);
        let policy = json!({"policy": format!("path \"{sign}\" {{ capabilities = [\"update\"] }}\n")});
        root.write(&format!("sys/policies/acl/{PEOPLE_ROLE}"), &policy).await?;
        root.write(&format!("sys/auth/{PEOPLE_MOUNT}"), &json!({"type": "jwt"}))
            .await?;
        let config = json!({"oidc_discovery_url": issuer, "bound_issuer": issuer});
        root.write(&format!("auth/{PEOPLE_MOUNT}/config"), &config).await?;
        let role = json!({
            "role_type": "jwt", "user_claim": "preferred_username", "bound_audiences": ["doorward-gateway"],
            "token_policies": [PEOPLE_ROLE], "token_ttl": "1m", "token_max_ttl": "1m", "token_num_uses": 2,
        });
        root.write(&format!("auth/{PEOPLE_MOUNT}/role/{PEOPLE_ROLE}"), &role)
            .await
            .map(drop)
    }

    fn roles(&self) -> [(&str, &str, Value); 3] {
        let user = |principals: &str, extensions: &str, longest: &str| {
            json!({
                "key_type": "ca", "allow_user_certificates": true, "allow_host_certificates": false,
                "allowed_users": principals, "default_user": "", "allow_user_key_ids": true,
                "allowed_extensions": extensions, "allowed_critical_options": "none@doorward", "default_extensions": {},
                "allowed_user_key_lengths": {"ed25519": 0}, "ttl": "2m", "max_ttl": longest, "not_before_duration": "30s",
            })
        };
        let host = json!({
            "key_type": "ca", "allow_user_certificates": false, "allow_host_certificates": true,
            "allowed_domains": "*", "allow_bare_domains": true, "allow_subdomains": true, "allow_user_key_ids": true,
            "allowed_extensions": "workspace@doorward", "allowed_critical_options": "none@doorward",
            "ttl": "24h", "max_ttl": "768h", "not_before_duration": "30s",
        });
        [
            (
                &self.user_mount,
                "doorward-session",
                user(&self.logins.join(","), EXTENSIONS, "1h"),
            ),
            // No extension at all, which an empty list would not say of every Vault.
            (
                &self.user_mount,
                "doorward-link",
                user("doorward-gateway", "none@doorward", "768h"),
            ),
            (&self.host_mount, "doorward-host", host),
        ]
    }

    fn policy(&self) -> String {
        let (user, host) = (&self.user_mount, &self.host_mount);
        let may = |path: String, what: &str| format!("path \"{path}\" {{ capabilities = [\"{what}\"] }}\n");
        [
            may(format!("{user}/sign/doorward-session"), "update"),
            may(format!("{user}/sign/doorward-link"), "update"),
            may(format!("{host}/sign/doorward-host"), "update"),
            may(format!("{user}/config/ca"), "read"),
            may(format!("{host}/config/ca"), "read"),
        ]
        .concat()
    }

    async fn login(&self, root: &Api) -> Result<AppRole, Error> {
        let mounted = root.read("sys/auth").await?;
        if mounted.pointer("/data/approle~1").is_none() {
            // Somebody who shares the server may have been quicker, which is as good.
            let made = root.write("sys/auth/approle", &json!({"type": "approle"})).await;
            match made {
                Err(Error::Refused { status: 400, .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        let role = format!("auth/approle/role/{}", self.gateway);
        let body = json!({"token_policies": [self.gateway], "token_ttl": "1h", "token_max_ttl": "24h"});
        root.write(&role, &body).await?;
        let read = |answer: &Value, what: &str, lacks| {
            let text = answer["data"][lacks].as_str().map(str::to_owned);
            text.ok_or_else(|| Error::Answer {
                what: what.to_owned(),
                lacks,
            })
        };
        let id = root.read(&format!("{role}/role-id")).await?;
        let secret = root.write(&format!("{role}/secret-id"), &json!({})).await?;
        Ok(AppRole {
            role_id: read(&id, "the AppRole", "role_id")?,
            secret_id: read(&secret, "the AppRole", "secret_id")?,
        })
    }
}

/// Without the secret.
impl std::fmt::Debug for AppRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppRole")
            .field("role_id", &self.role_id)
            .finish_non_exhaustive()
    }
}

/// Where people log in.
pub const PEOPLE_MOUNT: &str = "jwt";
/// The role that they get.
pub const PEOPLE_ROLE: &str = "doorward-user";
const AUDITED: [&str; 5] = ["key_id", "valid_principals", "cert_type", "extensions", "ttl"];
const EXTENSIONS: &str = "permit-pty,permit-agent-forwarding,permit-port-forwarding,permit-X11-forwarding,shell@doorward,\
    exec@doorward,sftp@doorward,forward-to@doorward,remote-forward@doorward,recording@doorward,longest@doorward,\
    session@doorward,workspace@doorward";
