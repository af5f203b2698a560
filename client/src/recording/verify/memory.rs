//! What this computer remembers of logs: the newest checkpoint that it has seen of each, so that nobody can show an older one.

use std::collections::BTreeMap;

use doorward_audit::log::{Checkpoint, TreeHead};
use serde_json::Value;

use crate::error::Error;
use crate::home::{Home, private};

/// The remembered checkpoints: by gateway or, for files, by nothing; then by log.
#[derive(Debug, Default)]
pub(super) struct Memory {
    lines: BTreeMap<String, BTreeMap<String, Value>>,
    changed: bool,
}

impl Memory {
    pub(super) fn read(home: &Home) -> Result<Self, Error> {
        let path = home.checkpoints();
        let Some(bytes) = private::read_secret(&path)? else {
            return Ok(Self::default());
        };
        // Not to be lost in silence: whoever can break this file could make us forget.
        let lines = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Configuration(format!("{}: {error}", path.display())))?;
        Ok(Self { lines, changed: false })
    }

    /// What is remembered of a log, whoever showed it.
    pub(super) fn of(&self, origin: &str) -> Option<TreeHead> {
        let all = self.lines.values().filter_map(|logs| logs.get(origin));
        let heads = all.filter_map(|line| Checkpoint::parse(&line.to_string()).ok());
        heads.map(|known| known.statement().head).max_by_key(|head| head.size)
    }

    /// Other logs that this gateway has shown.
    pub(super) fn others(&self, gateway: &str, origin: &str) -> Vec<String> {
        let logs = self.lines.get(gateway).into_iter().flatten();
        logs.map(|(name, _)| name.clone())
            .filter(|name| name != origin)
            .collect()
    }

    /// Whether this gateway has shown any log.
    pub(super) fn knows(&self, gateway: &str) -> bool {
        self.lines.get(gateway).is_some_and(|logs| !logs.is_empty())
    }

    /// Remembers a checkpoint that was found good, and no smaller than the one before.
    pub(super) fn keep(&mut self, gateway: &str, checkpoint: &Checkpoint) {
        let Some(line) = checkpoint
            .to_line()
            .ok()
            .and_then(|line| serde_json::from_str(&line).ok())
        else {
            return;
        };
        let origin = checkpoint.statement().origin.clone();
        self.lines.entry(gateway.to_owned()).or_default().insert(origin, line);
        self.changed = true;
    }

    pub(super) fn write(&self, home: &Home) -> Result<(), Error> {
        if !self.changed {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(&self.lines)
            .map_err(|error| Error::Configuration(format!("the remembered checkpoints: {error}")))?;
        text.push(b'\n');
        private::write(&home.checkpoints(), &text)
    }
}
