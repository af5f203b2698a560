//! Who may get a host certificate without having one: an agent with the join token of its workspace.
//!
//! A token serves one key. That it was used, and by which key, is durable before anything is
//! signed; the same key may come again (its certificate may not have reached it), another may not.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorward_audit::hex;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::guarded::Guarded;
use crate::link::Target;

/// The join tokens that were used. Clones are the same list.
#[derive(Clone)]
pub struct Enrolments(Arc<Inner>);

struct Inner {
    path: PathBuf,
    used: Guarded<Vec<Used>>,
}

/// One line of the list. The token stands there as its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Used {
    workspace: String,
    uid: String,
    token_sha256: String,
    key: String,
}

/// Why an agent may not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It showed neither a certificate nor a token.
    #[error("it shows neither a host certificate nor a join token")]
    NoProof,
    /// No token is configured for this workspace.
    #[error("no join token is configured for this workspace")]
    NotConfigured,
    /// The token is another one.
    #[error("the join token is not this workspace's")]
    WrongToken,
    /// The token served another key before.
    #[error("the join token was used before, by another key")]
    UsedToken,
    /// The token's file cannot be read, or holds no token.
    #[error("the join token cannot be read")]
    TokenFile(#[source] io::Error),
    /// That it was used could not be made durable.
    #[error("the list of used join tokens cannot be written")]
    List(#[source] io::Error),
    /// The host authority did not answer.
    #[error("the host authority does not answer")]
    AuthorityDeadline,
}

impl Enrolments {
    /// Reads the list below `state_directory`, which must exist. A last line that a crash cut off
    /// is dropped: nothing was signed for it.
    ///
    /// # Errors
    /// When the list cannot be read, or a whole line of it is not in the format.
    pub fn open(state_directory: &Path) -> io::Result<Self> {
        let path = state_directory.join("enrolments.jsonl");
        let mut used = Vec::new();
        let mut whole = 0;
        match File::open(&path) {
            Ok(file) => {
                let mut lines = BufReader::new(file.take(LARGEST_LIST));
                let mut line = String::new();
                while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
                    used.push(serde_json::from_str(&line)?);
                    whole += line.len() as u64;
                    line.clear();
                }
                if !line.is_empty() {
                    OpenOptions::new().write(true).open(&path)?.set_len(whole)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self(Arc::new(Inner {
            path,
            used: Guarded::new(used),
        })))
    }

    /// Uses a token for a key. When this returns, the use is durable.
    ///
    /// # Errors
    /// [`EnrolError`]; then nothing was used.
    pub async fn redeem(&self, target: &Target, token: &str, key: &[u8; 32]) -> Result<(), EnrolError> {
        let file = target
            .life
            .enrolment
            .join_token()
            .ok_or(EnrolError::NotConfigured)?
            .to_owned();
        let inner = Arc::clone(&self.0);
        let shown = Zeroizing::new(token.to_owned());
        let (workspace, uid) = (target.name.to_string(), target.life.uid.to_string());
        let key = hex(key);
        let redeemed = tokio::task::spawn_blocking(move || {
            let wanted = read_token(&file).map_err(EnrolError::TokenFile)?;
            if !bool::from(digest(&shown).ct_eq(&digest(&wanted))) {
                return Err(EnrolError::WrongToken);
            }
            let token_sha256 = hex(&digest(&wanted));
            inner.note(Used {
                workspace,
                uid,
                token_sha256,
                key,
            })
        });
        redeemed
            .await
            .map_err(|error| EnrolError::List(io::Error::other(error)))?
    }
}

impl std::fmt::Debug for Enrolments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Enrolments({})", self.0.path.display())
    }
}

impl Inner {
    /// Blocks, and lets nobody else in meanwhile: of two that come with one token, one is second.
    fn note(&self, use_now: Used) -> Result<(), EnrolError> {
        self.used.with(|used| {
            let before = used.iter().find(|known| known.token_sha256 == use_now.token_sha256);
            match before {
                Some(known) if *known == use_now => return Ok(()),
                Some(_) => return Err(EnrolError::UsedToken),
                None => {}
            }
            self.write(&use_now).map_err(EnrolError::List)?;
            used.push(use_now);
            Ok(())
        })
    }

    fn write(&self, used: &Used) -> io::Result<()> {
        let mut line = serde_json::to_string(used)?;
        line.push('\n');
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        let before = file.metadata()?.len();
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a line must not stand before the next one.
            let _ = file.set_len(before);
        }
        written?;
        match self.path.parent() {
            Some(folder) if before == 0 => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }
}

fn read_token(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_TOKEN + 2));
    File::open(path)?
        .take(LONGEST_TOKEN as u64 + 2)
        .read_to_string(&mut text)?;
    let token = text.trim_end_matches(['\n', '\r']);
    if token.len() < SHORTEST_TOKEN || token.len() > LONGEST_TOKEN {
        let fault = format!("a join token has {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters");
        return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

fn digest(token: &str) -> [u8; 32] {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.as_ref());
    bytes
}

const SHORTEST_TOKEN: usize = 16;
const LONGEST_TOKEN: usize = 1024;
const LARGEST_LIST: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Enrolment, Life};
    use doorward_certs::{WorkspaceName, WorkspaceUid};

    fn target(dir: &Path, name: &str, token: &str) -> Target {
        let file = dir.join(format!("{name}.join"));
        std::fs::write(&file, format!("{token}\n")).unwrap();
        Target {
            name: WorkspaceName::try_from(name).unwrap(),
            life: Life {
                uid: WorkspaceUid::try_from("uid-1").unwrap(),
                address: "127.0.0.1:1".into(),
                enrolment: Enrolment::JoinToken(file),
            },
        }
    }

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[tokio::test]
    async fn a_token_serves_one_key_also_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(dir.path(), "devenv-0", TOKEN);
        let list = Enrolments::open(dir.path()).unwrap();
        assert!(matches!(
            list.redeem(&target, "0123456789abcdef0123456789abcdeg", &[1; 32]).await,
            Err(EnrolError::WrongToken)
        ));
        list.redeem(&target, TOKEN, &[1; 32]).await.unwrap();
        list.redeem(&target, TOKEN, &[1; 32]).await.unwrap();
        for list in [list, Enrolments::open(dir.path()).unwrap()] {
            assert!(matches!(
                list.redeem(&target, TOKEN, &[2; 32]).await,
                Err(EnrolError::UsedToken)
            ));
            list.redeem(&target, TOKEN, &[1; 32]).await.unwrap();
        }
        let text = std::fs::read_to_string(dir.path().join("enrolments.jsonl")).unwrap();
        assert!(!text.contains(TOKEN));
        assert_eq!(text.lines().count(), 1);
    }

    #[tokio::test]
    async fn a_token_is_of_no_use_to_another_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let one = target(dir.path(), "devenv-0", TOKEN);
        let same = target(dir.path(), "devenv-1", TOKEN);
        let list = Enrolments::open(dir.path()).unwrap();
        list.redeem(&one, TOKEN, &[1; 32]).await.unwrap();
        assert!(matches!(
            list.redeem(&same, TOKEN, &[1; 32]).await,
            Err(EnrolError::UsedToken)
        ));
        let none = Target {
            life: Life {
                enrolment: Enrolment::None,
                ..one.life.clone()
            },
            ..one.clone()
        };
        assert!(matches!(
            list.redeem(&none, TOKEN, &[1; 32]).await,
            Err(EnrolError::NotConfigured)
        ));
        let short = target(dir.path(), "devenv-2", "short");
        assert!(matches!(
            list.redeem(&short, "short", &[1; 32]).await,
            Err(EnrolError::TokenFile(_))
        ));
    }

    #[tokio::test]
    async fn a_use_that_cannot_be_written_is_no_use() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(dir.path(), "devenv-0", TOKEN);
        let list = Enrolments::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("enrolments.jsonl")).unwrap();
        assert!(matches!(
            list.redeem(&target, TOKEN, &[1; 32]).await,
            Err(EnrolError::List(_))
        ));
        std::fs::remove_dir(dir.path().join("enrolments.jsonl")).unwrap();
        list.redeem(&target, TOKEN, &[2; 32]).await.unwrap();
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_off_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(dir.path(), "devenv-0", TOKEN);
        let path = dir.path().join("enrolments.jsonl");
        std::fs::write(&path, "{\"workspace\":\"dev").unwrap();
        let list = Enrolments::open(dir.path()).unwrap();
        list.redeem(&target, TOKEN, &[1; 32]).await.unwrap();
        assert_eq!(Enrolments::open(dir.path()).unwrap().0.used.with(|used| used.len()), 1);
        std::fs::write(&path, "not json\n").unwrap();
        assert!(Enrolments::open(dir.path()).is_err());
    }
}
