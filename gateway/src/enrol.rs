//! Who may get a host certificate without having one: an agent with the join token of its workspace, or one whose token the
//! API server confirms to be bound to the very pod that was dialled.
//!
//! A join token serves one key. That it was used, and by which key, is durable before anything is
//! signed; the same key may come again (its certificate may not have reached it), another may not. A pod's token is reviewed
//! once for each attempt, and counts for nothing but this pod's own life. The API server's word may be seconds old: a pod that
//! was deleted meanwhile is gone from the directory, and its link with it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorward_audit::hex;
use doorward_wire::message::Enrol;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::guarded::Guarded;
use crate::kube::review::{ReviewError, Reviewer};
use crate::link::Target;
use crate::workspace::{Enrolment, line};

/// The join tokens that were used, and who confirms those of pods. Clones are the same list.
#[derive(Clone)]
pub struct Enrolments {
    list: Arc<Inner>,
    reviewer: Option<Reviewer>,
}

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
    /// It is in a pod and does not show the pod's token.
    #[error("it shows no token of its pod's service account: set `[enrol]` in its configuration")]
    NoPodToken,
    /// Host certificates are signed for agents alone.
    #[error(
        "this gateway has no right to have host certificates signed: the agent gets its own from Vault, with `[enrol.vault]` in its configuration"
    )]
    NotHere,
    /// No token is configured for this workspace.
    #[error("no join token is configured for this workspace")]
    NotConfigured,
    /// It is a pod's, and there is nobody to ask about its token.
    #[error("this gateway has no [kubernetes] to ask about the pod's token")]
    NoReviewer,
    /// The API server does not confirm the token.
    #[error("the pod's token is not confirmed")]
    Review(#[source] ReviewError),
    /// The token is another pod's.
    #[error("the token is bound to another pod: {0}")]
    OtherPod(String),
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

impl EnrolError {
    /// A word from a closed set: the journal's, and what the agent hears.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoProof => "enrol-no-proof",
            Self::NoPodToken => "enrol-no-pod-token",
            Self::NotHere => "enrol-not-here",
            Self::NotConfigured => "enrol-not-configured",
            Self::NoReviewer => "enrol-no-reviewer",
            Self::Review(error) => error.code(),
            Self::OtherPod(_) => "enrol-other-pod",
            Self::WrongToken => "enrol-wrong-token",
            Self::UsedToken => "enrol-used-token",
            Self::TokenFile(_) => "enrol-token-file",
            Self::List(_) => "enrol-list",
            Self::AuthorityDeadline => "enrol-authority-deadline",
        }
    }
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
        Ok(Self {
            list: Arc::new(Inner {
                path,
                used: Guarded::new(used),
            }),
            reviewer: None,
        })
    }

    /// The same, with somebody to ask about the tokens of pods.
    #[must_use]
    pub fn with_reviewer(self, reviewer: Option<Reviewer>) -> Self {
        Self { reviewer, ..self }
    }

    /// Judges the proof of an agent that asks for a certificate over this key.
    ///
    /// # Errors
    /// [`EnrolError`]; then nothing may be signed.
    pub async fn judge(&self, target: &Target, proof: &Enrol, key: &[u8; 32]) -> Result<(), EnrolError> {
        match &target.life.enrolment {
            Enrolment::None => Err(EnrolError::NotConfigured),
            Enrolment::JoinToken(_) if proof.token.reveal().is_empty() => Err(EnrolError::NoProof),
            Enrolment::JoinToken(_) => self.redeem(target, proof.token.reveal(), key).await,
            Enrolment::ServiceAccount { namespace, pod, uid } => {
                let token = proof.service_account_token.as_ref().ok_or(EnrolError::NoPodToken)?;
                let reviewer = self.reviewer.as_ref().ok_or(EnrolError::NoReviewer)?;
                let bound = reviewer.pod(token).await.map_err(EnrolError::Review)?;
                match bound.is(namespace, pod, uid) {
                    true => Ok(()),
                    false => Err(EnrolError::OtherPod(line(&bound.to_string()))),
                }
            }
        }
    }

    /// Uses a token for a key. When this returns, the use is durable.
    ///
    /// # Errors
    /// [`EnrolError`]; then nothing was used.
    async fn redeem(&self, target: &Target, token: &str, key: &[u8; 32]) -> Result<(), EnrolError> {
        let file = target
            .life
            .enrolment
            .join_token()
            .ok_or(EnrolError::NotConfigured)?
            .to_owned();
        let inner = Arc::clone(&self.list);
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
        write!(f, "Enrolments({})", self.list.path.display())
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
    use crate::workspace::Life;
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
        assert_eq!(
            Enrolments::open(dir.path()).unwrap().list.used.with(|used| used.len()),
            1
        );
        std::fs::write(&path, "not json\n").unwrap();
        assert!(Enrolments::open(dir.path()).is_err());
    }
}
