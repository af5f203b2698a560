//! What brings a recording to its end, at once or after something went wrong: receipts, closing, recovery.
//!
//! All calls block.

use std::io;
use std::path::Path;
use std::sync::Arc;

use doorward_audit::log::{Leaf, LeafKind};
use doorward_audit::receipt::{self, Durable, Statement};
use doorward_audit::{
    Agreement, HeadCountersigned, Outcome, Reconciled, Reconciliation, SessionEnded, SessionIndex, coverage_in,
    segment_name,
};
use uuid::Uuid;

use super::ship::SHIPPED;
use super::slot::Slot;
use super::store::{Claim, Inner, ResumeError, unix_ms};
use super::writer::Writer;
use super::{Closing, Counted, Failure, index, layout, receipts, recovery};
use crate::journal::log::PublicLog;

/// A recording whose end the disk refused.
pub(super) struct Broken {
    session: Uuid,
    durable: u64,
    closing: Closing,
}

impl Inner {
    /// Claims a recording that broke off, cut to its last whole block.
    pub(super) fn reopen(self: &Arc<Self>, session: Uuid, uid: &str) -> Result<Slot, ResumeError> {
        let failed = |error: io::Error| Failure::storage("read a recording", &error);
        self.begin_noted(session)?;
        let entry = match self.index.with(|index| index.find(session)) {
            Some(found) => found,
            None => index::read(&self.root, session)
                .map_err(failed)?
                // Its folder is being made just now.
                .ok_or(if self.unbegun.has(session) {
                    ResumeError::Open
                } else {
                    ResumeError::Unknown
                })?,
        };
        if entry.workspace_uid != uid {
            return Err(ResumeError::OtherWorkspace);
        }
        if entry.outcome == Some(Outcome::Complete) {
            return Err(ResumeError::Complete {
                length: entry.record_bytes,
            });
        }
        let claim = Claim::take(self, session).ok_or(ResumeError::Open)?;
        if self
            .broken
            .with(|broken| broken.iter().any(|known| known.session == session))
        {
            return Err(ResumeError::Open);
        }
        // What follows is not in the bucket, whatever is.
        if let Some(dir) = layout::session_dir(&self.root, session) {
            layout::remove(&dir.join(SHIPPED)).map_err(failed)?;
        }
        let mut writer = self.recover(session, None)?;
        if writer.finished() {
            let entry = self.close(session, &mut writer, &Closing::stopped())?;
            self.unclosed.with(|unclosed| unclosed.remove(&session));
            return Err(ResumeError::Complete {
                length: entry.record_bytes,
            });
        }
        self.unclosed.with(|unclosed| unclosed.remove(&session));
        let waits = self.shipping.as_ref().is_some_and(|shipping| shipping.stored);
        Ok(Slot::resumed(session, writer, claim, waits))
    }

    /// Brings a recording back to its last whole block and makes up for receipts that are missing.
    fn recover(&self, session: Uuid, durable: Option<u64>) -> Result<Writer, Failure> {
        let dir = layout::session_dir(&self.root, session)
            .ok_or_else(|| Failure::Storage("find a session without a time in its id".into()))?;
        let now = unix_ms();
        let failed = |error: io::Error| Failure::storage("recover a recording", &error);
        let known = receipts::recover(&dir, self.disk, now).map_err(failed)?;
        self.make_up_leaves(session, &known.leaves);
        let recovered = recovery::recover(&dir, session, durable, self.disk, now).map_err(failed)?;
        let missing: Vec<_> = recovered
            .heads
            .into_iter()
            .filter(|head| !known.heads.contains(&head.seq))
            .collect();
        self.sign_heads(session, recovered.writer.dir(), missing)?;
        Ok(recovered.writer)
    }

    /// A crash may have come between a receipt and its leaf in the log.
    fn make_up_leaves(&self, session: Uuid, wanted: &[LeafKind]) {
        let public = self.journal.public();
        let Some(checkpoint) = public.checkpoint() else { return };
        let size = checkpoint.statement().head.size;
        let mut logged = Vec::new();
        let mut from = 0;
        loop {
            match public.of_session(session, from, size) {
                Ok(page) => {
                    from = page.last().map_or(size, |leaf| leaf.index + 1);
                    logged.extend(page.iter().filter_map(|leaf| Leaf::parse(&leaf.text).ok()));
                    if page.len() < PublicLog::MOST_PROVED {
                        break;
                    }
                }
                Err(error) => return tracing::warn!(%session, %error, "the log cannot be asked about a recording"),
            }
        }
        for leaf in wanted {
            if !logged.iter().any(|known| known.kind == *leaf) {
                self.journal.log(leaf.clone());
            }
        }
    }

    /// Receipts for the heads that became durable.
    pub(super) fn countersign(&self, slot: &Slot, writer: &mut Writer) -> Result<(), Failure> {
        let heads = writer.take_heads();
        self.sign_heads(slot.session, writer.dir(), heads)
    }

    fn sign_heads(&self, session: Uuid, dir: &Path, heads: Vec<Durable>) -> Result<(), Failure> {
        if heads.is_empty() {
            return Ok(());
        }
        let dated = self.credential.dated().ok_or_else(nobody)?;
        let now = dated.unix_ms();
        let statements = heads
            .iter()
            .map(|head| Statement::head(session, *head, now, dated.text()));
        for leaf in receipts::append(dir, self.disk, &self.credential, statements)? {
            self.journal.log(leaf);
        }
        for Durable { segment, seq, link, .. } in heads {
            self.journal.append(HeadCountersigned {
                session,
                segment,
                seq,
                link,
            });
        }
        Ok(())
    }

    /// Writes the closing receipt and the index of a recording. Blocks.
    pub(super) fn close(&self, session: Uuid, writer: &mut Writer, closing: &Closing) -> Result<SessionIndex, Failure> {
        let dated = self.credential.dated();
        let now = dated.as_ref().map_or_else(unix_ms, |dated| dated.unix_ms());
        let torn = writer.set_torn_aside(now)?;
        let mut reason = closing.reason.clone();
        if torn > 0 {
            reason += &format!(" ({torn} bytes of an unfinished block were set aside)");
        }
        let outcome = if writer.finished() {
            Outcome::Complete
        } else {
            Outcome::Abnormal
        };
        let end = writer.last().unwrap_or_else(|| Durable::nothing(session));
        let before = receipts::last_closing(writer.dir());
        // Said already, and a crash or an agent that brought nothing made us come back: once is enough.
        let stands = before.as_ref().filter(|said| {
            said.offset == end.offset
                && said.outcome == Some(outcome)
                && (outcome == Outcome::Complete || said.reason.as_ref() == Some(&reason))
        });
        let (ended, reason) = match stands {
            Some(said) => (said.at, said.reason.clone().unwrap_or(reason)),
            None => {
                let known = closing.counted.or_else(|| {
                    let said = before.as_ref()?;
                    Some(Counted {
                        client_bytes: said.client_bytes?,
                        agent_bytes: said.agent_bytes?,
                    })
                });
                let counted = known.unwrap_or_default();
                // Nothing at all was counted by a gateway that was not there: no witness.
                let both = known
                    .filter(|known| *known != Counted::default())
                    .and_then(|known| reconcile(writer, known));
                let said = receipt::Closing {
                    outcome,
                    reason: reason.clone(),
                    client_bytes: counted.client_bytes,
                    agent_bytes: counted.agent_bytes,
                    reconciled: both.map(|both| both.agreement),
                };
                let dated = dated.ok_or_else(nobody)?;
                let statement = Statement::closing(session, end, said, now, dated.text());
                for leaf in receipts::append(writer.dir(), self.disk, &self.credential, [statement])? {
                    self.journal.log(leaf);
                }
                if let Some(both) = both {
                    self.put_on_record(session, both);
                }
                (now, reason)
            }
        };
        let before = self.entry(session)?;
        // It is kept for so long after its end, which may come more than once.
        let kept_from = before.ended.unwrap_or(before.started);
        let from = self.clock.latest(ended);
        let keep_until = before
            .keep_until
            .map(|until| from.saturating_add(until.saturating_sub(kept_from)));
        let entry = SessionIndex {
            ended: Some(ended),
            outcome: Some(outcome),
            reason: Some(reason),
            record_bytes: writer.durable(),
            keep_until,
            ..before
        };
        index::write(writer.dir(), &entry).map_err(|e| Failure::storage("write a session's index", &e))?;
        self.index.with(|index| index.put(entry.clone()));
        self.retention.note(&entry);
        if let Some(shipping) = &self.shipping {
            shipping.closed(session, writer.durable());
        }
        Ok(entry)
    }

    /// Says in the journal whether agent and gateway counted the same.
    fn put_on_record(&self, session: Uuid, both: Reconciliation) {
        let agree = both.agreement == Agreement::Agree;
        if !agree {
            let (client, agent) = both.differences();
            tracing::error!(
                %session,
                "the gateway relayed {client} bytes from the client and {agent} from the agent more than the agent counts"
            );
        }
        self.journal.append(Reconciled {
            session,
            agent_client_bytes: both.agent_client_bytes,
            agent_agent_bytes: both.agent_agent_bytes,
            gateway_client_bytes: both.gateway_client_bytes,
            gateway_agent_bytes: both.gateway_agent_bytes,
            agree,
        });
    }

    /// What the index says of a session.
    fn entry(&self, session: Uuid) -> Result<SessionIndex, Failure> {
        if let Some(entry) = self.index.with(|index| index.find(session)) {
            return Ok(entry);
        }
        index::read(&self.root, session)
            .map_err(|e| Failure::storage("read a session's index", &e))?
            .ok_or_else(|| Failure::Storage("find a session's index".into()))
    }

    /// Remembers a recording whose end the disk refused.
    pub(super) fn broken(&self, session: Uuid, durable: u64, closing: &Closing) {
        let closing = closing.clone();
        self.broken.with(|broken| {
            broken.push(Broken {
                session,
                durable,
                closing,
            })
        });
    }

    /// Closes what the disk refused to close before. Blocks.
    pub(super) fn close_broken(self: &Arc<Self>) -> io::Result<()> {
        loop {
            let Some((session, durable, closing)) = self.broken.with(|broken| {
                broken
                    .last()
                    .map(|last| (last.session, last.durable, last.closing.clone()))
            }) else {
                return Ok(());
            };
            let _claim = Claim::take(self, session).ok_or_else(|| io::Error::other("the recording is in use"))?;
            let mut writer = self.recover(session, Some(durable)).map_err(io::Error::other)?;
            self.close(session, &mut writer, &closing).map_err(io::Error::other)?;
            self.broken
                .with(|broken| broken.retain(|known| known.session != session));
        }
    }

    /// Takes the sessions that nobody has closed, of one workspace or of all.
    pub(super) fn take_unclosed(&self, workspace_uid: Option<&str>) -> Vec<Uuid> {
        let of_workspace = |session: &Uuid| {
            workspace_uid.is_none_or(|uid| {
                self.index
                    .with(|index| index.find(*session))
                    .is_some_and(|entry| entry.workspace_uid == uid)
            })
        };
        let sessions: Vec<Uuid> = self.unclosed.with(|unclosed| unclosed.iter().copied().collect());
        sessions.into_iter().filter(of_workspace).collect()
    }

    /// Closes a recording that an earlier life of the gateway left open.
    pub(super) fn close_stopped(self: &Arc<Self>, session: Uuid) {
        let Some(_claim) = Claim::take(self, session) else {
            return;
        };
        if !self.unclosed.with(|unclosed| unclosed.contains(&session)) {
            return;
        }
        // Its end is known, and on record, where only the store had no room for it.
        let known = self.entry(session).ok().and_then(|entry| entry.reason);
        let is_known = known.is_some();
        let closing = known.map_or_else(Closing::stopped, |reason| Closing { reason, counted: None });
        let closed = self
            .recover(session, None)
            .and_then(|mut writer| self.close(session, &mut writer, &closing));
        match closed {
            Ok(_) if is_known => {
                self.unclosed.with(|unclosed| unclosed.remove(&session));
            }
            Ok(entry) => {
                self.unclosed.with(|unclosed| unclosed.remove(&session));
                // The end that the session itself could not put on record.
                self.journal.append(SessionEnded {
                    session,
                    reason: entry.reason.unwrap_or_default(),
                    code: "gateway-stopped".to_owned(),
                    record_bytes: entry.record_bytes,
                    ..SessionEnded::default()
                });
            }
            Err(error) => tracing::error!(%session, %error, "recording cannot be closed"),
        }
    }
}

/// Without a certificate a receipt could not be judged, so that none is written yet.
fn nobody() -> Failure {
    Failure::Storage("sign a receipt: the gateway has no link certificate yet".into())
}

/// The agent's statement of what it covered, which stands at the end of a finished recording, against our own count.
fn reconcile(writer: &Writer, counted: Counted) -> Option<Reconciliation> {
    let last = writer.last().filter(|_| writer.finished())?;
    let segment = std::fs::read(writer.dir().join(segment_name(last.segment))).ok()?;
    let claim = coverage_in(&segment)?;
    Some(Reconciliation::new(&claim, counted.client_bytes, counted.agent_bytes))
}

impl Closing {
    fn stopped() -> Self {
        Self {
            reason: "the gateway stopped".into(),
            counted: None,
        }
    }
}
