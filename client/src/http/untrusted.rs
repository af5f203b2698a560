//! What a handshake that failed says to a person: what is wrong with the certificate, and what they can do.

use rustls::CertificateError as Fault;
use rustls_pki_types::UnixTime;

/// How many names of a certificate are shown.
const MOST_NAMES: usize = 6;

/// What is wrong with a server's certificate, and the hint that goes with it.
pub(super) fn explain(fault: &Fault) -> (String, &'static str) {
    const OURS: &str = "where the certificate is from a CA of your own, or of a proxy of the company's: doorward login GATEWAY --ca FILE";
    const RENEW: &str =
        "whoever runs the server has to renew its certificate; if that date is not today, set this computer's clock";
    const NAME: &str = "name the server as its certificate does, or ask whoever runs it which name that is";
    const TELL: &str = "tell whoever runs the server";
    match fault {
        Fault::UnknownIssuer => (
            "no authority that is trusted here vouches for its certificate".to_owned(),
            OURS,
        ),
        Fault::ExpiredContext { time, not_after } => (
            format!(
                "its certificate was good until {}, and today is {}",
                date(*not_after),
                date(*time)
            ),
            RENEW,
        ),
        Fault::Expired => ("its certificate is out of date".to_owned(), RENEW),
        Fault::NotValidYetContext { time, not_before } => (
            format!(
                "its certificate is good from {} on, and today is {}",
                date(*not_before),
                date(*time)
            ),
            RENEW,
        ),
        Fault::NotValidYet => ("its certificate is not good yet".to_owned(), RENEW),
        Fault::NotValidForNameContext { expected, presented } => (
            format!(
                "its certificate is for {}, and not for {}",
                names(presented),
                expected.to_str()
            ),
            NAME,
        ),
        Fault::NotValidForName => ("its certificate is for another name".to_owned(), NAME),
        Fault::Revoked => ("its certificate was revoked".to_owned(), TELL),
        Fault::Other(other) if other.to_string() == "CaUsedAsEndEntity" => (
            "it shows the certificate of a CA as its own".to_owned(),
            "a server's certificate, self-signed or not, must say CA:FALSE; whoever runs the server has to make another",
        ),
        other => (format!("its certificate cannot be used ({other})"), TELL),
    }
}

/// Why there is no TLS, and the hint, where it is not the certificate.
pub(super) fn refused(error: &rustls::Error) -> (String, Option<&'static str>) {
    use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            "what answers there does not speak TLS".to_owned(),
            Some("is the port the right one?"),
        ),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => (
            "what answers there does not speak TLS 1.3".to_owned(),
            Some("a gateway does: is something in between, a proxy that looks into TLS for example?"),
        ),
        other => (format!("TLS failed: {other}"), None),
    }
}

/// `DNS names and addresses, apart by commas`, without rustls' words around them.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    let mut names: Vec<String> = presented.iter().take(MOST_NAMES).map(bare).collect();
    if presented.len() > MOST_NAMES {
        names.push("…".to_owned());
    }
    if names.is_empty() {
        "no name at all".to_owned()
    } else {
        names.join(", ")
    }
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "?".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::ServerName;

    use super::*;

    #[test]
    fn a_person_reads_dates_and_names() {
        let day = |days: u64| UnixTime::since_unix_epoch(Duration::from_secs(days * 86_400));
        let expired = Fault::ExpiredContext {
            time: day(20_000),
            not_after: day(19_000),
        };
        assert_eq!(
            explain(&expired).0,
            "its certificate was good until 2022-01-08, and today is 2024-10-04"
        );
        let other = |presented: &[&str]| Fault::NotValidForNameContext {
            expected: ServerName::try_from("gw.example").unwrap(),
            presented: presented.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            explain(&other(&["DnsName(\"a.example\")", "IpAddress(192.0.2.1)", "b.example"])).0,
            "its certificate is for a.example, 192.0.2.1, b.example, and not for gw.example"
        );
        assert!(explain(&other(&["x"; 40])).0.len() < 100);
        assert!(explain(&other(&[])).0.contains("no name at all"));
    }
}
