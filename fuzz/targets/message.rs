//! Messages of a link: what is read can be written, and is read the same again.
#![no_main]

use doorward_wire::message::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(message) = Message::decode(input) else {
        return;
    };
    let written = message.encode().expect("what was read can be written");
    assert_eq!(
        Message::decode(&written[4..]).expect("what was written can be read"),
        message
    );
});
