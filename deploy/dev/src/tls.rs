//! A TLS certificate for loopback, from a CA of its own whose key is forgotten at once.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// What a server and its clients need, PEM.
pub(crate) struct Pems {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

/// Makes them for `localhost` and 127.0.0.1; `common_name` is for people who look at the certificate.
pub(crate) fn for_loopback(common_name: &str) -> Result<Pems, rcgen::Error> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name
        .push(DnType::CommonName, "Doorward development CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;

    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name.push(DnType::CommonName, common_name);
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_key = KeyPair::generate()?;
    let leaf_certificate = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key))?;
    Ok(Pems {
        ca: ca_certificate.pem(),
        certificate: leaf_certificate.pem(),
        key: leaf_key.serialize_pem(),
    })
}
