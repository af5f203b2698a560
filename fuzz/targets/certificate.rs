//! Certificates of every kind as a peer shows them, and files of authorities' keys.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_certs::{
    CaKeys, LONGEST_BLOB, SerialsSeen, SessionCheck, WorkspaceName, WorkspaceUid, judge_host_at, judge_link_at,
    verify_host, verify_link, verify_session,
};
use libfuzzer_sys::fuzz_target;
use uuid::uuid;

/// What the vectors of `certs/tests/vectors` are held against.
struct Stand {
    trusted: CaKeys,
    name: WorkspaceName,
    uid: WorkspaceUid,
    now: SystemTime,
}

static STAND: LazyLock<Stand> = LazyLock::new(|| Stand {
    trusted: CaKeys::parse(concat!(
        include_str!("../../audit/tests/vectors/host-ca.pub"),
        include_str!("../../audit/tests/vectors/user-ca.pub"),
    ))
    .expect("two keys"),
    name: WorkspaceName::try_from("devenv-0").expect("a name"),
    uid: WorkspaceUid::try_from("3f1c0f7e-5d5e-4a52-9d2c-0d8a6a1b2c3d").expect("a uid"),
    now: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
});
const AGENT: [u8; 32] = [
    0xca, 0x93, 0xac, 0x17, 0x05, 0x18, 0x70, 0x71, 0xd6, 0x7b, 0x83, 0xc7, 0xff, 0x0e, 0xfe, 0x81, 0x08, 0xe8, 0xec,
    0x45, 0x30, 0x57, 0x5d, 0x77, 0x26, 0x87, 0x93, 0x33, 0xdb, 0xda, 0xbe, 0x7c,
];
const GATEWAY: [u8; 32] = [
    0xed, 0x49, 0x28, 0xc6, 0x28, 0xd1, 0xc2, 0xc6, 0xea, 0xe9, 0x03, 0x38, 0x90, 0x59, 0x95, 0x61, 0x29, 0x59, 0x27,
    0x3a, 0x5c, 0x63, 0xf9, 0x36, 0x36, 0xc1, 0x46, 0x14, 0xac, 0x87, 0x37, 0xd1,
];

fuzz_target!(|input: &[u8]| {
    let stand = &*STAND;
    let host = judge_host_at(input, &stand.trusted, stand.now);
    let link = verify_link(input, &stand.trusted, &GATEWAY, stand.now);
    let check = SessionCheck {
        trusted: &stand.trusted,
        link_key: &GATEWAY,
        session: uuid!("0190a6e0-0000-7000-8000-000000000001"),
        workspace_uid: &stand.uid,
        now: stand.now,
    };
    let session = verify_session(input, &check, &mut SerialsSeen::new(16));
    let good = [host.is_ok(), link.is_ok(), session.is_ok()];
    assert!(
        good.iter().filter(|good| **good).count() <= 1,
        "one certificate has two uses"
    );
    assert!(input.len() <= LONGEST_BLOB || good == [false; 3]);
    if verify_host(input, &stand.trusted, &AGENT, &stand.name, &stand.uid, stand.now).is_ok() {
        assert!(host.is_ok());
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = judge_link_at(text, &stand.trusted, stand.now);
        let _ = CaKeys::parse(text);
    }
});
