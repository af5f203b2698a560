//! Fetches the files of a recording. The gateway notes in its journal who did.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _, stderr};

use tempfile::TempDir;
use uuid::Uuid;

use crate::error::Error;
use crate::gateway::{Gateway, StoredFile};
use crate::home::Home;
use crate::home::settings::Settings;
use crate::pass::Pass;
use crate::signals::Signals;
use crate::{login, say};

/// How much longer than announced a file may be: the session may still be open.
const GROWTH: u64 = 64 * 1024 * 1024;
/// How many files a recording may have.
const MOST_FILES: usize = 100_000;

/// Fetches a recording into a folder of its own, for its owner alone, which is removed when the value is dropped.
pub(super) async fn fetch(home: &Home, settings: &Settings, session: Uuid) -> Result<TempDir, Error> {
    let gateway = Gateway::configured(home, settings)?;
    let pass = login::pass(home, settings).await?;
    fetch_from(&gateway, &pass, session).await
}

/// The same with a gateway and a token at hand.
pub(super) async fn fetch_from(gateway: &Gateway, pass: &Pass, session: Uuid) -> Result<TempDir, Error> {
    let mut signals = Signals::new();
    tokio::select! {
        fetched = all(gateway, pass, session) => fetched,
        // The folder is removed on the way out.
        () = signals.next() => Err(Error::Interrupted),
    }
}

async fn all(gateway: &Gateway, pass: &Pass, session: Uuid) -> Result<TempDir, Error> {
    let files = gateway.session(pass, session).await?.files;
    if files.len() > MOST_FILES {
        return Err(Error::Answer {
            whom: gateway.whom(),
            what: format!("{} files", files.len()),
        });
    }
    let temp = std::env::temp_dir();
    let folder = tempfile::Builder::new()
        .prefix("doorward-")
        .tempdir()
        .map_err(Error::file("create", temp))?;
    let mut progress = Progress {
        files: files.len(),
        shown: stderr().is_terminal(),
        ..Progress::default()
    };
    for file in files.iter().filter(|file| is_plain(&file.name)) {
        one(gateway, pass, session, file, &folder, &mut progress).await?;
    }
    progress.clear();
    Ok(folder)
}

async fn one(
    gateway: &Gateway,
    pass: &Pass,
    session: Uuid,
    file: &StoredFile,
    folder: &TempDir,
    progress: &mut Progress,
) -> Result<(), Error> {
    let path = folder.path().join(&file.name);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(Error::file("create", &path))?;
    let mut left = file.size.saturating_add(GROWTH);
    gateway
        .file(pass, session, &file.name, |part| {
            left = left.checked_sub(part.len() as u64).ok_or_else(|| Error::Answer {
                whom: gateway.whom(),
                what: format!("{} is longer than it said", file.name),
            })?;
            progress.add(part.len());
            out.write_all(part).map_err(Error::file("write", &path))
        })
        .await?;
    progress.done += 1;
    Ok(())
}

/// A name that can only be a file in the folder that it is joined to.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain)
}

/// What was fetched so far, on standard error where that is a terminal.
#[derive(Debug, Default)]
struct Progress {
    files: usize,
    done: usize,
    bytes: u64,
    shown_bytes: u64,
    shown: bool,
}

impl Progress {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.shown && (self.shown_bytes == 0 || self.bytes - self.shown_bytes >= 256 * 1024) {
            self.shown_bytes = self.bytes;
            say::progress(&format!(
                "fetching file {} of {}, {}",
                self.done + 1,
                self.files,
                say::size(self.bytes)
            ));
        }
    }

    fn clear(&self) {
        if self.shown {
            say::progress("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_its_folder() {
        for name in ["segment-000000.dwr", "receipts.jsonl", "session.json"] {
            assert!(is_plain(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "C:x",
            "/etc/passwd",
            ".ssh",
            "a\0b",
            "a\n",
            "é",
            &"a".repeat(101),
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
