//! Every way to damage or forge a recording is found, and named at its first place.

use std::fs;

use crate::world::{Author, SESSION, Stored, World, key, killed_session, output, shell_session};
use doorward_audit::{
    Anchor, ChainCheck, Class, Coverage, Event, GatewayStarted, GatewayStopped, Options, Outcome, Place, Recorder,
    Report, Stamped, Verdict, verify, verify_with,
};
use sha2::{Digest as _, Sha256};
use tempfile::tempdir;
use uuid::Uuid;

fn check(stored: &Stored, options: &Options) -> Report {
    let dir = tempdir().unwrap();
    stored.write(dir.path());
    verify_with(dir.path(), &World::new().trust(), options)
}

fn judge(stored: &Stored) -> Report {
    check(stored, &Options::default())
}

/// The first finding's class and the block that it names.
fn first(report: &Report) -> (Class, Place) {
    let first = report.findings.first().unwrap();
    (first.class, first.place)
}

fn good() -> Stored {
    shell_session(World::new(), SESSION).stored()
}

/// Offsets of the blocks of one segment.
fn blocks(segment: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = 0;
    let mut out = Vec::new();
    while at < segment.len() {
        let stored = u32::from_be_bytes(segment[at + 16..at + 20].try_into().unwrap()) as usize;
        out.push(at..at + 28 + stored);
        at += 28 + stored;
    }
    out
}

#[test]
fn a_whole_recording_is_complete() {
    let report = judge(&good());
    assert_eq!(report.findings, []);
    assert_eq!(report.verdict(), Verdict::Complete);
    assert_eq!(report.session, Some(SESSION));
    assert_eq!(report.outcome, Some(Outcome::Complete));
    let stored = good();
    assert_eq!(
        report.bytes,
        stored.segments.iter().map(|s| s.len() as u64).sum::<u64>()
    );
    assert_eq!(
        report.blocks,
        stored.segments.iter().map(|s| blocks(s).len() as u64).sum::<u64>()
    );
}

#[test]
fn a_killed_agents_recording_is_whole_and_abnormal() {
    let report = judge(&killed_session(World::new(), SESSION).stored());
    assert_eq!(report.findings, []);
    assert_eq!(report.verdict(), Verdict::Abnormal);
}

#[test]
fn a_session_that_ended_before_its_first_block_is_abnormal() {
    let mut author = Author::new(World::new(), SESSION);
    author.closing(Outcome::Abnormal);
    let report = judge(&author.stored());
    assert_eq!(report.findings, []);
    assert_eq!(report.verdict(), Verdict::Abnormal);

    let mut author = Author::new(World::new(), SESSION);
    author.closing(Outcome::Complete);
    assert_eq!(first(&judge(&author.stored())).0, Class::Altered);
}

#[test]
fn an_open_recording_is_judged_as_asked() {
    let mut stored = shell_session(World::new(), SESSION).stored();
    stored.segments.truncate(2);
    stored.receipts = stored
        .receipts
        .lines()
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(first(&judge(&stored)).0, Class::NoClosing);
    let open = Options {
        allow_open: true,
        ..Options::default()
    };
    let report = check(&stored, &open);
    assert_eq!((report.findings.len(), report.verdict()), (0, Verdict::Open));
    // It may be read while its last block is being written.
    let last = stored.segments.last_mut().unwrap();
    last.truncate(last.len() - 1);
    stored.receipts = stored
        .receipts
        .lines()
        .take(1)
        .map(|line| format!("{line}\n"))
        .collect();
    let report = check(&stored, &open);
    assert_eq!((report.findings.len(), report.verdict()), (0, Verdict::Open));
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn every_missing_segment_is_named() {
    for gone in 0..3 {
        let dir = tempdir().unwrap();
        good().write(dir.path());
        fs::remove_file(dir.path().join(format!("segment-00000{gone}.dwr"))).unwrap();
        let report = verify(dir.path(), &World::new().trust());
        let (class, place) = first(&report);
        assert_eq!((class, place.segment), (Class::MissingSegment, gone), "{report:?}");
    }
}

#[test]
fn truncation_at_any_byte_is_found() {
    for (name, whole) in [
        ("shell", good()),
        ("killed", killed_session(World::new(), SESSION).stored()),
    ] {
        for segment in 0..whole.segments.len() {
            let starts: Vec<_> = blocks(&whole.segments[segment])
                .iter()
                .map(|block| block.start)
                .collect();
            for len in 0..whole.segments[segment].len() {
                let mut stored = whole.clone();
                stored.segments[segment].truncate(len);
                let report = judge(&stored);
                let (class, place) = first(&report);
                assert!(
                    matches!(class, Class::Truncated | Class::MissingSegment),
                    "{name} {segment} {len}: {report:?}"
                );
                // It names the block in which the bytes end.
                let before: usize = whole.segments[..segment].iter().map(Vec::len).sum();
                let block = starts.iter().rev().find(|&&start| start <= len).unwrap();
                assert_eq!(place.offset, (before + block) as u64, "{name} {segment} {len}");
            }
        }
    }
}

#[test]
fn a_truncated_file_of_receipts_is_found() {
    let whole = good();
    for len in 0..whole.receipts.len() {
        let mut stored = whole.clone();
        stored.receipts.truncate(len);
        let report = judge(&stored);
        assert!(
            matches!(
                first(&report).0,
                Class::Truncated | Class::NoClosing | Class::RolledBack
            ),
            "{len}: {report:?}"
        );
    }
}

#[test]
fn a_removed_receipt_is_found() {
    let whole = good();
    let lines: Vec<_> = whole.receipts.lines().collect();
    for gone in 0..lines.len() {
        let mut stored = whole.clone();
        stored.receipts = (0..lines.len())
            .filter(|&line| line != gone)
            .map(|line| format!("{}\n", lines[line]))
            .collect();
        let expected = if gone == 3 { Class::NoClosing } else { Class::RolledBack };
        assert_eq!(first(&judge(&stored)).0, expected, "receipt {gone}");
    }
}

#[test]
fn receipts_out_of_order_or_repeated_are_found() {
    let whole = good();
    let lines: Vec<_> = whole.receipts.lines().collect();
    for order in [&[1, 0, 2, 3][..], &[0, 0, 1, 2, 3], &[0, 1, 2, 3, 3], &[0, 1, 3, 2]] {
        let mut stored = whole.clone();
        stored.receipts = order.iter().map(|&line| format!("{}\n", lines[line])).collect();
        assert!(!judge(&stored).ok, "{order:?}");
    }
}

#[test]
fn removed_and_swapped_blocks_are_named() {
    let whole = good();
    for segment in 0..whole.segments.len() {
        let ranges = blocks(&whole.segments[segment]);
        let before: u64 = whole.segments[..segment].iter().map(|s| blocks(s).len() as u64).sum();
        for (gone, range) in ranges.iter().enumerate() {
            let mut stored = whole.clone();
            stored.segments[segment].drain(range.clone());
            let report = judge(&stored);
            let (class, place) = first(&report);
            assert!(matches!(class, Class::Spliced | Class::Truncated), "{report:?}");
            assert_eq!(place.seq, before + gone as u64);
        }
        for at in 1..ranges.len() {
            let mut stored = whole.clone();
            let bytes = &whole.segments[segment];
            stored.segments[segment] = [
                &bytes[..ranges[at - 1].start],
                &bytes[ranges[at].clone()],
                &bytes[ranges[at - 1].clone()],
                &bytes[ranges[at].end..],
            ]
            .concat();
            let (class, place) = first(&judge(&stored));
            assert_eq!((class, place.seq), (Class::Spliced, before + at as u64 - 1));
        }
    }
}

#[test]
fn parts_of_another_session_are_found() {
    let other = shell_session(World::new(), Uuid::from_u128(99)).stored();
    // A whole segment, and with it the receipts.
    for segment in 0..3 {
        let mut stored = good();
        stored.segments[segment] = other.segments[segment].clone();
        let (class, place) = first(&judge(&stored));
        assert_eq!(place.segment as usize, segment);
        // The first segment says itself whose it is; then it is the receipts that do not fit.
        let expected = if segment == 0 { Class::Altered } else { Class::Spliced };
        assert!(class == expected || class == Class::Spliced, "{segment}: {class}");
    }
    // One block with the same number.
    let mut stored = good();
    let own = blocks(&stored.segments[0])[3].clone();
    let foreign = other.segments[0][blocks(&other.segments[0])[3].clone()].to_vec();
    stored.segments[0].splice(own.clone(), foreign);
    let offset = own.start as u64;
    assert_eq!(
        first(&judge(&stored)),
        (
            Class::Altered,
            Place {
                segment: 0,
                seq: 3,
                offset
            }
        )
    );
    // The receipts.
    let mut stored = good();
    stored.receipts = other.receipts.clone();
    assert_eq!(first(&judge(&stored)).0, Class::Altered);
    // All of it under this session's name.
    let dir = tempdir().unwrap();
    let named = dir.path().join(SESSION.to_string());
    fs::create_dir(&named).unwrap();
    other.write(&named);
    let (class, place) = first(&verify(&named, &World::new().trust()));
    assert_eq!((class, place), (Class::Spliced, Place::default()));
}

#[test]
fn an_older_copy_is_found() {
    let whole = good();
    // Everything as it was after the second head.
    let mut stored = whole.clone();
    stored.segments.truncate(2);
    stored.receipts = whole.receipts.lines().take(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(first(&judge(&stored)).0, Class::NoClosing);
    // Where somebody remembers how far it went, it shows even if open recordings are allowed.
    let mut last = None;
    let mut seen = ChainCheck::new(SESSION);
    for segment in &whole.segments {
        seen.push(segment, &mut |block| last = Some(block)).unwrap();
    }
    let last = last.unwrap();
    let anchor = Anchor {
        seq: last.seq,
        link: last.link,
    };
    let options = Options {
        allow_open: true,
        anchors: vec![anchor],
        ..Options::default()
    };
    assert_eq!(first(&check(&stored, &options)).0, Class::RolledBack);
    assert!(check(&whole, &options).ok);
    let options = Options {
        anchors: vec![Anchor {
            link: [0; 32],
            ..anchor
        }],
        ..options
    };
    assert_eq!(first(&check(&whole, &options)).0, Class::Altered);
    // Older receipts beside newer segments, and older segments beside newer receipts.
    let mut stored = whole.clone();
    stored.receipts = whole.receipts.lines().take(1).map(|line| format!("{line}\n")).collect();
    assert!(!judge(&stored).ok);
    let mut stored = whole.clone();
    stored.segments.truncate(2);
    assert_eq!(first(&judge(&stored)).0, Class::MissingSegment);
    // The copy of an abnormal end is no way out: only the gateway can say so.
    let World {
        gateway,
        gateway_certificate,
        ..
    } = World::forged();
    let world = World {
        gateway,
        gateway_certificate,
        ..World::new()
    };
    let forged = killed_session(world, SESSION).stored();
    assert_eq!(first(&judge(&forged)).0, Class::UntrustedKey);
}

#[test]
fn a_head_by_another_key_is_found() {
    let mut author = Author::new(World::new(), SESSION);
    let opened = author.world.opened(SESSION);
    author.append(&[Stamped::new(0, opened)]);
    author.head_by(&key(77), true);
    author.closing(Outcome::Complete);
    let report = judge(&author.stored());
    assert_eq!((first(&report).0, first(&report).1.seq), (Class::BadSignature, 2));
}

#[test]
fn a_world_of_other_keys_is_not_trusted() {
    let report = judge(&shell_session(World::forged(), SESSION).stored());
    assert_eq!((first(&report).0, first(&report).1.seq), (Class::UntrustedKey, 1));
    assert!(report.findings.iter().all(|found| found.class == Class::UntrustedKey));
}

#[test]
fn an_attacker_without_keys_cannot_hash_everything_again() {
    let whole = good();
    // Another output, all blocks and links made anew, the old heads kept.
    let mut recorder = Recorder::new(SESSION);
    let mut bytes = Vec::new();
    for block in doorward_audit::blocks(&whole.segments[0][..]) {
        let events: Vec<_> = block
            .unwrap()
            .events()
            .unwrap()
            .into_iter()
            .map(|event| match event.event {
                Event::Output(_) => output(event.at, "# "),
                _ => event,
            })
            .collect();
        bytes.extend_from_slice(&recorder.append(&events));
    }
    let mut stored = whole.clone();
    let old_head = blocks(&whole.segments[0]).pop().unwrap();
    let mut with_old = bytes.clone();
    // His recorder puts the old signature under the new statement.
    let forged = recorder
        .head(crate::world::BEGIN * 1000 + 5, false, |_| {
            let mut found = None;
            let mut check = ChainCheck::new(SESSION);
            check
                .push(&whole.segments[0], &mut |seen| found = seen.head.or(found.take()))
                .unwrap();
            Ok(found.unwrap().signature().clone())
        })
        .unwrap();
    bytes.extend_from_slice(&forged);
    stored.segments[0] = bytes;
    let report = judge(&stored);
    assert_eq!(first(&report).0, Class::BadSignature, "{report:?}");
    // Or he keeps the whole head block, with a new tag: its statement has the old link.
    let mut check = ChainCheck::new(SESSION);
    check.push(&with_old, &mut |_| {}).unwrap();
    let mut head = whole.segments[0][old_head].to_vec();
    let link = Sha256::new()
        .chain_update(check.link())
        .chain_update(&head[..20])
        .chain_update(&head[28..])
        .finalize();
    head[20..28].copy_from_slice(&link[..8]);
    with_old.extend_from_slice(&head);
    stored.segments[0] = with_old;
    let report = judge(&stored);
    assert_eq!(
        (first(&report).0, first(&report).1.seq),
        (Class::Altered, 4),
        "{report:?}"
    );
    // Or he gives up the end and claims that the agent was killed.
    stored.segments.truncate(1);
    stored.receipts.clear();
    assert!(!judge(&stored).ok);
}

#[test]
fn bytes_after_the_end_are_found() {
    let whole = good();
    let mut stored = whole.clone();
    stored.segments[2].push(0);
    assert!(!judge(&stored).ok);
    let mut stored = whole.clone();
    stored.segments.push(whole.segments[0].clone());
    assert_eq!(first(&judge(&stored)).0, Class::Spliced);
    // A real block after the closing receipt of a killed agent: the gateway never had it.
    let mut author = killed_session(World::new(), SESSION);
    author.append(&[output(9, "more")]);
    assert_eq!(first(&judge(&author.stored())).0, Class::Spliced);
    // Two segments in one file.
    let mut stored = whole.clone();
    let second = stored.segments.remove(1);
    stored.segments[0].extend_from_slice(&second);
    assert_eq!(first(&judge(&stored)).0, Class::Spliced);
}

#[test]
fn a_count_that_differs_from_the_events_is_found() {
    let mut author = Author::new(World::new(), SESSION);
    let opened = author.world.opened(SESSION);
    author.append(&[Stamped::new(0, opened), output(1, "abc")]);
    author.append(&[Stamped::new(
        2,
        Coverage {
            bytes_recorded: 2,
            ..Default::default()
        },
    )]);
    author.head(true);
    author.closing(Outcome::Complete);
    assert_eq!(first(&judge(&author.stored())).0, Class::Coverage);
    // Nor may it be left out.
    let mut author = Author::new(World::new(), SESSION);
    let opened = author.world.opened(SESSION);
    author.append(&[Stamped::new(0, opened)]);
    author.head(true);
    author.closing(Outcome::Complete);
    assert_eq!(first(&judge(&author.stored())).0, Class::Coverage);
}

#[test]
fn a_journal_is_verified_by_the_gateways_key() {
    let world = World::new();
    let gateway = world.gateway.clone();
    let started = |certificate| GatewayStarted {
        version: "0.1.0".into(),
        instance: "gateway-0".into(),
        certificate,
        previous: None,
    };
    let text = world.gateway_certificate.to_openssh().unwrap();
    let mut author = Author::new(world, SESSION);
    author.append(&[Stamped::new(0, started(Some(text)))]);
    author.head_by(&gateway, false);
    author.append(&[Stamped::new(5, GatewayStopped {})]);
    let mut stored = author.stored();
    stored.receipts.clear();
    let report = judge(&stored);
    assert_eq!((report.findings.len(), report.verdict()), (0, Verdict::Open));
    author.head_by(&gateway, true);
    let mut stored = author.stored();
    stored.receipts.clear();
    assert_eq!(judge(&stored).verdict(), Verdict::Complete);

    let mut author = Author::new(World::new(), SESSION);
    author.append(&[Stamped::new(0, started(None))]);
    author.head(true);
    assert_eq!(first(&judge(&author.stored())).0, Class::UntrustedKey);
}

#[test]
fn a_directory_that_is_not_there_or_empty_is_a_finding() {
    let dir = tempdir().unwrap();
    let trust = World::new().trust();
    assert_eq!(first(&verify(dir.path(), &trust)).0, Class::MissingSegment);
    assert_eq!(first(&verify(&dir.path().join("x"), &trust)).0, Class::Unreadable);
}

#[test]
fn a_recording_may_be_closed_again_when_more_came_from_a_lost_agent() {
    let mut author = killed_session(World::new(), SESSION);
    author.append(&[output(9, "found after a restart")]);
    let open = Options {
        allow_open: true,
        ..Options::default()
    };
    assert_eq!(check(&author.stored(), &open).verdict(), Verdict::Open);
    assert_eq!(first(&judge(&author.stored())).0, Class::Spliced);
    author.append(&[Stamped::new(
        10,
        Coverage {
            channels: 1,
            bytes_recorded: 31,
            ..Coverage::default()
        },
    )]);
    author.head(true);
    author.closing(Outcome::Complete);
    let report = judge(&author.stored());
    assert_eq!((report.findings.first(), report.verdict()), (None, Verdict::Complete));
    // Its first closing receipt still counts.
    let mut stored = author.stored();
    let end = blocks(&stored.segments[0])[1].end;
    stored.segments[0].truncate(end);
    assert_eq!(first(&judge(&stored)).0, Class::Truncated);

    // The same if nothing had come before.
    let mut author = Author::new(World::new(), SESSION);
    author.closing(Outcome::Abnormal);
    let opened = author.world.opened(SESSION);
    author.append(&[Stamped::new(0, opened)]);
    assert_eq!(first(&judge(&author.stored())), (Class::Spliced, Place::default()));
    author.closing(Outcome::Abnormal);
    let report = judge(&author.stored());
    assert_eq!((report.findings.first(), report.verdict()), (None, Verdict::Abnormal));

    // Nothing follows a complete one.
    let mut author = shell_session(World::new(), SESSION);
    author.closing(Outcome::Complete);
    assert_eq!(first(&judge(&author.stored())).0, Class::Spliced);
}
