//! Whatever the events, however they are batched, and however their bytes arrive: what was
//! written is what is read.

use bytes::Bytes;
use doorward_audit::{
    BlockKind, ChainCheck, Coverage, Denied, Digest, Env, Event, Exec, Exit, Fault, FileBytes, FileClosed,
    FileOperation, ForwardConnected, ForwardEnded, ForwardFailed, Gap, HEAD_NAMESPACE, Input, ListenerClosed,
    ListenerOpened, MAX_RAW, Opened, Output, Pty, Recorder, Refused, Signed, Stamped, Unknown, blocks, events,
};
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use crate::world::{SESSION, key, output, sign_with};

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..most.min(300)).prop_map(Bytes::from),
        1 => (any::<u8>(), 0..most).prop_map(|(byte, len)| vec![byte; len].into()),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let text = || any::<String>();
    prop_oneof![
        8 => (any::<u32>(), any::<u8>(), bytes(100_000))
            .prop_map(|(channel, stream, bytes)| Output { channel, stream, bytes }.into()),
        4 => (any::<u32>(), bytes(5000))
            .prop_map(|(channel, bytes)| Input { channel, bytes }.into()),
        1 => (any::<u128>(), text(), vec((text(), text()), 0..5), bytes(500)).prop_map(
            |(session, user, terms, host_certificate)| Opened {
                session: Uuid::from_u128(session),
                user,
                terms,
                host_certificate,
                ..Opened::default()
            }
            .into()
        ),
        1 => (any::<u32>(), bytes(40), any::<u32>(), vec(any::<(u8, u32)>(), 0..60)).prop_map(
            |(channel, term, cols, modes)| Pty { channel, term, cols, rows: 24, modes }.into()
        ),
        1 => (text(), bytes(100), any::<bool>()).prop_map(
            |(name, value, accepted)| Env { channel: 1, name, value, accepted }.into()
        ),
        1 => bytes(1000).prop_map(|command| Exec { channel: 0, command }.into()),
        1 => (any::<u64>(), any::<[u8; 32]>()).prop_map(
            |(bytes, sha256)| Digest { channel: 2, stream: 0, bytes, sha256 }.into()
        ),
        1 => (option::of(any::<u32>()), option::of(text()), any::<bool>()).prop_map(
            |(status, signal, core_dumped)| Exit { channel: 0, status, signal, core_dumped }.into()
        ),
        1 => (option::of(any::<u32>()), text(), text())
            .prop_map(|(channel, what, why)| Refused { channel, what, why }.into()),
        1 => (any::<u64>(), any::<u32>()).prop_map(|(bytes_seen, channels)| Coverage {
            channels,
            bytes_seen,
            ..Coverage::default()
        }
        .into()),
        1 => (text(), bytes(5000), bytes(50), any::<u32>()).prop_map(|(operation, path, target, status)| {
            FileOperation { channel: 1, operation, path, target, status, ..FileOperation::default() }.into()
        }),
        1 => (bytes(50), option::of((any::<u64>(), any::<u64>(), option::of(any::<[u8; 32]>())))).prop_map(
            |(path, read)| {
                let read = read.map(|(bytes, from, sha256)| FileBytes { bytes, from, sha256 });
                FileClosed { channel: 1, path, read, written: None }.into()
            }
        ),
        1 => (any::<u32>(), option::of(any::<u32>()), text(), text()).prop_map(
            |(channel, listener, asked, address)| ForwardConnected { channel, listener, asked, address }.into()
        ),
        1 => (any::<u32>(), any::<[u64; 3]>(), text()).prop_map(
            |(channel, [from_client, to_client, milliseconds], how)| ForwardEnded {
                channel, from_client, to_client, milliseconds, how,
            }
            .into()
        ),
        1 => (text(), text()).prop_map(|(asked, why)| ForwardFailed { asked, why }.into()),
        1 => (any::<u32>(), text(), text(), vec(text(), 0..3)).prop_map(
            |(listener, kind, asked, addresses)| ListenerOpened { listener, kind, asked, addresses }.into()
        ),
        1 => (any::<u32>(), any::<u64>())
            .prop_map(|(listener, connections)| ListenerClosed { listener, connections }.into()),
        1 => (option::of(text()), text()).prop_map(
            |(user, code)| Denied { user, code, ..Denied::default() }.into()
        ),
        1 => (any::<u128>(), any::<u64>()).prop_map(|(session, serial)| Signed {
            session: Uuid::from_u128(session),
            serial,
            ..Signed::default()
        }
        .into()),
        1 => (1000u32.., vec(any::<u64>(), 0..5)).prop_map(|(kind, body)| Unknown {
            kind,
            body: minicbor::to_vec(body).unwrap().into(),
        })
        .prop_map(Event::Unknown),
    ]
}

fn stamped() -> impl Strategy<Value = Stamped> {
    (any::<u64>(), event()).prop_map(|(at, event)| Stamped { at, event })
}

/// Writes the batches, with a head after each for which the flag is set.
fn write(batches: &[(Vec<Stamped>, bool)]) -> Vec<u8> {
    let agent = key(3);
    let mut recorder = Recorder::new(SESSION);
    let mut stream = Vec::new();
    for (batch, head) in batches {
        stream.extend_from_slice(&recorder.append(batch));
        if *head {
            let sign = sign_with(&agent, HEAD_NAMESPACE);
            stream.extend_from_slice(&recorder.head(1, false, sign).unwrap());
        }
        assert_eq!(recorder.offset(), stream.len() as u64);
    }
    stream
}

fn read(stream: &[u8]) -> Result<Vec<Stamped>, Fault> {
    events(stream).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        batches in vec((vec(stamped(), 0..12), any::<bool>()), 0..12),
        pieces in vec(1usize..5000, 1..20),
    ) {
        let stream = write(&batches);
        let written: Vec<_> = batches.iter().flat_map(|(batch, _)| batch).cloned().collect();
        prop_assert_eq!(read(&stream).unwrap(), written);

        let mut check = ChainCheck::new(SESSION);
        let mut seen = Vec::new();
        let mut at = 0;
        for piece in pieces.iter().cycle() {
            let end = stream.len().min(at + piece);
            check.push(&stream[at..end], &mut |block| seen.push(block)).unwrap();
            prop_assert_eq!(check.offset(), end as u64);
            at = end;
            if at == stream.len() {
                break;
            }
        }
        // The blocks lie one after the other, and each ends in the link of the chain.
        let mut offset = 0;
        for block in &seen {
            prop_assert_eq!(block.offset, offset);
            offset += block.len;
        }
        prop_assert_eq!(offset, stream.len() as u64);
        prop_assert_eq!(check.block_offset(), offset);
        prop_assert_eq!(check.next_seq(), seen.len() as u64);
        let heads = seen.iter().filter(|block| block.kind == BlockKind::Head).count();
        prop_assert_eq!(heads, batches.iter().filter(|(_, head)| *head).count());
        prop_assert_eq!(check.segment() as usize, heads);
        if let Some(last) = seen.last() {
            prop_assert_eq!(check.link(), last.link);
        }
    }

    #[test]
    fn large_streams_are_split_and_no_byte_is_lost(
        lens in vec(0usize..3 * MAX_RAW, 1..4),
        fill in any::<u8>(),
    ) {
        let batch: Vec<_> = lens.iter().map(|&len| output(7, vec![fill; len])).collect();
        let stream = write(&[(batch, true)]);
        let total: usize = read(&stream)
            .unwrap()
            .iter()
            .map(|stamped| match &stamped.event {
                Event::Output(output) => {
                    assert_eq!((stamped.at, output.channel, output.stream), (7, 0, 1));
                    assert!(output.bytes.iter().all(|&byte| byte == fill));
                    output.bytes.len()
                }
                other => panic!("{other:?}"),
            })
            .sum();
        prop_assert_eq!(total, lens.iter().sum::<usize>());
        for block in blocks(&stream[..]) {
            prop_assert!(block.unwrap().raw.len() <= MAX_RAW);
        }
    }

    #[test]
    fn a_recorder_goes_on_where_a_check_ends(
        before in vec((vec(stamped(), 1..4), any::<bool>()), 0..4),
        after in vec(stamped(), 1..4),
    ) {
        let mut stream = write(&before);
        let mut check = ChainCheck::new(SESSION);
        check.push(&stream, &mut |_| {}).unwrap();
        let mut recorder = Recorder::resume(&check).unwrap();
        let more = recorder.append(&after);
        check.push(&more, &mut |_| {}).unwrap();
        stream.extend_from_slice(&more);
        prop_assert_eq!(check.link(), recorder.link());
        let written: Vec<_> =
            before.iter().flat_map(|(batch, _)| batch).chain(&after).cloned().collect();
        prop_assert_eq!(read(&stream).unwrap(), written);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(bytes.is_empty() || read(&bytes).is_err());
        let mut check = ChainCheck::new(SESSION);
        let pushed = check.push(&bytes, &mut |_| {});
        prop_assert!(bytes.len() < 28 || pushed.is_err());
    }

    #[test]
    fn any_payload_is_decoded_without_a_panic(bytes in vec(any::<u8>(), 1..400)) {
        let unknown = Unknown { kind: 9, body: bytes.into() };
        // A body that is not one item makes a block that is not a sequence of events; either way
        // it ends.
        let stream = write(&[(vec![Stamped { at: 0, event: Event::Unknown(unknown) }], false)]);
        let _ = read(&stream);
        prop_assert!(blocks(&stream[..]).all(|block| block.is_ok()));
    }
}

#[test]
fn an_event_that_fits_no_block_is_cut_and_says_so() {
    let command = vec![b'x'; MAX_RAW + 1];
    let stream = write(&[(
        vec![
            Stamped::new(
                1,
                Exec {
                    channel: 4,
                    command: command.into(),
                },
            ),
            Stamped::new(
                2,
                Refused {
                    channel: None,
                    what: "x".repeat(MAX_RAW),
                    why: String::new(),
                },
            ),
        ],
        false,
    )]);
    let read = read(&stream).unwrap();
    let [exec, gap, gap2] = &read[..] else {
        panic!("{} events", read.len())
    };
    let Event::Exec(exec) = &exec.event else {
        panic!("{exec:?}")
    };
    let kept = exec.command.len();
    assert!(kept > 100_000);
    let expected = Gap {
        channel: Some(4),
        bytes: (MAX_RAW + 1 - kept) as u64,
        why: "Exec is larger than a block".into(),
        ..Gap::default()
    };
    assert_eq!(gap.event, Event::Gap(expected));
    assert!(matches!(&gap2.event, Event::Gap(gap) if gap.bytes as usize > MAX_RAW));
}

#[test]
fn fields_and_events_of_the_future_are_passed_over() {
    // [at, kind, {0: channel, 1: stream, 2: bytes, 99: [1, {}]}, "more"]
    let mut body = Vec::new();
    let mut e = minicbor::Encoder::new(&mut body);
    e.array(4).unwrap().u64(5).unwrap().u32(9).unwrap().map(4).unwrap();
    e.u8(0).unwrap().u8(3).unwrap().u8(1).unwrap().u8(1).unwrap();
    e.u8(2).unwrap().bytes(b"hi").unwrap();
    e.u8(99).unwrap().array(2).unwrap().u8(1).unwrap().map(0).unwrap();
    e.str("more").unwrap();
    let read: Stamped = minicbor::decode(&body).unwrap();
    assert_eq!(
        read,
        Stamped::new(
            5,
            Output {
                channel: 3,
                stream: 1,
                bytes: "hi".into()
            }
        )
    );
}
