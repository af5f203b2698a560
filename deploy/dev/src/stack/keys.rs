//! The stack's keys: two SSH CA keys that stay from run to run, and a TLS certificate that does not.

use std::fs;
use std::path::Path;

use ssh_key::{Algorithm, LineEnding, PrivateKey};

use super::Error;
use super::layout::{Layout, write_private};
use crate::tls;

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

/// The gateway's TLS certificate, and the CA that clients are given.
pub(super) fn tls(layout: &Layout) -> Result<(), Error> {
    let made = tls::for_loopback("Doorward development gateway").map_err(made("a TLS certificate"))?;
    write_private(&layout.file(CA_PEM), made.ca.as_bytes())?;
    write_private(&layout.file(TLS_CERTIFICATE), made.certificate.as_bytes())?;
    write_private(&layout.file(TLS_KEY), made.key.as_bytes())
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
