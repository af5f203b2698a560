//! What only a stack on a real Vault can show: its audit log.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use doorward_dev::parts::Vault;

use super::recordings::Recordings;

/// Each session was signed for once, under the person's name, and the key id that Vault saw names the session.
pub(super) async fn signed(vault: &Vault, as_person: bool, recordings: &Recordings) -> Result<()> {
    let mut signings: BTreeMap<String, usize> = BTreeMap::new();
    for line in vault.audit()? {
        let request = &line["request"];
        if line["type"] != "response" || request["path"] != "ssh/sign/doorward-session" {
            continue;
        }
        let key_id = request["data"]["key_id"].as_str().context("a signing without key id")?;
        let who = line["auth"]["display_name"].as_str().unwrap_or_default();
        let wanted = if as_person { "jwt-bob" } else { "approle" };
        ensure!(who == wanted, "{key_id} was signed for {who}");
        *signings.entry(key_id.to_owned()).or_default() += 1;
    }
    let sessions = recordings.list().await?;
    ensure!(!sessions.is_empty(), "no sessions");
    for session in &sessions {
        let key_id = format!("user={} session={}", session.user, session.session);
        ensure!(
            signings.get(&key_id) == Some(&1),
            "{key_id} is not signed once: {signings:?}"
        );
    }
    ensure!(
        signings.len() == sessions.len(),
        "{} signings for {} sessions",
        signings.len(),
        sessions.len()
    );
    Ok(())
}
