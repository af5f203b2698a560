//! Reading and exporting a recording that nobody has verified.
#![no_main]

use doorward_audit::{MAX_RAW, asciicast, blocks, events};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for block in blocks(input).map_while(Result::ok) {
        assert!(block.seen.offset + block.seen.len <= input.len() as u64);
        assert!(block.raw.len() <= MAX_RAW);
    }
    for event in events(input) {
        let _ = format!("{event:?}");
    }
    let mut out = Vec::new();
    let _ = asciicast::v2(events(input), None, &mut out);
    let _ = asciicast::v3(events(input), None, &mut out);
    let _ = asciicast::raw(events(input), None, &mut out);
});
