//! Vault looked at by somebody who wonders whether it can be used: the login, and the roles.

use http::Method;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    Ask, HostCertificates, Settings, SignAs, Vault, VaultError,
    error::GATEWAY,
    setup::{Admin, Purpose, SetupError},
    verdict::{Asked, judge},
};

/// Capabilities with which something is used, and with which something is changed.
const USES: &[&str] = &["create", "update", "read", "patch", "sudo", "root"];
const CHANGES: &[&str] = &["create", "update", "patch", "delete", "sudo", "root"];

impl Vault {
    /// Logs in, if that was not done yet.
    ///
    /// # Errors
    /// [`VaultError`]: why not.
    pub async fn log_in(&self) -> Result<(), VaultError> {
        let deadline = Instant::now() + self.settings.timeout;
        self.session.token(&self.transport, deadline).await.map(drop)
    }

    /// The role for this purpose as Vault shows it to the gateway, if it is there.
    ///
    /// # Errors
    /// [`SetupError`]: Vault cannot be asked, or does not let the gateway look.
    pub async fn role(&self, purpose: Purpose) -> Result<Option<Map<String, Value>>, SetupError> {
        let settings = &self.settings;
        let (mount, role) = match purpose {
            Purpose::Session | Purpose::SessionAsUser => (&settings.user_mount, &settings.session_role),
            Purpose::Link => (&settings.user_mount, &settings.link_role),
            Purpose::Host | Purpose::OwnHost => (&settings.host_mount, &settings.host_role),
        };
        let deadline = Instant::now() + settings.timeout;
        let token = self.session.token(&self.transport, deadline).await?;
        let admin = Admin::new(&self.transport, &token.secret);
        admin.find(&format!("{mount}/roles/{role}")).await
    }

    /// Those of the ways to a host certificate that Vault leaves open to the gateway's token, each as `path: what it may`. None is
    /// as it should be where agents have theirs signed for themselves.
    ///
    /// # Errors
    /// [`VaultError`]: Vault cannot be asked, or does not say.
    pub async fn ways_to_hosts(&self) -> Result<Vec<String>, VaultError> {
        let Settings {
            host_mount, host_role, ..
        } = &self.settings;
        let deadline = Instant::now() + self.settings.timeout;
        let token = self.session.token(&self.transport, deadline).await?;
        // Signing, by this role and by any other; and what would let it sign in the end.
        let ways = [
            (format!("{host_mount}/sign/{host_role}"), USES),
            (format!("{host_mount}/sign/doorward-doctor-trial-nobody"), USES),
            (format!("{host_mount}/issue/{host_role}"), USES),
            (format!("{host_mount}/roles/{host_role}"), CHANGES),
            (format!("{host_mount}/roles/doorward-doctor-trial-nobody"), CHANGES),
            (format!("{host_mount}/config/ca"), CHANGES),
            (format!("sys/mounts/{host_mount}"), CHANGES),
            ("sys/policies/acl/doorward-doctor-trial-nobody".to_owned(), CHANGES),
            ("auth/token/create".to_owned(), CHANGES),
        ];
        let path = "sys/capabilities-self";
        let paths: Vec<&str> = ways.iter().map(|(way, _)| way.as_str()).collect();
        let body =
            serde_json::to_vec(&json!({ "paths": paths })).map_err(|error| VaultError::Client(error.to_string()))?;
        let ask = Ask {
            method: Method::POST,
            path,
            body: Some(Zeroizing::new(body)),
            token: Some(&token.secret),
        };
        let reply = self.transport.send(ask, deadline).await?;
        let reply = judge(&self.transport, Asked::Signing(GATEWAY), path, reply, deadline).await?;
        let may: Map<String, Value> = self.transport.data(&reply, path)?;
        let mut open = Vec::new();
        for (way, of) in &ways {
            // What is not answered is not believed to be closed.
            let may = may
                .get(way)
                .and_then(Value::as_array)
                .ok_or_else(|| self.transport.not_vault(&reply, path))?;
            let found: Vec<&str> = may
                .iter()
                .filter_map(Value::as_str)
                .filter(|one| of.contains(one))
                .collect();
            if !found.is_empty() {
                open.push(format!("{way}: {}", found.join(", ")));
            }
        }
        Ok(open)
    }

    /// For which purpose host certificates are signed here.
    #[must_use]
    pub fn host_purpose(&self) -> Purpose {
        match self.settings.hosts {
            HostCertificates::Gateway => Purpose::Host,
            HostCertificates::Agents => Purpose::OwnHost,
        }
    }

    /// For which purpose sessions are signed here.
    #[must_use]
    pub fn session_purpose(&self) -> Purpose {
        match self.settings.sign_as {
            SignAs::Gateway => Purpose::Session,
            SignAs::User { .. } => Purpose::SessionAsUser,
        }
    }
}
