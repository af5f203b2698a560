//! Checkpoints: a gateway's signed word on how large its log is and what its root is.
//!
//! The statement is text in the manner of C2SP's `tlog-checkpoint`: origin, size, root, then one line for each further fact.
//! The signature is an SSHSIG by the gateway's link key; the log is named for that key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ssh_key::{Fingerprint, HashAlg, LineEnding, PublicKey, SshSig};

use super::{
    proof::{ProofError, verify_consistency},
    tree::Hash,
};
use crate::{fault::Error, time, verify::JudgeGateway};

/// The SSHSIG namespace of checkpoints.
pub const CHECKPOINT_NAMESPACE: &str = "doorward-checkpoint@doorward";
/// The longest line of a file with checkpoints, in bytes.
/// The longest line of a checkpoint, in bytes.
pub const MAX_CHECKPOINT: usize = 32 * 1024;
const ORIGIN: &str = "doorward-log/";

/// How large a log is, and its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Which log: `doorward-log/` and the fingerprint of the key that signs it.
    pub origin: String,
    /// Size and root.
    pub head: TreeHead,
    /// When it was signed, Unix milliseconds.
    pub at: u64,
    /// The checkpoint before it, if there was one.
    pub previous: Option<TreeHead>,
    /// The certificate over the key, in OpenSSH's text form.
    pub certificate: String,
}

/// The name of the log that this key signs.
pub fn origin_of(key: &PublicKey) -> String {
    format!("{ORIGIN}{}", key.fingerprint(HashAlg::Sha256))
}

/// Whether it is a name that [`origin_of`] makes.
pub fn is_origin(text: &str) -> bool {
    let fingerprint = text
        .strip_prefix(ORIGIN)
        .and_then(|rest| rest.parse::<Fingerprint>().ok());
    fingerprint.is_some_and(|fingerprint| fingerprint.is_sha256() && format!("{ORIGIN}{fingerprint}") == text)
}

impl Statement {
    fn to_text(&self) -> String {
        let TreeHead { size, root } = &self.head;
        let mut text = format!("{}\n{size}\n{}\n", self.origin, STANDARD.encode(root));
        text += &format!("at {}\n", time::format(self.at));
        if let Some(TreeHead { size, root }) = &self.previous {
            text += &format!("previous {size} {}\n", STANDARD.encode(root));
        }
        text + &format!("certificate {}\n", self.certificate.trim())
    }

    /// Reads a text; lines that it does not know may follow those that it does.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let origin = lines.next().filter(|line| is_origin(line))?.to_owned();
        let head = tree_head(lines.next()?, lines.next()?)?;
        let at = time::parse(lines.next()?.strip_prefix("at ")?)?;
        let mut line = lines.next()?;
        let previous = match line.strip_prefix("previous ") {
            Some(before) => {
                let (size, root) = before.split_once(' ')?;
                line = lines.next()?;
                Some(tree_head(size, root)?)
            }
            None => None,
        };
        let certificate = line.strip_prefix("certificate ")?.to_owned();
        Some(Self {
            origin,
            head,
            at,
            previous,
            certificate,
        })
    }
}

fn tree_head(size: &str, root: &str) -> Option<TreeHead> {
    let number = size.parse::<u64>().ok().filter(|number| number.to_string() == size)?;
    Some(TreeHead {
        size: number,
        root: STANDARD.decode(root).ok()?.try_into().ok()?,
    })
}

/// A statement, its exact text, and the signature over that text.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    statement: Statement,
    text: String,
    signature: SshSig,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    statement: String,
    signature: String,
}

/// Why a checkpoint is not to be trusted, or does not go with another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not in the format.
    #[error("the checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// Its signer is not a gateway of this authority.
    #[error("the checkpoint's certificate is not trusted: {0}")]
    Untrusted(String),
    /// Its signature does not fit.
    #[error("the checkpoint's signature does not fit")]
    BadSignature,
    /// The log is shorter than it was.
    #[error("the log was rolled back: it had {known} leaves and has {shown} now")]
    RolledBack {
        /// Leaves that are known to have been there.
        known: u64,
        /// Leaves that are shown now.
        shown: u64,
    },
    /// The log has other leaves than it had.
    #[error("the log was forked: what it shows does not begin with the {0} leaves that it is known to have had")]
    Forked(u64),
}

/// How a checkpoint goes with one that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The same tree.
    Same,
    /// A larger tree, to be proved with a consistency proof between these sizes.
    Grown(u64, u64),
}

impl Checkpoint {
    /// What it says. Worth nothing before [`Checkpoint::judge`].
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The exact text that was signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature with its armour: what `ssh-keygen -Y` reads.
    ///
    /// # Errors
    /// If it cannot be written as PEM.
    pub fn signature(&self) -> Result<String, Error> {
        self.signature
            .to_pem(LineEnding::LF)
            .map_err(|_| Error::Signature("it cannot be encoded"))
    }

    /// The line for a file, with its line feed.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn to_line(&self) -> Result<String, Error> {
        let line = Line {
            statement: self.text.clone(),
            signature: self.signature()?,
        };
        let mut line = serde_json::to_string(&line).map_err(|_| Error::Signature("it cannot be encoded"))?;
        line.push('\n');
        Ok(line)
    }

    /// Reads a line, with or without its line feed. Members that it does not know are passed over.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(line: &str) -> Result<Self, CheckpointError> {
        let bad = CheckpointError::Malformed;
        if line.len() > MAX_CHECKPOINT {
            return Err(bad("too long"));
        }
        let parts: Line = serde_json::from_str(line).map_err(|_| bad("not in the format"))?;
        Self::from_parts(parts.statement, &parts.signature)
    }

    /// The same from the text and the armoured signature.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn from_parts(text: String, signature: &str) -> Result<Self, CheckpointError> {
        let bad = CheckpointError::Malformed;
        let statement = Statement::parse(&text).ok_or(bad("its statement is not in the format"))?;
        let armour = signature;
        let signature = SshSig::from_pem(armour).map_err(|_| bad("its signature is not in the format"))?;
        let checkpoint = Self {
            statement,
            text,
            signature,
        };
        // One form alone, so that no byte of it can change without being seen.
        if checkpoint.signature().ok().as_deref() != Some(armour) {
            return Err(bad("its signature is not in its canonical form"));
        }
        Ok(checkpoint)
    }

    /// Whether a trusted gateway signed it, with the key that the log is named for.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn judge(&self, gateway: &JudgeGateway) -> Result<(), CheckpointError> {
        let said = &self.statement;
        let key = gateway(&said.certificate, said.at).map_err(CheckpointError::Untrusted)?;
        if origin_of(&key) != said.origin {
            return Err(CheckpointError::Untrusted(
                "the log is named for another key".to_owned(),
            ));
        }
        key.verify(CHECKPOINT_NAMESPACE, self.text.as_bytes(), &self.signature)
            .map_err(|_| CheckpointError::BadSignature)
    }

    /// Whether this key made the signature, and the log is named for it.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        origin_of(key) == self.statement.origin
            && key
                .verify(CHECKPOINT_NAMESPACE, self.text.as_bytes(), &self.signature)
                .is_ok()
    }

    /// How this one, which is shown now, goes with a remembered one of the same log.
    ///
    /// # Errors
    /// The log was rolled back or forked.
    pub fn after(&self, known: &TreeHead) -> Result<Reached, CheckpointError> {
        let shown = &self.statement.head;
        match shown.size.cmp(&known.size) {
            std::cmp::Ordering::Less => Err(CheckpointError::RolledBack {
                known: known.size,
                shown: shown.size,
            }),
            std::cmp::Ordering::Equal if shown.root == known.root => Ok(Reached::Same),
            std::cmp::Ordering::Equal => Err(CheckpointError::Forked(known.size)),
            std::cmp::Ordering::Greater => Ok(Reached::Grown(known.size, shown.size)),
        }
    }

    /// Checks the proof that this larger log begins with the remembered one.
    ///
    /// # Errors
    /// [`CheckpointError::Forked`].
    pub fn grew_from(&self, known: &TreeHead, proof: &[Hash]) -> Result<(), CheckpointError> {
        let shown = &self.statement.head;
        verify_consistency((known.size, &known.root), (shown.size, &shown.root), proof)
            .map_err(|_: ProofError| CheckpointError::Forked(known.size))
    }
}

/// Signs a statement as SSHSIG in the namespace [`CHECKPOINT_NAMESPACE`].
///
/// # Errors
/// If the key does not sign, or signs for another namespace.
pub fn sign(
    statement: Statement,
    sign: impl FnOnce(&[u8]) -> Result<SshSig, ssh_key::Error>,
) -> Result<Checkpoint, Error> {
    let text = statement.to_text();
    if Statement::parse(&text).as_ref() != Some(&statement) {
        return Err(Error::Signature("the statement cannot be written"));
    }
    let signature = sign(text.as_bytes()).map_err(Error::Sign)?;
    if signature.namespace() != CHECKPOINT_NAMESPACE {
        return Err(Error::Signature("it was made for another namespace"));
    }
    Ok(Checkpoint {
        statement,
        text,
        signature,
    })
}
