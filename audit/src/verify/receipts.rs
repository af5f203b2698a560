//! Receipts in the order of their file, each read when the chain has come so far: however long
//! the file is, one receipt is held.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use ssh_key::PublicKey;

use super::JudgeGateway;
use crate::{
    fault::{Class, Fault, Place},
    index::Outcome,
    open::{open_regular, unreadable},
    receipt::{self, Kind, MAX_RECEIPT, RECEIPTS_NAME, Receipt, Statement},
};

pub(super) struct Receipts<'a> {
    file: Option<BufReader<File>>,
    judge: &'a JudgeGateway,
    /// The key of the certificate that was judged last.
    judged: Option<(String, PublicKey)>,
    line: u64,
    next: Option<Receipt>,
    last: Place,
    closed: bool,
    /// SHA-256 of those that must be there and have not come yet.
    wanted: HashSet<[u8; 32]>,
}

impl<'a> Receipts<'a> {
    /// Opens the sidecar file; that there is none is no fault here.
    pub(super) fn open(dir: &Path, judge: &'a JudgeGateway, wanted: &[[u8; 32]]) -> (Self, Option<Fault>) {
        let (file, fault) = match open_regular(&dir.join(RECEIPTS_NAME)) {
            Ok(file) => (Some(BufReader::new(file)), None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => {
                let text = format!("{RECEIPTS_NAME}: {}", unreadable(&error));
                (None, Some(Fault::new(Class::Unreadable, Place::default(), text)))
            }
        };
        let receipts = Self {
            file,
            judge,
            judged: None,
            line: 0,
            next: None,
            last: Place::default(),
            closed: false,
            wanted: wanted.iter().copied().collect(),
        };
        (receipts, fault)
    }

    /// The next receipt without taking it. Faults of lines that cannot be used are pushed to
    /// `faults`, and reading ends at a line that cannot be read.
    pub(super) fn peek(&mut self, faults: &mut Vec<Fault>) -> Option<&Statement> {
        if self.next.is_none() {
            self.next = self.read().unwrap_or_else(|fault| {
                faults.push(fault);
                self.file = None;
                None
            });
            if let Some(receipt) = self.next.take() {
                faults.extend(self.judged(&receipt).err());
                self.next = Some(receipt);
            }
        }
        self.next.as_ref().map(Receipt::statement)
    }

    /// How many that must be there did not come.
    pub(super) fn missing(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn take(&mut self) -> Option<Statement> {
        self.next.take().map(|receipt| receipt.statement().clone())
    }

    fn fault(&self, class: Class, text: &str) -> Fault {
        Fault::new(class, self.last, format!("receipt {}: {text}", self.line))
    }

    fn read(&mut self) -> Result<Option<Receipt>, Fault> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let mut line = Vec::new();
        let read = file.take(MAX_RECEIPT as u64 + 1).read_until(b'\n', &mut line);
        self.line += 1;
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                return Err(self.fault(Class::Unreadable, &error.kind().to_string()));
            }
        }
        if line.last() != Some(&b'\n') {
            let long = line.len() > MAX_RECEIPT;
            let class = if long { Class::Malformed } else { Class::Truncated };
            return Err(self.fault(class, "line has no end"));
        }
        if !self.wanted.is_empty() {
            let hash: [u8; 32] = Sha256::digest(&line[..line.len() - 1]).into();
            self.wanted.remove(&hash);
        }
        let receipt = std::str::from_utf8(&line)
            .map_err(|_| "receipt is malformed: not text".to_owned())
            .and_then(|line| receipt::parse(line).map_err(|error| error.to_string()))
            .map_err(|text| self.fault(Class::Malformed, &text))?;
        let said = receipt.statement();
        let place = Place {
            segment: said.segment,
            seq: said.seq,
            offset: said.offset,
        };
        let in_order = match said.kind {
            _ if self.line == 1 => true,
            Kind::Head => place.seq > self.last.seq,
            Kind::Closing => place.seq >= self.last.seq,
        };
        if self.closed || !in_order {
            return Err(self.fault(Class::Spliced, "it is out of order"));
        }
        // What comes late from an agent that was lost is stored and closed again.
        self.closed = said.outcome == Some(Outcome::Complete);
        self.last = place;
        Ok(Some(receipt))
    }

    fn judged(&mut self, receipt: &Receipt) -> Result<(), Fault> {
        let said = receipt.statement();
        let known = self.judged.take().filter(|(text, _)| *text == said.gateway_certificate);
        let key = match known {
            Some((_, key)) => key,
            None => {
                (self.judge)(&said.gateway_certificate, said.at).map_err(|why| self.fault(Class::UntrustedKey, &why))?
            }
        };
        let good = receipt.verify(&key);
        self.judged = Some((said.gateway_certificate.clone(), key));
        if !good {
            return Err(self.fault(Class::BadSignature, "its signature does not fit"));
        }
        Ok(())
    }
}
