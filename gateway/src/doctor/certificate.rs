//! The certificate that people's programs check: until when it is good, and for which names.

use std::{fs, time::Duration};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::{About, Finding};
use crate::{config::Config, listen};

/// Looks at the listener's certificate.
pub(super) fn check(config: &Config, about: &About) -> Vec<Finding> {
    let file = config.listen.certificate.display();
    // Whether both files are there and belong together.
    if let Err(error) = listen::certificate::load(&config.listen.certificate, &config.listen.key) {
        let remedy = "put a certificate and its own key in place; cert-manager writes both";
        return vec![Finding::broken("certificate", file, error.to_string(), remedy)];
    }
    let der = fs::read(&config.listen.certificate)
        .map_err(|error| error.to_string())
        .and_then(|pem| CertificateDer::from_pem_slice(&pem).map_err(|error| error.to_string()));
    let judged = der.and_then(|der| judge(&der, about.name.as_deref(), Timestamp::now(), &file.to_string()));
    judged.unwrap_or_else(|text| vec![Finding::broken("certificate", file, text, "issue it again")])
}

fn judge(der: &[u8], name: Option<&str>, now: Timestamp, file: &str) -> Result<Vec<Finding>, String> {
    let (_, certificate) = parse_x509_certificate(der).map_err(|error| format!("is no X.509: {error}"))?;
    let names: Vec<String> = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(spelled).collect(),
        _ => Vec::new(),
    };
    let validity = certificate.validity();
    let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let (from, until) = (
        at(validity.not_before.timestamp())?,
        at(validity.not_after.timestamp())?,
    );
    let renew = "have it renewed; see whether cert-manager can";
    let dates = if until <= now {
        Finding::broken("certificate", file, format!("expired at {until}"), renew)
    } else if from > now {
        let remedy = "see whether this machine's clock is right";
        Finding::broken("certificate", file, format!("is not good before {from}"), remedy)
    } else if until.duration_since(now).unsigned_abs() < SOON {
        Finding::warning("certificate", file, format!("expires at {until}"), renew)
    } else {
        Finding::ok("certificate", file, format!("good until {until}, fits its key"))
    };
    let remedy = "issue it for the name that people dial, as a subject alternative name";
    let of_names = if names.is_empty() {
        Finding::broken(
            "certificate",
            file,
            "is for no name: every client will refuse it",
            remedy,
        )
    } else {
        let text = format!("is for {}", names.join(", "));
        match name {
            Some(name) if !names.iter().any(|one| covers(one, name)) => {
                Finding::broken("certificate", file, format!("{text}, and not for {name}"), remedy)
            }
            _ => Finding::ok("certificate", file, text),
        }
    };
    Ok(vec![dates, of_names])
}

fn spelled(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(four) => Some(std::net::Ipv4Addr::from(four).to_string()),
            Err(_) => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

/// Whether a certificate for `one` is good for `name`: the same, or a star for the first label (RFC 6125).
fn covers(one: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match one.strip_prefix("*.") {
        Some(rest) => name
            .split_once('.')
            .is_some_and(|(label, of)| !label.is_empty() && of == rest),
        None => one == name,
    }
}

/// From when on an end is near.
const SOON: Duration = Duration::from_secs(14 * 86_400);
