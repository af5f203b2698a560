//! What the serving process tells the agent: answers for the client, and before each of them what is to be recorded.
//!
//! Both come in one stream, so their order is known. A report is a packet of a type that the protocol does not have.

use bytes::{Bytes, BytesMut};
use doorward_audit::{Event, Stamped};

use super::wire::{LONGEST, Writer};

/// A part of what the serving process wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes for the client, perhaps in the middle of a packet.
    Answers(Bytes),
    /// To be recorded before whatever follows.
    Report(Event),
}

/// The serving process broke the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sftp server said something that is neither an answer nor a report")]
pub(crate) struct Broken;

/// Takes reports and answers apart.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// What has not been taken.
    pub(crate) buffer: BytesMut,
    /// Bytes of the answer that has begun.
    rest: usize,
}

/// Appends an event that the agent is to record.
pub(crate) fn report(to: &mut Writer, event: impl Into<Event>) {
    to.packet(REPORT, |packet| {
        let done = minicbor::encode(Stamped::new(0, event), &mut packet.0);
        // A `Vec` takes everything.
        debug_assert!(done.is_ok());
    });
}

impl Splitter {
    /// The next piece that is whole: as many answers as there are, up to the next report.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, Broken> {
        let mut answers = 0;
        while answers < self.buffer.len() {
            if self.rest > 0 {
                let passed = self.rest.min(self.buffer.len() - answers);
                self.rest -= passed;
                answers += passed;
                continue;
            }
            let Some(([a, b, c, d, kind], _)) = self.buffer.get(answers..).and_then(<[u8]>::split_first_chunk) else {
                break;
            };
            let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).map_err(|_| Broken)?;
            if !(1..=LONGEST + SLACK).contains(&length) {
                return Err(Broken);
            }
            if *kind != REPORT {
                self.rest = 4 + length;
            } else if answers > 0 {
                break;
            } else if self.buffer.len() < 4 + length {
                return Ok(None);
            } else {
                let packet = self.buffer.split_to(4 + length);
                let event: Stamped = minicbor::decode(packet.get(5..).unwrap_or_default()).map_err(|_| Broken)?;
                return Ok(Some(Piece::Report(event.event)));
            }
        }
        Ok((answers > 0).then(|| Piece::Answers(self.buffer.split_to(answers).freeze())))
    }

    /// Whether everything was taken, and nothing stopped in the middle.
    pub(crate) fn is_whole(&self) -> bool {
        self.buffer.is_empty() && self.rest == 0
    }
}

/// The type of a report.
const REPORT: u8 = 255;
/// What an answer may be longer than a request.
const SLACK: usize = 1024;

#[cfg(test)]
mod tests {
    use doorward_audit::FolderListed;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn listed(names: u64) -> Event {
        FolderListed {
            channel: 0,
            path: Bytes::from_static(b"a\xff"),
            names,
        }
        .into()
    }

    proptest! {
        /// However the bytes arrive: the answers' bytes in order, and each report before what was written after it.
        #[test]
        fn reports_and_answers_come_apart_in_order(
            packets in vec((any::<bool>(), 0u64..300), 0..20),
            pieces in vec(1usize..70, 1..40),
        ) {
            let mut written = Writer::default();
            let mut expected = Vec::new();
            for (is_report, number) in &packets {
                if *is_report {
                    report(&mut written, listed(*number));
                    expected.push(Piece::Report(listed(*number)));
                } else {
                    let at = written.0.len();
                    let fill = vec![7; usize::try_from(*number).unwrap()];
                    written.packet(103, |packet| packet.0.extend_from_slice(&fill));
                    expected.push(Piece::Answers(Bytes::copy_from_slice(&written.0[at..])));
                }
            }
            let mut splitter = Splitter::default();
            let mut got: Vec<Piece> = Vec::new();
            let mut rest = written.0.as_slice();
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*piece));
                rest = later;
                splitter.buffer.extend_from_slice(now);
                while let Some(piece) = splitter.next().unwrap() {
                    got.push(piece);
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(splitter.is_whole());
            let joined = |pieces: Vec<Piece>| {
                let mut joined = Vec::new();
                for piece in pieces {
                    match (joined.last_mut(), piece) {
                        (Some(Err(bytes)), Piece::Answers(more)) => Vec::extend_from_slice(bytes, &more),
                        (_, Piece::Answers(more)) => joined.push(Err(more.to_vec())),
                        (_, Piece::Report(event)) => joined.push(Ok(event)),
                    }
                }
                joined
            };
            prop_assert_eq!(joined(got), joined(expected));
        }

        #[test]
        fn any_bytes_are_answers_or_an_error(bytes in vec(any::<u8>(), 0..2000)) {
            let mut splitter = Splitter::default();
            splitter.buffer.extend_from_slice(&bytes);
            while let Ok(Some(_)) = splitter.next() {}
        }
    }

    #[test]
    fn a_length_beyond_all_bounds_is_an_error() {
        let mut splitter = Splitter::default();
        splitter.buffer.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 101]);
        assert_eq!(splitter.next(), Err(Broken));
    }
}
