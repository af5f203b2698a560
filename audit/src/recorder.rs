//! The writer of a recording: events in, blocks out. It does no I/O and knows no clock.
//!
//! What comes out of [`Recorder`], in order and without a byte missing, is the stream. The
//! recorder keeps no copy of it.

use bytes::Bytes;
use minicbor::CborLen;
use ssh_key::SshSig;
use uuid::Uuid;

use crate::{
    block::{
        BlockKind, Codec, HEADER_LEN, Header, MAX_RAW, SEGMENT_TARGET, START_LEN, Start, first_link, next_link, tag,
    },
    cbor,
    chain::ChainCheck,
    event::{Event, Stamped},
    fault::Error,
    head::{Head, HeadStatement},
    pack::{self, Frame, Payoff},
    session::{Gap, Input, Output},
};

/// What an event of a stream costs beside its bytes, at most.
const EVENT_OVERHEAD: usize = 48;
/// Longest value that is kept when an event would not fit a block.
const CUT: usize = MAX_RAW / 2;

/// Writes one stream.
#[derive(Debug)]
pub struct Recorder {
    stream: Uuid,
    link: [u8; 32],
    seq: u64,
    segment: u32,
    /// Whether the segment has its first block.
    open: bool,
    segment_bytes: u64,
    offset: u64,
    payoff: Payoff,
    /// Whether blocks are packed into frames that go on through a segment.
    framed: bool,
    frame: Option<Box<Frame>>,
}

impl Recorder {
    /// A new stream. For a session the id is the session's. What a block repeats of those before it in the segment costs
    /// next to nothing; for that it holds a third of a mebibyte while it writes ([`Recorder::rest`]).
    pub fn new(stream: Uuid) -> Self {
        Self {
            framed: true,
            ..Self::alone(stream)
        }
    }

    /// A new stream in which each block can be read without those before it, and which readers of before there were frames
    /// understand. It holds no memory between two blocks.
    pub fn alone(stream: Uuid) -> Self {
        Self {
            stream,
            link: first_link(stream),
            seq: 0,
            segment: 0,
            open: false,
            segment_bytes: 0,
            offset: 0,
            payoff: Payoff::default(),
            framed: false,
            frame: None,
        }
    }

    /// Goes on with a stream that `check` has read to its end; nothing, if it stands inside a
    /// block or after the last head.
    pub fn resume(check: &ChainCheck) -> Option<Self> {
        let state = check.at_rest()?;
        Some(Self {
            stream: state.stream,
            link: state.link,
            seq: state.seq,
            segment: state.segment,
            open: state.open,
            segment_bytes: state.offset - state.segment_offset,
            offset: state.offset,
            payoff: Payoff::default(),
            framed: true,
            frame: None,
        })
    }

    /// Encodes events into one or more complete blocks. An event that is larger than a block is
    /// split if it carries a stream's bytes; any other is cut, and a [`Gap`] says so.
    ///
    /// After the last head nothing may follow: a reader refuses what is appended then.
    pub fn append(&mut self, events: &[Stamped]) -> Bytes {
        if events.is_empty() {
            return Bytes::new();
        }
        let total: usize = events.iter().map(|event| event.cbor_len(&mut ())).sum();
        let mut out = Vec::new();
        if total <= MAX_RAW {
            self.block(events, total, &mut out);
        } else {
            self.blocks(&fitting(events), &mut out);
        }
        out.into()
    }

    fn blocks(&mut self, events: &[Stamped], out: &mut Vec<u8>) {
        let (mut from, mut total) = (0, 0);
        for (at, event) in events.iter().enumerate() {
            let len = event.cbor_len(&mut ());
            if total + len > MAX_RAW {
                self.block(&events[from..at], total, out);
                (from, total) = (at, 0);
            }
            total += len;
        }
        self.block(&events[from..], total, out);
    }

    /// Whether the segment has grown so far that it should get its head.
    pub fn head_due(&self) -> bool {
        self.segment_bytes >= SEGMENT_TARGET
    }

    /// Ends the segment with a head that `sign` signs as SSHSIG in the namespace
    /// [`HEAD_NAMESPACE`](crate::HEAD_NAMESPACE); `unix_ms` is the wall clock. The next append
    /// begins a new segment, unless this is the `last` head of the stream.
    ///
    /// # Errors
    /// If the key does not sign, or signs for another namespace. The stream is as it was then.
    pub fn head(
        &mut self,
        unix_ms: u64,
        last: bool,
        sign: impl FnOnce(&[u8]) -> Result<SshSig, ssh_key::Error>,
    ) -> Result<Bytes, Error> {
        let mut out = Vec::with_capacity(1024);
        self.start(&mut out);
        let statement = HeadStatement {
            unix_ms,
            last,
            ..HeadStatement::new(self.stream, self.segment, self.seq, self.offset, self.link)
        };
        match Head::seal(&statement, sign) {
            Ok(payload) => {
                self.put(BlockKind::Head, Codec::Raw, payload.len(), &payload, &mut out);
                self.segment = self.segment.wrapping_add(1);
                if let Some(frame) = &mut self.frame {
                    frame.end();
                }
                self.open = false;
                self.segment_bytes = 0;
                Ok(out.into())
            }
            Err(error) => {
                self.unstart(&out);
                Err(error)
            }
        }
    }

    /// Gives back the memory that is held for packing. What comes next is packed without regard to what was before.
    pub fn rest(&mut self) {
        self.frame = None;
    }

    /// Memory that is held for packing, in bytes; 0 after a rest.
    pub fn memory(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.memory())
    }

    /// Bytes produced so far: the offset of the next block.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the present segment.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The stream's id.
    pub fn stream(&self) -> Uuid {
        self.stream
    }

    /// The link after everything produced so far.
    pub fn link(&self) -> [u8; 32] {
        self.link
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if !self.open {
            let start = Start {
                stream: self.stream,
                segment: self.segment,
                link: self.link,
            };
            self.put(BlockKind::Start, Codec::Raw, START_LEN, &start.encode(), out);
            self.open = true;
        }
    }

    /// Takes a start back that was not handed out.
    fn unstart(&mut self, out: &[u8]) {
        if let Some(payload) = out.get(HEADER_LEN..)
            && let Ok(start) = Start::parse(payload)
        {
            self.link = start.link;
            self.seq -= 1;
            self.offset -= out.len() as u64;
            self.segment_bytes -= out.len() as u64;
            self.open = false;
        }
    }

    fn block(&mut self, events: &[Stamped], raw_len: usize, out: &mut Vec<u8>) {
        if events.is_empty() {
            return;
        }
        let start = if self.open { 0 } else { HEADER_LEN + START_LEN };
        let mut payoff = std::mem::take(&mut self.payoff);
        if payoff.worth_a_try(raw_len) {
            let mut frame = self.frame_for(events);
            let fill = |raw: &mut Vec<u8>| encode(events, raw);
            pack::pack(&mut payoff, frame.as_deref_mut(), raw_len, fill, |stored, codec| {
                out.reserve_exact(start + HEADER_LEN + stored.len());
                self.start(out);
                self.put(BlockKind::Events, codec, raw_len, stored, out);
            });
            self.frame = frame.or(self.frame.take());
        } else {
            out.reserve_exact(start + HEADER_LEN + raw_len);
            self.start(out);
            let at = out.len();
            out.resize(at + HEADER_LEN, 0);
            encode(events, out);
            self.finish(BlockKind::Events, Codec::Raw, raw_len, at, out);
        }
        self.payoff = payoff;
    }

    /// The frame that these are packed into. It begins where something is shown: sessions that are open and silent hold no
    /// memory for one. What sums the recording up is read without the blocks before it ([`coverage_in`](crate::coverage_in)).
    fn frame_for(&mut self, events: &[Stamped]) -> Option<Box<Frame>> {
        let sum = |stamped: &Stamped| matches!(stamped.event, Event::Coverage(_));
        let content = |stamped: &Stamped| matches!(stamped.event, Event::Output(_) | Event::Input(_));
        let begins = self.frame.is_some() || events.iter().any(content);
        if !self.framed || !begins || events.iter().any(sum) {
            return None;
        }
        self.frame.take().or_else(|| Frame::new().map(Box::new))
    }

    fn put(&mut self, kind: BlockKind, codec: Codec, raw_len: usize, stored: &[u8], out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + HEADER_LEN, 0);
        out.extend_from_slice(stored);
        self.finish(kind, codec, raw_len, at, out);
    }

    /// Writes the header of the block whose stored bytes end `out`, and moves the chain on.
    fn finish(&mut self, kind: BlockKind, codec: Codec, raw_len: usize, at: usize, out: &mut [u8]) {
        let (head, stored) = out[at..].split_at_mut(HEADER_LEN);
        let header = Header {
            kind,
            codec,
            seq: self.seq,
            raw_len: raw_len as u32,
            stored_len: stored.len() as u32,
            tag: [0; 8],
        };
        let hashed = header.hashed();
        self.link = next_link(&self.link, &hashed, stored);
        head[..hashed.len()].copy_from_slice(&hashed);
        head[hashed.len()..].copy_from_slice(&tag(&self.link));
        self.seq += 1;
        self.offset += (HEADER_LEN + stored.len()) as u64;
        self.segment_bytes += (HEADER_LEN + stored.len()) as u64;
    }
}

fn encode(events: &[Stamped], out: &mut Vec<u8>) {
    for event in events {
        cbor::put(event, out);
    }
}

/// The same events, each small enough for a block.
fn fitting(events: &[Stamped]) -> Vec<Stamped> {
    let mut out = Vec::with_capacity(events.len() + 8);
    for stamped in events {
        let at = stamped.at;
        if stamped.cbor_len(&mut ()) <= MAX_RAW {
            out.push(stamped.clone());
            continue;
        }
        match &stamped.event {
            Event::Output(output) => out.extend(pieces(&output.bytes).map(|bytes| {
                Stamped::new(
                    at,
                    Output {
                        bytes,
                        ..output.clone()
                    },
                )
            })),
            Event::Input(input) => {
                out.extend(pieces(&input.bytes).map(|bytes| Stamped::new(at, Input { bytes, ..input.clone() })))
            }
            other => cut(at, other, &mut out),
        }
    }
    out
}

fn pieces(bytes: &Bytes) -> impl Iterator<Item = Bytes> {
    const PIECE: usize = MAX_RAW - EVENT_OVERHEAD;
    (0..bytes.len())
        .step_by(PIECE)
        .map(|at| bytes.slice(at..bytes.len().min(at + PIECE)))
}

/// Keeps the beginning of a value that no honest client sends, and says what is missing.
fn cut(at: u64, event: &Event, out: &mut Vec<Stamped>) {
    let mut stamped = Stamped {
        at,
        event: event.clone(),
    };
    let before = stamped.cbor_len(&mut ());
    let value = match &mut stamped.event {
        Event::Exec(exec) => Some((exec.channel, &mut exec.command)),
        Event::Env(env) => Some((env.channel, &mut env.value)),
        Event::Pty(pty) => Some((pty.channel, &mut pty.term)),
        _ => None,
    };
    let channel = value.map(|(channel, bytes)| {
        bytes.truncate(CUT);
        channel
    });
    let after = stamped.cbor_len(&mut ());
    let why = format!("{} is larger than a block", stamped.event.name());
    if after <= MAX_RAW {
        out.push(stamped);
        out.push(Stamped::new(
            at,
            Gap {
                channel,
                bytes: (before - after) as u64,
                why,
                ..Gap::default()
            },
        ));
    } else {
        out.push(Stamped::new(
            at,
            Gap {
                channel: None,
                bytes: before as u64,
                why,
                ..Gap::default()
            },
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Shell;

    fn stream() -> Uuid {
        Uuid::from_u128(1)
    }

    fn shell() -> Stamped {
        Stamped::new(0, Shell { channel: 0 })
    }

    fn shown(bytes: Vec<u8>) -> Stamped {
        Stamped::new(
            0,
            Output {
                bytes: bytes.into(),
                ..Output::default()
            },
        )
    }

    fn noise(seed: u64, len: u64) -> Vec<u8> {
        (0..len)
            .map(|n| ((seed + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect()
    }

    #[test]
    fn an_idle_recorder_is_small() {
        // It has one field that owns memory elsewhere: a new one must be looked at here.
        let Recorder {
            stream: _,
            link: _,
            seq: _,
            segment: _,
            open: _,
            segment_bytes: _,
            offset: _,
            payoff: _,
            framed: _,
            frame,
        } = Recorder::new(stream());
        assert!(size_of::<Recorder>() < 256);
        assert!(frame.is_none());
    }

    #[test]
    fn what_packing_holds_is_bounded_and_given_back() {
        let mut recorder = Recorder::new(stream());
        // What opens a session may be long, and is no reason to hold anything.
        let terms = vec![("recording@doorward".to_owned(), "input=no".repeat(100))];
        let opened = crate::Opened {
            terms,
            ..crate::Opened::default()
        };
        recorder.append(&[Stamped::new(0, opened)]);
        assert_eq!(recorder.memory(), 0);
        for len in [10, 100_000, 1_000_000] {
            recorder.append(&[shown(vec![b'x'; len])]);
            let held = recorder.memory();
            // A key that is echoed needs nothing; the document says how much the rest needs.
            assert_eq!(held > 0, len > 10, "{held} bytes");
            assert!(held < 384 * 1024, "{held} bytes");
        }
        recorder.rest();
        assert_eq!(recorder.memory(), 0);
        let mut alone = Recorder::alone(stream());
        alone.append(&[shown(vec![b'x'; 100_000])]);
        assert_eq!(alone.memory(), 0);
    }

    #[test]
    fn what_sums_up_is_found_without_the_blocks_before_it() {
        let mut recorder = Recorder::new(stream());
        let mut segment = recorder.append(&[shown(b"text ".repeat(1000))]).to_vec();
        let coverage = crate::Coverage {
            channels: 7,
            not_captured: Some(vec!["terminals ".repeat(100)]),
            ..crate::Coverage::default()
        };
        segment.extend_from_slice(&recorder.append(&[Stamped::new(1, coverage.clone())]));
        segment.extend_from_slice(&recorder.append(&[shown(b"text ".repeat(1000))]));
        assert_eq!(crate::coverage_in(&segment), Some(coverage));
    }

    #[test]
    fn what_is_handed_out_holds_no_more_than_its_length() {
        let mut recorder = Recorder::new(stream());
        for len in [1, 1000, 100_000] {
            for bytes in [vec![b'x'; len as usize], noise(0, len)] {
                let out = recorder.append(&[shown(bytes)]);
                let held = Vec::from(out);
                assert!(held.capacity() <= held.len() + 64, "{} {}", held.capacity(), held.len());
            }
        }
    }

    #[test]
    fn nothing_makes_no_block() {
        let mut recorder = Recorder::new(stream());
        assert!(recorder.append(&[]).is_empty());
        assert_eq!(recorder.offset(), 0);
    }

    #[test]
    fn a_key_that_does_not_sign_leaves_the_stream_as_it_was() {
        let mut recorder = Recorder::new(stream());
        let mut check = ChainCheck::new(stream());
        let fail = |_: &[u8]| Err(ssh_key::Error::Crypto);
        assert!(recorder.head(0, false, fail).is_err());
        assert_eq!((recorder.offset(), recorder.link()), (0, first_link(stream())));
        check.push(&recorder.append(&[shell()]), &mut |_| {}).unwrap();
        assert!(recorder.head(0, false, fail).is_err());
        check.push(&recorder.append(&[shell()]), &mut |_| {}).unwrap();
        assert_eq!(check.link(), recorder.link());
    }

    #[test]
    fn a_segment_is_due_at_its_size() {
        let mut recorder = Recorder::new(stream());
        while !recorder.head_due() {
            assert!(recorder.offset() < SEGMENT_TARGET);
            recorder.append(&[shown(noise(recorder.offset(), 60_000))]);
        }
        assert!(recorder.segment_bytes() < SEGMENT_TARGET + 61_000);
    }
}
