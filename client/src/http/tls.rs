//! Whom TLS trusts. There is no way to trust everybody.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::Error;

/// For the gateway: TLS 1.3; the certificates in `ca` alone, or the system's where there is none.
pub(crate) fn for_gateway(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => add_file(&mut roots, ca)?,
        None => add_system(&mut roots)?,
    }
    let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For an issuer: TLS 1.2 or 1.3; the system's certificates and those in `ca`.
pub(crate) fn for_issuer(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            add_file(&mut roots, ca)?;
            // With a CA of one's own the system may well have none.
            let _ = add_system(&mut roots);
        }
        None => add_system(&mut roots)?,
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Reads a PEM file of CA certificates, and says whether it can be used.
pub(crate) fn check_file(ca: &Path) -> Result<(), Error> {
    add_file(&mut RootCertStore::empty(), ca)
}

fn add_file(roots: &mut RootCertStore, ca: &Path) -> Result<(), Error> {
    let bytes = std::fs::read(ca).map_err(Error::file("read", ca))?;
    let bad = |what: &str| Error::Configuration(format!("{}: {what}", ca.display()));
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| bad(&error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(&error.to_string()))?;
        any = true;
    }
    if any { Ok(()) } else { Err(bad("holds no certificate")) }
}

fn add_system(roots: &mut RootCertStore) -> Result<(), Error> {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found
            .errors
            .first()
            .map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(Error::Configuration(format!(
            "the system's CA certificates cannot be used: {why}"
        )));
    }
    Ok(())
}
