//! The real servers under a stack: Vault in place of the CA keys in files, Keycloak in place of our own issuer.
//!
//! Vault is given the stack's own CA keys, which stay from run to run: old recordings can be verified whoever signs. Its
//! storage does not stay, because its unseal key is kept nowhere.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::config::{AppRole, Authority, GATEWAY_FILE, Local, UserLogin, Vault as VaultSection};
use super::layout::write_private;
use super::{Error, Stack, keys};
use crate::parts::keycloak::{self, Realm};
use crate::parts::vault::{self, Storage};
use crate::parts::{Keycloak, Vault};

/// Which real servers a stack runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Real {
    /// A real Vault signs; with Keycloak, as the person.
    pub vault: bool,
    /// A real Keycloak says who people are.
    pub keycloak: bool,
}

impl Stack {
    /// The Vault that the stack runs on.
    #[must_use]
    pub fn vault(&self) -> Option<&Vault> {
        self.vault.as_ref()
    }

    /// The same, to stop and start it.
    #[must_use]
    pub fn vault_mut(&mut self) -> Option<&mut Vault> {
        self.vault.as_mut()
    }

    /// The Keycloak that the stack runs on; it can be stopped and started.
    #[must_use]
    pub fn keycloak(&self) -> Option<&Keycloak> {
        self.keycloak.as_ref().map(|(keycloak, _)| keycloak)
    }

    /// The realm of the stack's people.
    #[must_use]
    pub fn realm(&self) -> Option<&Realm> {
        self.keycloak.as_ref().map(|(_, realm)| realm)
    }

    /// Starts the real servers at once: Keycloak takes its time.
    pub(super) async fn start_real(&mut self) -> Result<(), Error> {
        let (vault, keycloak) = tokio::try_join!(self.new_vault(), self.new_keycloak())?;
        (self.vault, self.keycloak) = (vault, keycloak);
        if let Some((_, realm)) = &self.keycloak {
            self.issuer_url = realm.issuer();
        }
        Ok(())
    }

    async fn new_vault(&self) -> Result<Option<Vault>, Error> {
        if !self.real.vault {
            return Ok(None);
        }
        let settings = vault::Settings {
            folder: self.fresh(VAULT)?,
            program: Some(self.program.clone()),
            storage: Storage::File,
        };
        Vault::start(settings).await.map(Some).map_err(no(VAULT))
    }

    async fn new_keycloak(&self) -> Result<Option<(Keycloak, Realm)>, Error> {
        if !self.real.keycloak {
            return Ok(None);
        }
        let settings = keycloak::Settings {
            folder: self.fresh(KEYCLOAK)?,
            program: Some(self.program.clone()),
            trusts: Some(self.ca_file()),
        };
        let keycloak = Keycloak::start(settings).await.map_err(no(KEYCLOAK))?;
        let realm = keycloak.add_realm(&keycloak::development_realm(), None).await;
        let realm = realm.map_err(no(KEYCLOAK))?;
        self.introduce_gateway(&realm).await?;
        Ok(Some((keycloak, realm)))
    }

    /// Gives the gateway's own client a secret, with which it asks about the tokens of open sessions, and says where it
    /// hears of people who log out.
    async fn introduce_gateway(&self, realm: &Realm) -> Result<(), Error> {
        let secret = uuid::Uuid::new_v4().to_string();
        write_private(&self.layout.file(INTROSPECTION), secret.as_bytes())?;
        let change = realm.change_client("doorward-gateway", |client| client["secret"] = secret.into());
        change.await.map_err(no(KEYCLOAK))?;
        let hears = format!("{}/v1/backchannel-logout", self.gateway_url());
        let change = realm.change_client("doorward", |client| {
            client["attributes"]["backchannel.logout.url"] = hears.into();
            client["attributes"]["backchannel.logout.session.required"] = "true".into();
        });
        change.await.map_err(no(KEYCLOAK))
    }

    /// A folder below the stack's, without what an earlier run left there.
    fn fresh(&self, name: &str) -> Result<std::path::PathBuf, Error> {
        let folder = self.layout.file(name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("clear", folder)(error)),
            _ => Ok(folder),
        }
    }

    /// Has Vault hold what the gateway's configuration needs, as people do it: `doorward-gateway vault apply`.
    pub(super) async fn set_vault_up(&self) -> Result<(), Error> {
        let Some(vault) = &self.vault else {
            return Ok(());
        };
        let read = |name: &str| {
            let path = self.layout.file(name);
            fs::read_to_string(&path).map_err(Error::file("read", path))
        };
        for (mount, name) in [(USER_MOUNT, keys::USER_CA), (HOST_MOUNT, keys::HOST_CA)] {
            let public = read(&format!("{name}.pub"))?;
            let mounted = vault::mount_with_key(vault.root(), mount, &read(name)?, &public).await;
            mounted.map_err(no(VAULT))?;
        }
        // A configuration names only files that there are.
        for name in [ROLE_ID, SECRET_ID] {
            write_private(&self.layout.file(name), b"")?;
        }
        self.write_gateway()?;
        let token = self.layout.file(ADMIN_TOKEN);
        write_private(&token, vault.root().token().unwrap_or_default().as_bytes())?;
        let applied = self.apply(&token).await;
        fs::remove_file(&token).map_err(Error::file("remove", token))?;
        applied?;
        let role = vault::AppRole::hand_out(vault.root(), GATEWAY_ROLE).await;
        let role = role.map_err(no(VAULT))?;
        write_private(&self.layout.file(ROLE_ID), role.role_id.as_bytes())?;
        write_private(&self.layout.file(SECRET_ID), role.secret_id.as_bytes())
    }

    async fn apply(&self, token: &Path) -> Result<(), Error> {
        let mut command = Command::new(&self.program);
        command.args(["gateway", "vault", "apply", "--yes", "--config"]);
        command
            .arg(self.layout.file(GATEWAY_FILE))
            .arg("--token-file")
            .arg(token);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|source| Error::Start {
            name: "doorward-gateway vault apply",
            source,
        })?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(Error::SetUp {
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}

/// Who signs for the gateway.
pub(super) fn authority<'a>(real: Real, vault: Option<&'a Vault>) -> Authority<'a> {
    let Some(vault) = vault else {
        return Authority::Local(Local {
            user_ca: keys::USER_CA,
            host_ca: keys::HOST_CA,
        });
    };
    Authority::Vault(VaultSection {
        address: vault.url(),
        ca: vault.ca_file(),
        sign_as: if real.keycloak { "user" } else { "gateway" },
        login: AppRole {
            method: "approle",
            role_id_file: ROLE_ID,
            secret_id_file: SECRET_ID,
        },
        user_login: real.keycloak.then_some(UserLogin {
            mount: "jwt",
            role: "doorward-user",
        }),
    })
}

/// Waits for the end of a real server, which nobody wanted.
pub(super) async fn fell(vault: &mut Option<Vault>, keycloak: &mut Option<(Keycloak, Realm)>) -> Error {
    let vault = async {
        match vault {
            Some(vault) => vault.fell().await,
            None => std::future::pending().await,
        }
    };
    let keycloak = async {
        match keycloak {
            Some((keycloak, _)) => keycloak.fell().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        error = vault => Error::from(error),
        error = keycloak => error.into(),
    }
}

fn no(name: &'static str) -> impl Fn(crate::parts::Error) -> Error {
    move |source| Error::Real { name, source }
}

/// The file with the secret of the gateway's own client.
pub(super) const INTROSPECTION: &str = "introspection-secret";
const VAULT: &str = "vault";
const KEYCLOAK: &str = "keycloak";
const ROLE_ID: &str = "vault-role-id";
const SECRET_ID: &str = "vault-secret-id";
/// There for as long as Vault is set up.
const ADMIN_TOKEN: &str = "vault-admin-token";
/// The names that a gateway's configuration has by default, as a set-up has.
const USER_MOUNT: &str = "ssh";
const HOST_MOUNT: &str = "ssh-host";
const GATEWAY_ROLE: &str = "doorward-gateway";
