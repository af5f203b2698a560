//! A Vault as a gateway's authority, without a gateway around it.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use doorward_certs::vault::setup::{Admin, GatewayLogin, Names, Needs, steps};
use doorward_certs::vault::{HostCertificates, Login, Settings, SignAs, Transport};
use doorward_certs::{
    Authority, AuthorityError, Capabilities, HostKey, Login as Account, Recording, Secret, SessionRequest, Terms,
    UserToken, WorkspaceName, WorkspaceUid,
};
use doorward_dev::parts::Vault;

/// How a gateway uses a Vault that has the names of a set-up.
///
/// # Errors
/// The address is none.
pub fn settings(vault: &Vault, login: Login) -> Result<Settings> {
    Ok(Settings {
        address: vault.url().parse()?,
        ca: Some(vault.ca_file().to_owned()),
        namespace: None,
        user_mount: "ssh".into(),
        host_mount: "ssh-host".into(),
        session_role: "doorward-session".into(),
        link_role: "doorward-link".into(),
        host_role: "doorward-host".into(),
        hosts: HostCertificates::Gateway,
        sign_as: SignAs::Gateway,
        login,
        timeout: Duration::from_secs(4),
        signings_per_second: 1000,
        signings_per_user_per_minute: 100_000,
    })
}

/// Has Vault hold what a gateway with these settings needs, as `vault apply` does.
///
/// # Errors
/// Vault refuses.
pub async fn set_up(vault: &Vault, settings: &Settings, login: GatewayLogin) -> Result<()> {
    let needs = needs(settings, login);
    let (transport, token) = (Transport::new(settings)?, vault.root().token().context("a token")?);
    let token = Secret::new(token.to_owned());
    let admin = Admin::new(&transport, &token);
    let plan = admin.plan(steps(&needs)).await?;
    admin.apply(&plan).await?;
    Ok(())
}

/// What a gateway with these settings needs of its Vault, for sessions as `node` in any workspace.
#[must_use]
pub fn needs(settings: &Settings, login: GatewayLogin) -> Needs {
    Needs {
        user_mount: settings.user_mount.clone(),
        host_mount: settings.host_mount.clone(),
        session_role: settings.session_role.clone(),
        link_role: settings.link_role.clone(),
        host_role: settings.host_role.clone(),
        logins: Names::These(vec!["node".to_owned()]),
        hosts: Names::Any,
        session_life: Duration::from_secs(120),
        link_life: Duration::from_secs(3600),
        host_life: Duration::from_secs(3600),
        login,
        agents: None,
        user_login: None,
    }
}

/// How a signing for bob ends: `signed`, or the error's code.
pub async fn code(signs: &Authority) -> String {
    match sign_at(signs, SystemTime::now()).await {
        Ok(()) => "signed".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}

/// Has a session of bob's signed by a gateway whose clock says `now`.
///
/// # Errors
/// The authority's.
pub async fn sign_at(signs: &Authority, now: SystemTime) -> Result<(), AuthorityError> {
    let (Ok(workspace), Ok(workspace_uid), Ok(login), Ok(key)) = (
        WorkspaceName::try_from("devenv-0"),
        WorkspaceUid::try_from("uid-0"),
        Account::try_from("node"),
        HostKey::generate(),
    ) else {
        unreachable!("these names are good, and a key can always be made");
    };
    let request = SessionRequest {
        subject: key.public_key().clone(),
        session: uuid::Uuid::now_v7(),
        workspace,
        workspace_uid,
        user: "bob".into(),
        terms: Terms {
            login,
            capabilities: Capabilities {
                shell: true,
                pty: true,
                ..Capabilities::default()
            },
            recording: Recording::default(),
            longest: Duration::from_secs(3600),
        },
        valid_for: Duration::from_secs(60),
    };
    let token = UserToken::new(Secret::new(String::new()));
    signs.sign_session(&request, token, now).await.map(drop)
}
