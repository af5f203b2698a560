//! `[records]`: where recordings are kept, and the object store behind that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;
use url::Url;

use super::document::{Section, bytes, duration, flag, text};
use super::read::{DAY, HOUR, existing, path, secret};
use super::trustworthy;

/// `[records]`: the recordings.
#[derive(Debug, Clone)]
pub struct Records {
    /// Where recordings are kept, or wait for the object store. Made if it is missing.
    pub directory: PathBuf,
    /// How long writes are collected before one fsync makes them durable.
    pub commit_interval: Duration,
    /// By how much the clock may differ from what has passed since it was last believed, so that recordings are deleted by it.
    pub clock_leap: Duration,
    /// The object store behind the directory.
    pub s3: Option<S3>,
}

/// `[records.s3]`: an S3-compatible store.
#[derive(Debug, Clone)]
pub struct S3 {
    /// Scheme, host, port.
    pub endpoint: Url,
    /// The bucket.
    pub bucket: String,
    /// What requests are signed for.
    pub region: String,
    /// What stands before every object's name; may be empty.
    pub prefix: String,
    /// Whether the bucket's name is in the path rather than in the host's name.
    pub path_style: bool,
    /// The CAs that are believed; the system's if there are none.
    pub ca: Option<PathBuf>,
    /// Who we are.
    pub credentials: S3Credentials,
    /// When an agent is told that it may forget.
    pub acknowledge: Acknowledge,
    /// How long new bytes are collected before they are sent.
    pub ship_interval: Duration,
    /// How many bytes may wait for the store.
    pub spool_limit: u64,
    /// How long the directory keeps a recording that the store has.
    pub spool_keep: Duration,
    /// Whether the bucket locks objects in compliance mode.
    pub object_lock: bool,
    /// How long one request may take.
    pub timeout: Duration,
}

/// How the gateway proves itself to the object store.
#[derive(Debug, Clone)]
pub enum S3Credentials {
    /// Two key files, read again when they change.
    Files {
        /// The access key's id.
        access_key: PathBuf,
        /// The secret key.
        secret_key: PathBuf,
    },
    /// The pod's own token, exchanged for a role (STS, AssumeRoleWithWebIdentity).
    WebIdentity {
        /// The role's ARN.
        role: String,
        /// The projected token.
        token_file: PathBuf,
        /// The token service; that of the region if `None`.
        sts: Option<Url>,
    },
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// Durable in the directory.
    Spool,
    /// Stored in the bucket.
    Stored,
}

/// Reads `[records]`.
pub(super) fn read(section: &Section<'_>, base: &Path) -> Option<Records> {
    let directory = section.required("directory", path(base));
    let commit_interval = section.or(
        "commit-interval",
        Duration::from_millis(20),
        duration(Duration::from_millis(1), Duration::from_secs(5)),
    );
    let clock_leap = section.or("clock-leap", 3 * DAY, duration(HOUR, 400 * DAY));
    let s3 = section.section("s3", |section| read_s3(section, base));
    Some(Records {
        directory: directory?,
        commit_interval,
        clock_leap,
        s3: if section.has("s3") { Some(s3?) } else { None },
    })
}

fn read_s3(section: &Section<'_>, base: &Path) -> Option<S3> {
    let endpoint = section.required("endpoint", endpoint);
    let bucket = section.required("bucket", bucket);
    let region = section.or("region", "us-east-1".to_owned(), region);
    let prefix = section.or("prefix", String::new(), prefix);
    let path_style = section.or("path-style", true, flag);
    let ca = section.optional("ca", existing(base));
    let credentials = credentials(section, base);
    let acknowledge = section.or("acknowledge", Acknowledge::Spool, |value| match text(value)?.as_str() {
        "spool" => Ok(Acknowledge::Spool),
        "stored" => Ok(Acknowledge::Stored),
        _ => Err("must be \"spool\" or \"stored\"".to_owned()),
    });
    let ship_interval = section.or(
        "ship-interval",
        Duration::from_millis(200),
        duration(Duration::from_millis(10), Duration::from_secs(60)),
    );
    let spool_limit = section.or("spool-limit", 8 << 30, bytes);
    if spool_limit < LEAST_SPOOL {
        section.fault_at("spool-limit", "`spool-limit` must be at least \"1MiB\"");
    }
    let spool_keep = section.or("spool-keep", HOUR, duration(Duration::ZERO, 400 * DAY));
    let object_lock = section.or("object-lock", false, |value| match text(value)?.as_str() {
        "none" => Ok(false),
        "compliance" => Ok(true),
        _ => Err("must be \"none\" or \"compliance\"".to_owned()),
    });
    let timeout = section.or(
        "timeout",
        Duration::from_secs(30),
        duration(Duration::from_secs(1), Duration::from_secs(600)),
    );
    Some(S3 {
        endpoint: endpoint?,
        bucket: bucket?,
        region,
        prefix,
        path_style,
        ca: if section.has("ca") { Some(ca?) } else { None },
        credentials: credentials?,
        acknowledge,
        ship_interval,
        spool_limit,
        spool_keep,
        object_lock,
        timeout,
    })
}

fn credentials(section: &Section<'_>, base: &Path) -> Option<S3Credentials> {
    let keys = section.has("access-key-file") | section.has("secret-key-file");
    match (keys, section.has("web-identity")) {
        (true, false) => {
            let access_key = section.required("access-key-file", secret(base));
            let secret_key = section.required("secret-key-file", secret(base));
            Some(S3Credentials::Files {
                access_key: access_key?,
                secret_key: secret_key?,
            })
        }
        (false, true) => section.section("web-identity", |section| {
            let role = section.required("role-arn", text);
            let token_file = section.required("token-file", path(base));
            let sts = section.optional("sts-endpoint", self::endpoint);
            Some(S3Credentials::WebIdentity {
                role: role?,
                token_file: token_file?,
                sts: if section.has("sts-endpoint") { Some(sts?) } else { None },
            })
        }),
        (true, true) => {
            section.fault_at(
                "web-identity",
                "there are key files as well; one of the two says who we are",
            );
            None
        }
        (false, false) => {
            section.fault("[records.s3] needs `access-key-file` and `secret-key-file`, or [records.s3.web-identity]");
            None
        }
    }
}

/// Scheme, host and port alone, over TLS or on loopback.
fn endpoint(value: &DeValue<'_>) -> Result<Url, String> {
    let text = text(value)?;
    let url = Url::parse(&text).map_err(|error| format!("`{}` is no URL: {error}", text.escape_debug()))?;
    if !trustworthy(&url) {
        return Err("must be https, or http on loopback".to_owned());
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    match bare && url.username().is_empty() && url.password().is_none() {
        true => Ok(url),
        false => Err("must be scheme, host and port alone".to_owned()),
    }
}

/// A bucket's name (Amazon S3 user guide, "Bucket naming rules").
fn bucket(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let whole = (3..=63).contains(&bytes.len()) && bytes.iter().copied().all(good) && !text.contains("..");
    match whole && ends(bytes.first()) && ends(bytes.last()) {
        true => Ok(text),
        false => Err(format!("`{}` is no name of a bucket", text.escape_debug())),
    }
}

fn region(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match text.len() <= 63 && text.bytes().all(good) {
        true => Ok(text),
        false => Err(format!("`{}` is no region", text.escape_debug())),
    }
}

/// Names between slashes, of characters that need no escape anywhere.
fn prefix(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let plain = |part: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(good)
    };
    match text.len() <= 200 && text.split('/').all(plain) {
        true => Ok(text),
        false => Err("must be names of letters, digits, `-`, `_` and `.` with slashes between them".to_owned()),
    }
}

/// Less could not even hold what one recording may have waiting.
const LEAST_SPOOL: u64 = 1 << 20;
