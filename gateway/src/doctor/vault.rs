//! Vault: whether it is there and open, lets us in, and has roles that are neither too narrow nor too wide.

use std::time::Duration;

use doorward_certs::{
    Login,
    vault::{
        HostCertificates, Settings, SignAs, Vault,
        setup::{Names, Purpose, flaws},
    },
};
use serde_json::{Map, Value};
use url::Url;

use super::{
    Finding,
    authority::{APPLY, Shared},
    clock, fetch,
};
use crate::{
    config::Config,
    link::LINK_LIFE,
    refusal::chain,
    vault::needs::{self, host_life},
};

/// Looks at Vault, if it signs.
pub(super) async fn check(config: &Config, shared: &Shared) -> Vec<Finding> {
    let Some(settings) = needs::settings(config) else {
        return Vec::new();
    };
    let mut findings = health(settings).await;
    let Some(vault) = shared.vault() else {
        return findings;
    };
    match vault.log_in().await {
        Err(error) => {
            let remedy = "see [authority.vault.login], and whether `vault apply` has been run";
            findings.push(Finding::broken(
                "vault-login",
                settings.login.method(),
                chain(&error),
                remedy,
            ));
        }
        Ok(()) => {
            findings.push(Finding::ok(
                "vault-login",
                settings.login.method(),
                "the gateway is let in",
            ));
            findings.extend(roles(config, settings, vault).await);
            if settings.hosts == HostCertificates::Agents {
                findings.push(denied(settings, vault).await);
            }
        }
    }
    findings
}

/// Whether Vault is reachable, initialised, unsealed and active.
async fn health(settings: &Settings) -> Vec<Finding> {
    let name = settings.address.origin().ascii_serialization();
    let broken = |text: String, remedy: &str| vec![Finding::broken("vault", &name, text, remedy)];
    let reach = "see whether Vault is up, and whether `address` and `ca` in [authority.vault] are right";
    let place: Url = match settings.address.join("/v1/sys/health") {
        Ok(place) => place,
        Err(error) => return broken(error.to_string(), reach),
    };
    let answer = match crate::outbound::client(&place, settings.ca.as_deref()) {
        Ok(client) => fetch::send(client.get(place)).await,
        Err(text) => return broken(text, "correct `ca` in [authority.vault]"),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(text) => return broken(format!("cannot be asked: {text}"), reach),
    };
    // Only Vault's own answer counts: a proxy's 503 says nothing about seals.
    let own: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if own.is_none_or(|own| own.get("sealed").is_none()) {
        return broken(
            format!("what answers there is not Vault (status {})", answer.status),
            reach,
        );
    }
    let breaks = "certificates will not be valid from about now, and be refused";
    let clock = clock::finding(&name, &answer, SIGNING_LEEWAY, breaks);
    let health = match answer.status {
        200 => Finding::ok("vault", &name, "is active"),
        429 | 472 | 473 => Finding::ok("vault", &name, "is a standby, which hands requests on"),
        501 => Finding::broken(
            "vault",
            &name,
            "is not initialised",
            "initialise it: `vault operator init`",
        ),
        503 => Finding::broken("vault", &name, "is sealed", "unseal it: `vault operator unseal`"),
        status => Finding::broken("vault", &name, format!("says of its health: {status}"), reach),
    };
    vec![health, clock]
}

async fn roles(config: &Config, settings: &Settings, vault: &Vault) -> Vec<Finding> {
    let as_user = settings.sign_as != SignAs::Gateway;
    let session = vault.session_purpose();
    let mut findings = Vec::new();
    for (name, purpose, life) in [
        (&settings.session_role, session, config.authority.certificate_life),
        (&settings.link_role, Purpose::Link, LINK_LIFE),
        (&settings.host_role, vault.host_purpose(), host_life(settings)),
    ] {
        match vault.role(purpose).await {
            Ok(Some(role)) => {
                let mut all = judged(name, &role, purpose, life, config);
                all.extend(match purpose {
                    Purpose::Host => hosts(name, &role, config),
                    Purpose::Link | Purpose::OwnHost => None,
                    Purpose::Session | Purpose::SessionAsUser => logins(name, &role, config, as_user),
                });
                if all.is_empty() {
                    all.push(Finding::ok(
                        "vault-role",
                        name,
                        "signs what it has to, and nothing else",
                    ));
                }
                findings.extend(all);
            }
            Ok(None) => findings.push(Finding::broken("vault-role", name, "is not there", APPLY)),
            Err(error) => {
                let remedy = "`vault apply` lets the gateway read its own roles, and nothing else about them";
                findings.push(Finding::warning("vault-role", name, chain(&error), remedy));
            }
        }
    }
    findings
}

/// Whether Vault really gives the gateway no way to a host certificate, as the configuration wants it.
async fn denied(settings: &Settings, vault: &Vault) -> Finding {
    let what = format!("{}/sign/*", settings.host_mount);
    match vault.ways_to_hosts().await {
        Ok(open) if open.is_empty() => {
            let text = "denied to the gateway, as is all that would lead there: it cannot pass for a workspace";
            Finding::ok("vault-no-hosts", what, text)
        }
        Ok(open) => Finding::broken(
            "vault-no-hosts",
            what,
            format!(
                "the gateway's token can have host certificates signed, or bring that about: {}",
                open.join("; ")
            ),
            "`doorward-gateway vault apply` denies it; see which other policies the gateway's token has",
        ),
        Err(error) => Finding::warning(
            "vault-no-hosts",
            what,
            format!("cannot be looked at: {}", chain(&error)),
            APPLY,
        ),
    }
}

fn judged(name: &str, role: &Map<String, Value>, purpose: Purpose, life: Duration, config: &Config) -> Vec<Finding> {
    // Where the accounts cannot be known, the plan itself asks for any.
    let any = matches!(needs::logins(config), Ok(Names::Any)) && purpose == Purpose::Session;
    let flaws = flaws(role, purpose)
        .into_iter()
        .filter(|flaw| !(any && flaw.text.contains("lets anyone in as anyone")));
    let mut findings: Vec<Finding> = flaws
        .map(|flaw| match flaw.useless {
            true => Finding::broken("vault-role", name, flaw.text, APPLY),
            false => Finding::warning("vault-role", name, flaw.text, NARROW),
        })
        .collect();
    let longest = role.get("max_ttl").and_then(Value::as_u64).unwrap_or_default();
    if longest > 0 && longest < life.as_secs() {
        let text = format!(
            "allows {longest} s, and {} s are asked for: it will refuse (max_ttl)",
            life.as_secs()
        );
        findings.push(Finding::broken("vault-role", name, text, APPLY));
    }
    findings
}

/// Accounts of workspaces and roles that the role would refuse.
fn logins(name: &str, role: &Map<String, Value>, config: &Config, as_user: bool) -> Option<Finding> {
    let Ok(Names::These(wanted)) = needs::logins(config) else {
        return None;
    };
    let named = wanted
        .into_iter()
        .filter(|login| Login::try_from(login.as_str()).is_ok());
    let refused = refused(role, "allowed_users", named)?;
    let text = format!("refuses the accounts {refused} of the configuration (allowed_users)");
    // With the template a person of that name still gets in.
    Some(match as_user {
        true => Finding::warning("vault-role", name, text, APPLY),
        false => Finding::broken("vault-role", name, text, APPLY),
    })
}

/// Names of workspaces that the role would refuse.
fn hosts(name: &str, role: &Map<String, Value>, config: &Config) -> Option<Finding> {
    let Names::These(wanted) = needs::hosts(config) else {
        return None;
    };
    let refused = refused(role, "allowed_domains", wanted.into_iter())?;
    let text = format!("refuses the names {refused} of workspaces (allowed_domains)");
    Some(Finding::broken("vault-role", name, text, APPLY))
}

/// Which names a field of the role does not list, if any.
fn refused(role: &Map<String, Value>, field: &str, wanted: impl Iterator<Item = String>) -> Option<String> {
    let allowed = role.get(field).and_then(Value::as_str).unwrap_or_default();
    let listed = |one: &str| allowed == "*" || allowed.split(',').any(|name| name.trim() == one);
    let refused: Vec<String> = wanted.filter(|one| !listed(one)).collect();
    (!refused.is_empty()).then(|| refused.join(", "))
}

const NARROW: &str = "`doorward-gateway vault apply` narrows it again; do not share it with anything else";
/// How far Vault's clock may be from ours: a certificate is dated back by as much.
const SIGNING_LEEWAY: Duration = Duration::from_secs(30);
