//! Which channel of a recording is played, and what is known of it before it begins.

use std::collections::BTreeMap;

use doorward_audit::{Event, Fault, Stamped};

use crate::error::Error;

/// Channels beyond these are not looked at.
const MOST_CHANNELS: usize = 1024;

/// The channel to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Track {
    pub(super) channel: u32,
    /// Columns and rows at its beginning, if it has a terminal.
    pub(super) size: Option<(u32, u32)>,
    /// Further channels in which something runs.
    pub(super) others: Vec<u32>,
}

#[derive(Debug, Default)]
struct Channel {
    size: Option<(u32, u32)>,
    runs: bool,
}

impl Track {
    /// Chooses the channel that is wanted; else the first with a terminal, else the first in which something runs. A
    /// recording that is damaged somewhere is looked at up to there.
    pub(super) fn choose(
        events: impl Iterator<Item = Result<Stamped, Fault>>,
        wanted: Option<u32>,
    ) -> Result<Self, Error> {
        let mut channels: BTreeMap<u32, Channel> = BTreeMap::new();
        for event in events.map_while(Result::ok) {
            let (number, size, runs) = match event.event {
                Event::ChannelOpened(opened) => (opened.channel, None, false),
                Event::Pty(pty) => (pty.channel, Some((pty.cols, pty.rows)), false),
                Event::Shell(shell) => (shell.channel, None, true),
                Event::Exec(exec) => (exec.channel, None, true),
                Event::Subsystem(subsystem) => (subsystem.channel, None, true),
                Event::Output(output) => (output.channel, None, true),
                _ => continue,
            };
            if channels.len() >= MOST_CHANNELS && !channels.contains_key(&number) {
                continue;
            }
            let channel = channels.entry(number).or_default();
            channel.size = channel.size.or(size);
            channel.runs |= runs;
        }
        let running = || channels.iter().filter(|(_, channel)| channel.runs);
        let first = running()
            .find(|(_, channel)| channel.size.is_some())
            .or_else(|| running().next());
        let chosen = match wanted {
            Some(wanted) => channels.get_key_value(&wanted),
            None => first,
        };
        let Some((&number, channel)) = chosen else {
            return Err(Error::Recording(match wanted {
                Some(wanted) => format!("the session had no channel {wanted}"),
                None => "nothing ran in the session".to_owned(),
            }));
        };
        let others = running()
            .map(|(other, _)| *other)
            .filter(|other| *other != number)
            .collect();
        Ok(Self {
            channel: number,
            size: channel.size,
            others,
        })
    }
}

#[cfg(test)]
mod tests {
    use doorward_audit::{ChannelOpened, Exec, Pty, Shell};

    use super::*;

    #[test]
    fn a_terminal_comes_first() {
        let events = [
            Stamped::new(
                0,
                ChannelOpened {
                    channel: 0,
                    kind: "session".into(),
                },
            ),
            Stamped::new(
                1,
                Exec {
                    channel: 0,
                    command: "true".into(),
                },
            ),
            Stamped::new(
                2,
                Pty {
                    channel: 1,
                    cols: 80,
                    rows: 24,
                    ..Pty::default()
                },
            ),
            Stamped::new(3, Shell { channel: 1 }),
        ];
        let choose = |wanted| Track::choose(events.iter().cloned().map(Ok), wanted);
        assert_eq!(
            choose(None).unwrap(),
            Track {
                channel: 1,
                size: Some((80, 24)),
                others: vec![0]
            }
        );
        assert_eq!(
            choose(Some(0)).unwrap(),
            Track {
                channel: 0,
                size: None,
                others: vec![1]
            }
        );
        assert!(choose(Some(7)).is_err());
        assert!(Track::choose(std::iter::empty(), None).is_err());
    }
}
