//! Vault looked at by somebody who wonders whether it can be used: the login, and the roles.

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    SignAs, Vault, VaultError,
    setup::{Admin, Purpose, SetupError},
};

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
            Purpose::Host => (&settings.host_mount, &settings.host_role),
        };
        let deadline = Instant::now() + settings.timeout;
        let token = self.session.token(&self.transport, deadline).await?;
        let admin = Admin::new(&self.transport, &token.secret);
        admin.find(&format!("{mount}/roles/{role}")).await
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
