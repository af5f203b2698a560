//! `[token-review]`: people whose tokens only the API server can read.

use std::{collections::BTreeSet, time::Duration};

use toml::de::DeValue;

use super::{
    document::{Section, count, duration, list, text},
    issuer::prefix,
};
use crate::kube::rights::OF_THE_SERVER;

/// `[token-review]`.
#[derive(Debug, Clone)]
pub struct TokenReview {
    /// The audiences of which a token must be for one; the API server's own if there are none.
    pub audiences: Vec<String>,
    /// What stands before the person's name here, so that it is nobody's of an issuer.
    pub user_prefix: String,
    /// What stands before each group's name here.
    pub groups_prefix: String,
    /// The groups of the cluster that count; all but the server's own if none are named.
    pub groups: Option<BTreeSet<String>>,
    /// The service accounts that may come in like people, as `namespace/name`.
    pub service_accounts: BTreeSet<String>,
    /// How long an answer is believed for a new session.
    pub cache: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many tokens that were never good are asked about in a second.
    pub per_second: u32,
}

/// Reads the section; `alone` says that there is no issuer besides.
pub(super) fn read(section: &Section<'_>, alone: bool) -> Option<TokenReview> {
    let usual = if alone { String::new() } else { PREFIX.to_owned() };
    let audiences = section.or("audiences", Vec::new(), list(text));
    let groups = section.optional("groups", list(text));
    if let Some(own) = groups.iter().flatten().find(|group| group.starts_with(OF_THE_SERVER)) {
        section.fault_at(
            "groups",
            format!(
                "`{}` is one of the API server's own groups, and those never count",
                own.escape_debug()
            ),
        );
    }
    Some(TokenReview {
        audiences,
        user_prefix: section.or("user-prefix", usual.clone(), prefix),
        groups_prefix: section.or("groups-prefix", usual, prefix),
        groups: groups.map(|all| all.into_iter().collect()),
        service_accounts: section
            .or("service-accounts", Vec::new(), list(service_account))
            .into_iter()
            .collect(),
        cache: section.or("cache", CACHE, duration(Duration::ZERO, LONGEST_CACHE)),
        timeout: section.or("timeout", TIMEOUT, duration(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)),
        per_second: section.or("reviews-per-second", PER_SECOND, |value| {
            let number = count(MOST_PER_SECOND)(value)?;
            u32::try_from(number).map_err(|error| error.to_string())
        }),
    })
}

/// `namespace/name`, each as Kubernetes has them.
fn service_account(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let plain = |part: &str| {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !part.is_empty() && part.len() <= 253 && part.bytes().all(good)
    };
    match text.split_once('/') {
        Some((namespace, name)) if plain(namespace) && plain(name) => Ok(text),
        _ => Err(format!("`{}` is not `namespace/name`", text.escape_debug())),
    }
}

const PREFIX: &str = "kubernetes:";
const CACHE: Duration = Duration::from_secs(5);
const LONGEST_CACHE: Duration = Duration::from_secs(10);
/// Somebody waits at a prompt, and a check of a token has an end of its own.
const TIMEOUT: Duration = Duration::from_secs(3);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(4);
const PER_SECOND: u32 = 50;
const MOST_PER_SECOND: usize = 10_000;
