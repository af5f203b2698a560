//! Vault looked at by somebody who wonders whether it can be used: the login, and the roles.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    Ask, HostCertificates, Settings, SignAs, Vault, VaultError,
    error::GATEWAY,
    setup::{Admin, Purpose, SetupError},
    verdict::{Asked, judge},
};
use crate::{HostKey, HostRequest, Secret, WorkspaceName, WorkspaceUid};

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
        let tried = self.may_sign_hosts(&token.secret, deadline).await?;
        let reply = self.transport.send(ask, deadline).await?;
        let reply = match judge(&self.transport, Asked::Signing(GATEWAY), path, reply, deadline).await {
            // What it says of itself it need not be asked.
            Err(VaultError::Denied { .. }) if tried => return Ok(vec![format!("{}: update", ways[0].0)]),
            judged => judged?,
        };
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

    /// Whether the policy of this token lets it ask for a host certificate. Tried: for a name that no role allows, and a key that is
    /// forgotten.
    async fn may_sign_hosts(&self, token: &Secret, deadline: Instant) -> Result<bool, VaultError> {
        let Settings {
            host_mount, host_role, ..
        } = &self.settings;
        let nobody = |_| VaultError::Client("no request on trial can be made".to_owned());
        let key = HostKey::generate().map_err(|error| VaultError::Client(error.to_string()))?;
        let request = HostRequest {
            subject: key.public_key().clone(),
            workspace: WorkspaceName::try_from("doorward-doctor-trial-nobody").map_err(nobody)?,
            workspace_uid: WorkspaceUid::try_from("nobody").map_err(nobody)?,
            names: Vec::new(),
            valid_for: Duration::from_secs(60),
        };
        let wanted = request
            .wanted()
            .map_err(|error| VaultError::Client(error.to_string()))?;
        let endpoint = super::request(&wanted, host_mount, host_role)?;
        let reply = self.transport.call(&endpoint, Some(token), deadline).await?;
        Ok(reply.status != StatusCode::FORBIDDEN)
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
