//! A pair of ends in virtual order, with the gateway's part between them, cut at any byte.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::frame::FrameDecoder;

/// The n-th byte of each direction's stream: recognisable at any offset.
fn byte(direction: u8, offset: u64) -> u8 {
    (offset.wrapping_mul(31).wrapping_add(offset >> 8) as u8) ^ direction
}

fn stretch(direction: u8, from: u64, count: usize) -> Vec<u8> {
    (from..from + count as u64)
        .map(|offset| byte(direction, offset))
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// The agent records and then writes so many bytes.
    AgentWrites(usize),
    ClientWrites(usize),
    AgentReads(usize),
    ClientReads(usize),
    /// Frames of at least so many bytes go onto the wire.
    AgentSends(usize),
    ClientSends(usize),
    /// So many bytes arrive at the gateway (and what it passes on, at the client).
    AgentsArrive(usize),
    ClientsArrive(usize),
    /// What the gateway has stored becomes durable.
    Commit,
    AgentAcks,
    ClientAcks,
    /// Everything under way is lost; both ends go on over a new stream.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let few = 1_usize..200;
    prop_oneof![
        3 => few.clone().prop_map(Step::AgentWrites),
        2 => few.clone().prop_map(Step::ClientWrites),
        2 => few.clone().prop_map(Step::AgentReads),
        2 => few.clone().prop_map(Step::ClientReads),
        3 => few.clone().prop_map(Step::AgentSends),
        3 => few.clone().prop_map(Step::ClientSends),
        5 => few.clone().prop_map(Step::AgentsArrive),
        5 => few.prop_map(Step::ClientsArrive),
        1 => Just(Step::Commit),
        1 => Just(Step::AgentAcks),
        1 => Just(Step::ClientAcks),
        1 => Just(Step::Cut),
    ]
}

struct Pair {
    agent: Endpoint,
    client: Endpoint,
    from_agent: VecDeque<u8>,
    from_client: VecDeque<u8>,
    at_gateway: FrameDecoder,
    at_agent: FrameDecoder,
    store: Vec<u8>,
    written: [u64; 2],
    read: [u64; 2],
    window: u64,
}

/// A record says, in 8 bytes, up to which offset the bytes that follow it may go.
const RECORD: usize = 8;

impl Pair {
    fn new(window: usize) -> Self {
        let limits = Limits {
            window,
            ..Limits::default()
        };
        Self {
            agent: Endpoint::new(Role::Agent, &limits),
            client: Endpoint::new(Role::Client, &limits),
            from_agent: VecDeque::new(),
            from_client: VecDeque::new(),
            at_gateway: FrameDecoder::new(),
            at_agent: FrameDecoder::new(),
            store: Vec::new(),
            written: [0; 2],
            read: [0; 2],
            window: window as u64,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::AgentWrites(count) => {
                let next = self.written[0] + count as u64;
                self.agent.record(Bytes::copy_from_slice(&next.to_be_bytes())).unwrap();
                self.written[0] += self.agent.write(&stretch(0, self.written[0], count)).unwrap() as u64;
            }
            Step::ClientWrites(count) => {
                self.written[1] += self.client.write(&stretch(1, self.written[1], count)).unwrap() as u64;
            }
            Step::AgentReads(count) => {
                let bytes = self.agent.read_chunk(count).unwrap_or_default();
                assert_eq!(bytes, stretch(1, self.read[1], bytes.len()));
                self.read[1] += bytes.len() as u64;
            }
            Step::ClientReads(count) => {
                let mut to = vec![0; count];
                let count = self.client.read(&mut to);
                assert_eq!(&to[..count], stretch(0, self.read[0], count));
                self.read[0] += count as u64;
            }
            Step::AgentSends(budget) => send(&mut self.agent, budget, &mut self.from_agent),
            Step::ClientSends(budget) => send(&mut self.client, budget, &mut self.from_client),
            Step::AgentsArrive(count) => self.agents_arrive(count),
            Step::ClientsArrive(count) => {
                let count = count.min(self.from_client.len());
                self.at_agent.push(self.from_client.drain(..count).collect());
                while let Some(frame) = self.at_agent.next().unwrap() {
                    self.agent.handle(frame).unwrap();
                }
            }
            Step::Commit => {
                let offset = self.store.len() as u64;
                self.agent.handle(Frame::RecordAck { offset }).unwrap();
                assert_eq!(self.agent.durable(), offset);
            }
            Step::AgentAcks => self.agent.ack_now(),
            Step::ClientAcks => self.client.ack_now(),
            Step::Cut => self.cut(),
        }
        assert!(self.written[0] - self.read[0] <= self.window && self.written[1] - self.read[1] <= self.window);
    }

    fn agents_arrive(&mut self, count: usize) {
        let count = count.min(self.from_agent.len());
        self.at_gateway.push(self.from_agent.drain(..count).collect());
        while let Some(frame) = self.at_gateway.next().unwrap() {
            match frame {
                Frame::Record { offset, bytes } => {
                    assert_eq!(offset, self.store.len() as u64, "records are contiguous");
                    self.store.extend_from_slice(&bytes);
                }
                Frame::RecordEnd { offset } => assert_eq!(offset, self.store.len() as u64),
                Frame::Data { offset, ref bytes } => {
                    let last = &self.store[self.store.len() / RECORD * RECORD - RECORD..][..RECORD];
                    let recorded = u64::from_be_bytes(last.try_into().unwrap());
                    assert!(offset + bytes.len() as u64 <= recorded, "bytes before their record");
                    self.client.handle(frame).unwrap();
                }
                frame => {
                    self.client.handle(frame).unwrap();
                }
            }
        }
    }

    fn cut(&mut self) {
        self.from_agent.clear();
        self.from_client.clear();
        self.at_gateway = FrameDecoder::new();
        self.at_agent = FrameDecoder::new();
        self.agent
            .resume(self.client.received(), Some(self.store.len() as u64))
            .unwrap();
        self.client.resume(self.agent.received(), None).unwrap();
    }

    /// Lets everything that was said arrive.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            for step in [
                Step::AgentSends(usize::MAX),
                Step::ClientSends(usize::MAX),
                Step::AgentsArrive(usize::MAX),
                Step::ClientsArrive(usize::MAX),
                Step::AgentReads(usize::MAX),
                Step::ClientReads(4096),
                Step::AgentAcks,
                Step::ClientAcks,
            ] {
                self.take(&step);
            }
            let quiet = !self.agent.has_output() && !self.client.has_output();
            if quiet && self.from_agent.is_empty() && self.from_client.is_empty() {
                return;
            }
        }
        panic!("the pair never comes to rest");
    }
}

fn send(end: &mut Endpoint, budget: usize, to: &mut VecDeque<u8>) {
    let mut out = Outbox::new();
    end.transmit(&mut out, budget);
    while let Some(chunk) = out.pop() {
        to.extend(chunk);
    }
}

proptest! {
    #![proptest_config(Config::with_cases(1000))]

    #[test]
    fn nothing_is_lost_or_doubled_over_cuts_at_any_byte(
        window in 1_usize..400,
        steps in prop::collection::vec(step(), 1..150),
        end in any::<bool>(),
    ) {
        let mut pair = Pair::new(window);
        for step in &steps {
            pair.take(step);
        }
        pair.agent.finish_writing();
        pair.agent.finish_records();
        pair.client.finish_writing();
        if end {
            pair.agent.end(End::new(3, "done", "that was all"));
        }
        pair.take(&Step::AgentSends(50));
        pair.take(&Step::AgentsArrive(30));
        pair.cut();
        if !end {
            pair.settle();
            prop_assert!(pair.agent.is_read_to_end() && pair.client.is_read_to_end());
            prop_assert_eq!(pair.read, pair.written);
            pair.take(&Step::Commit);
            prop_assert_eq!(pair.agent.unrecorded(), 0);
        } else {
            // nothing follows an end, so the pair is settled as far as the agent's words go
            for _ in 0..3 {
                pair.take(&Step::AgentSends(usize::MAX));
                pair.take(&Step::AgentsArrive(usize::MAX));
            }
            pair.take(&Step::ClientReads(4096));
            prop_assert_eq!(pair.read[0], pair.written[0]);
            prop_assert!(pair.client.is_read_to_end());
            prop_assert_eq!(pair.client.hear(), Some(Said::End(End::new(3, "done", "that was all"))));
        }
        prop_assert_eq!(pair.store.len() as u64, pair.agent.durable() + pair.agent.unrecorded());
    }
}

fn end(role: Role, window: usize) -> Endpoint {
    Endpoint::new(
        role,
        &Limits {
            window,
            ..Limits::default()
        },
    )
}

fn frames(end: &mut Endpoint) -> Vec<Frame> {
    let mut bytes = VecDeque::new();
    send(end, usize::MAX, &mut bytes);
    let mut decoder = FrameDecoder::new();
    decoder.push(bytes.into_iter().collect());
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

fn data(offset: u64, bytes: &'static str) -> Frame {
    Frame::Data {
        offset,
        bytes: Bytes::from_static(bytes.as_bytes()),
    }
}

#[test]
fn a_record_leaves_before_bytes_written_after_it() {
    let mut agent = end(Role::Agent, 100);
    agent.write(b"one").unwrap();
    agent.record(Bytes::from_static(b"of two")).unwrap();
    agent.write(b"two").unwrap();
    agent.write(b"too").unwrap();
    let record = Frame::Record {
        offset: 0,
        bytes: Bytes::from_static(b"of two"),
    };
    assert_eq!(frames(&mut agent), [data(0, "one"), record, data(3, "twotoo")]);
}

#[test]
fn a_full_window_takes_nothing_until_an_acknowledgement() {
    let mut agent = end(Role::Agent, 5);
    assert_eq!(agent.write(b"abcdefgh").unwrap(), 5);
    assert_eq!(agent.write(b"f").unwrap(), 0);
    assert!(!agent.is_writable());
    assert_eq!(frames(&mut agent), [data(0, "abcde")]);
    assert!(agent.handle(Frame::Ack { offset: 2 }).unwrap().writable);
    assert_eq!(agent.write(b"fgh").unwrap(), 2);
    assert_eq!(frames(&mut agent), [data(5, "fg")]);
    let beyond = ProtocolFault::AckBeyond { offset: 8, sent: 7 };
    assert_eq!(agent.handle(Frame::Ack { offset: 8 }), Err(beyond));
}

#[test]
fn bytes_are_judged_by_their_offsets() {
    let mut client = end(Role::Client, 8);
    assert!(client.handle(data(0, "abcd")).unwrap().readable);
    assert!(
        !client.handle(data(0, "abcd")).unwrap().readable,
        "a double is nothing new"
    );
    assert!(
        client.handle(data(2, "cdef")).unwrap().readable,
        "its new part is taken"
    );
    assert_eq!(
        client.handle(data(7, "h")),
        Err(ProtocolFault::Gap { expected: 6, offset: 7 })
    );
    assert_eq!(
        client.handle(data(6, "ghi")),
        Err(ProtocolFault::WindowExceeded { window: 8 })
    );
    assert_eq!(client.read_chunk(100).unwrap(), "abcdef");
    assert_eq!(
        client.handle(Frame::Fin { offset: 7 }),
        Err(ProtocolFault::Gap { expected: 6, offset: 7 })
    );
    assert_eq!(client.handle(Frame::Fin { offset: 5 }), Err(ProtocolFault::AfterFin));
    client.handle(Frame::Fin { offset: 6 }).unwrap();
    assert!(client.is_read_to_end());
    assert_eq!(client.handle(data(6, "g")), Err(ProtocolFault::AfterFin));
}

#[test]
fn what_was_consumed_is_acknowledged_with_the_next_words_or_when_it_is_much() {
    let mut client = end(Role::Client, 16);
    client.handle(data(0, "abcdef")).unwrap();
    assert!(!client.owes_ack());
    client.read_chunk(3);
    assert!(client.owes_ack() && !client.has_output(), "three of sixteen can wait");
    client.write(b"x").unwrap();
    assert_eq!(frames(&mut client), [Frame::Ack { offset: 3 }, data(0, "x")]);
    client.handle(data(6, "ghij")).unwrap();
    client.read_chunk(3);
    client.read_chunk(4);
    assert_eq!(
        frames(&mut client),
        [Frame::Ack { offset: 10 }],
        "a quarter of the window cannot"
    );
}

#[test]
fn fin_ends_one_direction_alone() {
    let mut agent = end(Role::Agent, 100);
    agent.handle(Frame::Fin { offset: 0 }).unwrap();
    assert!(agent.is_read_to_end());
    agent.write(b"late").unwrap();
    agent.finish_writing();
    assert_eq!(agent.write(b"later"), Err(Finished));
    assert_eq!(frames(&mut agent), [data(0, "late"), Frame::Fin { offset: 4 }]);
}

#[test]
fn an_end_comes_after_what_was_said_before_and_stops_the_rest() {
    let mut agent = end(Role::Agent, 100);
    agent.write(b"last").unwrap();
    let said = End::new(254, "record-stalled", "the recording could not be stored");
    agent.end(said.clone());
    agent.end(End::new(0, "again", ""));
    assert_eq!(agent.write(b"more"), Err(Finished));
    assert_eq!(agent.record(Bytes::from_static(b"more")), Err(Finished));
    let sent = frames(&mut agent);
    assert_eq!(sent, [data(0, "last"), Frame::End(said.clone())]);

    let mut client = end(Role::Client, 100);
    client.write(b"unheard").unwrap();
    for frame in sent {
        client.handle(frame).unwrap();
    }
    assert_eq!(client.hear(), Some(Said::End(said)));
    assert_eq!(client.write(b"x"), Err(Finished));
    assert!(!client.is_read_to_end(), "bytes before the end are still to be read");
    assert_eq!(client.read_chunk(10).unwrap(), "last");
    assert!(client.is_read_to_end());
    assert_eq!(frames(&mut client), [], "bytes to nobody are dropped");
    assert_eq!(client.handle(data(4, "x")), Err(ProtocolFault::AfterEnd));
}

#[test]
fn an_agent_that_hears_the_end_still_delivers_its_records() {
    let mut agent = end(Role::Agent, 100);
    agent.record(Bytes::from_static(b"r1")).unwrap();
    agent.write(b"unheard").unwrap();
    agent.handle(Frame::End(End::new(255, "client-gone", ""))).unwrap();
    agent.record(Bytes::from_static(b"r2")).unwrap();
    agent.finish_records();
    let record = |offset, bytes: &'static [u8]| Frame::Record {
        offset,
        bytes: Bytes::from_static(bytes),
    };
    assert_eq!(
        frames(&mut agent),
        [record(0, b"r1"), record(2, b"r2"), Frame::RecordEnd { offset: 4 }]
    );
    assert!(agent.handle(Frame::RecordAck { offset: 4 }).unwrap().recorded);
    assert_eq!(agent.unrecorded(), 0);
}

#[test]
fn frames_that_are_not_the_peers_to_send_are_refused() {
    let record = Frame::Record {
        offset: 0,
        bytes: Bytes::from_static(b"x"),
    };
    let notice = Frame::Notice { text: String::new() };
    let ack = Frame::RecordAck { offset: 0 };
    for (role, frame) in [
        (Role::Client, record.clone()),
        (Role::Client, ack),
        (Role::Client, Frame::RecordEnd { offset: 0 }),
        (Role::Agent, record),
        (Role::Agent, notice),
    ] {
        let kind = frame.kind();
        assert_eq!(
            end(role, 10).handle(frame),
            Err(ProtocolFault::Forbidden(kind)),
            "{role:?}"
        );
    }
}

#[test]
fn a_peer_that_talks_without_listening_fills_nothing() {
    let mut client = end(Role::Client, 10);
    for number in 0..1000 {
        client.handle(Frame::Ping(number)).unwrap();
        client.handle(Frame::Notice { text: "x".into() }).unwrap();
    }
    assert_eq!(frames(&mut client).len(), ASIDE);
    assert_eq!(std::iter::from_fn(|| client.hear()).count(), ASIDE);
}

#[test]
fn a_reader_that_left_counts_as_one_that_reads() {
    let mut agent = end(Role::Agent, 4);
    agent.handle(data(0, "abcd")).unwrap();
    agent.stop_reading();
    agent.handle(data(4, "efgh")).unwrap();
    assert_eq!(frames(&mut agent), [Frame::Ack { offset: 8 }]);
}

#[test]
fn what_is_left_of_a_recording_is_exact() {
    let mut agent = end(Role::Agent, 100);
    agent.record(Bytes::from_static(b"abc")).unwrap();
    agent.record(Bytes::from_static(b"defg")).unwrap();
    assert_eq!(frames(&mut agent).len(), 2);
    agent.record(Bytes::from_static(b"hi")).unwrap();
    agent.handle(Frame::RecordAck { offset: 4 }).unwrap();
    let (offset, chunks, ended) = agent.take_unrecorded();
    assert_eq!((offset, chunks.concat().as_slice(), ended), (4, &b"efghi"[..], false));
}

#[test]
fn resuming_elsewhere_than_what_is_kept_is_refused() {
    let mut agent = end(Role::Agent, 100);
    agent.write(b"abcdef").unwrap();
    frames(&mut agent);
    agent.handle(Frame::Ack { offset: 3 }).unwrap();
    for offset in [2, 7] {
        let fault = ProtocolFault::Unresumable {
            offset,
            start: 3,
            end: 6,
        };
        assert_eq!(agent.resume(offset, None), Err(fault));
    }
    agent.resume(4, None).unwrap();
    assert_eq!(frames(&mut agent), [Frame::Ack { offset: 0 }, data(4, "ef")]);
}

#[test]
fn small_bytes_do_not_keep_their_large_buffer() {
    let large = Bytes::from(vec![7; 64 * 1024]);
    let mut client = end(Role::Client, 100);
    client
        .handle(Frame::Data {
            offset: 0,
            bytes: large.slice(0..10),
        })
        .unwrap();
    assert!(large.is_unique());
}
