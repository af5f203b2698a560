//! Frames that go on from block to block: good ones, and what somebody can write who hashes everything anew around a frame
//! that breaks a rule.

use doorward_audit::{ChainCheck, ChannelOpened, Coverage, Outcome, first_link, verify};
use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::world::{Author, SESSION, Stored, World, output};

type Vector = (&'static str, &'static str, Stored);

/// The vectors of frames, for ever.
pub fn recordings() -> Vec<Vector> {
    let raw = vec![b'x'; 256 * 1024];
    let wide = |window| frame_of(&raw, window);
    vec![
        (
            "good-frames",
            "frames over several blocks, in two segments, one given up in between",
            good(),
        ),
        (
            "bad-frame-not-begun",
            "a block continues a frame that has not begun",
            with(|block| block.header[1] = 3),
        ),
        (
            "bad-frame-window",
            "a frame that reaches back further than the format allows",
            with(|block| block.put(&wide(18), raw.len())),
        ),
        (
            "bad-frame-long",
            "a block that gives more than its raw length",
            with(|block| block.put(&wide(17), raw.len() - 1)),
        ),
        (
            "bad-frame-short",
            "a block that gives less than its raw length",
            with(|block| block.put(&wide(17)[..20], raw.len())),
        ),
        (
            "bad-frame-none",
            "bytes that are no frame",
            with(|block| block.stored[0] ^= 1),
        ),
    ]
}

/// A frame without its length, as a frame that goes on has it.
fn frame_of(raw: &[u8], window_log: u32) -> Vec<u8> {
    let mut compressor = Compressor::new(1).unwrap();
    for parameter in [CParameter::WindowLog(window_log), CParameter::ContentSizeFlag(false)] {
        compressor.set_parameter(parameter).unwrap();
    }
    compressor.compress(raw).unwrap()
}

fn text(at: u64) -> doorward_audit::Stamped {
    output(at, format!("unit {at}: all work and no play\r\n").repeat(40))
}

fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..2000).map(step).collect()
}

fn good() -> Stored {
    let mut author = Author::new(World::new(), SESSION);
    let opened = author.world.opened(SESSION);
    let channel = ChannelOpened {
        channel: 0,
        kind: "session".into(),
    };
    author.append(&[doorward_audit::Stamped::new(0, opened)]);
    author.append(&[doorward_audit::Stamped::new(1, channel)]);
    let mut recorded = 0;
    for segment in 0..2 {
        for at in 0..9 {
            let shown = match at {
                3 => output(at, "$ "),
                5 => output(at, noise()),
                _ => text(10 * segment + at),
            };
            if let doorward_audit::Event::Output(shown) = &shown.event {
                recorded += shown.bytes.len() as u64;
            }
            author.append(&[shown]);
        }
        if segment == 0 {
            author.head(false);
        }
    }
    let coverage = Coverage {
        channels: 1,
        bytes_seen: recorded,
        bytes_recorded: recorded,
        not_captured: Some(vec!["terminals of other programs".repeat(20)]),
        ..Coverage::default()
    };
    author.append(&[doorward_audit::Stamped::new(99, coverage)]);
    author.head(true);
    author.closing(Outcome::Complete);
    author.stored()
}

/// One block, taken apart.
struct Block {
    header: [u8; 20],
    stored: Vec<u8>,
}

impl Block {
    fn put(&mut self, stored: &[u8], raw_len: usize) {
        self.stored = stored.to_vec();
        self.header[12..16].copy_from_slice(&(raw_len as u32).to_be_bytes());
        self.header[16..20].copy_from_slice(&(stored.len() as u32).to_be_bytes());
    }
}

fn apart(mut segment: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    while let Some((header, rest)) = segment.split_first_chunk::<28>() {
        let len = u32::from_be_bytes(header[16..20].try_into().unwrap()) as usize;
        blocks.push(Block {
            header: header[..20].try_into().unwrap(),
            stored: rest[..len].to_vec(),
        });
        segment = &rest[len..];
    }
    blocks
}

/// A session without a head in which the first block of a frame is another, and all links are made anew.
fn with(change: impl FnOnce(&mut Block)) -> Stored {
    let mut author = Author::new(World::new(), SESSION);
    let opened = author.world.opened(SESSION);
    author.append(&[doorward_audit::Stamped::new(0, opened)]);
    author.append(&[text(1)]);
    author.append(&[text(2)]);
    author.closing(Outcome::Abnormal);
    let mut stored = author.stored();
    let mut blocks = apart(&stored.segments[0]);
    let first = blocks.iter().position(|block| block.header[1] == 2).unwrap();
    change(&mut blocks[first]);
    let mut link = first_link(SESSION);
    let mut segment = Vec::new();
    for block in &blocks {
        link = Sha256::new()
            .chain_update(link)
            .chain_update(block.header)
            .chain_update(&block.stored)
            .finalize()
            .into();
        segment.extend_from_slice(&block.header);
        segment.extend_from_slice(&link[..8]);
        segment.extend_from_slice(&block.stored);
    }
    stored.segments[0] = segment;
    stored
}

#[test]
fn a_frame_that_has_not_begun_is_refused_before_it_is_stored() {
    let stored = with(|block| block.header[1] = 3);
    let pushed = ChainCheck::new(SESSION).push(&stored.segments[0], &mut |_| {});
    let fault = pushed.unwrap_err();
    assert!(fault.to_string().contains("has not begun"), "{fault}");
}

#[test]
fn good_frames_use_every_way_to_store_a_block() {
    let stored = good();
    for segment in &stored.segments {
        let codecs: Vec<u8> = apart(segment).iter().map(|block| block.header[1]).collect();
        for codec in [0, 2, 3] {
            assert!(codecs.contains(&codec), "{codecs:?}");
        }
        // Given up for the noise, begun again behind it.
        assert!(codecs.iter().filter(|codec| **codec == 2).count() >= 2, "{codecs:?}");
    }
    assert!(apart(&stored.segments[1]).iter().any(|block| block.header[1] == 1));
    let dir = tempfile::tempdir().unwrap();
    stored.write(dir.path());
    assert!(verify(dir.path(), &World::new().trust()).ok);
}
