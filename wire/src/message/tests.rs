//! Messages there and back, and what is refused.

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn refused() -> impl Strategy<Value = Refused> {
    (text(), text()).prop_map(|(code, text)| Refused { code, text })
}

fn open() -> impl Strategy<Value = StreamOpen> {
    prop_oneof![
        Just(StreamOpen::Control),
        (id(), blob(), text(), text()).prop_map(|(session, certificate, client_address, client_version)| {
            StreamOpen::Session(OpenSession {
                session,
                certificate,
                client_address,
                client_version,
            })
        }),
        (id(), any::<u64>()).prop_map(|(session, from)| StreamOpen::Records(OpenRecords { session, from })),
    ]
}

fn enrol() -> impl Strategy<Value = Enrol> {
    (text(), prop::option::of(text())).prop_map(|(token, other)| Enrol {
        token: Token::new(&token),
        service_account_token: other.as_deref().map(Token::new),
    })
}

fn message() -> impl Strategy<Value = Message> {
    let enrol = prop::option::of(enrol());
    let session = (id(), any::<u64>(), any::<u64>()).prop_map(|(session, first_unacked, end)| LeftoverSession {
        session,
        first_unacked,
        end,
    });
    prop_oneof![
        (any::<u16>(), text(), blob(), prop::option::of(any::<u32>())).prop_map(
            |(version, gateway_version, link_certificate, use_every_s)| {
                Message::GatewayHello(GatewayHello {
                    version,
                    gateway_version,
                    link_certificate,
                    use_every_s,
                })
            }
        ),
        any::<u64>().prop_map(|ago_ms| Message::Used(Used { ago_ms })),
        (any::<u16>(), text(), text(), text(), prop::option::of(blob()), enrol).prop_map(
            |(version, agent_version, workspace, workspace_uid, host_certificate, enrol)| {
                Message::AgentHello(AgentHello {
                    version,
                    agent_version,
                    workspace,
                    workspace_uid,
                    host_certificate,
                    enrol,
                })
            }
        ),
        blob().prop_map(|host_certificate| Message::Enrolled(Enrolled { host_certificate })),
        Just(Message::LinkReady(LinkReady {})),
        refused().prop_map(Message::LinkRefused),
        open().prop_map(Message::StreamOpen),
        Just(Message::StreamAnswer(StreamAnswer::Opened(Opened {}))),
        refused().prop_map(|refused| Message::StreamAnswer(StreamAnswer::Refused(refused))),
        prop::collection::vec(session, 0..10).prop_map(|sessions| Message::Leftovers(Leftovers { sessions })),
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
        prop::option::of(self::enrol()).prop_map(|enrol| Message::Renew(Renew { enrol })),
    ]
}

proptest! {
    #[test]
    fn come_back(message in message()) {
        let bytes = message.encode().unwrap();
        let length = u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize;
        prop_assert_eq!(length, bytes.len() - 4);
        prop_assert_eq!(Message::decode(&bytes[4..]).unwrap(), message);
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in blob()) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn a_damaged_message_is_judged_without_a_panic(
        message in message(),
        at in any::<prop::sample::Index>(),
        bits in 1_u8..,
    ) {
        let mut bytes = message.encode().unwrap()[4..].to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn a_cut_message_is_refused(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = &message.encode().unwrap()[4..];
        let cut = at.index(bytes.len());
        prop_assert!(matches!(Message::decode(&bytes[..cut]), Err(MessageError::Malformed(_))));
    }

    #[test]
    fn bytes_behind_a_message_are_refused(message in message(), more in 1_usize..9) {
        let mut bytes = message.encode().unwrap()[4..].to_vec();
        bytes.resize(bytes.len() + more, 0);
        prop_assert!(matches!(Message::decode(&bytes), Err(MessageError::Trailing(trailing)) if trailing == more));
    }
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    // { 0: h'00…', 1: 7, 9: "later" } as the body of StreamOpen::Records
    let mut bytes = Vec::new();
    let mut to = minicbor::Encoder::new(&mut bytes);
    to.array(2).unwrap().u8(5).unwrap().array(1).unwrap();
    to.array(2).unwrap().u8(2).unwrap().array(1).unwrap();
    to.map(3).unwrap().u8(0).unwrap().bytes(&[0; 16]).unwrap();
    to.u8(1).unwrap().u64(7).unwrap().u8(9).unwrap().str("later").unwrap();
    let expected = StreamOpen::Records(OpenRecords {
        session: Uuid::nil(),
        from: 7,
    });
    assert_eq!(Message::decode(&bytes).unwrap(), Message::StreamOpen(expected));
}

#[test]
fn too_long_is_refused_both_ways() {
    let long = Message::Enrolled(Enrolled {
        host_certificate: vec![0; MAX_MESSAGE],
    });
    assert!(matches!(long.encode(), Err(MessageError::Oversized(_))));
    assert!(matches!(
        Message::decode(&vec![0; MAX_MESSAGE + 1]),
        Err(MessageError::Oversized(_))
    ));
}

#[test]
fn a_session_id_of_another_length_is_refused() {
    let good = Message::StreamOpen(StreamOpen::Records(OpenRecords {
        session: Uuid::nil(),
        from: 0,
    }));
    let bytes = good.encode().unwrap()[4..].to_vec();
    let at = bytes.iter().position(|byte| *byte == 0x50).unwrap();
    let mut short = bytes.clone();
    short[at] = 0x4f;
    short.remove(at + 1);
    assert!(matches!(Message::decode(&short), Err(MessageError::Malformed(_))));
}

#[test]
fn a_token_shows_in_no_debug_output() {
    let enrol = Enrol {
        token: Token::new("sesame"),
        service_account_token: Some(Token::new("sesame")),
    };
    assert!(!format!("{enrol:?}").contains("sesame"));
}

#[test]
fn a_token_is_bounded_and_never_shown() {
    let renew = |length: usize| {
        Message::Renew(Renew {
            enrol: Some(Enrol {
                service_account_token: Some(Token::new(&"s".repeat(length))),
                ..Enrol::default()
            }),
        })
    };
    let fits = renew(MAX_TOKEN);
    assert_eq!(Message::decode(&fits.encode().unwrap()[4..]).unwrap(), fits);
    let long = renew(MAX_TOKEN + 1).encode().unwrap();
    assert!(matches!(Message::decode(&long[4..]), Err(MessageError::Malformed(_))));
    assert!(!format!("{fits:?}").contains("sss"));
}

#[test]
fn words_of_an_earlier_version_are_understood() {
    // What was said before there were tokens of service accounts.
    let mut renew = Vec::new();
    let mut to = minicbor::Encoder::new(&mut renew);
    to.array(2).unwrap().u8(10).unwrap().array(1).unwrap().map(0).unwrap();
    assert_eq!(Message::decode(&renew).unwrap(), Message::Renew(Renew::default()));
    let mut hello = Vec::new();
    let mut to = minicbor::Encoder::new(&mut hello);
    to.array(2).unwrap().u8(1).unwrap().array(1).unwrap().map(5).unwrap();
    to.u8(0).unwrap().u16(1).unwrap().u8(1).unwrap().str("0.1").unwrap();
    to.u8(2)
        .unwrap()
        .str("devenv-0")
        .unwrap()
        .u8(3)
        .unwrap()
        .str("u-0")
        .unwrap();
    to.u8(5).unwrap().map(1).unwrap().u8(0).unwrap().str("join").unwrap();
    let Message::AgentHello(hello) = Message::decode(&hello).unwrap() else {
        panic!("another message")
    };
    assert_eq!(hello.enrol.unwrap().token.reveal(), "join");
}
