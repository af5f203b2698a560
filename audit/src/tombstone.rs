//! Tombstones: what stands where a recording was deleted. The gateway signs that it deleted it, why, and how far the recording went,
//! so that a deletion by the rules can be told from one against them.

use serde::{Deserialize, Serialize};
use ssh_key::{LineEnding, PublicKey, SshSig};
use uuid::Uuid;

use crate::{fault::Error, verify::JudgeGateway};

/// The SSHSIG namespace of tombstones.
pub const TOMBSTONE_NAMESPACE: &str = "doorward-tombstone@doorward";
/// The name of the file in the session's folder.
pub const TOMBSTONE_NAME: &str = "tombstone.json";
/// Longest text that is read.
pub const MAX_TOMBSTONE: usize = 32 * 1024;

const VERSION: u8 = 1;

/// What the gateway says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TombstoneStatement {
    /// Version of the statement, 1.
    pub v: u8,
    /// The session, which is the stream.
    pub session: Uuid,
    /// The workspace's name.
    pub workspace: String,
    /// Why: `expired`.
    pub why: String,
    /// When it was deleted, Unix milliseconds; RFC 3339 in the text.
    #[serde(with = "crate::time")]
    pub at: u64,
    /// Until when it had to be kept.
    #[serde(with = "crate::time")]
    pub keep_until: u64,
    /// Bytes of the stream that its closing receipt vouched for.
    pub offset: u64,
    /// Link at that place, 64 hexadecimal digits.
    pub link: String,
    /// The certificate over the signing key, in OpenSSH's text form.
    pub gateway_certificate: String,
}

impl TombstoneStatement {
    /// The version of the statement that we write.
    pub const VERSION: u8 = VERSION;
}

/// A statement, its exact text, and the signature over that text.
#[derive(Debug, Clone)]
pub struct Tombstone {
    statement: TombstoneStatement,
    text: String,
    signature: SshSig,
}

/// Why a tombstone is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TombstoneError {
    /// It cannot be read.
    #[error("it is no tombstone: {0}")]
    Malformed(String),
    /// Its certificate is not one of a trusted gateway.
    #[error("its certificate is not to be trusted: {0}")]
    Untrusted(String),
    /// The signature is not by the certificate's key.
    #[error("its signature does not fit")]
    BadSignature,
    /// It is about this one.
    #[error("it is the tombstone of {0}")]
    OtherSession(Uuid),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    statement: String,
    signature: String,
}

impl Tombstone {
    /// Signs a statement as SSHSIG in the namespace [`TOMBSTONE_NAMESPACE`].
    ///
    /// # Errors
    /// If the key does not sign, or signs for another namespace.
    pub fn sign(
        statement: TombstoneStatement,
        sign: impl FnOnce(&[u8]) -> Result<SshSig, ssh_key::Error>,
    ) -> Result<Self, Error> {
        let text = serde_json::to_string(&statement).map_err(|_| Error::Receipt("cannot be encoded"))?;
        let signature = sign(text.as_bytes()).map_err(Error::Sign)?;
        if signature.namespace() != TOMBSTONE_NAMESPACE {
            return Err(Error::Signature("it was made for another namespace"));
        }
        Ok(Self {
            statement,
            text,
            signature,
        })
    }

    /// What it says. Worth nothing before [`Tombstone::verify`].
    pub fn statement(&self) -> &TombstoneStatement {
        &self.statement
    }

    /// Whether this key, which must be that of the statement's certificate, made the signature.
    pub fn verify(&self, key: &PublicKey) -> bool {
        key.verify(TOMBSTONE_NAMESPACE, self.text.as_bytes(), &self.signature)
            .is_ok()
    }

    /// Reads what stands in place of this session, and judges it: by a gateway whose certificate was good at that time. The key
    /// that signed it.
    ///
    /// # Errors
    /// [`TombstoneError`] says what is wrong with it.
    pub fn judge(
        text: &[u8],
        session: Uuid,
        gateway: &JudgeGateway,
    ) -> Result<(TombstoneStatement, PublicKey), TombstoneError> {
        let malformed = |why: String| TombstoneError::Malformed(why);
        let text = std::str::from_utf8(text).map_err(|_| malformed("not UTF-8".to_owned()))?;
        let tombstone = Self::parse(text).map_err(|error| malformed(error.to_string()))?;
        let said = &tombstone.statement;
        let key = gateway(&said.gateway_certificate, said.at).map_err(TombstoneError::Untrusted)?;
        if !tombstone.verify(&key) {
            return Err(TombstoneError::BadSignature);
        }
        if said.session != session {
            return Err(TombstoneError::OtherSession(said.session));
        }
        Ok((tombstone.statement, key))
    }

    /// The text of the file, with its line feed.
    ///
    /// # Errors
    /// If the signature cannot be written as PEM.
    pub fn to_text(&self) -> Result<String, Error> {
        let signature = self
            .signature
            .to_pem(LineEnding::LF)
            .map_err(|_| Error::Signature("it cannot be encoded"))?;
        let file = File {
            statement: self.text.clone(),
            signature,
        };
        let mut text = serde_json::to_string(&file).map_err(|_| Error::Receipt("cannot be encoded"))?;
        text.push('\n');
        Ok(text)
    }

    /// Reads the text of a file. Only the exact form that [`Tombstone::to_text`] writes is accepted.
    ///
    /// # Errors
    /// [`Error::Receipt`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_TOMBSTONE {
            return Err(Error::Receipt("too long"));
        }
        let file: File = serde_json::from_str(text).map_err(|_| Error::Receipt("not in the format"))?;
        let statement: TombstoneStatement =
            serde_json::from_str(&file.statement).map_err(|_| Error::Receipt("its statement is not in the format"))?;
        if statement.v != VERSION {
            return Err(Error::Receipt("its version is unknown"));
        }
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if statement.link.len() != 64 || !statement.link.bytes().all(hexadecimal) {
            return Err(Error::Receipt("its link is not 64 lower-case hexadecimal digits"));
        }
        let signature =
            SshSig::from_pem(&file.signature).map_err(|_| Error::Receipt("its signature is not in the format"))?;
        let tombstone = Self {
            statement,
            text: file.statement,
            signature,
        };
        if tombstone.to_text()? != text {
            return Err(Error::Receipt("not in its canonical form"));
        }
        Ok(tombstone)
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::private::Ed25519Keypair;
    use ssh_key::{HashAlg, PrivateKey};

    use super::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn tombstone(namespace: &str) -> Result<Tombstone, Error> {
        let statement = TombstoneStatement {
            v: VERSION,
            session: Uuid::nil(),
            workspace: "devenv-0".to_owned(),
            why: "expired".to_owned(),
            at: 1_700_000_000_000,
            keep_until: 1_600_000_000_000,
            offset: 4711,
            link: "0123456789abcdef".repeat(4),
            gateway_certificate: "ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(),
        };
        Tombstone::sign(statement, |text| key(1).sign(namespace, HashAlg::Sha512, text))
    }

    #[test]
    fn it_comes_back_as_it_was_and_only_its_own_key_fits() {
        let text = tombstone(TOMBSTONE_NAMESPACE).unwrap().to_text().unwrap();
        let read = Tombstone::parse(&text).unwrap();
        assert_eq!(read.statement().offset, 4711);
        assert!(read.verify(key(1).public_key()) && !read.verify(key(2).public_key()));
        assert!(
            tombstone("doorward-receipt@doorward").is_err(),
            "another use of the key"
        );
    }

    #[test]
    fn it_is_judged_by_certificate_signature_and_session() {
        let text = tombstone(TOMBSTONE_NAMESPACE).unwrap().to_text().unwrap();
        let by = |seed: u8| -> JudgeGateway { Box::new(move |_, _| Ok(key(seed).public_key().clone())) };
        let judge = |text: &str, session, gateway: &JudgeGateway| {
            Tombstone::judge(text.as_bytes(), session, gateway).map(|(said, _)| said.offset)
        };
        assert_eq!(judge(&text, Uuid::nil(), &by(1)), Ok(4711));
        assert_eq!(judge(&text, Uuid::nil(), &by(2)), Err(TombstoneError::BadSignature));
        let other = Uuid::from_u128(1);
        assert_eq!(
            judge(&text, other, &by(1)),
            Err(TombstoneError::OtherSession(Uuid::nil()))
        );
        let nobody: JudgeGateway = Box::new(|_, _| Err("who".to_owned()));
        assert_eq!(
            judge(&text, Uuid::nil(), &nobody),
            Err(TombstoneError::Untrusted("who".to_owned()))
        );
        assert!(matches!(
            judge("x", Uuid::nil(), &by(1)),
            Err(TombstoneError::Malformed(_))
        ));
    }

    #[test]
    fn no_byte_of_it_can_change_without_being_seen() {
        let text = tombstone(TOMBSTONE_NAMESPACE).unwrap().to_text().unwrap();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            let good = Tombstone::parse(&changed).is_ok_and(|read| read.verify(key(1).public_key()));
            assert!(!good, "byte {at}");
        }
        for bad in ["", "{}", &text[1..], &format!("{text} "), text.trim_end()] {
            assert!(Tombstone::parse(bad).is_err(), "{bad:?}");
        }
    }
}
