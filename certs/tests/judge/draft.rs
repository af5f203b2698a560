//! Certificates of any shape, bad ones above all: every field can be set to any bytes, and then signed or not.

use ssh_key::{
    PrivateKey, SigningKey,
    private::{Ed25519Keypair, KeypairData},
};

/// An ed25519 key that is the same in every run. Known to everybody who reads this.
pub(crate) fn key(seed: u8) -> PrivateKey {
    let pair = Ed25519Keypair::from_seed(&[seed; 32]);
    PrivateKey::new(KeypairData::from(pair), "test").unwrap()
}

/// The 32 bytes of its public key.
pub(crate) fn public(seed: u8) -> [u8; 32] {
    key(seed).public_key().key_data().ed25519().unwrap().0
}

/// RFC 4251's `string`.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Strings, one behind the other.
pub(crate) fn strings<T: AsRef<[u8]>>(all: &[T]) -> Vec<u8> {
    all.iter().flat_map(|one| string(one.as_ref())).collect()
}

/// Options or extensions in the order given; an empty value is a flag.
pub(crate) fn options(all: &[(&str, &str)]) -> Vec<u8> {
    let value = |text: &str| {
        if text.is_empty() {
            string(b"")
        } else {
            string(&string(text.as_bytes()))
        }
    };
    all.iter()
        .flat_map(|(name, text)| [string(name.as_bytes()), value(text)].concat())
        .collect()
}

/// A certificate before it is signed: fields as in PROTOCOL.certkeys.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) type_name: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
    /// The subject's fields as they stand in the blob, with their lengths.
    pub(crate) subject: Vec<u8>,
    pub(crate) serial: u64,
    pub(crate) kind: u32,
    pub(crate) key_id: Vec<u8>,
    /// The content of the principals' field.
    pub(crate) principals: Vec<u8>,
    pub(crate) after: u64,
    pub(crate) before: u64,
    /// The content of the critical options' field.
    pub(crate) critical: Vec<u8>,
    /// The content of the extensions' field.
    pub(crate) extensions: Vec<u8>,
    pub(crate) reserved: Vec<u8>,
    /// The authority's key where it is not that of the signer.
    pub(crate) authority: Option<Vec<u8>>,
    /// The signature where it is not the signer's.
    pub(crate) signature: Option<Vec<u8>>,
    /// What follows the signature.
    pub(crate) tail: Vec<u8>,
}

impl Draft {
    /// A draft without principals and extensions, over the key of a seed.
    pub(crate) fn new(kind: u32, subject: u8, now: u64) -> Self {
        Self {
            type_name: b"ssh-ed25519-cert-v01@openssh.com".to_vec(),
            nonce: vec![0x4e; 32],
            subject: string(&public(subject)),
            serial: 7,
            kind,
            key_id: Vec::new(),
            principals: Vec::new(),
            after: now - 30,
            before: now + 180,
            critical: Vec::new(),
            extensions: Vec::new(),
            reserved: Vec::new(),
            authority: None,
            signature: None,
            tail: Vec::new(),
        }
    }

    /// The blob, signed by the key of a seed.
    pub(crate) fn sign(&self, seed: u8) -> Vec<u8> {
        self.sign_with(&key(seed))
    }

    /// The blob, signed by any key.
    pub(crate) fn sign_with(&self, signer: &PrivateKey) -> Vec<u8> {
        let mut blob = string(&self.type_name);
        blob.extend(string(&self.nonce));
        blob.extend(&self.subject);
        blob.extend(self.serial.to_be_bytes());
        blob.extend(self.kind.to_be_bytes());
        blob.extend(string(&self.key_id));
        blob.extend(string(&self.principals));
        blob.extend(self.after.to_be_bytes());
        blob.extend(self.before.to_be_bytes());
        blob.extend(string(&self.critical));
        blob.extend(string(&self.extensions));
        blob.extend(string(&self.reserved));
        let authority = self
            .authority
            .clone()
            .unwrap_or_else(|| signer.public_key().to_bytes().unwrap());
        blob.extend(string(&authority));
        let signature = self.signature.clone().unwrap_or_else(|| signature(signer, &blob));
        blob.extend(string(&signature));
        blob.extend(&self.tail);
        blob
    }
}

/// A signature as it stands in a certificate: its algorithm, then its bytes.
pub(crate) fn signature(signer: &PrivateKey, message: &[u8]) -> Vec<u8> {
    fn sign<S: SigningKey>(signer: &S, message: &[u8]) -> ssh_key::Signature {
        signer.try_sign(message).unwrap()
    }
    sign(signer, message).try_into().unwrap()
}
