//! What stands in place of a recording that was deleted: the gateway's tombstone, and what the logs say of it.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use doorward_audit::log::{Fate, Known, origin_of};
use doorward_audit::{TOMBSTONE_NAME, Tombstone, TombstoneError, Trust};
use uuid::Uuid;

use super::class::Class;
use super::found::{Item, What};
use crate::say;

/// What is known when a tombstone is judged.
#[derive(Debug)]
pub(super) struct Logs<'a> {
    /// What they say of the session.
    pub(super) known: &'a Known,
    /// The logs that were read for that.
    pub(super) origins: &'a BTreeSet<String>,
}

/// Judges the tombstone of a session, under this name; `text` is `None` where there is none.
pub(super) fn judge(name: String, session: Uuid, text: Option<&[u8]>, logs: &Logs<'_>, trust: &Trust) -> Item {
    let (class, text) = judged(session, text, logs, trust);
    Item {
        name,
        class,
        what: What::Absent { session, text },
    }
}

fn judged(session: Uuid, text: Option<&[u8]>, logs: &Logs<'_>, trust: &Trust) -> (Class, String) {
    let logged = match logs.known.fate() {
        Fate::Deleted(hash) => Some(hash),
        Fate::Recorded | Fate::Nothing => None,
    };
    let Some(text) = text else {
        let text = match logged {
            Some(_) => format!("MISSING: the log says that it was deleted, and its {TOMBSTONE_NAME} is not there"),
            None => "MISSING: the log names this session, and there is no recording of it".to_owned(),
        };
        return (Class::Missing, text);
    };
    let (said, key) = match Tombstone::judge(text, session, &trust.gateway_key) {
        Ok(judged) => judged,
        Err(error @ TombstoneError::Untrusted(_)) => {
            return (Class::Untrusted, format!("NOT TRUSTED: {TOMBSTONE_NAME}: {error}"));
        }
        Err(error) => return (Class::Bad, format!("NOT OK: {TOMBSTONE_NAME}: {error}")),
    };
    let good = format!("ok: deleted on {} ({}), tombstone good", say::moment(said.at), said.why);
    match logged {
        Some(hash) if digest(&SHA256, text).as_ref() != hash => (
            Class::Bad,
            format!("NOT OK: {TOMBSTONE_NAME} is signed, but not the one that the log has"),
        ),
        Some(_) => (Class::Complete, format!("{good} and in the log")),
        // Whoever signs it puts it into their own log.
        None if logs.origins.contains(&origin_of(&key)) => (
            Class::Missing,
            format!("MISSING: {TOMBSTONE_NAME} is signed, but the log of the gateway that signed it does not have it"),
        ),
        None => (
            Class::Complete,
            format!("{good}; the log of the gateway that signed it was not read"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use doorward_audit::log::LeafKind;
    use doorward_audit::{TOMBSTONE_NAMESPACE, TombstoneStatement, hex};
    use ssh_key::private::Ed25519Keypair;
    use ssh_key::{HashAlg, PrivateKey};

    use super::*;

    const OURS: &str = "the gateway's certificate";

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn stone(session: Uuid, by: u8, certificate: &str) -> String {
        let statement = TombstoneStatement {
            v: TombstoneStatement::VERSION,
            session,
            workspace: "devenv-0".to_owned(),
            why: "expired".to_owned(),
            at: 1_700_000_000_000,
            keep_until: 1_600_000_000_000,
            offset: 4711,
            link: "5a".repeat(32),
            gateway_certificate: certificate.to_owned(),
        };
        let signed = Tombstone::sign(statement, |text| {
            key(by).sign(TOMBSTONE_NAMESPACE, HashAlg::Sha512, text)
        });
        signed.unwrap().to_text().unwrap()
    }

    #[test]
    fn each_way_in_which_it_can_be_wrong_has_its_class() {
        let session = Uuid::from_u128(7);
        let trust = Trust {
            agent_key: Box::new(|_, _| Err("no".to_owned())),
            gateway_key: Box::new(|certificate, _| match certificate {
                OURS => Ok(key(1).public_key().clone()),
                _ => Err("no".to_owned()),
            }),
        };
        let good = stone(session, 1, OURS);
        let mut deleted = Known::default();
        deleted.take(&LeafKind::Opened { session });
        let opened = deleted.clone();
        deleted.take(&LeafKind::Tombstone {
            session,
            sha256: hex(digest(&SHA256, good.as_bytes()).as_ref()),
        });
        let ours: BTreeSet<String> = [origin_of(key(1).public_key())].into();
        let (others, nothing) = (BTreeSet::from(["another".to_owned()]), Known::default());
        let untrusted = stone(session, 1, "stranger");
        let again = stone(session, 1, OURS).replace("devenv-0", "devenv-1");
        for (text, known, origins, class, words) in [
            (
                Some(good.as_str()),
                &deleted,
                &ours,
                Class::Complete,
                "tombstone good and in the log",
            ),
            (None, &deleted, &ours, Class::Missing, "is not there"),
            (None, &opened, &ours, Class::Missing, "no recording of it"),
            (Some(&good), &opened, &ours, Class::Missing, "does not have it"),
            (Some(&good), &opened, &others, Class::Complete, "was not read"),
            (Some(&good), &nothing, &others, Class::Complete, "was not read"),
            (
                Some(&stone(session, 2, OURS)),
                &deleted,
                &ours,
                Class::Bad,
                "signature does not fit",
            ),
            (Some(&again), &deleted, &ours, Class::Bad, "signature does not fit"),
            (
                Some(&stone(Uuid::from_u128(8), 1, OURS)),
                &deleted,
                &ours,
                Class::Bad,
                "tombstone of 0000",
            ),
            (Some("{}"), &deleted, &ours, Class::Bad, "no tombstone"),
            (Some(&untrusted), &deleted, &ours, Class::Untrusted, "not to be trusted"),
        ] {
            let logs = Logs { known, origins };
            let found = judged(session, text.map(str::as_bytes), &logs, &trust);
            assert!(found.0 == class && found.1.contains(words), "{words}: {found:?}");
        }
        // Good by itself, and another than was put on record.
        let mut other = opened.clone();
        other.take(&LeafKind::Tombstone {
            session,
            sha256: "00".repeat(32),
        });
        let logs = Logs {
            known: &other,
            origins: &ours,
        };
        let found = judged(session, Some(good.as_bytes()), &logs, &trust);
        assert!(found.0 == Class::Bad && found.1.contains("not the one"), "{found:?}");
    }
}
