//! The real servers under a stack: Vault in place of the CA keys in files, Keycloak in place of our own issuer.
//!
//! Vault is given the stack's own CA keys, which stay from run to run: old recordings can be verified whoever signs. Its
//! storage does not stay, because its unseal key is kept nowhere.

use std::fs;

use serde_json::json;

use super::config::{AppRole, Authority, Local, UserLogin, Vault as VaultSection};
use super::layout::write_private;
use super::{Error, Stack, keys};
use crate::parts::keycloak::{self, Realm};
use crate::parts::vault::{self, SetUp, Storage};
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
        if let Some(vault) = &self.vault {
            self.set_vault_up(vault).await?;
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
        };
        let keycloak = Keycloak::start(settings).await.map_err(no(KEYCLOAK))?;
        let realm = keycloak.add_realm(&keycloak::development_realm(), None).await;
        let realm = realm.map_err(no(KEYCLOAK))?;
        self.let_the_gateway_ask(&realm).await?;
        Ok(Some((keycloak, realm)))
    }

    /// Gives the gateway's own client a secret, with which it asks about the tokens of open sessions.
    async fn let_the_gateway_ask(&self, realm: &Realm) -> Result<(), Error> {
        let secret = uuid::Uuid::new_v4().to_string();
        write_private(&self.layout.file(INTROSPECTION), secret.as_bytes())?;
        let change = realm.change_client("doorward-gateway", |client| client["secret"] = secret.into());
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

    async fn set_vault_up(&self, vault: &Vault) -> Result<(), Error> {
        let setup = SetUp::new(&self.account);
        let read = |name: &str| {
            let path = self.layout.file(name);
            fs::read_to_string(&path).map_err(Error::file("read", path))
        };
        for (mount, name) in [(&setup.user_mount, keys::USER_CA), (&setup.host_mount, keys::HOST_CA)] {
            let key = json!({
                "private_key": read(name)?,
                "public_key": read(&format!("{name}.pub"))?,
                "generate_signing_key": false,
            });
            setup.mount(vault.root(), mount, &key).await.map_err(no(VAULT))?;
        }
        let role = setup.roles_and_login(vault.root()).await.map_err(no(VAULT))?;
        write_private(&self.layout.file(ROLE_ID), role.role_id.as_bytes())?;
        write_private(&self.layout.file(SECRET_ID), role.secret_id.as_bytes())?;
        if self.real.keycloak {
            let people = setup.people(vault.root(), &self.issuer_url).await;
            people.map_err(no(VAULT))?;
        }
        Ok(())
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
            mount: vault::PEOPLE_MOUNT,
            role: vault::PEOPLE_ROLE,
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
