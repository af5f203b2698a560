//! Sessions that a gateway closed and that its own log does not name: then the log is older than they are.
//!
//! Whoever rolls back a log together with its checkpoints leaves a good, shorter log. What its gateway has signed since
//! still lies in the store.

use std::collections::BTreeMap;

use doorward_audit::log::origin_of;
use doorward_audit::{Report, Trust};
use uuid::Uuid;

use super::super::made_at;
use super::class::Class;
use super::found::{Item, What};

/// A copy of a store that is in use may have the log from before, and a crash may lose what was logged in its last second.
const COPIED_WITHIN_MS: u64 = 60 * 60 * 1000;
const LOGGED_WITHIN_MS: u64 = 10 * 1000;

/// The logs that were read, each by its name.
#[derive(Debug, Default)]
pub(super) struct Unlogged(BTreeMap<String, OfLog>);

#[derive(Debug)]
struct OfLog {
    /// When its newest checkpoint was signed, Unix milliseconds.
    until: u64,
    /// Sessions that it should name, and those that it may not name yet: how many, and the first.
    missing: (u64, Option<Uuid>),
    newer: (u64, Option<Uuid>),
}

impl Unlogged {
    /// A log whose newest checkpoint was signed then.
    pub(super) fn add(&mut self, origin: String, until: u64) {
        let (missing, newer) = Default::default();
        let log = self.0.entry(origin).or_insert(OfLog { until, missing, newer });
        log.until = log.until.max(until);
    }

    /// Takes a recording that no log names.
    pub(super) fn take(&mut self, report: &Report, trust: &Trust) {
        let Some(closing) = report.closing.as_ref().filter(|_| report.ok) else {
            return;
        };
        let Ok(key) = (trust.gateway_key)(&closing.gateway_certificate, closing.at) else {
            return;
        };
        let Some(log) = self.0.get_mut(&origin_of(&key)) else {
            return;
        };
        let lasted = made_at(closing.session).map_or(0, |opened| closing.at.saturating_sub(opened));
        let missing = if closing.at > log.until {
            closing.at - log.until > COPIED_WITHIN_MS
        } else {
            lasted > LOGGED_WITHIN_MS
        };
        let (count, first) = if missing { &mut log.missing } else { &mut log.newer };
        *count += 1;
        first.get_or_insert(closing.session);
    }

    /// Says it of the log with this name.
    pub(super) fn tell(&self, origin: &str, item: &mut Item) {
        let (Some(log), What::Log { findings, notes, .. }) = (self.0.get(origin), &mut item.what) else {
            return;
        };
        if let (count, Some(first)) = log.missing {
            item.class = item.class.max(Class::Missing);
            findings.push(format!(
                "the log was rolled back: it does not name {count} of the sessions that its gateway closed, such as {first}"
            ));
        }
        if let (count, Some(first)) = log.newer {
            notes.push(format!(
                "it does not name {count} sessions that its gateway closed at its end or since, such as {first}: it is an older \
                 copy, or was rolled back"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use doorward_audit::receipt::{Kind, Statement};
    use ssh_key::PrivateKey;
    use ssh_key::private::Ed25519Keypair;

    use super::*;

    const HOUR: u64 = 60 * 60 * 1000;
    const BEGAN: u64 = 1_790_000_000_000;

    fn report(began: u64, closed: u64, ok: bool) -> Report {
        let seconds = (began / 1000, u32::try_from(began % 1000).unwrap() * 1_000_000);
        let session = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds.0, seconds.1));
        Report {
            ok,
            findings: Vec::new(),
            session: Some(session),
            is_journal: false,
            blocks: 1,
            bytes: 1,
            outcome: None,
            reconciliation: None,
            notes: Vec::new(),
            closing: Some(Statement {
                v: 1,
                kind: Kind::Closing,
                session,
                segment: 0,
                seq: 0,
                offset: 1,
                link: String::new(),
                at: closed,
                gateway_certificate: String::new(),
                outcome: None,
                reason: None,
                client_bytes: None,
                agent_bytes: None,
                reconciled: None,
            }),
        }
    }

    #[test]
    fn a_log_that_is_older_than_what_its_gateway_closed_was_rolled_back() {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[3; 32]));
        let public = key.public_key().clone();
        let origin = origin_of(&public);
        let trust = Trust {
            gateway_key: Box::new(move |_, _| Ok(public.clone())),
            agent_key: Box::new(|_, _| Err("nobody".to_owned())),
        };
        let said = |log: &str, reports: &[Report]| {
            let mut unlogged = Unlogged::default();
            unlogged.add(log.to_owned(), BEGAN + HOUR);
            reports.iter().for_each(|report| unlogged.take(report, &trust));
            let mut item = Item {
                name: "log".to_owned(),
                class: Class::Complete,
                what: What::Log {
                    size: 1,
                    findings: Vec::new(),
                    notes: Vec::new(),
                },
            };
            unlogged.tell(log, &mut item);
            let noted = matches!(&item.what, What::Log { notes, .. } if !notes.is_empty());
            (item.class, noted)
        };
        // Closed hours after the log's last word, and in the midst of it: the log had time to name both.
        for closed in [BEGAN + 3 * HOUR, BEGAN + HOUR / 2] {
            assert_eq!(said(&origin, &[report(BEGAN, closed, true)]), (Class::Missing, false));
        }
        // What a copy or a crash may have come between.
        let soon = [report(BEGAN, BEGAN + HOUR + 5, true), report(BEGAN, BEGAN + 900, true)];
        assert_eq!(said(&origin, &soon), (Class::Complete, true));
        // One that is bad is named as that, and another gateway's log need not name it.
        assert_eq!(
            said(&origin, &[report(BEGAN, BEGAN + 3 * HOUR, false)]),
            (Class::Complete, false)
        );
        assert_eq!(
            said("another", &[report(BEGAN, BEGAN + 3 * HOUR, true)]),
            (Class::Complete, false)
        );
    }
}
