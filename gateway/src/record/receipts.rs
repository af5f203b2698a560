//! The sidecar of a recording: what the gateway signs about it, one line each.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use doorward_audit::log::LeafKind;
use doorward_audit::receipt::{self, Kind, RECEIPT_NAMESPACE, Statement};

use super::{Disk, Failure, layout};
use crate::link::Credential;

/// Signs the statements and makes their lines durable, in order. Returns what the log is to say of them.
pub(super) fn append(
    dir: &Path,
    disk: Disk,
    credential: &Credential,
    statements: impl IntoIterator<Item = Statement>,
) -> Result<Vec<LeafKind>, Failure> {
    let (mut lines, mut leaves) = (String::new(), Vec::new());
    for statement in statements {
        let said = statement.clone();
        let line = receipt::sign(statement, |text| credential.sign(RECEIPT_NAMESPACE, text))
            .and_then(|receipt| receipt.to_line())
            .map_err(|error| Failure::Storage(format!("sign a receipt: {error}")))?;
        leaves.push(LeafKind::of_receipt(&said, &line));
        lines += &line;
    }
    if lines.is_empty() {
        return Ok(leaves);
    }
    let write = || -> io::Result<()> {
        let mut file = layout::open_append(&dir.join(layout::RECEIPTS))?;
        let new = file.metadata()?.len() == 0;
        file.write_all(lines.as_bytes())?;
        (disk.sync)(&file)?;
        if new { layout::sync_dir(dir) } else { Ok(()) }
    };
    write()
        .map(|()| leaves)
        .map_err(|error| Failure::storage("write a receipt", &error))
}

/// What receipts a crash left.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Sequence numbers of heads that have a receipt.
    pub(super) heads: HashSet<u64>,
    /// What the log must say of them.
    pub(super) leaves: Vec<LeafKind>,
}

/// What the last closing receipt says, if there is one.
pub(super) fn last_closing(dir: &Path) -> Option<Statement> {
    let text = fs::read_to_string(dir.join(layout::RECEIPTS)).ok()?;
    let mut receipts = text.lines().rev().filter_map(|line| receipt::parse(line).ok());
    receipts
        .find(|receipt| receipt.statement().kind == Kind::Closing)
        .map(|receipt| receipt.statement().clone())
}

/// Reads the receipts and sets the torn end of the file aside, if there is one.
pub(super) fn recover(dir: &Path, disk: Disk, unix_ms: u64) -> io::Result<Known> {
    let path = dir.join(layout::RECEIPTS);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Known::default()),
        Err(error) => return Err(error),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        let mut aside = layout::create_new(&dir.join(layout::torn_receipt_name(unix_ms)))?;
        aside.write_all(&text[whole..])?;
        (disk.sync)(&aside)?;
        let file = fs::OpenOptions::new().write(true).open(&path)?;
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    let mut known = Known::default();
    for line in text[..whole]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let parsed = std::str::from_utf8(line)
            .ok()
            .and_then(|line| receipt::parse(line).ok());
        if let (Some(receipt), Ok(text)) = (parsed, std::str::from_utf8(line)) {
            if receipt.statement().kind == Kind::Head {
                known.heads.insert(receipt.statement().seq);
            }
            known.leaves.push(LeafKind::of_receipt(receipt.statement(), text));
        }
    }
    Ok(known)
}
