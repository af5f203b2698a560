//! One pass over a recording: segments, blocks, heads, receipts and events, in step.

use std::{fs, io::BufReader, path::Path};

use ssh_key::PublicKey;
use uuid::Uuid;

use super::{Options, Report, Trust, receipts::Receipts, tally::Tally};
use crate::{
    block::{self, BlockKind, segment_name},
    chain::{BlockSeen, Chain},
    event::{Event, Stamped},
    fault::{Class, Fault, Place},
    head::Head,
    open::{open_regular, unreadable},
    pack::Unpacker,
    read::{Block, next_block},
    receipt::{Durable, Kind, Statement},
};

pub(super) const MOST_FINDINGS: usize = 64;

/// Who signs the heads.
pub(super) enum Author {
    /// Nobody has said so yet.
    Nobody,
    /// The agent whose certificate opens the recording; nothing, if it is not trusted.
    Agent(Option<PublicKey>),
    /// A gateway writes its journal; its certificate is judged at the time of each head.
    Gateway(Option<String>),
}

pub(super) struct Walk<'a> {
    trust: &'a Trust,
    pub(super) options: &'a Options,
    pub(super) chain: Option<Chain>,
    unpacker: Unpacker,
    pub(super) author: Author,
    pub(super) tally: Tally,
    pub(super) findings: Vec<Fault>,
    pub(super) notes: Vec<String>,
    pub(super) closing: Option<Statement>,
    /// The first head for which there is no receipt.
    unreceipted: Option<Place>,
    /// The first block after the last closing receipt so far.
    pub(super) after_closing: Option<Place>,
    pub(super) any_event: bool,
    pub(super) anchored: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(trust: &'a Trust, options: &'a Options) -> Self {
        Self {
            trust,
            options,
            chain: options.session.map(Chain::new),
            unpacker: Unpacker::default(),
            author: Author::Nobody,
            tally: Tally::default(),
            findings: Vec::new(),
            notes: Vec::new(),
            closing: None,
            unreceipted: None,
            after_closing: None,
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
        let (mut receipts, fault) = Receipts::open(dir, &self.trust.gateway_key, &self.options.receipts);
        self.findings.extend(fault);
        let whole = self.segments(dir, &present, &mut receipts);
        self.rest(&present, &mut receipts, whole);
        self.report()
    }

    pub(super) fn find(&mut self, fault: Fault) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(fault);
        }
    }

    pub(super) fn place(&self) -> Place {
        self.chain.as_ref().map(Chain::place).unwrap_or_default()
    }

    pub(super) fn fault(&self, class: Class, text: impl Into<String>) -> Fault {
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
            if !final_one && self.chain.as_ref().is_none_or(|chain| chain.segment == index) {
                self.find(self.fault(Class::Truncated, "segment ends without its head"));
                return false;
            }
        }
        true
    }

    /// Whether the recording is open and may stand in the middle of a block.
    fn may_grow(&mut self, receipts: &mut Receipts<'_>) -> bool {
        self.options.allow_open && self.closing.is_none() && receipts.peek(&mut self.findings).is_none()
    }

    fn segment(&mut self, dir: &Path, segment: u32, receipts: &mut Receipts<'_>) -> Result<(), Fault> {
        let file = open_regular(&dir.join(segment_name(segment)))
            .map_err(|error| self.fault(Class::Unreadable, unreadable(&error)))?;
        let mut file = BufReader::with_capacity(64 * 1024, file);
        while let Some(block) = next_block(&mut self.chain, &mut self.unpacker, &mut file)? {
            let seen = &block.seen;
            if seen.segment != segment {
                let place = Place {
                    segment,
                    ..place_of(seen)
                };
                return Err(Fault::new(Class::Spliced, place, "blocks after the segment's head"));
            }
            if self.closing.is_some() {
                self.after_closing.get_or_insert(place_of(seen));
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
                    self.find(at(seen, Class::UntrustedKey, format!("host certificate: {why}")));
                }
                self.author = Author::Agent(key.ok());
            }
            Event::GatewayStarted(started) if first || matches!(self.author, Author::Gateway(_)) => {
                self.author = Author::Gateway(started.certificate);
            }
            _ if first => {
                self.find(at(seen, Class::Malformed, "recording does not begin with its opening"));
            }
            Event::Opened(_) => {
                self.find(at(seen, Class::Malformed, "recording is opened twice"));
            }
            other => self.tally.add(other),
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
            self.find(at(seen, Class::BadSignature, "head is not signed by the author's key"));
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
            let stream = self.chain.as_ref().map(|chain| chain.stream).unwrap_or_default();
            if let Some(text) = contradiction(&said, seen, stream) {
                self.find(at(seen, Class::Altered, text));
            }
            match said.kind {
                Kind::Head if seen.kind == BlockKind::Head => receipted = true,
                Kind::Head => {
                    self.find(at(seen, Class::Altered, "receipt is for a head, this is none"));
                }
                Kind::Closing => {
                    if !receipted {
                        let text = "there is no receipt for this head, but a closing one";
                        self.find(at(seen, Class::RolledBack, text));
                        receipted = true;
                    }
                    self.after_closing = attests_nothing(&said).then(|| place_of(seen));
                    self.closing = Some(said);
                }
            }
        }
        if !receipted && self.unreceipted.is_none() {
            self.unreceipted = Some(place_of(seen));
        }
    }

    fn anchors(&mut self, seen: &BlockSeen) {
        for anchor in self.options.anchors.iter().filter(|anchor| anchor.seq == seen.seq) {
            self.anchored += 1;
            if anchor.link != seen.link {
                let text = "block differs from what is known of it";
                self.findings.push(at(seen, Class::Altered, text));
            }
        }
    }
}

fn at(seen: &BlockSeen, class: Class, text: impl Into<String>) -> Fault {
    Fault::new(class, place_of(seen), text)
}

fn place_of(seen: &BlockSeen) -> Place {
    Place {
        segment: seen.segment,
        seq: seen.seq,
        offset: seen.offset,
    }
}

/// Whether it is the closing receipt of a session that ended before its first block came.
pub(super) fn attests_nothing(said: &Statement) -> bool {
    said.kind == Kind::Closing
        && (said.segment, said.seq, said.offset) == (0, 0, 0)
        && said.link == block::hex(&block::first_link(said.session))
}

/// Where a receipt says something else than the block that it is for.
fn contradiction(said: &Statement, seen: &BlockSeen, stream: Uuid) -> Option<String> {
    let end = Durable::from(seen);
    let what = if said.session != stream {
        "another session"
    } else if attests_nothing(said) && seen.seq == 0 {
        return None;
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
    Some(format!("the gateway's receipt for block {} attests {what}", said.seq))
}

/// Indices of the segment files, in order.
fn segments(dir: &Path) -> std::io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let index = name
            .to_str()
            .and_then(|name| name.strip_prefix("segment-")?.strip_suffix(".dwr")?.parse().ok());
        if let Some(index) = index
            && name.to_str() == Some(&segment_name(index))
        {
            found.push(index);
        }
    }
    found.sort_unstable();
    Ok(found)
}
