//! The stack's keys: two SSH CA keys that stay from run to run, and a TLS certificate that does not.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use super::Error;
use super::layout::{Layout, write_private};

/// Makes the user CA and the host CA where they are missing, and their public halves for the agent.
pub(super) fn ssh_authorities(layout: &Layout) -> Result<(), Error> {
    for name in [USER_CA, HOST_CA] {
        let path = layout.file(name);
        let key = if path.exists() {
            read_key(&path)?
        } else {
            make_key(&path, name)?
        };
        let public = key.public_key().to_openssh().map_err(made("an SSH public key"))?;
        write_private(&layout.file(&format!("{name}.pub")), format!("{public}\n").as_bytes())?;
    }
    Ok(())
}

fn read_key(path: &Path) -> Result<PrivateKey, Error> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    PrivateKey::from_openssh(text).map_err(made("sense of an SSH CA key"))
}

fn make_key(path: &Path, comment: &str) -> Result<PrivateKey, Error> {
    let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(made("an SSH CA key"))?;
    key.set_comment(format!("doorward development {comment}"));
    let text = key.to_openssh(LineEnding::LF).map_err(made("an SSH CA key"))?;
    write_private(path, text.as_bytes())?;
    Ok(key)
}

/// A certificate for 127.0.0.1 and localhost from a CA of its own, whose key is forgotten at once.
pub(super) fn tls(layout: &Layout) -> Result<(), Error> {
    let made = |error: rcgen::Error| Error::Key {
        what: "a TLS certificate",
        why: error.to_string(),
    };
    let mut ca = CertificateParams::default();
    ca.distinguished_name
        .push(DnType::CommonName, "Doorward development CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate().map_err(made)?;
    let ca_certificate = ca.self_signed(&ca_key).map_err(made)?;

    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = CertificateParams::new(names).map_err(made)?;
    leaf.distinguished_name
        .push(DnType::CommonName, "Doorward development gateway");
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_key = KeyPair::generate().map_err(made)?;
    let leaf_certificate = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key)).map_err(made)?;

    write_private(&layout.file(CA_PEM), ca_certificate.pem().as_bytes())?;
    write_private(&layout.file(TLS_CERTIFICATE), leaf_certificate.pem().as_bytes())?;
    write_private(&layout.file(TLS_KEY), leaf_key.serialize_pem().as_bytes())
}

fn made<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Key {
        what,
        why: error.to_string(),
    }
}

pub(super) const USER_CA: &str = "user-ca";
pub(super) const HOST_CA: &str = "host-ca";
pub(super) const CA_PEM: &str = "ca.pem";
pub(super) const TLS_CERTIFICATE: &str = "tls.crt";
pub(super) const TLS_KEY: &str = "tls.key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authorities_are_two_and_stay_from_run_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let read = || {
            let (layout, _lock) = Layout::prepare(dir.path()).unwrap();
            ssh_authorities(&layout).unwrap();
            [USER_CA, HOST_CA].map(|name| {
                let key = read_key(&layout.file(name)).unwrap();
                let public = fs::read_to_string(layout.file(&format!("{name}.pub"))).unwrap();
                assert_eq!(public.trim(), key.public_key().to_openssh().unwrap());
                public
            })
        };
        let first = read();
        assert_ne!(first[0], first[1]);
        assert_eq!(first, read());
    }
}
