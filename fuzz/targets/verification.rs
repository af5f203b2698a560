//! Verification of a recording's folder: whatever passes can be read to its end.
#![no_main]

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use doorward_audit::receipt::RECEIPTS_NAME;
use doorward_audit::{Options, Trust, events, segment_name, verify_with};
use doorward_certs::{CaKeys, judge_host_at, judge_link_at};
use libfuzzer_sys::fuzz_target;

const HOSTS: &str = include_str!("../../audit/tests/vectors/host-ca.pub");
const USERS: &str = include_str!("../../audit/tests/vectors/user-ca.pub");

// How many segments there are; of each its length, four bytes, and the segment; then the receipts.
fuzz_target!(|input: &[u8]| {
    let Some((segments, receipts)) = taken_apart(input) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &segments, receipts);
    let options = Options {
        allow_open: true,
        ..Options::default()
    };
    let report = verify_with(folder.path(), &trust(), &options);
    assert_eq!(report.ok, report.findings.is_empty());
    if report.ok {
        let stream = segments.concat();
        assert!(
            events(stream.as_slice()).all(|event| event.is_ok()),
            "it passes and cannot be read"
        );
    }
});

fn taken_apart(input: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (count, mut rest) = input.split_first()?;
    let mut segments = Vec::new();
    for _ in 0..*count {
        let (length, after) = rest.split_first_chunk()?;
        let (segment, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        segments.push(segment);
        rest = after;
    }
    Some((segments, rest))
}

fn write(folder: &Path, segments: &[&[u8]], receipts: &[u8]) {
    for (number, segment) in (0..).zip(segments) {
        fs::write(folder.join(segment_name(number)), segment).expect("a segment");
    }
    fs::write(folder.join(RECEIPTS_NAME), receipts).expect("receipts");
}

fn trust() -> Trust {
    let hosts = CaKeys::parse(HOSTS).expect("a key");
    let users = CaKeys::parse(USERS).expect("a key");
    let at = |ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)).ok_or("no such time");
    Trust {
        agent_key: Box::new(move |blob, ms| judge_host_at(blob, &hosts, at(ms)?).map_err(|why| why.to_string())),
        gateway_key: Box::new(move |text, ms| judge_link_at(text, &users, at(ms)?).map_err(|why| why.to_string())),
    }
}
