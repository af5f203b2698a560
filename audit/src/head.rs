//! Heads: the signed statement that ends each segment.
//!
//! The payload of a head block is a CBOR map of two byte strings: the statement, itself CBOR, and
//! an SSHSIG blob over exactly these statement bytes. The agent signs with its SSH host key, the
//! namespace keeps this use apart from every other use of that key.

use bytes::Bytes;
use minicbor::{Decode, Encode};
use ssh_key::{
    PublicKey, SshSig,
    encoding::{Decode as _, Encode as _},
};
use uuid::Uuid;

use crate::fault::Error;

/// The SSHSIG namespace of heads.
pub const HEAD_NAMESPACE: &str = "doorward-head@doorward";

const VERSION: u8 = 1;

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HeadStatement {
    /// Version of the statement, 1.
    #[n(0)]
    pub version: u8,
    /// The stream.
    #[cbor(n(1), with = "crate::cbor::uuid")]
    pub stream: Uuid,
    /// Index of the segment that ends here.
    #[n(2)]
    pub segment: u32,
    /// Sequence number of the head block.
    #[n(3)]
    pub seq: u64,
    /// Offset of the head block in the stream.
    #[n(4)]
    pub offset: u64,
    /// The link before the head block: it covers everything before.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub link: [u8; 32],
    /// Wall clock of the author, Unix milliseconds.
    #[n(6)]
    pub unix_ms: u64,
    /// Whether the stream ends here.
    #[n(7)]
    pub last: bool,
}

impl HeadStatement {
    pub(crate) fn new(stream: Uuid, segment: u32, seq: u64, offset: u64, link: [u8; 32]) -> Self {
        Self {
            version: VERSION,
            stream,
            segment,
            seq,
            offset,
            link,
            unix_ms: 0,
            last: false,
        }
    }

    pub(crate) fn encode_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        crate::cbor::put(self, &mut out);
        out
    }
}

/// A head as it stands in a recording.
#[derive(Debug, Clone)]
pub struct Head {
    statement: HeadStatement,
    signed: Bytes,
    signature: SshSig,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Payload {
    #[cbor(n(0), with = "crate::cbor::shared")]
    statement: Bytes,
    #[cbor(n(1), with = "crate::cbor::shared")]
    signature: Bytes,
}

impl Head {
    /// What it says. Worth nothing before [`Head::verify`].
    pub fn statement(&self) -> &HeadStatement {
        &self.statement
    }

    /// The signature; `signature().to_pem(..)` is what `ssh-keygen -Y` reads.
    pub fn signature(&self) -> &SshSig {
        &self.signature
    }

    /// The signature with its armour.
    ///
    /// # Errors
    /// If it cannot be written as PEM.
    pub fn signature_text(&self) -> Result<String, Error> {
        self.signature
            .to_pem(ssh_key::LineEnding::LF)
            .map_err(|_| Error::Signature("it cannot be encoded"))
    }

    /// The bytes that were signed.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.signed
    }

    /// Whether this key made the signature.
    pub fn verify(&self, key: &PublicKey) -> bool {
        key.verify(HEAD_NAMESPACE, &self.signed, &self.signature).is_ok()
    }

    /// The payload of a head block, from a statement and who signs it.
    pub(crate) fn seal(
        statement: &HeadStatement,
        sign: impl FnOnce(&[u8]) -> Result<SshSig, ssh_key::Error>,
    ) -> Result<Vec<u8>, Error> {
        let signed = statement.encode_vec();
        let signature = sign(&signed).map_err(Error::Sign)?;
        if signature.namespace() != HEAD_NAMESPACE {
            return Err(Error::Signature("it was made for another namespace"));
        }
        let blob = signature
            .encode_vec()
            .map_err(|_| Error::Signature("it cannot be encoded"))?;
        let payload = Payload {
            statement: signed.into(),
            signature: blob.into(),
        };
        let out = payload.encode_vec();
        if out.len() > crate::block::MAX_HEAD {
            return Err(Error::Signature("it is too large"));
        }
        Ok(out)
    }

    /// Reads a payload. Only the one encoding that [`Head::seal`] makes is accepted, so that no
    /// byte of a head can change without being seen.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, &'static str> {
        let parts: Payload = minicbor::decode(payload).map_err(|_| "head is not in the format")?;
        if parts.encode_vec() != payload {
            return Err("head is not in its canonical form");
        }
        let statement: HeadStatement =
            minicbor::decode(&parts.statement).map_err(|_| "statement is not in the format")?;
        if statement.version != VERSION {
            return Err("statement has an unknown version");
        }
        let signature = SshSig::decode(&mut &parts.signature[..]).map_err(|_| "signature is not in the format")?;
        if signature.encode_vec().ok().as_deref() != Some(&parts.signature[..]) {
            return Err("signature is not in its canonical form");
        }
        Ok(Self {
            statement,
            signed: parts.statement,
            signature,
        })
    }
}

impl Payload {
    fn encode_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.statement.len() + self.signature.len() + 16);
        crate::cbor::put(self, &mut out);
        out
    }
}
