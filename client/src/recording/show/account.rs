//! What a recording says that a session did, sorted by channel, within a bound on what is kept.

use std::collections::BTreeMap;

use doorward_audit::{Coverage, Ended, Event, Exit, ForwardConnected, ForwardEnded, Opened, Pty, Stamped};

/// What is kept of one recording, in bytes; only a forged one, or one of very many operations, has more.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// What an event or a channel costs beside its texts.
const COST: usize = 512;

/// Everything that a session did.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) opened: Option<Opened>,
    pub(super) channels: BTreeMap<u32, Channel>,
    /// What belongs to no channel: listeners, connections that failed, refusals, gaps, pauses.
    pub(super) acts: Vec<Stamped>,
    pub(super) coverage: Option<Coverage>,
    pub(super) ended: Option<(u64, Ended)>,
    /// Events of kinds that this version does not know.
    pub(super) unknown: u64,
    /// Events that are not listed, because there are too many.
    pub(super) left_out: u64,
    room: usize,
}

/// One channel, its times in nanoseconds since the session began.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) kind: String,
    pub(super) opened: u64,
    pub(super) closed: Option<u64>,
    pub(super) pty: Option<Pty>,
    pub(super) resizes: u64,
    /// The shell, command or subsystem, and when it started.
    pub(super) runs: Option<Stamped>,
    pub(super) exit: Option<(u64, Exit)>,
    /// Standard input, output and error.
    pub(super) streams: [Stream; 3],
    pub(super) connected: Option<ForwardConnected>,
    pub(super) forward_ended: Option<ForwardEnded>,
    /// Environment, signals, file operations, refusals, gaps and pauses, as they came.
    pub(super) acts: Vec<Stamped>,
}

/// What passed in one direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Bytes that are in the recording.
    pub(super) recorded: u64,
    /// Whether the rest was hashed and counted.
    pub(super) digesting: bool,
    /// Length and SHA-256 of the whole.
    pub(super) digest: Option<(u64, [u8; 32])>,
}

impl Stream {
    /// Bytes of the whole, as far as they are known.
    pub(super) fn bytes(&self) -> u64 {
        self.digest.map_or(self.recorded, |(bytes, _)| bytes)
    }

    /// How it was kept.
    pub(super) fn kept(&self) -> &'static str {
        match (self.digesting || self.digest.is_some(), self.recorded) {
            (false, _) => "whole",
            (true, 0) => "digested",
            (true, _) => "beginning",
        }
    }
}

impl Default for Account {
    fn default() -> Self {
        Self {
            opened: None,
            channels: BTreeMap::new(),
            acts: Vec::new(),
            coverage: None,
            ended: None,
            unknown: 0,
            left_out: 0,
            room: MOST_BYTES,
        }
    }
}

impl Account {
    /// Takes in the next event.
    pub(super) fn add(&mut self, stamped: Stamped) {
        let Stamped { at, event } = stamped;
        match event {
            Event::Opened(opened) => self.opened = self.opened.take().or(Some(opened)),
            Event::Coverage(coverage) => self.coverage = Some(coverage),
            Event::Ended(ended) => self.ended = Some((at, ended)),
            Event::Unknown(_) => self.unknown += 1,
            // What was held back follows.
            Event::Withheld(_) => {}
            event => match number(&event) {
                Some(number) => self.in_channel(number, at, event),
                None => {
                    if self.afford(&event) {
                        self.acts.push(Stamped { at, event });
                    }
                }
            },
        }
    }

    fn in_channel(&mut self, number: u32, at: u64, event: Event) {
        let costs = !matches!(event, Event::Output(_) | Event::Input(_) | Event::Resized(_));
        if (costs || !self.channels.contains_key(&number)) && !self.afford(&event) {
            return;
        }
        self.channels.entry(number).or_default().add(at, event);
    }

    /// Whether there is room to keep an event. What there is none for is counted.
    fn afford(&mut self, event: &Event) -> bool {
        let left = self.room.checked_sub(COST.saturating_add(texts(event)));
        match left {
            Some(left) => self.room = left,
            None => self.left_out += 1,
        }
        left.is_some()
    }
}

impl Channel {
    fn add(&mut self, at: u64, event: Event) {
        match event {
            Event::ChannelOpened(opened) => (self.kind, self.opened) = (opened.kind, at),
            Event::ChannelClosed(_) => self.closed = Some(at),
            Event::Pty(pty) => self.pty = Some(pty),
            Event::Resized(_) => self.resizes += 1,
            Event::Shell(_) | Event::Exec(_) | Event::Subsystem(_) if self.runs.is_none() => {
                self.runs = Some(Stamped { at, event });
            }
            Event::Exit(exit) => self.exit = Some((at, exit)),
            Event::ForwardConnected(connected) if self.connected.is_none() => self.connected = Some(connected),
            Event::ForwardEnded(ended) => self.forward_ended = Some(ended),
            Event::Output(output) => {
                if let Some(stream) = self.stream(output.stream) {
                    stream.recorded += output.bytes.len() as u64;
                }
            }
            Event::Input(input) => {
                if let Some(stream) = self.stream(0) {
                    stream.recorded += input.bytes.len() as u64;
                }
            }
            Event::DigestStarted(started) => {
                if let Some(stream) = self.stream(started.stream) {
                    stream.digesting = true;
                }
            }
            Event::Digest(digest) => {
                if let Some(stream) = self.stream(digest.stream) {
                    stream.digest = Some((digest.bytes, digest.sha256));
                }
            }
            event => self.acts.push(Stamped { at, event }),
        }
    }

    fn stream(&mut self, number: u8) -> Option<&mut Stream> {
        self.streams.get_mut(usize::from(number))
    }
}

/// The channel that an event belongs to.
fn number(event: &Event) -> Option<u32> {
    Some(match event {
        Event::ChannelOpened(body) => body.channel,
        Event::Pty(body) => body.channel,
        Event::Resized(body) => body.channel,
        Event::Env(body) => body.channel,
        Event::Shell(body) => body.channel,
        Event::Exec(body) => body.channel,
        Event::Subsystem(body) => body.channel,
        Event::Output(body) => body.channel,
        Event::Input(body) => body.channel,
        Event::DigestStarted(body) => body.channel,
        Event::Digest(body) => body.channel,
        Event::Signal(body) => body.channel,
        Event::Exit(body) => body.channel,
        Event::ChannelClosed(body) => body.channel,
        Event::FileOperation(body) => body.channel,
        Event::FileClosed(body) => body.channel,
        Event::FolderListed(body) => body.channel,
        Event::ForwardConnected(body) => body.channel,
        Event::ForwardEnded(body) => body.channel,
        Event::Refused(body) => return body.channel,
        Event::Gap(body) => return body.channel,
        Event::Paused(body) => return body.channel,
        Event::Masked(body) => return body.channel,
        _ => return None,
    })
}

/// The length of what an event holds beside numbers, in bytes.
fn texts(event: &Event) -> usize {
    match event {
        Event::ChannelOpened(body) => body.kind.len(),
        Event::Pty(body) => body.term.len() + 16 * body.modes.len(),
        Event::Env(body) => body.name.len() + body.value.len(),
        Event::Exec(body) => body.command.len(),
        Event::Subsystem(body) => body.name.len(),
        Event::Signal(body) => body.name.len(),
        Event::Exit(body) => body.signal.as_ref().map_or(0, String::len),
        Event::FileOperation(body) => body.operation.len() + body.path.len() + body.target.len() + body.detail.len(),
        Event::FileClosed(body) => body.path.len(),
        Event::FolderListed(body) => body.path.len(),
        Event::ForwardConnected(body) => body.asked.len() + body.address.len(),
        Event::ForwardEnded(body) => body.how.len(),
        Event::ForwardFailed(body) => body.asked.len() + body.why.len(),
        Event::ListenerOpened(body) => {
            let addresses: usize = body.addresses.iter().map(|address| COST + address.len()).sum();
            body.kind.len() + body.asked.len() + addresses
        }
        Event::Refused(body) => body.what.len() + body.why.len(),
        Event::Gap(body) => body.why.len(),
        Event::Masked(body) => body.name.len() + body.form.len(),
        Event::MasksSet(body) => body.names.iter().map(|name| name.len() + 32).sum(),
        Event::IdeServerSeen(body) => body.product.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use doorward_audit::{Exec, Refused};

    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_is_counted() {
        let mut account = Account::default();
        let why = "x".repeat(1 << 20);
        for at in 0..100 {
            let (what, why) = ("shell".to_owned(), why.clone());
            account.add(Stamped::new(
                at,
                Refused {
                    channel: Some(1),
                    what,
                    why,
                },
            ));
        }
        let kept = account.channels.get(&1).map_or(0, |channel| channel.acts.len() as u64);
        assert_eq!(kept + account.left_out, 100);
        assert!((60..64).contains(&kept), "{kept}");
        // another channel costs as well
        let mut account = Account::default();
        for channel in 0..1_000_000 {
            account.add(Stamped::new(
                0,
                Exec {
                    channel,
                    ..Exec::default()
                },
            ));
        }
        assert_eq!(account.channels.len() as u64 + account.left_out, 1_000_000);
        assert!(account.left_out > 0);
    }
}
