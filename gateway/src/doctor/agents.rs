//! The agents: whether something answers at each address, takes us for its gateway, and is the workspace that is meant.

use doorward_certs::{CaKeys, WorkspaceName};
use futures_util::{StreamExt as _, stream};

use super::{
    Finding,
    authority::{Link, Shared},
};
use crate::{
    config::Config,
    link::{self, Probe},
    workspace::Life,
};

/// Looks at every agent, a few at a time.
pub(super) async fn check(config: &Config, shared: &Shared) -> Vec<Finding> {
    let link = shared.link(config).await;
    let host_ca = shared.host_ca().await;
    let lives = config.workspaces.iter();
    let lives = lives.filter_map(|workspace| Some((&workspace.name, workspace.life.as_ref()?)));
    let (link, host_ca) = (&link, &host_ca);
    let each = lives.map(|(name, life)| async move {
        match (link, host_ca) {
            (Ok(link), Ok(host_ca)) => one(name, life, link, host_ca).await,
            // Why there is no certificate is told where it is signed.
            _ => Finding::warning(
                "agent",
                name,
                "not tried: the gateway has nothing to prove itself with",
                "see to the signing first",
            ),
        }
    });
    let all: Vec<_> = each.collect();
    stream::iter(all).buffered(AT_ONCE).collect().await
}

async fn one(name: &WorkspaceName, life: &Life, link: &Link, host_ca: &CaKeys) -> Finding {
    let subject = format!("{} at {}", name, life.address);
    match link::probe(name, life, &link.key, link.certificate.clone(), host_ca).await {
        Ok(Probe::Good { version }) => {
            Finding::ok("agent", subject, format!("a link would come up (version {version})"))
        }
        Ok(Probe::WouldEnrol) => {
            let remedy = "it is enrolled when the gateway runs; if it stays, see `join-token-file`";
            Finding::warning(
                "agent",
                subject,
                "has no host certificate yet, and asks to be enrolled",
                remedy,
            )
        }
        Err(error) => Finding::broken("agent", subject, error.chain(), remedy(&error)),
    }
}

fn remedy(error: &link::HandshakeError) -> &'static str {
    match error.code() {
        "link-connect" => "see whether the agent runs, and whether `address` and the network let us there",
        "link-refused" => "give the agent the user CA that signs for this gateway (`user-ca` in agent.toml)",
        "link-other-workspace" => "correct `address` or `uid` of the workspace: another one answers there",
        "link-certificate" => {
            "have the agent enrolled anew with a join token, and see that it shows this host CA's certificate"
        }
        "link-version" => "bring gateway and agent to versions that know each other",
        _ => "see the agent's log",
    }
}

const AT_ONCE: usize = 16;
