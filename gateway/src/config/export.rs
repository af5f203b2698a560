//! `[[export]]`: where events go besides the journal.

use std::path::{Path, PathBuf};

use doorward_audit::export::Language;
use toml::de::DeValue;
use url::Url;

use super::document::{Section, count, text};
use super::read::{existing, path, secret};
use super::trustworthy;

/// One `[[export]]`.
#[derive(Debug, Clone)]
pub struct Export {
    /// What the operator calls it; names its cursor, and its numbers.
    pub name: String,
    /// Where to.
    pub sink: SinkKind,
    /// In which language.
    pub language: Language,
    /// The most events that are handed over at once.
    pub batch: usize,
}

/// What takes the events.
#[derive(Debug, Clone)]
pub enum SinkKind {
    /// A file, appended to.
    File(PathBuf),
    /// The gateway's standard output.
    Stdout,
    /// An HTTP server that takes JSON lines.
    Http {
        /// Where to POST.
        url: Url,
        /// The CAs that are believed; the system's if there are none.
        ca: Option<PathBuf>,
        /// A file with a bearer token, read anew for each request.
        token_file: Option<PathBuf>,
    },
}

/// Reads all of them.
pub(super) fn read_all(top: &Section<'_>, base: &Path) -> Vec<Export> {
    let all = top.sections("export", |section| read(section, base));
    for (place, one) in all.iter().enumerate() {
        if all.iter().take(place).any(|other| other.name == one.name) {
            top.fault_at("export", format!("the export `{}` is there more than once", one.name));
        }
    }
    all
}

fn read(section: &Section<'_>, base: &Path) -> Option<Export> {
    let kind = section.required("kind", |value| match text(value)?.as_str() {
        kind @ ("file" | "stdout" | "http") => Ok(kind.to_owned()),
        _ => Err("must be \"file\", \"stdout\" or \"http\"".to_owned()),
    });
    let language = section.required("format", |value| match text(value)?.as_str() {
        "jsonl" => Ok(Language::Lines),
        "ocsf" => Ok(Language::Ocsf),
        "ecs" => Ok(Language::Ecs),
        _ => Err("must be \"ocsf\", \"ecs\" or \"jsonl\"".to_owned()),
    });
    let Some(kind) = kind else {
        // Which of the others belong here is not known: they are no faults as well.
        for key in ["name", "batch", "path", "url", "ca", "token-file"] {
            section.has(key);
        }
        return None;
    };
    let name = section.or("name", kind.clone(), name);
    let batch = section.or("batch", 500, count(10_000));
    let sink = match kind.as_str() {
        "file" => section.required("path", path(base)).map(SinkKind::File),
        "stdout" => Some(SinkKind::Stdout),
        _ => http(section, base),
    };
    Some(Export {
        name,
        sink: sink?,
        language: language?,
        batch,
    })
}

fn http(section: &Section<'_>, base: &Path) -> Option<SinkKind> {
    let url = section.required("url", place);
    let ca = section.optional("ca", existing(base));
    let token_file = section.optional("token-file", secret(base));
    Some(SinkKind::Http {
        url: url?,
        ca: if section.has("ca") { Some(ca?) } else { None },
        token_file: if section.has("token-file") {
            Some(token_file?)
        } else {
            None
        },
    })
}

/// An address over TLS or on loopback, with no secret in it: it is logged.
fn place(value: &DeValue<'_>) -> Result<Url, String> {
    let text = text(value)?;
    let url = Url::parse(&text).map_err(|error| format!("`{}` is no URL: {error}", text.escape_debug()))?;
    if !trustworthy(&url) {
        return Err("must be https, or http on loopback".to_owned());
    }
    match url.username().is_empty() && url.password().is_none() {
        true => Ok(url),
        false => Err("must hold no password; use `token-file`".to_owned()),
    }
}

/// It becomes part of a file's name.
fn name(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match text.len() <= 32 && text.bytes().all(good) {
        true => Ok(text),
        false => Err("must be at most 32 lower-case letters, digits and `-`".to_owned()),
    }
}
