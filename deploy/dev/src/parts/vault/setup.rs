//! What only an administrator of a Vault does before and after `doorward-gateway vault apply`, which does the rest: gives
//! an engine a key that there is already, and hands out the gateway's login.

use serde_json::{Value, json};

use super::Api;
use crate::parts::Error;

/// How the gateway logs in.
#[derive(Clone)]
pub struct AppRole {
    /// Its name, as it were.
    pub role_id: String,
    /// Its password, as it were.
    pub secret_id: String,
}

/// Mounts an SSH engine with a key of one's own, which a set-up leaves alone: `private` and `public` as OpenSSH writes
/// them.
///
/// # Errors
/// Vault refuses, for one because the mount is there.
pub async fn mount_with_key(root: &Api, mount: &str, private: &str, public: &str) -> Result<(), Error> {
    root.write(&format!("sys/mounts/{mount}"), &json!({"type": "ssh"}))
        .await?;
    let key = json!({"private_key": private, "public_key": public, "generate_signing_key": false});
    root.write(&format!("{mount}/config/ca"), &key).await.map(drop)
}

impl AppRole {
    /// The role id, and a new secret id, of a role at the mount `approle`.
    ///
    /// # Errors
    /// Vault refuses, for one because there is no such role.
    pub async fn hand_out(root: &Api, role: &str) -> Result<Self, Error> {
        let read = |answer: &Value, lacks| {
            let text = answer["data"][lacks].as_str().map(str::to_owned);
            text.ok_or_else(|| Error::Answer {
                what: format!("the AppRole {role}"),
                lacks,
            })
        };
        let path = format!("auth/approle/role/{role}");
        let id = root.read(&format!("{path}/role-id")).await?;
        let secret = root.write(&format!("{path}/secret-id"), &json!({})).await?;
        Ok(Self {
            role_id: read(&id, "role_id")?,
            secret_id: read(&secret, "secret_id")?,
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
