//! Masking what is recorded: bytes of streams, and the values in other events.

use std::sync::Arc;

use bytes::Bytes;
use doorward_audit::{Event, Input, Masked, Output, Withheld};

use super::patterns::Patterns;
use super::stream::{Mark, Passed, mask_value};

/// The events that record what has passed a stream: where it is masked, the bytes, and how many of the last ones are held
/// back. Stream 0 is the client's.
pub(crate) fn content_events(channel: u32, stream: u8, passed: [Option<Passed>; 2], held: usize) -> Vec<Event> {
    let mut events = Vec::with_capacity(1);
    for Passed { bytes, marks } in passed.into_iter().flatten() {
        events.extend(marks.into_iter().map(|mark| masked(Some(channel), Some(stream), mark)));
        if !bytes.is_empty() {
            events.push(match stream {
                0 => Input { channel, bytes }.into(),
                _ => Output { channel, stream, bytes }.into(),
            });
        }
    }
    if held > 0 {
        let bytes = held as u64;
        events.push(Withheld { channel, stream, bytes }.into());
    }
    events
}

/// Masks the values in an event; what was masked goes into `masked`, to stand before it. Streams are not looked at.
pub(crate) fn mask_event(patterns: &Arc<Patterns>, event: &mut Event, masked: &mut Vec<Event>) {
    if patterns.is_empty() {
        return;
    }
    let mut found = Values {
        patterns,
        channel: None,
        masked,
    };
    match event {
        Event::Exec(exec) => found.of(exec.channel).bytes(&mut exec.command),
        Event::Env(env) => {
            found.of(env.channel).text(&mut env.name);
            found.bytes(&mut env.value);
        }
        Event::Pty(pty) => found.of(pty.channel).bytes(&mut pty.term),
        Event::Subsystem(subsystem) => found.of(subsystem.channel).text(&mut subsystem.name),
        Event::FileOperation(operation) => {
            found.of(operation.channel).bytes(&mut operation.path);
            found.bytes(&mut operation.target);
            found.text(&mut operation.detail);
        }
        Event::FileClosed(file) => found.of(file.channel).bytes(&mut file.path),
        Event::FolderListed(folder) => found.of(folder.channel).bytes(&mut folder.path),
        Event::ChannelOpened(opened) => found.of(opened.channel).text(&mut opened.kind),
        Event::ForwardConnected(connected) => {
            found.of(connected.channel).text(&mut connected.asked);
            found.text(&mut connected.address);
        }
        Event::ForwardFailed(failed) => {
            found.text(&mut failed.asked);
            found.text(&mut failed.why);
        }
        Event::ListenerOpened(listener) => {
            found.text(&mut listener.asked);
            listener.addresses.iter_mut().for_each(|address| found.text(address));
        }
        Event::Ended(ended) => found.text(&mut ended.reason),
        Event::Refused(refused) => {
            found.channel = refused.channel;
            found.text(&mut refused.what);
            found.text(&mut refused.why);
        }
        _ => {}
    }
}

/// A text without the secrets in it.
pub(crate) fn mask_text(patterns: &Arc<Patterns>, mut text: String) -> String {
    let (channel, masked) = (None, &mut Vec::new());
    Values {
        patterns,
        channel,
        masked,
    }
    .text(&mut text);
    text
}

struct Values<'a> {
    patterns: &'a Arc<Patterns>,
    channel: Option<u32>,
    masked: &'a mut Vec<Event>,
}

impl Values<'_> {
    fn of(&mut self, channel: u32) -> &mut Self {
        self.channel = Some(channel);
        self
    }

    fn bytes(&mut self, value: &mut Bytes) {
        let passed = mask_value(self.patterns, value);
        if !passed.marks.is_empty() {
            *value = passed.bytes;
            let channel = self.channel;
            self.masked
                .extend(passed.marks.into_iter().map(|mark| masked(channel, None, mark)));
        }
    }

    fn text(&mut self, value: &mut String) {
        let mut bytes = Bytes::copy_from_slice(value.as_bytes());
        self.bytes(&mut bytes);
        if *bytes != *value.as_bytes() {
            // A secret that is text is replaced as a whole; any other leaves text behind it.
            *value = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}

fn masked(channel: Option<u32>, stream: Option<u8>, mark: Mark) -> Event {
    Masked {
        channel,
        stream,
        at: mark.at,
        bytes: mark.bytes,
        name: mark.name,
        form: mark.form.as_str().to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use doorward_audit::Exec;
    use zeroize::Zeroizing;

    use super::super::patterns::Secret;
    use super::*;

    #[test]
    fn a_command_is_recorded_without_the_secret_in_it() {
        let secret = Secret {
            name: "TOKEN".to_owned(),
            value: Zeroizing::new(b"secret-canary".to_vec()),
        };
        let patterns = Arc::new(Patterns::new(&[secret]).unwrap());
        let mut event = Event::from(Exec {
            channel: 3,
            command: Bytes::from_static(b"login secret-canary"),
        });
        let mut before = Vec::new();
        mask_event(&patterns, &mut event, &mut before);
        let Event::Exec(exec) = event else { panic!("{event:?}") };
        assert_eq!(&exec.command[..], b"login *************");
        let expected = Masked {
            channel: Some(3),
            stream: None,
            at: 6,
            bytes: 13,
            name: "TOKEN".to_owned(),
            form: "plain".to_owned(),
        };
        assert_eq!(before, [expected.into()]);
    }

    /// Wherever a client can have words of its own written down.
    #[test]
    fn names_of_variables_places_of_listeners_and_reasons_are_masked() {
        let secret = Secret {
            name: "TOKEN".to_owned(),
            value: Zeroizing::new(b"secret-canary".to_vec()),
        };
        let patterns = Arc::new(Patterns::new(&[secret]).unwrap());
        let events: [Event; 3] = [
            doorward_audit::Env {
                channel: 0,
                name: "secret-canary".to_owned(),
                value: Bytes::new(),
                accepted: false,
            }
            .into(),
            doorward_audit::ListenerOpened {
                listener: 0,
                kind: "streamlocal-forward".to_owned(),
                asked: "/tmp/secret-canary".to_owned(),
                addresses: vec!["/tmp/secret-canary".to_owned()],
            }
            .into(),
            doorward_audit::Ended {
                reason: "not 'secret-canary'".to_owned(),
                code: "other-login".to_owned(),
            }
            .into(),
        ];
        for mut event in events {
            let mut before = Vec::new();
            mask_event(&patterns, &mut event, &mut before);
            assert!(!format!("{event:?}").contains("canary"), "{event:?}");
            assert!(!before.is_empty());
        }
        assert_eq!(mask_text(&patterns, "x secret-canary".to_owned()), "x *************");
    }
}
