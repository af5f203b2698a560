//! What a gateway's journal says, read from its files as an auditor would.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use doorward_audit::{Denied, Event, events};

use crate::until;

/// Every event in the journal below a gateway's state folder, oldest stream first. The last block may be under way:
/// what cannot be read of a stream's end is left out.
///
/// # Errors
/// The files cannot be read.
pub fn journal(state: &Path) -> Result<Vec<Event>> {
    let mut all = Vec::new();
    for stream in sorted(&state.join("journal"))? {
        all.extend(recorded(&stream)?);
    }
    Ok(all)
}

/// The events of one stream, up to where it can be read: the folder of a recording, or of a part of a journal.
///
/// # Errors
/// The files cannot be read.
pub fn recorded(folder: &Path) -> Result<Vec<Event>> {
    let mut bytes = Vec::new();
    for file in sorted(folder)? {
        if file.extension().is_some_and(|extension| extension == "dwr") {
            bytes.extend(fs::read(file)?);
        }
    }
    Ok(events(bytes.as_slice())
        .map_while(Result::ok)
        .map(|stamped| stamped.event)
        .collect())
}

/// The journal's entry on the refusal of whoever came from this address.
///
/// # Errors
/// It does not come.
pub async fn denial(state: &Path, peer: SocketAddr) -> Result<Denied> {
    let peer = peer.to_string();
    until("the refusal's entry in the journal", async || {
        let found = journal(state)?.into_iter().find_map(|event| match event {
            Event::Denied(denied) if denied.client_address == peer => Some(denied),
            _ => None,
        });
        if found.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok(found)
    })
    .await
}

/// Everything in a folder, by name; segments and streams are named so that this is their order.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
