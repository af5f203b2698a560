//! Receipts: the gateway's own signed word on how far a recording went, one JSON line each in
//! `receipts.jsonl`. A receipt signs the exact text of its statement.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ssh_key::{LineEnding, PublicKey, SshSig};
use uuid::Uuid;

use crate::{block, fault::Error, index::Outcome, reconcile::Agreement};

/// The SSHSIG namespace of receipts.
pub const RECEIPT_NAMESPACE: &str = "doorward-receipt@doorward";
/// The name of the sidecar file.
pub const RECEIPTS_NAME: &str = "receipts.jsonl";
/// Longest line that is read.
pub const MAX_RECEIPT: usize = 32 * 1024;

const VERSION: u8 = 1;

/// What a receipt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A head was stored.
    Head,
    /// The recording is closed: nothing will follow.
    Closing,
}

/// What the gateway says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Statement {
    /// Version of the statement, 1.
    pub v: u8,
    /// What it is for.
    pub kind: Kind,
    /// The session, which is the stream.
    pub session: Uuid,
    /// Index of the segment with the last durable block.
    pub segment: u32,
    /// Sequence number of the last durable block; for a head, of the head block.
    pub seq: u64,
    /// Offset after that block: bytes of the stream that are durable.
    pub offset: u64,
    /// Link after that block, 64 hexadecimal digits.
    pub link: String,
    /// When it was signed, Unix milliseconds; RFC 3339 in the text.
    #[serde(with = "crate::time")]
    pub at: u64,
    /// The certificate over the signing key, in OpenSSH's text form.
    pub gateway_certificate: String,
    /// Closing: whether the last head was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Closing: a sentence about the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Closing: SSH ciphertext from the client that the gateway relayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_bytes: Option<u64>,
    /// Closing: SSH ciphertext from the agent that the gateway relayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_bytes: Option<u64>,
    /// Closing: whether the agent's own count of both tells the same. Missing where one of them is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<Agreement>,
}

/// The end of a recording, as a closing receipt states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Whether the last head was there.
    pub outcome: Outcome,
    /// A sentence for people.
    pub reason: String,
    /// SSH ciphertext from the client that the gateway relayed.
    pub client_bytes: u64,
    /// SSH ciphertext from the agent that the gateway relayed.
    pub agent_bytes: u64,
    /// Whether the agent's own count of both tells the same, where both are known.
    pub reconciled: Option<Agreement>,
}

/// A place in a stream: the last durable block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// Index of its segment.
    pub segment: u32,
    /// Its sequence number.
    pub seq: u64,
    /// The offset after it.
    pub offset: u64,
    /// The link after it.
    pub link: [u8; 32],
}

impl Durable {
    /// Nothing was stored: the place before the first block.
    pub fn nothing(stream: Uuid) -> Self {
        Self {
            segment: 0,
            seq: 0,
            offset: 0,
            link: block::first_link(stream),
        }
    }
}

impl From<&crate::BlockSeen> for Durable {
    fn from(seen: &crate::BlockSeen) -> Self {
        Self {
            segment: seen.segment,
            seq: seen.seq,
            offset: seen.offset + seen.len,
            link: seen.link,
        }
    }
}

impl Statement {
    /// For a head that was stored.
    pub fn head(session: Uuid, end: Durable, unix_ms: u64, gateway_certificate: &str) -> Self {
        Self {
            v: VERSION,
            kind: Kind::Head,
            session,
            segment: end.segment,
            seq: end.seq,
            offset: end.offset,
            link: block::hex(&end.link),
            at: unix_ms,
            gateway_certificate: gateway_certificate.trim().to_owned(),
            outcome: None,
            reason: None,
            client_bytes: None,
            agent_bytes: None,
            reconciled: None,
        }
    }

    /// For the end of a recording.
    pub fn closing(session: Uuid, end: Durable, closing: Closing, unix_ms: u64, gateway_certificate: &str) -> Self {
        Self {
            kind: Kind::Closing,
            outcome: Some(closing.outcome),
            reason: Some(closing.reason),
            client_bytes: Some(closing.client_bytes),
            agent_bytes: Some(closing.agent_bytes),
            reconciled: closing.reconciled,
            ..Self::head(session, end, unix_ms, gateway_certificate)
        }
    }
}

/// A statement, its exact text, and the signature over that text.
#[derive(Debug, Clone)]
pub struct Receipt {
    statement: Statement,
    text: String,
    signature: SshSig,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    statement: String,
    signature: String,
}

impl Receipt {
    /// What it says. Worth nothing before [`Receipt::verify`].
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Whether this key made the signature.
    pub fn verify(&self, key: &PublicKey) -> bool {
        key.verify(RECEIPT_NAMESPACE, self.text.as_bytes(), &self.signature)
            .is_ok()
    }

    /// The line for the sidecar file, with its line feed.
    ///
    /// # Errors
    /// If the signature cannot be written as PEM.
    pub fn to_line(&self) -> Result<String, Error> {
        let signature = self
            .signature
            .to_pem(LineEnding::LF)
            .map_err(|_| Error::Signature("it cannot be encoded"))?;
        let line = Line {
            statement: self.text.clone(),
            signature,
        };
        let mut line = serde_json::to_string(&line).map_err(|_| Error::Receipt("cannot be encoded"))?;
        line.push('\n');
        Ok(line)
    }
}

/// Signs a statement as SSHSIG in the namespace [`RECEIPT_NAMESPACE`].
///
/// # Errors
/// If the key does not sign, or signs for another namespace.
pub fn sign(
    statement: Statement,
    sign: impl FnOnce(&[u8]) -> Result<SshSig, ssh_key::Error>,
) -> Result<Receipt, Error> {
    let text = serde_json::to_string(&statement).map_err(|_| Error::Receipt("cannot be encoded"))?;
    let signature = sign(text.as_bytes()).map_err(Error::Sign)?;
    if signature.namespace() != RECEIPT_NAMESPACE {
        return Err(Error::Signature("it was made for another namespace"));
    }
    Ok(Receipt {
        statement,
        text,
        signature,
    })
}

/// Reads one line, with or without its line feed. Only the exact form that [`Receipt::to_line`]
/// writes is accepted, so that no byte of the file can change without being seen.
///
/// # Errors
/// [`Error::Receipt`] says what is wrong with it.
pub fn parse(line: &str) -> Result<Receipt, Error> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    if line.len() > MAX_RECEIPT {
        return Err(Error::Receipt("too long"));
    }
    let parts: Line = serde_json::from_str(line).map_err(|_| Error::Receipt("not in the format"))?;
    let statement: Statement =
        serde_json::from_str(&parts.statement).map_err(|_| Error::Receipt("its statement is not in the format"))?;
    if statement.v != VERSION {
        return Err(Error::Receipt("its version is unknown"));
    }
    let closing = statement.kind == Kind::Closing;
    if closing
        != (statement.outcome.is_some()
            && statement.reason.is_some()
            && statement.client_bytes.is_some()
            && statement.agent_bytes.is_some())
        || (!closing && statement.reconciled.is_some())
    {
        return Err(Error::Receipt("its statement does not fit its kind"));
    }
    let signature =
        SshSig::from_pem(&parts.signature).map_err(|_| Error::Receipt("its signature is not in the format"))?;
    let receipt = Receipt {
        statement,
        text: parts.statement,
        signature,
    };
    if receipt.to_line()?.trim_end() != line {
        return Err(Error::Receipt("not in its canonical form"));
    }
    Ok(receipt)
}

/// SHA-256 of a receipt's line without its line feed, hexadecimal: how the gateway's log names it.
pub fn digest(line: &str) -> String {
    block::hex(&Sha256::digest(line.strip_suffix('\n').unwrap_or(line)))
}
