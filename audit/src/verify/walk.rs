//! One pass over a recording: segments, blocks, heads, receipts and events, in step.

use std::{
    fs::{self, File},
    io::BufReader,
    path::Path,
};

use ssh_key::PublicKey;
use uuid::Uuid;

use super::{Options, Report, Trust, receipts::Receipts};
use crate::{
    block::{self, BlockKind, segment_name},
    chain::{BlockSeen, Chain},
    event::{Coverage, Event, Stamped},
    fault::{Class, Fault, Place},
    head::Head,
    index::Outcome,
    read::{Block, next_block},
    receipt::{Durable, Kind, Statement},
};

const MOST_FINDINGS: usize = 64;
/// What the last messages of a connection may add after the agent has counted.
const UNCOUNTED_TAIL: u64 = 64 * 1024;

/// Who signs the heads.
enum Author {
    /// Nobody has said so yet.
    Nobody,
    /// The agent whose certificate opens the recording; nothing, if it is not trusted.
    Agent(Option<PublicKey>),
    /// A gateway writes its journal; its certificate is judged at the time of each head.
    Gateway(Option<String>),
}

/// What the events add up to.
#[derive(Default)]
struct Tally {
    channels: u32,
    recorded: u64,
    gaps: u64,
    gap_bytes: u64,
    coverage: Option<Coverage>,
}

pub(super) struct Walk<'a> {
    trust: &'a Trust,
    options: &'a Options,
    chain: Option<Chain>,
    author: Author,
    tally: Tally,
    findings: Vec<Fault>,
    notes: Vec<String>,
    closing: Option<Statement>,
    /// The first head for which there is no receipt.
    unreceipted: Option<Place>,
    any_event: bool,
    anchored: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(trust: &'a Trust, options: &'a Options) -> Self {
        Self {
            trust,
            options,
            chain: options.session.map(Chain::new),
            author: Author::Nobody,
            tally: Tally::default(),
            findings: Vec::new(),
            notes: Vec::new(),
            closing: None,
            unreceipted: None,
            any_event: false,
            anchored: 0,
        }
    }

    pub(super) fn directory(mut self, dir: &Path) -> Report {
        let present = match segments(dir) {
            Ok(present) => present,
            Err(error) => {
                let text = format!("directory: {}", error.kind());
                self.find(Fault::new(Class::Unreadable, Place::default(), text));
                return self.report();
            }
        };
        let (mut receipts, fault) = Receipts::open(dir, &self.trust.gateway_key);
        self.findings.extend(fault);
        let whole = self.segments(dir, &present, &mut receipts);
        self.rest(&present, &mut receipts, whole);
        self.report()
    }

    fn find(&mut self, fault: Fault) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(fault);
        }
    }

    fn place(&self) -> Place {
        self.chain.as_ref().map(Chain::place).unwrap_or_default()
    }

    fn fault(&self, class: Class, text: impl Into<String>) -> Fault {
        Fault::new(class, self.place(), text)
    }

    /// Reads the segments until the end or the first place where the chain breaks; says whether
    /// it came to the end.
    fn segments(&mut self, dir: &Path, present: &[u32], receipts: &mut Receipts<'_>) -> bool {
        for (index, &segment) in (0..).zip(present) {
            if segment != index {
                let text = format!("{} is not there", segment_name(index));
                self.find(self.fault(Class::MissingSegment, text));
                return false;
            }
            let final_one = present.len() as u64 == u64::from(index) + 1;
            if let Err(fault) = self.segment(dir, segment, receipts) {
                if final_one && fault.class == Class::Truncated && self.may_grow(receipts) {
                    self.notes.push(format!("{fault}; an open recording may"));
                    return true;
                }
                self.find(fault);
                return false;
            }
            if !final_one
                && self
                    .chain
                    .as_ref()
                    .is_none_or(|chain| chain.segment == index)
            {
                self.find(self.fault(Class::Truncated, "segment ends without its head"));
                return false;
            }
        }
        true
    }

    /// Whether the recording is open and may stand in the middle of a block.
    fn may_grow(&mut self, receipts: &mut Receipts<'_>) -> bool {
        self.options.allow_open
            && self.closing.is_none()
            && receipts.peek(&mut self.findings).is_none()
    }

    fn segment(
        &mut self,
        dir: &Path,
        segment: u32,
        receipts: &mut Receipts<'_>,
    ) -> Result<(), Fault> {
        let file = File::open(dir.join(segment_name(segment)))
            .map_err(|error| self.fault(Class::Unreadable, error.kind().to_string()))?;
        let mut file = BufReader::with_capacity(64 * 1024, file);
        while let Some(block) = next_block(&mut self.chain, &mut file)? {
            let seen = &block.seen;
            if seen.segment != segment {
                let place = Place {
                    segment,
                    seq: seen.seq,
                    offset: seen.offset,
                };
                return Err(Fault::new(
                    Class::Spliced,
                    place,
                    "blocks after the segment's head",
                ));
            }
            if let Some(closing) = &self.closing {
                let place = Place {
                    segment,
                    seq: seen.seq,
                    offset: seen.offset,
                };
                let text = format!("blocks after the closing receipt for block {}", closing.seq);
                return Err(Fault::new(Class::Spliced, place, text));
            }
            self.block(&block)?;
            self.receipts(seen, receipts);
            self.anchors(seen);
        }
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), Fault> {
        for stamped in block.events()? {
            self.event(&block.seen, stamped);
        }
        if let Some(head) = &block.seen.head {
            self.head(&block.seen, head);
        }
        Ok(())
    }

    fn event(&mut self, seen: &BlockSeen, stamped: Stamped) {
        let first = !std::mem::replace(&mut self.any_event, true);
        match stamped.event {
            Event::Opened(opened) if first => {
                if Some(opened.session) != self.chain.as_ref().map(|chain| chain.stream) {
                    let text = format!("recording is of session {}", opened.session);
                    self.find(at(seen, Class::Spliced, text));
                }
                let judge = &self.trust.agent_key;
                let key = judge(&opened.host_certificate, opened.started_unix_ms);
                if let Err(why) = &key {
                    self.find(at(
                        seen,
                        Class::UntrustedKey,
                        format!("host certificate: {why}"),
                    ));
                }
                self.author = Author::Agent(key.ok());
            }
            Event::GatewayStarted(started)
                if first || matches!(self.author, Author::Gateway(_)) =>
            {
                self.author = Author::Gateway(started.certificate);
            }
            _ if first => {
                self.find(at(
                    seen,
                    Class::Malformed,
                    "recording does not begin with its opening",
                ));
            }
            Event::Opened(_) => {
                self.find(at(seen, Class::Malformed, "recording is opened twice"));
            }
            Event::ChannelOpened(_) => self.tally.channels = self.tally.channels.saturating_add(1),
            Event::Output(output) => self.tally.recorded += output.bytes.len() as u64,
            Event::Input(input) => self.tally.recorded += input.bytes.len() as u64,
            Event::Gap(gap) => {
                self.tally.gaps += 1;
                self.tally.gap_bytes = self.tally.gap_bytes.saturating_add(gap.bytes);
            }
            Event::Coverage(coverage) => self.tally.coverage = Some(coverage),
            _ => {}
        }
    }

    fn head(&mut self, seen: &BlockSeen, head: &Head) {
        let key = match &self.author {
            Author::Agent(Some(key)) => key.clone(),
            // That it is not trusted was found where it opens the recording.
            Author::Agent(None) => return,
            Author::Gateway(Some(certificate)) => {
                match (self.trust.gateway_key)(certificate, head.statement().unix_ms) {
                    Ok(key) => key,
                    Err(why) => return self.find(at(seen, Class::UntrustedKey, why)),
                }
            }
            Author::Gateway(None) | Author::Nobody => {
                let text = "nobody has said who signs this head";
                return self.find(at(seen, Class::UntrustedKey, text));
            }
        };
        if !head.verify(&key) {
            self.find(at(
                seen,
                Class::BadSignature,
                "head is not signed by the author's key",
            ));
        }
    }

    /// Compares the receipts that belong to this block.
    fn receipts(&mut self, seen: &BlockSeen, receipts: &mut Receipts<'_>) {
        let mut receipted = seen.kind != BlockKind::Head;
        while receipts
            .peek(&mut self.findings)
            .is_some_and(|said| said.seq <= seen.seq)
        {
            let Some(said) = receipts.take() else { break };
            if let Some(place) = self.unreceipted.take() {
                let text = "there is no receipt for this head, but for a later block";
                self.find(Fault::new(Class::RolledBack, place, text));
            }
            let stream = self
                .chain
                .as_ref()
                .map(|chain| chain.stream)
                .unwrap_or_default();
            if let Some(text) = contradiction(&said, seen, stream) {
                self.find(at(seen, Class::Altered, text));
            }
            match said.kind {
                Kind::Head if seen.kind == BlockKind::Head => receipted = true,
                Kind::Head => {
                    self.find(at(
                        seen,
                        Class::Altered,
                        "receipt is for a head, this is none",
                    ));
                }
                Kind::Closing => {
                    if !receipted {
                        let text = "there is no receipt for this head, but a closing one";
                        self.find(at(seen, Class::RolledBack, text));
                        receipted = true;
                    }
                    self.closing = Some(said);
                }
            }
        }
        if !receipted && self.unreceipted.is_none() {
            self.unreceipted = Some(Place {
                segment: seen.segment,
                seq: seen.seq,
                offset: seen.offset,
            });
        }
    }

    fn anchors(&mut self, seen: &BlockSeen) {
        for anchor in self
            .options
            .anchors
            .iter()
            .filter(|anchor| anchor.seq == seen.seq)
        {
            self.anchored += 1;
            if anchor.link != seen.link {
                let text = "block differs from what is known of it";
                self.findings.push(at(seen, Class::Altered, text));
            }
        }
    }

    /// What is left when the segments have been read.
    fn rest(&mut self, present: &[u32], receipts: &mut Receipts<'_>, whole: bool) {
        let mut reach: Option<Statement> = None;
        while receipts.peek(&mut self.findings).is_some() {
            reach = receipts.take().or(reach);
            if let Some(said) = reach.as_ref().filter(|said| said.kind == Kind::Closing) {
                self.closing = Some(said.clone());
            }
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
        let nothing = Durable::nothing(said.session);
        if said.link != block::hex(&nothing.link) || said.seq != 0 || said.segment != 0 {
            self.find(self.fault(Class::Altered, "closing receipt contradicts itself"));
        }
        if self
            .options
            .session
            .is_some_and(|session| session != said.session)
        {
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
            } else if self.tally.coverage.is_none() {
                let text = "recording ends without a statement of what it covers";
                self.find(self.fault(Class::Coverage, text));
            }
        }
        self.coverage(&closing);
    }

    fn coverage(&mut self, closing: &Statement) {
        let tally = std::mem::take(&mut self.tally);
        if tally.gaps > 0 {
            self.notes.push(format!(
                "{} gaps, {} bytes missing",
                tally.gaps, tally.gap_bytes
            ));
        }
        let Some(coverage) = tally.coverage else {
            return;
        };
        if (coverage.channels, coverage.bytes_recorded) != (tally.channels, tally.recorded) {
            let text = format!(
                "author counts {} channels and {} recorded bytes, the events have {} and {}",
                coverage.channels, coverage.bytes_recorded, tally.channels, tally.recorded
            );
            self.find(self.fault(Class::Coverage, text));
        }
        for (who, witness, claim) in [
            ("client", closing.client_bytes, coverage.client_to_agent),
            ("agent", closing.agent_bytes, coverage.agent_to_client),
        ] {
            let witness = witness.unwrap_or(claim);
            if witness.saturating_sub(claim) > UNCOUNTED_TAIL {
                self.notes.push(format!(
                    "the gateway relayed {witness} bytes from the {who}, the author counts {claim}"
                ));
            }
        }
    }

    fn report(mut self) -> Report {
        self.findings.truncate(MOST_FINDINGS);
        let known = self.chain.as_ref().filter(|chain| !chain.stream.is_nil());
        let journal = matches!(self.author, Author::Gateway(_));
        let outcome = match &self.closing {
            Some(closing) => closing.outcome,
            None if journal && self.ended() => Some(Outcome::Complete),
            None => None,
        };
        Report {
            ok: self.findings.is_empty(),
            session: known.map(|chain| chain.stream),
            blocks: known.map_or(0, |chain| chain.seq),
            bytes: known.map_or(0, |chain| chain.offset),
            outcome,
            findings: self.findings,
            notes: self.notes,
        }
    }
}

fn at(seen: &BlockSeen, class: Class, text: impl Into<String>) -> Fault {
    let place = Place {
        segment: seen.segment,
        seq: seen.seq,
        offset: seen.offset,
    };
    Fault::new(class, place, text)
}

/// Where a receipt says something else than the block that it is for.
fn contradiction(said: &Statement, seen: &BlockSeen, stream: Uuid) -> Option<String> {
    let end = Durable::from(seen);
    let what = if said.session != stream {
        "another session"
    } else if said.seq != end.seq {
        "a block that has passed"
    } else if said.segment != end.segment {
        "another segment"
    } else if said.offset != end.offset {
        "another offset"
    } else if said.link != block::hex(&end.link) {
        "another link"
    } else {
        return None;
    };
    Some(format!(
        "the gateway's receipt for block {} attests {what}",
        said.seq
    ))
}

/// Indices of the segment files, in order.
fn segments(dir: &Path) -> std::io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let index = name.to_str().and_then(|name| {
            name.strip_prefix("segment-")?
                .strip_suffix(".dwr")?
                .parse()
                .ok()
        });
        if let Some(index) = index
            && name.to_str() == Some(&segment_name(index))
        {
            found.push(index);
        }
    }
    found.sort_unstable();
    Ok(found)
}
