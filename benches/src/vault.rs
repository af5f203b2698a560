//! What Vault did for the connects in between, from its own audit log.

use std::collections::HashMap;

use anyhow::{Context, Result};
use doorward_dev::parts::Vault;
use jiff::Timestamp;

/// Vault's part in some connects.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Requests for the signature of a session.
    pub signings: usize,
    /// Milliseconds from request to response, signing and logging in together.
    pub millis: f64,
}

/// Remembers where the audit log stood.
pub struct Watch<'a> {
    vault: &'a Vault,
    seen: usize,
}

impl<'a> Watch<'a> {
    /// From now on.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub fn begin(vault: &'a Vault) -> Result<Self> {
        let seen = vault.audit()?.len();
        Ok(Self { vault, seen })
    }

    /// What was added since.
    ///
    /// # Errors
    /// When the audit log cannot be read or makes no sense.
    pub fn end(self) -> Result<Share> {
        let mut begun: HashMap<String, Timestamp> = HashMap::new();
        let mut share = Share {
            signings: 0,
            millis: 0.0,
        };
        for line in self.vault.audit()?.iter().skip(self.seen) {
            let text = |pointer: &str| {
                line.pointer(pointer)
                    .and_then(|value| value.as_str())
                    .unwrap_or_default()
            };
            let (path, id) = (text("/request/path"), text("/request/id"));
            if !path.starts_with("auth/") && !path.contains("/sign/") {
                continue;
            }
            let at: Timestamp = text("/time").parse().context("an entry without its time")?;
            if text("/type") == "request" {
                begun.insert(id.to_owned(), at);
            } else if let Some(from) = begun.remove(id) {
                share.millis += at.duration_since(from).as_secs_f64() * 1e3;
                share.signings += usize::from(path.ends_with("/sign/doorward-session"));
            }
        }
        Ok(share)
    }
}
