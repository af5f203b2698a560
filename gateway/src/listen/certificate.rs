//! The certificate that people see: read from two PEM files, read again when they change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    client::verify_server_name,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};

use crate::{config::secret_file, stamp::Stamp};

/// Why the two files are no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot be read: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// The key file can be read by others, or is not ours.
    #[error("{1}")]
    Mode(PathBuf, String),
    /// A file is not PEM, or does not hold what it should.
    #[error("holds no usable {2}: {1}")]
    Pem(PathBuf, rustls_pki_types::pem::Error, &'static str),
    /// The chain is empty.
    #[error("holds no certificate")]
    Empty(PathBuf),
    /// The key is of a kind that TLS cannot use, or does not belong to the certificate.
    #[error("does not fit its key: {1}")]
    Mismatch(PathBuf, rustls::Error),
}

impl CertificateError {
    /// The file that is at fault.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::Read(file, _)
            | Self::Mode(file, _)
            | Self::Pem(file, ..)
            | Self::Empty(file)
            | Self::Mismatch(file, _) => file,
        }
    }
}

/// Reads a chain and its key, and checks that they belong together.
///
/// # Errors
/// The files cannot be read, are not PEM, do not fit each other, or the key can be read by others.
pub fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let read = |file: &Path| std::fs::read(file).map_err(|error| CertificateError::Read(file.to_owned(), error));
    secret_file::check(key).map_err(|sentence| CertificateError::Mode(key.to_owned(), sentence))?;
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Pem(certificate.to_owned(), error, "certificate"))?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(certificate.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(read(key)?))
        .map_err(|error| CertificateError::Pem(key.to_owned(), error, "private key"))?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::aws_lc_rs::default_provider())
        .map_err(|error| CertificateError::Mismatch(certificate.to_owned(), error))
}

/// The certificate that is shown now.
#[derive(Debug)]
pub struct Shown {
    now: ArcSwap<CertifiedKey>,
    certificate: PathBuf,
    key: PathBuf,
}

impl Shown {
    /// Reads the files for the first time.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<(Arc<Self>, Stamp), CertificateError> {
        // The stamp is taken first: a change in between is read twice rather than not at all.
        let stamp = Stamp::of([certificate, key]);
        let now = ArcSwap::from_pointee(load(certificate, key)?);
        Ok((
            Arc::new(Self {
                now,
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            }),
            stamp,
        ))
    }

    /// Reads the files again; what is shown changes only if they are good.
    pub(crate) fn reload(&self) -> Result<(), CertificateError> {
        self.now.store(Arc::new(load(&self.certificate, &self.key)?));
        Ok(())
    }

    /// Whether the certificate that is shown now is one for this name or address.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let now = self.now.load();
        let Ok(name) = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']')) else {
            return false;
        };
        now.end_entity_cert()
            .and_then(ParsedCertificate::try_from)
            .is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }

    /// The files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone()]
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_its_own_names() {
        let folder = tempfile::tempdir().unwrap();
        crate::testing::write_certificate(folder.path(), "gw.example");
        let (shown, _) = Shown::load(&folder.path().join("tls.crt"), &folder.path().join("tls.key")).unwrap();
        assert!(shown.is_for("gw.example") && shown.is_for("GW.example"));
        for other in [
            "evil.example",
            "x.gw.example",
            "gw.example.evil.example",
            "127.0.0.1",
            "[::1]",
            "",
        ] {
            assert!(!shown.is_for(other), "{other}");
        }
    }
}
