//! The certificate authority as sessions use it: its keys, and certificates on trial.
//!
//! What is signed here opens nothing: a session certificate needs the stream of a session, and names one that nobody has; the
//! key that it is for is made for the occasion and forgotten.

use std::time::{Duration, SystemTime};

use doorward_certs::{
    Authority, AuthorityError, CaKeys, Capabilities, HostKey, LinkRequest, Recording, Secret, SessionRequest, Terms,
    UserToken, key,
    vault::{SignAs, Vault},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::Finding;
use crate::{
    config::{AuthorityKind, Config},
    refusal::chain,
    vault::needs,
};

/// The authority, made once for the checks that need it, and what it was asked for.
pub(super) struct Shared {
    pub(super) authority: Result<Authority, String>,
    link: OnceCell<Result<Link, String>>,
    host_ca: OnceCell<Result<CaKeys, String>>,
}

/// The gateway's own key, or one for the occasion, with a certificate on trial.
pub(super) struct Link {
    pub(super) key: HostKey,
    pub(super) certificate: Vec<u8>,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            authority: crate::run::authority(config).map_err(|error| error.to_string()),
            link: OnceCell::new(),
            host_ca: OnceCell::new(),
        }
    }

    /// The Vault that signs, if one does.
    pub(super) fn vault(&self) -> Option<&Vault> {
        match &self.authority {
            Ok(Authority::Vault(vault)) => Some(vault),
            _ => None,
        }
    }

    fn get(&self) -> Result<&Authority, String> {
        self.authority.as_ref().map_err(Clone::clone)
    }

    /// A link certificate, signed once for all who want one.
    pub(super) async fn link(&self, config: &Config) -> Result<&Link, String> {
        let made = self.link.get_or_init(async || {
            let key = match config.link.key.exists() {
                true => key::load(&config.link.key),
                false => HostKey::generate(),
            };
            let key = key.map_err(|error| error.to_string())?;
            let request = LinkRequest {
                subject: key.public_key().clone(),
                valid_for: TRIAL,
            };
            let signed = self.get()?.sign_link(&request, SystemTime::now()).await;
            let certificate = signed.map_err(|error| chain(&error))?.blob().to_vec();
            Ok(Link { key, certificate })
        });
        made.await.as_ref().map_err(Clone::clone)
    }

    /// The keys that host certificates are believed of.
    pub(super) async fn host_ca(&self) -> Result<&CaKeys, String> {
        let made = self
            .host_ca
            .get_or_init(async || self.get()?.host_ca().await.map_err(|error| chain(&error)));
        made.await.as_ref().map_err(Clone::clone)
    }
}

/// Looks at the keys, and has certificates signed.
pub(super) async fn check(config: &Config, shared: &Shared) -> Vec<Finding> {
    let authority = match &shared.authority {
        Ok(authority) => authority,
        Err(text) => return vec![Finding::broken("ca-keys", "", text, "correct [authority]")],
    };
    let remedy = match &config.authority.kind {
        AuthorityKind::Local { .. } => "make the two key files with `ssh-keygen -t ed25519`, mode 0600",
        AuthorityKind::Vault(_) => APPLY,
    };
    let mut findings = vec![
        keys("user", authority.user_ca().await.map_err(|error| chain(&error)), remedy),
        keys("host", shared.host_ca().await.cloned(), remedy),
    ];
    findings.push(match shared.link(config).await {
        Ok(_) => Finding::ok("signing", "link", "a certificate on trial was signed as asked"),
        Err(text) => Finding::broken("signing", "link", text, remedy),
    });
    findings.push(session(config, authority, remedy).await);
    findings
}

fn keys(whose: &str, found: Result<CaKeys, String>, remedy: &str) -> Finding {
    match found {
        Ok(keys) => {
            let all: Vec<String> = keys
                .iter()
                .map(|key| key.fingerprint(ssh_key::HashAlg::Sha256).to_string())
                .collect();
            Finding::ok("ca-keys", whose, all.join(", "))
        }
        Err(text) => Finding::broken("ca-keys", whose, text, remedy),
    }
}

async fn session(config: &Config, authority: &Authority, remedy: &str) -> Finding {
    if needs::settings(config).is_some_and(|settings| settings.sign_as != SignAs::Gateway) {
        return Finding::ok(
            "signing",
            "session",
            "not tried: sessions are signed with the person's own token",
        );
    }
    let lives = config.workspaces.iter();
    let mut lives = lives.filter_map(|workspace| Some((workspace, workspace.life.as_ref()?)));
    let Some((workspace, life)) = lives.next() else {
        return Finding::ok("signing", "session", "not tried: there is no workspace");
    };
    let signed = async {
        let key = HostKey::generate().map_err(|error| error.to_string())?;
        let request = SessionRequest {
            subject: key.public_key().clone(),
            // The nil UUID is nobody's session.
            session: Uuid::nil(),
            workspace: workspace.name.clone(),
            workspace_uid: life.uid.clone(),
            user: TRIAL_USER.to_owned(),
            terms: Terms {
                login: workspace.login.clone(),
                capabilities: Capabilities::default(),
                recording: Recording::default(),
                longest: TRIAL,
            },
            valid_for: config.authority.certificate_life,
        };
        let nobodys = UserToken::new(Secret::new(String::new()));
        let signed = authority.sign_session(&request, nobodys, SystemTime::now()).await;
        signed.map_err(|error: AuthorityError| chain(&error))
    };
    match signed.await {
        Ok(signed) => {
            let text = format!(
                "a certificate on trial was signed as asked, key id `{}`",
                signed.key_id()
            );
            Finding::ok("signing", "session", text)
        }
        Err(text) => Finding::broken("signing", "session", text, remedy),
    }
}

pub(super) const APPLY: &str = "`doorward-gateway vault plan` shows what is missing, `vault apply` puts it there";
/// Who a certificate on trial is for. No issuer lets a person be called this by accident.
const TRIAL_USER: &str = "doorward-doctor-trial-nobody";
/// The life of what is signed on trial.
const TRIAL: Duration = Duration::from_secs(60);
