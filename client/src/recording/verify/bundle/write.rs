//! Makes a bundle.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use doorward_audit::log::Checkpoint;
use doorward_audit::{Event, blocks};
use uuid::Uuid;

use super::pack::{Source, pack};
use super::{CHECKPOINT, LEAVES};
use crate::error::Error;
use crate::gateway::{Anchor, CaLines, ProvedLeaf};
use crate::say;

const INSTRUCTIONS: &str = include_str!("INSTRUCTIONS.txt");
const READER: &str = include_str!("../../../../../tests/readers/reader.py");

/// What goes into it.
#[derive(Debug)]
pub(in super::super) struct Contents<'a> {
    pub(in super::super) session: Uuid,
    /// The folder of the recording.
    pub(in super::super) folder: &'a Path,
    pub(in super::super) checkpoint: &'a Checkpoint,
    pub(in super::super) leaves: &'a [ProvedLeaf],
    pub(in super::super) keys: &'a CaLines,
    /// What was attested of this checkpoint.
    pub(in super::super) anchor: Option<&'a Anchor>,
}

/// Writes the bundle whole or not at all; a file that is there already is not replaced.
pub(in super::super) fn write(path: &Path, contents: &Contents<'_>) -> Result<(), Error> {
    if path.exists() {
        return Err(Error::Usage(format!("{} is there already", path.display())));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut out =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(Error::file("write", path))?;
    let files = files(contents)?;
    let mut to = std::io::BufWriter::new(out.as_file_mut());
    let wrote = pack(&mut to, contents.session, files).and_then(|()| to.flush());
    drop(to);
    let wrote = wrote.and_then(|()| out.as_file().sync_all());
    wrote.map_err(Error::file("write", path))?;
    out.persist_noclobber(path)
        .map_err(|error| Error::file("write", path)(error.error))?;
    Ok(())
}

fn files(contents: &Contents<'_>) -> Result<BTreeMap<String, Source>, Error> {
    let bad = |text: String| Error::Recording(format!("the bundle cannot be made: {text}"));
    let mut files = BTreeMap::new();
    let mut text = |name: &str, text: String| files.insert(name.to_owned(), Source::Text(text.into_bytes()));
    let checkpoint = contents.checkpoint;
    let said = checkpoint.statement();
    let signature = checkpoint.signature().map_err(|error| bad(error.to_string()))?;
    text("log/checkpoint.txt", checkpoint.text().to_owned());
    text("log/checkpoint.txt.sig", signature);
    text(
        CHECKPOINT,
        checkpoint.to_line().map_err(|error| bad(error.to_string()))?,
    );
    let mut leaves = String::new();
    for leaf in contents.leaves {
        leaves += &serde_json::to_string(leaf).map_err(|error| bad(error.to_string()))?;
        leaves.push('\n');
    }
    text(LEAVES, leaves);
    text("keys/gateway-cert.pub", format!("{}\n", said.certificate));
    text("keys/host-ca.pub", lines(&contents.keys.host_ca));
    text("keys/user-ca.pub", lines(&contents.keys.user_ca));
    let trust = serde_json::to_string_pretty(contents.keys).map_err(|error| bad(error.to_string()))?;
    text("keys/trust.json", trust + "\n");
    text("reader.py", READER.to_owned());
    let page = INSTRUCTIONS
        .replace("@SESSION@", &contents.session.to_string())
        .replace("@ORIGIN@", &said.origin)
        .replace("@SIZE@", &said.head.size.to_string())
        .replace("@AT@", &say::moment(said.at));
    text("README.txt", page);
    if let Some(anchor) = contents.anchor {
        text("log/anchor.txt", format!("attested {}\n", anchor.at));
        files.insert("log/anchor.bin".to_owned(), Source::Text(anchor.attestation.clone()));
    }
    heads(contents.folder, &mut files);
    let entries = fs::read_dir(contents.folder).map_err(Error::file("read", contents.folder))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("read", contents.folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(format!("recording/{name}"), Source::File(entry.path()));
    }
    Ok(files)
}

/// The heads one by one, as far as the recording can be read: for people who check by hand.
fn heads(folder: &Path, files: &mut BTreeMap<String, Source>) {
    let all = super::super::super::Segments::of(folder);
    for block in blocks(all).map_while(Result::ok) {
        if block.seen.seq == 1
            && let Ok(events) = block.events()
            && let Some(Event::Opened(opened)) = events.into_iter().map(|stamped| stamped.event).next()
            && let Some(text) = certificate_text(&opened.host_certificate)
        {
            files.insert("keys/workspace-cert.pub".to_owned(), Source::Text(text.into_bytes()));
        }
        if let Some(head) = &block.seen.head
            && let Ok(signature) = head.signature_text()
        {
            let name = format!("heads/{:06}", block.seen.segment);
            files.insert(format!("{name}.cbor"), Source::Text(head.signed_bytes().to_vec()));
            files.insert(format!("{name}.sig"), Source::Text(signature.into_bytes()));
        }
    }
}

/// The certificate as ssh-keygen reads it: its kind, which stands at the beginning of the blob, and base64.
fn certificate_text(blob: &[u8]) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let (len, rest) = blob.split_first_chunk::<4>()?;
    let kind = rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    let kind = std::str::from_utf8(kind)
        .ok()
        .filter(|kind| kind.chars().all(|c| c.is_ascii_graphic()))?;
    Some(format!("{kind} {}\n", STANDARD.encode(blob)))
}

fn lines(all: &[String]) -> String {
    all.iter().map(|line| format!("{}\n", line.trim())).collect()
}
