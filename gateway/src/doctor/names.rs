//! Whether every name that the configuration holds leads somewhere.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use futures_util::future::join_all;
use tokio::net::lookup_host;
use url::{Host, Url};

use super::Finding;
use crate::{config::Config, vault::needs};

/// Looks up each name once.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut names = BTreeSet::new();
    for issuer in super::issuer::all(config) {
        names.extend(host_of(&issuer.issuer));
    }
    if let Some(settings) = needs::settings(config) {
        names.extend(host_of(settings.address.as_str()));
    }
    for life in config.workspaces.iter().filter_map(|workspace| workspace.life.as_ref()) {
        let host = life.address.rsplit_once(':').map(|(host, _)| host.to_owned());
        names.extend(host);
    }
    names.retain(|name| name.trim_matches(['[', ']']).parse::<IpAddr>().is_err());
    join_all(names.into_iter().map(look_up)).await
}

fn host_of(url: &str) -> Option<String> {
    match Url::parse(url).ok()?.host()? {
        Host::Domain(name) => Some(name.to_owned()),
        _ => None,
    }
}

async fn look_up(name: String) -> Finding {
    let remedy = "correct the name in the configuration, or see to the cluster's DNS";
    match tokio::time::timeout(WITHIN, lookup_host((name.as_str(), 0))).await {
        Err(_) => Finding::broken("dns", &name, format!("no answer within {} s", WITHIN.as_secs()), remedy),
        Ok(Err(error)) => Finding::broken("dns", &name, error.to_string(), remedy),
        Ok(Ok(found)) => {
            let all: BTreeSet<String> = found.map(|address| address.ip().to_string()).take(MOST_SHOWN).collect();
            let all: Vec<String> = all.into_iter().collect();
            Finding::ok("dns", &name, all.join(", "))
        }
    }
}

const WITHIN: Duration = Duration::from_secs(5);
const MOST_SHOWN: usize = 4;
