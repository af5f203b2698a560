//! The end of a verification: what is left over, and whether the ends meet.

use super::{
    Report,
    receipts::Receipts,
    walk::{Author, MOST_FINDINGS, Walk, attests_nothing},
};
use crate::{
    block::segment_name,
    chain::Chain,
    fault::{Class, Fault},
    index::Outcome,
    receipt::{Kind, Statement},
};

impl Walk<'_> {
    /// What is left when the segments have been read.
    pub(super) fn rest(&mut self, present: &[u32], receipts: &mut Receipts<'_>, whole: bool) {
        let mut reach: Option<Statement> = None;
        while receipts.peek(&mut self.findings).is_some() {
            reach = receipts.take().or(reach);
            if let Some(said) = reach.as_ref().filter(|said| said.kind == Kind::Closing) {
                self.closing = Some(said.clone());
            }
        }
        if receipts.missing() > 0 {
            let text = format!(
                "{} receipts that the gateway's log names are not here",
                receipts.missing()
            );
            self.find(self.fault(Class::RolledBack, text));
        }
        if present.is_empty() && self.nothing_stored(reach.as_ref()) {
            return;
        }
        // After a break in the chain the ends cannot be compared any more.
        if !whole {
            return;
        }
        if let Some(said) = reach {
            let place = self.place();
            let has = present.last().copied();
            let missing = has.is_none_or(|last| said.segment > last);
            let (class, text) = if missing {
                (
                    Class::MissingSegment,
                    segment_name(has.map_or(0, |last| last.saturating_add(1))),
                )
            } else {
                (Class::Truncated, "the recording".to_owned())
            };
            let text = format!(
                "{text} is {}, but a receipt attests block {} up to offset {}",
                if missing { "not there" } else { "shorter" },
                said.seq,
                said.offset
            );
            self.find(Fault::new(class, place, text));
        } else if present.is_empty() {
            self.find(self.fault(Class::MissingSegment, "there is no recording here"));
            return;
        }
        if !self.any_event && self.findings.is_empty() && self.ended() {
            self.find(self.fault(Class::Malformed, "recording has no event"));
        }
        if self.anchored < self.options.anchors.len() {
            let text = "recording is known to have gone further";
            self.find(self.fault(Class::RolledBack, text));
        }
        match self.author {
            Author::Gateway(_) => {}
            _ => self.end(),
        }
    }

    /// A session may end before its first block is stored: then the closing receipt says that.
    fn nothing_stored(&mut self, reach: Option<&Statement>) -> bool {
        let Some(said) = reach.filter(|said| said.kind == Kind::Closing && said.offset == 0) else {
            return false;
        };
        if !attests_nothing(said) {
            self.find(self.fault(Class::Altered, "closing receipt contradicts itself"));
        }
        if self.options.session.is_some_and(|session| session != said.session) {
            self.find(self.fault(Class::Spliced, "closing receipt is for another session"));
        }
        if said.outcome == Some(Outcome::Complete) {
            self.find(self.fault(Class::Altered, "closing receipt calls nothing complete"));
        }
        self.chain = Some(Chain::new(said.session));
        true
    }

    fn ended(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| chain.ended)
    }

    fn end(&mut self) {
        if let Some(place) = self.after_closing {
            if self.options.allow_open {
                self.closing = None;
                self.notes.push("records came after the closing receipt".to_owned());
            } else {
                let text = "blocks after the last closing receipt";
                self.find(Fault::new(Class::Spliced, place, text));
            }
        }
        let Some(closing) = self.closing.clone() else {
            if !self.options.allow_open {
                let text = "there is no closing receipt: the session is open, or this is a copy \
                            from before its end";
                self.find(self.fault(Class::NoClosing, text));
            }
            return;
        };
        if closing.outcome == Some(Outcome::Complete) {
            if !self.ended() {
                let text = "closing receipt says complete, but there is no last head";
                self.find(self.fault(Class::Truncated, text));
            } else if !self.tally.has_coverage() {
                let text = "recording ends without a statement of what it covers";
                self.find(self.fault(Class::Coverage, text));
            }
        }
        if let Some(text) = self.tally.contradiction() {
            self.find(self.fault(Class::Coverage, text));
        }
        self.notes.extend(self.tally.notes(&closing));
    }

    pub(super) fn report(mut self) -> Report {
        // Receipts are read ahead of the blocks that they are for.
        self.findings.sort_by_key(|finding| finding.place);
        self.findings.truncate(MOST_FINDINGS);
        let known = self.chain.as_ref().filter(|chain| !chain.stream.is_nil());
        let journal = matches!(self.author, Author::Gateway(_));
        let outcome = match &self.closing {
            Some(closing) => closing.outcome,
            None if journal && self.ended() => Some(Outcome::Complete),
            None => None,
        };
        let reconciliation = self
            .closing
            .as_ref()
            .and_then(|closing| self.tally.reconciliation(closing));
        Report {
            reconciliation,
            ok: self.findings.is_empty(),
            session: known.map(|chain| chain.stream),
            is_journal: journal,
            blocks: known.map_or(0, |chain| chain.seq),
            bytes: known.map_or(0, |chain| chain.offset),
            outcome,
            findings: self.findings,
            notes: self.notes,
            closing: self.closing,
        }
    }
}
