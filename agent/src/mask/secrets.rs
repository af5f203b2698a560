//! Which values are secrets: those of the workspace's own environment, and of files that are named.
//!
//! Nothing in a variable tells a Kubernetes secret from a setting, so each is taken for a secret unless its name or its
//! value is known to be harmless. A setting that is masked is an annoyance that `except` ends; a secret that is
//! recorded stays recorded.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::patterns::{SHORTEST, Secret};
use crate::process::etc_line;

/// The secrets among variables. `except` names harmless ones beside those that are known; a `*` at its end stands for
/// any rest.
pub(crate) fn in_environment(variables: impl Iterator<Item = (OsString, OsString)>, except: &[String]) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        let value = Zeroizing::new(value.into_vec());
        let harmless = HARMLESS.iter().any(|pattern| matches(pattern, &name));
        if harmless || except.iter().any(|pattern| matches(pattern, &name)) {
            continue;
        }
        if let Some(password) = password_of_url(&value) {
            secrets.push(Secret {
                name: name.clone(),
                value: Zeroizing::new(password.to_vec()),
            });
        } else if is_plain_setting(&value) && !TELLING.iter().any(|word| contains(&name, word)) {
            continue;
        }
        secrets.push(Secret { name, value });
    }
    secrets
}

/// The secrets in files: each whole content without the white space around it, and each value of a line `NAME=value`. A
/// folder stands for the files in it, as Kubernetes mounts a secret. What is not there yet is passed over.
pub(crate) fn in_files(paths: &[PathBuf]) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for path in paths {
        match std::fs::read_dir(path) {
            Ok(entries) => {
                for entry in entries.flatten().take(MOST_FILES) {
                    in_file(&entry.path(), &mut secrets);
                }
            }
            Err(_) => in_file(path, &mut secrets),
        }
    }
    secrets
}

fn in_file(path: &Path, secrets: &mut Vec<Secret>) {
    use std::io::Read as _;
    let is_file = std::fs::metadata(path).is_ok_and(|about| about.is_file());
    let Ok(file) = std::fs::File::open(path) else { return };
    let mut content = Zeroizing::new(Vec::new());
    if !is_file || file.take(LARGEST_FILE).read_to_end(&mut content).is_err() {
        return;
    }
    let mut add = |name: String, value: &[u8]| {
        if value.len() >= SHORTEST {
            secrets.push(Secret {
                name,
                value: Zeroizing::new(value.to_vec()),
            });
        }
    };
    let file = path.display().to_string();
    for (name, value) in content.split(|byte| *byte == b'\n').filter_map(etc_line) {
        add(format!("{file}:{}", String::from_utf8_lossy(name)), value);
    }
    add(file, content.trim_ascii());
}

/// The password in `scheme://user:password@host`.
fn password_of_url(value: &[u8]) -> Option<&[u8]> {
    let at = value.windows(3).position(|window| window == b"://")? + 3;
    let rest = &value[at..];
    let authority = &rest[..rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())];
    let user = &authority[..authority.iter().rposition(|byte| *byte == b'@')?];
    let password = &user[user.iter().position(|byte| *byte == b':')? + 1..];
    (!password.is_empty()).then_some(password)
}

/// A value that gives nothing away: a number, a switch, a path, an address of a service without a password.
fn is_plain_setting(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let text = text.trim();
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'-' | b','));
    let path =
        text.starts_with('/') && !text.contains(char::is_whitespace) && text.len() < 200 && Path::new(text).exists();
    let url = ["http://", "https://", "tcp://", "unix://", "file://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
        && !text.contains(['?', '#', '@']);
    number && text.len() < 16 || path || url || matches!(text, "disabled" | "production" | "development")
}

fn contains(name: &str, word: &str) -> bool {
    name.to_ascii_uppercase().contains(word)
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (_, Some(prefix)) => name.starts_with(prefix),
        _ => name == pattern,
    }
}

/// Names that systems, shells, images and Kubernetes itself set, and that hold no secret.
const HARMLESS: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "HOSTNAME",
    "TERM",
    "TERMINFO",
    "COLORTERM",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "MAIL",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "LESS",
    "LS_COLORS",
    "SHLVL",
    "_",
    "TMPDIR",
    "DISPLAY",
    "XDG_*",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "KUBERNETES_*",
    "*_SERVICE_HOST",
    "*_SERVICE_PORT",
    "*_PORT",
    "*_TCP",
    "*_TCP_ADDR",
    "*_TCP_PROTO",
    "*_VERSION",
    "*_HOME",
    "*_DIR",
    "*_PATH",
    "*_REGION",
    "NODE_ENV",
    "NODE_OPTIONS",
    "LD_LIBRARY_PATH",
    "MANPATH",
    "INFOPATH",
    "POD_NAME",
    "POD_NAMESPACE",
    "NODE_NAME",
    "GIT_AUTHOR_NAME",
    "GIT_COMMITTER_NAME",
    "HISTFILE",
    "DOORWARD_*",
];
/// In a name these make a secret of any value.
const TELLING: &[&str] = &[
    "TOKEN",
    "SECRET",
    "PASSW",
    "PASSPHRASE",
    "CREDENTIAL",
    "PRIVATE",
    "APIKEY",
    "_KEY",
];
/// Of one folder.
const MOST_FILES: usize = 1024;
/// What is read of a file, in bytes.
const LARGEST_FILE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], except: &[&str]) -> Vec<(String, String)> {
        let variables = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let except: Vec<_> = except.iter().map(|name| (*name).to_owned()).collect();
        in_environment(variables, &except)
            .into_iter()
            .map(|secret| (secret.name, String::from_utf8(secret.value.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_a_secret() {
        let all = found(
            &[
                ("PATH", "/usr/bin:/bin"),
                ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
                ("LANGFUSE_HOST", "https://langfuse.example"),
                ("MODE", "production"),
                ("REPLICAS", "12345678"),
                ("GITHUB_TOKEN", "ghp_1234"),
                ("CANARY", "secret-canary"),
                ("PIN_SECRET", "12345678"),
                ("TF_TOKEN_app_terraform_io", "/tmp"),
            ],
            &[],
        );
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["GITHUB_TOKEN", "CANARY", "PIN_SECRET", "TF_TOKEN_app_terraform_io"]
        );
    }

    #[test]
    fn a_password_within_an_address_is_a_secret_by_itself() {
        let all = found(&[("DATABASE_URL", "postgres://app:pass:w0rd@db.example/x")], &[]);
        let values: Vec<_> = all.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["pass:w0rd", "postgres://app:pass:w0rd@db.example/x"]);
    }

    #[test]
    fn exceptions_are_not_looked_for() {
        assert!(
            found(
                &[("GREETING", "hello world"), ("APP_MOTTO", "always forward")],
                &["GREETING", "APP_*"]
            )
            .is_empty()
        );
    }

    #[test]
    fn files_and_folders_are_read_as_they_are_mounted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "mounted-token\n").unwrap();
        std::fs::write(
            dir.path().join("env"),
            "# settings\nexport A='quoted value'\nB=short\nnot a line\n",
        )
        .unwrap();
        std::fs::create_dir(dir.path().join("..data")).unwrap();
        let all = in_files(&[dir.path().to_owned(), dir.path().join("missing")]);
        let mut values: Vec<_> = all
            .iter()
            .map(|secret| String::from_utf8_lossy(&secret.value).into_owned())
            .collect();
        values.sort();
        assert_eq!(
            values,
            [
                "# settings\nexport A='quoted value'\nB=short\nnot a line",
                "mounted-token",
                "quoted value"
            ]
        );
        assert!(all.iter().any(|secret| secret.name.ends_with("env:A")));
    }
}
