//! What lies in a stand's record store, and what an auditor finds in it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use doorward_audit::Trust;
use doorward_certs::{CaKeys, judge_host_at, judge_link_at};
use serde_json::Value;
use ssh_key::PublicKey;

use crate::{Stand, until};

/// The sessions that bob sees at some time, so that later ones can be told from them.
#[derive(Debug)]
pub struct Before(HashSet<String>);

impl Stand {
    /// The sessions that there are now.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn before(&self) -> Result<Before> {
        let list = self.sessions().await?;
        Ok(Before(
            list.iter()
                .filter_map(|entry| Some(session(entry).ok()?.to_owned()))
                .collect(),
        ))
    }

    /// The entries of the sessions since then, once at least `count` are there and all have ended.
    ///
    /// # Errors
    /// They do not end in time.
    pub async fn ended_since(&self, before: &Before, count: usize) -> Result<Vec<Value>> {
        until("the sessions' entries close", async || {
            let mut list = self.sessions().await?;
            list.retain(|entry| session(entry).is_ok_and(|id| !before.0.contains(id)));
            let ended = list.iter().all(|entry| !entry["ended"].is_null());
            Ok((ended && list.len() >= count).then_some(list))
        })
        .await
    }

    /// The folder of a session in the gateway's store.
    ///
    /// # Errors
    /// There is none.
    pub fn stored(&self, id: &str) -> Result<PathBuf> {
        for day in fs::read_dir(self.stack.records_dir())? {
            let folder = day?.path().join(id);
            if folder.is_dir() {
                return Ok(folder);
            }
        }
        anyhow::bail!("no folder of {id} in the store")
    }

    /// The exact bytes of a session's output, as `doorward replay --raw` prints them.
    ///
    /// # Errors
    /// It fails.
    pub async fn replayed(&self, id: &str) -> Result<Vec<u8>> {
        let outcome = self.doorward(&["replay", "--raw", id]).await?;
        ensure!(outcome.code == Some(0), "replay of {id}: {}", outcome.said());
        Ok(outcome.stdout)
    }

    /// What `doorward verify` says of a session whose recording is whole: `complete` or `abnormal`.
    ///
    /// # Errors
    /// It says anything else, or its exit code says something else.
    pub async fn verdict(&self, id: &str) -> Result<String> {
        let outcome = self.doorward(&["verify", "--json", id]).await?;
        let text = String::from_utf8_lossy(&outcome.stdout);
        let reports: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| format!("verify of {id} printed no JSON: {}", outcome.said()))?;
        let found = reports.iter().find(|report| report["session"] == id);
        let verdict = found
            .and_then(|report| report["verdict"].as_str())
            .context("no verdict")?;
        ensure!(
            matches!((verdict, outcome.code), ("complete", Some(0)) | ("abnormal", Some(11))),
            "verify of {id}: {:?}: {text}",
            outcome.code
        );
        Ok(verdict.to_owned())
    }

    /// Whom an auditor of this stand trusts.
    ///
    /// # Errors
    /// The CA keys cannot be read.
    pub fn trust(&self) -> Result<Trust> {
        let keys = |name: &str| {
            let path = self.folder().join("stack").join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            anyhow::Ok(CaKeys::new([PublicKey::from_openssh(&text)?])?)
        };
        let (host, user) = (keys("host-ca.pub")?, keys("user-ca.pub")?);
        let at = |unix_ms| UNIX_EPOCH + Duration::from_millis(unix_ms);
        Ok(Trust {
            agent_key: Box::new(move |blob, ms| judge_host_at(blob, &host, at(ms)).map_err(|no| no.to_string())),
            gateway_key: Box::new(move |text, ms| judge_link_at(text, &user, at(ms)).map_err(|no| no.to_string())),
        })
    }
}

/// The id of a session's entry.
///
/// # Errors
/// It has none.
pub fn session(entry: &Value) -> Result<&str> {
    entry["session"].as_str().context("a session without an id")
}

/// Copies the files of a recording into a fresh folder.
///
/// # Errors
/// A file cannot be copied.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}
